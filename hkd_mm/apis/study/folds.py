# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The split files of a study's cross-validation."""

from pathlib import Path

from hkd_mm.datasets.folds import draw_folds
from hkd_mm.datasets.split_checks import check_split
from hkd_mm.datasets.split_file import read_split, write_split
from hkd_mm.errors import UserError

from ..config.compose import compose_config
from ..config.data_summary import build_listing
from .plan import Run, Study, split_file


def provide_folds(
    study: Study, options: list[str], work_dir: Path, folds: int
) -> None:
    """Draw the folds, or check those that are there.

    Args:
        study: its first row says which images, and with what ``split_seed``.
        options: of the command line.
        work_dir: of the study.
        folds: how many; 0 does nothing.

    Raises:
        UserError: the images come split, there are too few folds, or the
            folds that are there are of other images or another number.
    """
    if not folds:
        return
    row = study.rows[0]
    cfg = compose_config(row.config, Run(row, 0).options(work_dir) + options)
    dataset = build_listing(cfg, 'train_dataloader')
    records = dataset.records()
    if any(record.split for record in records):
        raise UserError(
            f'{cfg.data_root} comes split into train, val and test: no folds '
            'can be drawn'
        )
    drawn = draw_folds(records, folds, cfg.get('split_seed', 42))
    for number, fold in enumerate(drawn):
        path = split_file(work_dir, number)
        if not path.exists():
            write_split({**fold, 'dataset': Path(cfg.data_root).name}, path)
            continue
        found = read_split(path)
        check_split(found, records, str(path))
        if found['hash'] != fold['hash']:
            raise UserError(
                f'{path} is another fold than one of {folds}; give another '
                '--work-dir'
            )
