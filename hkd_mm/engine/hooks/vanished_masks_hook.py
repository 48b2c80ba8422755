# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What was too small for the size that the net sees, told before it runs."""

from mmengine.hooks import Hook

from hkd_mm.registry import HOOKS


@HOOKS.register_module()
class VanishedMasksHook(Hook):
    """Warn where resizing leaves nothing of masks that mark something.

    A nodule of three pixels is none at a quarter of the size; its slice then
    counts as one without a nodule, and a net that marks nothing there has a
    Dice of 1. Nothing else would tell.
    """

    def before_train(self, runner) -> None:
        """Look at the training and the validation split."""
        self._look(runner, runner.train_loop)
        if runner.val_loop is not None:
            self._look(runner, runner.val_loop)

    def before_test(self, runner) -> None:
        """Look at the test split."""
        self._look(runner, runner.test_loop)

    def _look(self, runner, loop) -> None:
        data = loop.dataloader.dataset
        gone = getattr(data, 'vanished', None)
        if gone is None or not gone.any():
            return
        marked = int(data.labels.sum() + gone.sum())
        first = data.get_data_info(int(gone.nonzero()[0]))['sample_id']
        runner.logger.warning(
            f'{gone.sum()} OF {marked} MASKS OF SPLIT {data.split} '
            f'ARE EMPTY AT {data.store.side} PIXELS A SIDE, {first} '
            'the first: what they mark is smaller than half a pixel, and '
            'their images count as those without anything to see; raise '
            'input_size'
        )
