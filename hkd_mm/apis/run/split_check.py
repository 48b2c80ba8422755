# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A net is not tested on the images it was trained on."""

from collections.abc import Callable

from hkd_mm.errors import UserError


def check_split(
    meta: dict, dataset, checkpoint: str, warn: Callable[[str], None]
) -> None:
    """Refuse test images that the net may have been trained on.

    Args:
        meta: of the checkpoint; one that is not of ours names no split.
        dataset: that is tested on.
        checkpoint: its path, for the message.
        warn: takes a line where only the user can tell.

    Raises:
        UserError: the checkpoint was trained on another split than the one
            tested on; asking for all images of the data is left to the user.
    """
    from hkd_mm.engine.data_split import split_hash

    there, here = meta.get('split_hash'), split_hash(dataset)
    if here is None or there == here:
        return
    if there is None:
        warn(
            f'{checkpoint} does not say which split it was trained on: '
            'whether it knows the test images cannot be checked'
        )
        return
    said = (
        f'checkpoint {checkpoint} was trained on another split '
        f'({there[:8]}) than the one in use ({here[:8]}), so it may know the '
        'test images'
    )
    if getattr(dataset, 'split', None) == 'all':
        warn(said)
        return
    raise UserError(
        f'{said}; repeat the --cfg-options of the training, or give the '
        'folder of the run in place of a config; for data that had no part '
        'in the training set test_dataloader.dataset.split=all'
    )
