# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Studies: their rows and runs, read from a file or made of configs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from hkd_mm.config.compose import compose_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.overrides import NoPlaceError
from hkd_mm.config.teacher_options import places_of
from hkd_mm.engine.run_summary import to_json
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import write_text
from hkd_mm.experiments.sweep_file import check_keys, read_keys
from hkd_mm.io.schema import validate
from hkd_mm.metric_names import (
    CLASS_SUMMARY,
    OF_MASKS,
    OF_NETS,
    OVERALL,
    PER_CLASS,
    TESTABLE,
)

PLAN = 'plan.json'
_OVERALL = (*OVERALL, *OF_MASKS, *OF_NETS)
_ROLES = ('teacher', 'alone', 'distilled')
_STUDY_KEYS = (
    *('title', 'rows', 'options', 'baselines', 'compared_by', 'metrics'),
    *('sizes', 'roles'),
)
_ROW_KEYS = ('config', 'title', 'options', 'after', 'tested', 'paper', 'seeds')
_SIZE_KEYS = ('title', 'options', 'metrics', 'rows')


@dataclass(frozen=True)
class StudyRow:
    """One line of the table: a config that is trained once a seed.

    Args:
        name: folder of its runs; ``after`` and ``baselines`` refer to it.
        title: shown to the reader.
        config: file.
        options: as ``--cfg-options``; in texts ``{runs}`` stands for the folder of all
            runs of the seed, ``{work_dir}`` for the study's, ``{seed}`` for the seed.
        after: names of rows whose run of the same seed comes first, or their last
            seed's where they have fewer.
        tested: against the baselines; a teacher, say, is not.
        paper: the paper's figures, as ``metrics.json`` names and counts them:
            fractions, ``minutes`` of training.
        seeds: that it is trained with, the first ones; None: all of the study.
    """

    name: str
    title: str
    config: Path
    options: dict[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    tested: bool = True
    paper: dict[str, float] = field(default_factory=dict)
    seeds: int | None = None


@dataclass(frozen=True)
class Study:
    """Rows to be trained, and how they are compared.

    Args:
        path: of its file.
        title: of the table.
        rows: in the order of the table.
        baselines: names of the rows that the others are tested against.
        compared_by: the metric that is tested.
        metrics: columns of the table.
        size: which of its sizes this is; None as the paper has it.
        roles: ``teacher``, ``alone``, ``distilled`` -> name of the row that
            a report looks at closely, where the study names it.
    """

    path: Path
    title: str
    rows: tuple[StudyRow, ...]
    baselines: tuple[str, ...]
    compared_by: str = 'balanced_accuracy'
    metrics: tuple[str, ...] = CLASS_SUMMARY
    size: str | None = None
    roles: dict[str, str] = field(default_factory=dict)


class Run(NamedTuple):
    """A row with one seed, of a cross-validation on one fold."""

    row: StudyRow
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """As in ``kd seed 0 fold 1``."""
        return f'{self.row.name} {self.column}'

    @property
    def column(self) -> str:
        """As in ``seed 0 fold 1``."""
        fold = '' if self.fold is None else f' fold {self.fold}'
        return f'seed {self.seed}{fold}'

    def root(self, work_dir: Path) -> Path:
        """Folder of the runs of its seed and fold."""
        if self.fold is not None:
            work_dir = work_dir / f'fold{self.fold}'
        return work_dir / f'seed{self.seed}'

    def folder(self, work_dir: Path) -> Path:
        """Work dir of the training."""
        return self.root(work_dir) / self.row.name

    def built_on(self, rows: Iterable[StudyRow]) -> list[Run]:
        """Runs that come first: of the same seed, or of a row's last one."""
        by_name = {row.name: row for row in rows}
        found = [by_name[name] for name in self.row.after]
        last = [self.seed if row.seeds is None else row.seeds - 1 for row in found]
        return [Run(r, min(self.seed, s), self.fold) for r, s in zip(found, last)]

    def split_file(self, work_dir: Path) -> Path:
        """Path of the split of its fold."""
        return work_dir / 'splits' / f'fold{self.fold}.json'

    def options(self, work_dir: Path) -> list[str]:
        """Options for the command line, those of the study and its own."""
        values = {
            '{runs}': str(self.root(work_dir)),
            '{work_dir}': str(work_dir),
            '{seed}': str(self.seed),
        }
        found = [f'seed={self.seed}']
        for key, value in self.row.options.items():
            text = str(value)
            for name, replacement in values.items():
                text = text.replace(name, replacement)
            found.append(f'{key}={text}')
        if self.fold is not None:
            found.append(f'split_file={self.split_file(work_dir)}')
        return found


def all_runs(study: Study, seeds: range, folds: int = 0) -> list[Run]:
    """The runs of a study, row by row; without folds one a seed."""
    return [
        Run(row, seed, fold)
        for row in study.rows
        for seed in seeds[: row.seeds]
        for fold in (range(folds) if folds else [None])
    ]


def read_study(path: str | os.PathLike, size: str | None = None) -> Study:
    """Read a study file, see docs/compare.md.

    Args:
        path: of the file; configs are found from the root of the configs.
        size: one of its ``sizes``, whose rows replace those of the study (by
            None: leave one out); rows that only the size has come first.

    Raises:
        UserError: it has no rows or no such size, unknown keys or metrics,
            names that no row has, or rows that wait for each other.
    """
    cfg = read_keys(path, _STUDY_KEYS)
    if not cfg.get('rows'):
        raise UserError(f'{path} has no rows; a study names its configs there')
    if size is not None:
        _resize(cfg, size, path)
    defaults = cfg.get('options') or {}
    study = Study(
        path=Path(path),
        title=cfg.get('title') or Path(path).stem,
        rows=tuple(
            _row(name, given, defaults, path) for name, given in cfg['rows'].items()
        ),
        baselines=tuple(cfg.get('baselines') or ()),
        compared_by=cfg.get('compared_by') or 'balanced_accuracy',
        metrics=tuple(cfg.get('metrics') or CLASS_SUMMARY),
        size=size,
        roles=dict(cfg.get('roles') or {}),
    )
    _check_names(study)
    _check_metrics(study)
    return study


def _resize(cfg: dict[str, Any], size: str, path) -> None:
    """Replace in place what a size changes."""
    sizes = cfg.get('sizes') or {}
    if size not in sizes:
        known = ', '.join(sizes) or 'none'
        raise UserError(f'--size {size}: {path} has {known}')
    given = sizes[size]
    check_keys(given, _SIZE_KEYS, f'{path}: sizes.{size}')
    cfg['title'] = given.get('title') or f'{cfg.get("title", "")} ({size})'
    cfg['options'] = {**(cfg.get('options') or {}), **given.get('options', {})}
    cfg['metrics'] = given.get('metrics') or cfg.get('metrics')
    rows, changes = cfg['rows'], given.get('rows') or {}
    cfg['rows'] = {n: row for n, row in changes.items() if n not in rows}
    for name, row in rows.items():
        if name not in changes or changes[name] is not None:
            cfg['rows'][name] = {**row, **changes.get(name, {})}


def _row(name: str, given: dict[str, Any], defaults: dict[str, Any], path) -> StudyRow:
    check_keys(given, _ROW_KEYS, f'{path}: rows.{name}')
    if not given.get('config'):
        raise UserError(f'{path}: rows.{name} names no config')
    config = config_root() / given['config']
    if not config.is_file():
        raise UserError(f'{path}: rows.{name}: {config} does not exist')
    return StudyRow(
        name,
        given.get('title') or name,
        config,
        {**defaults, **(given.get('options') or {})},
        tuple(given.get('after') or ()),
        given.get('tested', True),
        dict(given.get('paper') or {}),
        validate(
            Annotated[int, Field(ge=1)] | None,
            given.get('seeds'),
            f'{path}: rows.{name}.seeds',
        ),
    )


def _check_names(study: Study) -> None:
    names = [row.name for row in study.rows]
    for index, row in enumerate(study.rows):
        for other in row.after:
            if other not in names[:index]:
                reason = (
                    'stands below it; put it above' if other in names else 'is no row'
                )
                raise UserError(
                    f'{study.path}: rows.{row.name} comes after {other}, which {reason}'
                )
            few = study.rows[names.index(other)].seeds
            if few is not None and few < (row.seeds or few + 1):
                _check_place(study, row, other, few)
    check_keys(study.roles, _ROLES, f'{study.path}: roles')
    named = [(f'baseline {name}', name) for name in study.baselines]
    named += [(f'roles.{r}={name}', name) for r, name in study.roles.items()]
    for text, name in named:
        if name not in names:
            raise UserError(f'{study.path}: {text} is no row')


def _check_place(study: Study, row: StudyRow, other: str, seeds: int) -> None:
    for key, value in row.options.items():
        if f'{{runs}}/{other}/' in str(value):
            raise UserError(
                f'{study.path}: rows.{row.name}: {key}={value} is not there with '
                f'seeds that {other} lacks (seeds={seeds}); write '
                f'{{work_dir}}/seed{seeds - 1}/{other}/'
            )


def _check_metrics(study: Study) -> None:
    """Before days go into runs whose table cannot be made."""
    if study.compared_by not in TESTABLE:
        raise UserError(
            f'{study.path}: compared_by={study.compared_by} cannot be tested '
            f'for significance; known: {", ".join(TESTABLE)}'
        )
    for metric in study.metrics:
        name, _, figure = metric.rpartition('/')
        if figure not in ((*PER_CLASS, *OF_MASKS) if name else _OVERALL):
            raise UserError(
                f'{study.path}: metrics has {metric}; known: '
                f'{", ".join(_OVERALL)}, and CLASS/F with F one of '
                f'{", ".join(PER_CLASS)}'
            )


def of_configs(paths: list[str]) -> Study:
    """Make a study of config files, whose rows are named like them.

    The first one is the baseline.

    Raises:
        UserError: two files have one name.
    """
    names = [Path(path).stem for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f'two configs are called {name}; write a study file that '
                'gives their rows names of their own'
            )
    rows = tuple(StudyRow(name, name, Path(path)) for name, path in zip(names, paths))
    return Study(Path('comparison'), 'comparison', rows, (names[0],))


def share_options(study: Study, options: list[str]) -> tuple[Study, list[str]]:
    """Give options of the command line to the rows that can take them.

    ``teacher=resnet152`` holds for the rows that distil, not for the student
    alone; the row with the role ``teacher`` trains that network itself.

    Returns:
        The study, whose rows have the options that not all rows take, and
        the options for all rows.

    Raises:
        UserError: no row takes an option.
    """
    if not options:
        return study, options
    taken: dict[tuple[str, str], str] = {}  # of row and option
    refused: dict[str, NoPlaceError] = {}
    for row in study.rows:
        base = compose_config(row.config, Run(row, 0).options(Path('.')))
        texts = {_for_row(study, row, option): option for option in options}
        kept, no_place = places_of(base, list(texts))
        taken |= {(row.name, texts[text]): text for text in kept}
        refused |= {texts[text]: error for text, error in no_place.items()}
    common = []
    for option in options:
        texts = [taken.get((row.name, option)) for row in study.rows]
        if not any(texts):
            raise refused[option]
        if all(text == option for text in texts):
            common.append(option)
    rows = []
    for row in study.rows:
        own = [
            taken[row.name, option].split('=', 1)
            for option in options
            if option not in common and (row.name, option) in taken
        ]
        rows.append(replace(row, options={**row.options, **dict(own)}))
    return replace(study, rows=tuple(rows)), common


def _for_row(study: Study, row: StudyRow, option: str) -> str:
    """``teacher=NAME`` for the row that is the teacher: its own network."""
    teacher = option.removeprefix('teacher=')
    if row.name == study.roles.get('teacher') and teacher != option:
        return f'network={teacher}'
    return option


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
    write_text(work_dir / PLAN, text)


def read_plan(work_dir: Path) -> Plan | None:
    """Read the plan of a work dir, or of that above the folder of a fold.

    Raises:
        UserError: the file is damaged.
    """
    path = work_dir / PLAN
    if work_dir.name.startswith('fold') and not path.is_file():
        path = work_dir.parent / PLAN
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding='utf-8'))
        given = stored['study']
        rows = tuple(
            StudyRow(**_typed(row, config=Path, after=tuple)) for row in given['rows']
        )
        given = _typed(given, path=Path, baselines=tuple, metrics=tuple)
        return Plan(Study(**{**given, 'rows': rows}), int(stored['seeds']))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{path} is no plan of a study ({error}); the same command of '
            'tools/compare.py writes it again, no run is lost'
        ) from None


def _typed(given: dict[str, Any], **types) -> dict[str, Any]:
    """With what JSON has as text or list as the type that it was."""
    return {k: types[k](v) if k in types else v for k, v in given.items()}
