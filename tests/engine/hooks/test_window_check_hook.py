# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A window that shows nothing is told, one that fits is not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hkd_mm.engine.hooks.data_hooks import WindowCheckHook, misfit
from hkd_mm.models.preprocessors.packed_mask_preprocessor import PackedMaskPreprocessor

LUNG = (424, 1500)


def hounsfield():
    """A slice as the converter stores it: air, lung, soft tissue, bone."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(mean, 40, 4000) for mean in (24, 174, 1064, 1400)]
    return np.concatenate(parts).clip(0, 4095).astype(np.uint16)


def stretched():
    rng = np.random.default_rng(0)
    return rng.integers(0, 65536, 16000).astype(np.uint16)


def told(stored, window):
    preprocessor = PackedMaskPreprocessor(window=window)
    seen = preprocessor.windowed(torch.from_numpy(stored.copy()))
    return misfit(stored, seen.numpy(), preprocessor.window)


@pytest.mark.parametrize(
    ('stored', 'window'),
    [
        (hounsfield(), LUNG),
        (hounsfield(), (1064, 400)),  # soft tissue: half of it is black
        (stretched(), None),
        ((stretched() >> 8).astype(np.uint8), None),
        # much black in an image that fills its range is nobody's fault
        (stretched() * (np.arange(16000) % 10 == 0).astype(np.uint16), None),
    ],
)
def test_what_fits_passes(stored, window):
    assert told(stored, window) is None


def test_hounsfield_units_without_a_window_are_told():
    line = told(hounsfield(), None)
    assert 'data_preprocessor.window=None leaves' in line
    assert 'data_preprocessor.window=[424,1500] if they are Houns' in line
    assert '\n' not in line


def test_stretched_slices_with_the_window_of_the_lung_are_told():
    line = told(stretched(), LUNG)
    assert 'data_preprocessor.window=[424,1500] makes 98% of the pix' in line
    assert line.endswith('set --cfg-options data_preprocessor.window=None')


def test_a_narrow_range_elsewhere_gets_a_window_of_its_own():
    stored = (20000 + np.arange(3001) % 1001).astype(np.uint16)
    line = told(stored, LUNG)
    assert line.endswith('data_preprocessor.window=[20500,980]')
    assert told(stored, (20500, 980)) is None
    constant = np.full(100, 7, np.uint16)
    assert 'almost constant' in told(constant, None)


@pytest.mark.parametrize('moment', ['train', 'test'])
def test_the_images_of_the_loop_are_looked_at(moment):
    asked, said = [], []
    image = torch.from_numpy(hounsfield()[:1600]).view(1, 40, 40, 1)

    class Slices:
        def __len__(self):
            return 100

        def __getitems__(self, places):
            asked.extend(places)
            return dict(inputs=image.expand(len(places), -1, -1, -1))

    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=Slices()))
    runner = SimpleNamespace(
        model=SimpleNamespace(data_preprocessor=PackedMaskPreprocessor()),
        logger=SimpleNamespace(warning=said.append),
        **{f'{moment}_loop': loop},
    )
    hook = WindowCheckHook(num_images=5)
    getattr(hook, f'before_{moment}')(runner)
    assert asked == [0, 24, 49, 74, 99] and len(said) == 1


def test_photographs_for_classifiers_are_not_looked_at():
    runner = SimpleNamespace(
        model=SimpleNamespace(data_preprocessor=object()),
        train_loop=SimpleNamespace(dataloader=None),
    )
    WindowCheckHook().before_train(runner)
