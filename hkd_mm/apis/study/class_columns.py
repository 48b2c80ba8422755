# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Columns of single classes, held against the data before any training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hkd_mm.datasets.masks.mask_dataset import MaskDataset
from hkd_mm.errors import UserError

from ..config.compose import compose_config
from ..config.data_summary import build_listing
from .plan import Run, Study

_WITHOUT_IMAGES = ('support', 'specificity')  # the others are undefined


def check_class_columns(
    study: Study, runs: Sequence[Run], options: list[str], work_dir: Path
) -> None:
    """Refuse ``CLASS/F`` of a class that no test split can have.

    The table could not be made when all runs are done. All rows have the
    same images, so those of the first one are looked at, in each fold.

    Args:
        study: whose columns.
        runs: of the study, all rows on the same images.
        options: of the command line.
        work_dir: of the study.

    Raises:
        UserError: the data has no such class, or no test image of it.
    """
    columns = [name for name in study.metrics if '/' in name]
    if not columns:
        return
    first = runs[0]
    for run in runs:
        if run.row is first.row and run.seed == first.seed:
            cfg = compose_config(
                run.row.config, [*run.options(work_dir), *options]
            )
            data = build_listing(cfg, 'test_dataloader')
            fold = '' if run.fold is None else f' (fold {run.fold})'
            where = f'{cfg.get("data_root")}{fold}'
            _check(study, columns, data, where)


def _check(study: Study, columns: list[str], data, where: str) -> None:
    classes = tuple(data.metainfo['classes'])
    masks = isinstance(data, MaskDataset)
    if masks:  # one class beside the background has the plain names
        classes = classes[1:] if len(classes) > 2 else ()
    else:
        counts = np.bincount(data.get_gt_labels(), minlength=len(classes))
    for column in columns:
        name, _, figure = column.rpartition('/')
        if name not in classes:
            raise UserError(
                f'{study.path}: metrics has {column}, but the classes of '
                f'{where} with figures of their own are '
                f'{", ".join(classes) or "none"}; name the columns after '
                'them, or take a --size of the study that does'
            )
        if masks or figure in _WITHOUT_IMAGES:
            continue
        if not counts[classes.index(name)]:
            raise UserError(
                f'{study.path}: metrics has {column}, but {where} has no test '
                f'image of {name}; take the column out, or give another split'
            )
