# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/test.py`` looks at besides where images have masks."""

from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from hkd_mm.errors import UserError

from .config.compose import read_config
from .config.thresholds import pixel_threshold
from .run.run_files import run_config


def has_masks(cfg: Config) -> bool:
    """Whether the test split is one of packed images with masks."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    return str(dataset.get('type', '')).endswith('PackedMasks')


def check_stored_threshold(
    cfg: Config, checkpoint: str, warn: Callable[[str], None]
) -> None:
    """Say so if pixels count from another probability on than in the run.

    Exported nets have the threshold of the run, which its config beside the
    checkpoint tells; figures of another one are not theirs.

    Args:
        cfg: of the test.
        checkpoint: in the work dir of the run.
        warn: takes one line.
    """
    tested = pixel_threshold(cfg.get('test_evaluator'))
    if tested is None:
        return
    try:
        stored = run_config(Path(checkpoint).absolute().parent)
    except UserError:  # not in the work dir of a run: nothing to compare with
        return
    run = pixel_threshold(read_config(stored).get('val_evaluator'))
    if run not in (None, tested):
        warn(
            f'pixels count from {tested:g} on in this test and from {run:g} '
            f'on in the run ({stored}), whose threshold exported nets have: '
            f'add --cfg-options mask_threshold={run:g}, or train with '
            f'mask_threshold={tested:g}'
        )
