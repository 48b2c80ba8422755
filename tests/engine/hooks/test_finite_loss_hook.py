# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A broken loss stops the run and is named."""

from types import SimpleNamespace

import pytest
import torch

from hkd_mm.engine.hooks.log_hooks import FiniteLossHook
from hkd_mm.errors import UserError


def look(iteration, length=100, **losses):
    runner = SimpleNamespace(epoch=2, train_dataloader=range(length))
    FiniteLossHook(interval=10).after_train_iter(
        runner,
        iteration,
        None,
        {name: torch.tensor(value) for name, value in losses.items()},
    )


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_the_guilty_part_is_named(value):
    with pytest.raises(UserError, match='loss_align became.*epoch 3'):
        look(9, loss_kd=1.0, loss_align=value)


def test_finite_losses_and_other_iterations_pass():
    look(9, loss_kd=1.0)
    look(3, loss_kd=float('nan'))  # between two looks
    with pytest.raises(UserError):
        look(4, length=5, loss_kd=float('nan'))  # the last one is looked at
