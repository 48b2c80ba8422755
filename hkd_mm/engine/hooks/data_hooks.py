# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hooks on the data: views, windows, masks lost by resizing."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.hooks import Hook

from hkd_mm.engine.hooks.teacher_hooks import samples_of, spread
from hkd_mm.engine.run_summary import bare_model
from hkd_mm.models.arguments import Arguments, Count
from hkd_mm.registry import HOOKS

_NARROW = 0.1  # of the range of the input, from the 1st to the 99th percent
_CLIPPED = 0.8  # of the pixels; a guess above what air and bone of CT take
_LUNG = (424.0, 1500.0)  # -600 HU / 1500, stored as HU + 1024
_HOUNSFIELD = 5120  # HU + 1024 of CT is below
_VALUES = 1_000_000  # enough for percentiles


@HOOKS.register_module()
class WindowCheckHook(Arguments, Hook):
    """Warn where a window leaves little of what the images show.

    Slices that a converter stored in Hounsfield units are almost black
    without a window, slices that are stretched over 16 bits almost white with
    that of the lung; networks train on both and nothing else would tell.
    """

    num_images: Count = 32  # spread evenly over the training or the test split

    def before_train(self, runner) -> None:
        self._look(runner, runner.train_loop.dataloader)

    def before_test(self, runner) -> None:
        self._look(runner, runner.test_loop.dataloader)

    @torch.no_grad()
    def _look(self, runner, loader) -> None:
        model = bare_model(runner.model)
        preprocessor = model.data_preprocessor
        if not hasattr(preprocessor, 'windowed'):
            return
        chosen = spread(self.num_images, loader.dataset)
        images = samples_of(loader.dataset, chosen)['inputs'].flatten()
        images = images[:: -(-len(images) // _VALUES)].clone()
        seen = preprocessor.windowed(images).numpy()
        if line := misfit(images.numpy(), seen, preprocessor.window):
            runner.logger.warning(line)


def misfit(
    stored: np.ndarray, seen: np.ndarray, window: Sequence[float] | None
) -> str | None:
    """What is wrong with a window (centre, width), in one line; None where it fits.

    Values are ``stored`` as uint8 or uint16, ``seen`` through the window as 0 to 255.
    """
    clipped = float(((seen <= 0) | (seen >= 255)).mean())
    low, high = np.percentile(seen, (1, 99))
    if window is not None and clipped >= _CLIPPED:
        what = f'makes {clipped:.0%} of the pixels black or white'
    elif high - low < _NARROW * 255:
        what = f'leaves {high - low:.0f} of 255 steps between the pixels'
    else:
        return None
    low, high = np.percentile(stored, (1, 99))
    shown = window and '[{:g},{:g}]'.format(*window)
    return (
        f'THE WINDOW DOES NOT FIT: data_preprocessor.window={shown} {what}, '
        f'whose stored values go from {low:.0f} to {high:.0f} (1 to 99 %); '
        + _advice(low, high, np.iinfo(stored.dtype).max, window)
    )


def _advice(
    low: float, high: float, largest: int, window: Sequence[float] | None
) -> str:
    setting = '--cfg-options data_preprocessor.window='
    if high - low >= _NARROW * largest and window is not None:
        return f'they fill their range: set {setting}None'
    if high - low < 1:
        return 'they are almost constant: look at the images'
    own = f'{setting}[{(low + high) / 2:.0f},{high - low:.0f}]'
    hounsfield = largest > 255 and high <= _HOUNSFIELD
    if hounsfield and (window is None or tuple(window) != _LUNG):
        return (
            f'set {setting}[424,1500] if they are Hounsfield units + 1024, '
            f'as convert_lidc.py writes them, else {own}'
        )
    return f'set {own}'


@HOOKS.register_module()
class MasksLostByResizeHook(Hook):
    """Warn where resizing leaves nothing of masks that mark something.

    Such an image then counts as one without anything to see, and a network that marks
    nothing there has a Dice of 1.
    """

    def before_train(self, runner) -> None:
        self._look(runner, runner.train_loop)
        if runner.val_loop is not None:
            self._look(runner, runner.val_loop)

    def before_test(self, runner) -> None:
        self._look(runner, runner.test_loop)

    def _look(self, runner, loop) -> None:
        data = loop.dataloader.dataset
        gone = getattr(data, 'masks_lost_by_resize', None)
        if gone is None or not gone.any():
            return
        marked = int(data.labels.sum() + gone.sum())
        first = data.get_data_info(int(gone.nonzero()[0]))['sample_id']
        runner.logger.warning(
            f'{gone.sum()} OF {marked} MASKS OF SPLIT {data.split} ARE EMPTY AT '
            f'{data.store.side} PIXELS A SIDE, {first} the first: what they mark is '
            'smaller than half a pixel, and their images count as those without '
            'anything to see; raise input_size'
        )


@HOOKS.register_module()
class ViewHook(Hook):
    """Hand training images and epoch to a preprocessor that makes views of them."""

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        preprocessor = getattr(bare_model(runner.model), 'data_preprocessor', None)
        if hasattr(preprocessor, 'set_split'):
            preprocessor.set_split(runner.train_dataloader.dataset)

    def before_train_epoch(self, runner) -> None:
        preprocessor = getattr(bare_model(runner.model), 'data_preprocessor', None)
        if hasattr(preprocessor, 'set_epoch'):
            preprocessor.set_epoch(runner.epoch)
