# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a study is made of, as its file says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

COMPARED_OF_MASKS = ('dice', 'iou')  # every image has them
TESTABLE = (
    'balanced_accuracy',
    'top1',
    *COMPARED_OF_MASKS,
)  # for significance
# of the net itself: weights, operations, time of an image (one batch of 1)
OF_NETS = ('parameters', 'gflops', 'milliseconds')
METRICS = ('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc')


@dataclass(frozen=True)
class Row:
    """One line of the table: a config that is trained once a seed.

    Args:
        name: folder of its runs; also what ``after`` and ``baselines`` say.
        title: what the reader calls it.
        config: file.
        options: as ``--cfg-options``; in texts ``{runs}`` stands for the
            folder of all runs of the seed, ``{work_dir}`` for the study's,
            ``{seed}`` for the seed.
        after: names of rows whose run of the same seed comes first.
        tested: against the baselines; a teacher, say, is not.
        paper: what the paper has, as ``metrics.json`` names and counts it:
            fractions, ``minutes`` of training.
    """

    name: str
    title: str
    config: Path
    options: dict[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    tested: bool = True
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study file.

    Args:
        path: of the file.
        title: of the table.
        rows: in the order of the table.
        baselines: names of the rows that the others are tested against.
        compared_by: the metric that is tested.
        metrics: columns of the table.
        size: which of its sizes this is; None as the paper has it.
        roles: ``teacher``, ``alone``, ``distilled`` -> name of the row that
            a report looks at closely, where the study says so.
    """

    path: Path
    title: str
    rows: tuple[Row, ...]
    baselines: tuple[str, ...]
    compared_by: str = 'balanced_accuracy'
    metrics: tuple[str, ...] = METRICS
    size: str | None = None
    roles: dict[str, str] = field(default_factory=dict)


class Run(NamedTuple):
    """A row with one seed, of a cross-validation on one fold."""

    row: Row
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """For what is said."""
        fold = '' if self.fold is None else f' fold {self.fold}'
        return f'{self.row.name} seed {self.seed}{fold}'

    def place(self, work_dir: Path) -> Path:
        """Where it and all that it builds on lie."""
        if self.fold is not None:
            work_dir = work_dir / f'fold{self.fold}'
        return work_dir / f'seed{self.seed}'

    def folder(self, work_dir: Path) -> Path:
        """Work dir of the training."""
        return self.place(work_dir) / self.row.name

    def options(self, work_dir: Path) -> list[str]:
        """Options for the command line, those of the study and its own."""
        places = {
            '{runs}': str(self.place(work_dir)),
            '{work_dir}': str(work_dir),
            '{seed}': str(self.seed),
        }
        found = [f'seed={self.seed}']
        for key, value in self.row.options.items():
            text = str(value)
            for mark, place in places.items():
                text = text.replace(mark, place)
            found.append(f'{key}={text}')
        if self.fold is not None:
            found.append(f'split_file={split_file(work_dir, self.fold)}')
        return found


def split_file(work_dir: Path, fold: int) -> Path:
    """Where the split of a fold is kept."""
    return work_dir / 'splits' / f'fold{fold}.json'


def all_runs(study: Study, seeds: range, folds: int = 0) -> list[Run]:
    """The runs of a study, row by row; without folds one a seed."""
    return [
        Run(row, seed, fold)
        for row in study.rows
        for seed in seeds
        for fold in (range(folds) if folds else [None])
    ]
