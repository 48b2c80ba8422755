# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Masks of which resizing leaves nothing are counted and told."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hkd_mm.engine.hooks.data_hooks import MasksLostByResizeHook


@pytest.fixture
def small(ct_root, dataset, packed_masks, save):
    """Two nodules of one pixel in forty, which twenty do not show."""
    dot = np.zeros((40, 40), np.uint16)
    dot[8, 8] = 65535
    for number in (0, 3):
        save(ct_root / 'Mask' / 'P0' / f'0_MA_{number}.png', dot)
    return lambda size: packed_masks(dataset(ct_root), size=size)


def test_what_half_the_size_does_not_show_is_gone(small):
    data = small(20)
    assert np.flatnonzero(data.masks_lost_by_resize).tolist() == [0, 3]
    assert data.class_counts().tolist() == [5 + 2, 23]
    assert not small(40).masks_lost_by_resize.any()  # slices that are clean are not


@pytest.mark.parametrize('moment', ['train', 'test'])
def test_it_is_told_before_anything_runs(small, moment):
    said, loops = [], {}
    for part, size in (('train', 40), ('val', 20), ('test', 20)):
        loader = SimpleNamespace(dataset=small(size))
        loops[f'{part}_loop'] = SimpleNamespace(dataloader=loader)
    runner = SimpleNamespace(logger=SimpleNamespace(warning=said.append), **loops)
    getattr(MasksLostByResizeHook(), f'before_{moment}')(runner)
    (line,) = said
    assert line.startswith('2 OF 25 MASKS OF SPLIT all ARE EMPTY AT 20 P')
    assert '0_NI_0 the first' in line and line.endswith('raise input_size')


def test_photographs_have_no_masks():
    data = SimpleNamespace(labels=torch.zeros(3))
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=data))
    said = []
    runner = SimpleNamespace(
        test_loop=loop, logger=SimpleNamespace(warning=said.append)
    )
    MasksLostByResizeHook().before_test(runner)
    assert said == []
