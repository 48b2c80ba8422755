# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Rows, seeds and runs of a study, and the copy kept in its work dir."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hkd_mm.engine.run_files import TESTED
from hkd_mm.engine.run_summary import to_json
from hkd_mm.errors import UserError
from hkd_mm.evaluation.metric_names import CLASS_SUMMARY
from hkd_mm.io.atomic_files import AtomicBackend


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
    metrics: tuple[str, ...] = CLASS_SUMMARY
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


FILE = 'plan.json'


class Plan(NamedTuple):
    """A study and the number of seeds that each row is trained with."""

    study: Study
    seeds: int


def write_plan(plan: Plan, work_dir: Path) -> None:
    """Leave ``plan.json`` in the work dir of a study."""
    study = asdict(plan.study)
    study['path'] = str(plan.study.path)
    for row in study['rows']:
        row['config'] = str(row['config'])
    text = to_json(dict(study=study, seeds=plan.seeds))
    AtomicBackend().put_text(text, str(work_dir / FILE))


def read_plan(work_dir: Path) -> Plan | None:
    """What :func:`write_plan` left there, or above the folder of a fold.

    Raises:
        UserError: the file is damaged.
    """
    path = work_dir / FILE
    if work_dir.name.startswith('fold') and not path.is_file():
        path = work_dir.parent / FILE
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding='utf-8'))
        study = told['study']
        rows = tuple(
            Row(
                **{
                    **row,
                    'config': Path(row['config']),
                    'after': tuple(row['after']),
                }
            )
            for row in study['rows']
        )
        plan = Study(
            **{
                **study,
                'path': Path(study['path']),
                'rows': rows,
                'baselines': tuple(study['baselines']),
                'metrics': tuple(study['metrics']),
            }
        )
        return Plan(plan, int(told['seeds']))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{path} is no plan of a study ({error}); the same command of '
            'tools/compare.py writes it again, no run is lost'
        ) from None


FAILED = 'failed.json'
CONSOLE = 'console.log'  # what its processes print


def is_done(folder: Path) -> bool:
    """Whether a run was trained and tested."""
    return is_trained(folder) and all(
        (folder / name).is_file() for name in TESTED
    )


def summary(folder: Path, metric: str) -> str:
    """One line on a finished run."""
    report = read_json(folder / 'metrics.json')
    return (
        f'done, {report["training_minutes"]:.1f} min, {metric} on validation '
        f'{report["best"][metric]:.3f}'
    )


def read_json(path: Path) -> dict:
    """A file that a run has left.

    Raises:
        UserError: it is not there or damaged.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(
            f'{path} cannot be read ({error}); remove its folder and the run '
            'is done again'
        ) from None


def is_trained(folder: Path) -> bool:
    """Whether a training came to its end."""
    return all(
        (folder / name).is_file() for name in ('metrics.json', 'student.pth')
    )
