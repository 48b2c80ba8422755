# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draws depend on (seed, epoch) alone, in the process and in its workers."""

import random
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hkd_mm.engine.distributed import EpochSeedHook, seed_worker


class Draws(Dataset):
    """Each item is one number of each generator."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return random.random(), np.random.rand(), torch.rand(()).item()


def load(workers, persistent=False):
    return DataLoader(
        Draws(),
        batch_size=2,
        num_workers=workers,
        worker_init_fn=seed_worker,
        persistent_workers=persistent,
    )


def epoch(seed, number, workers, loader=None):
    loader = loader or load(workers)
    logger = SimpleNamespace(info=lambda line: None)
    runner = SimpleNamespace(seed=seed, epoch=number, iter=number, logger=logger)
    runner.train_dataloader = loader
    EpochSeedHook().before_train_epoch(runner)
    return torch.stack([torch.stack(list(b)) for b in loader])


def test_workers_that_stay_draw_as_those_of_a_resumed_run_do():
    loader = load(2, persistent=True)
    for number in range(3):
        unbroken = epoch(1, number, 2, loader)
        assert torch.equal(unbroken, epoch(1, number, 2, load(2, persistent=True)))
        assert torch.equal(unbroken, epoch(1, number, 2))


def test_an_epoch_repeats_and_differs_from_the_next():
    for workers in (0, 2):
        first = epoch(1, 0, workers)
        random.seed(9), np.random.seed(9), torch.manual_seed(9)
        assert torch.equal(first, epoch(1, 0, workers))
        assert not torch.equal(first, epoch(1, 1, workers))
        assert not torch.equal(first, epoch(2, 0, workers))


def test_workers_of_one_epoch_draw_different_numbers():
    batches = epoch(1, 0, workers=2)
    assert len(torch.unique(batches)) == batches.numel()
