# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Studies: their rows and runs, read from a file or made of configs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat

from hkd_mm import metric_names
from hkd_mm.config.cfg_options import parse_options
from hkd_mm.config.compose import compose_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.overrides import NoPlaceError
from hkd_mm.config.teacher_options import places_of
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import Name, RowName, write_json
from hkd_mm.experiments.sweep_file import read_keys
from hkd_mm.io.schema import read_as, validate

PLAN = 'plan.json'
_OVERALL = (*metric_names.OVERALL, *metric_names.OF_MASKS, *metric_names.OF_NETS)


def _check_metric(metric: str) -> str:
    name, _, figure = metric.rpartition('/')
    if figure not in (
        (*metric_names.PER_CLASS, *metric_names.OF_MASKS) if name else _OVERALL
    ):
        raise ValueError(
            f'known are {", ".join(_OVERALL)}, and CLASS/F with F one of '
            f'{", ".join(metric_names.PER_CLASS)}'
        )
    return metric


_Metrics = tuple[Annotated[str, AfterValidator(_check_metric)], ...]
_Roles = dict[Literal['teacher', 'alone', 'distilled'], RowName]
_Some = Field(min_length=1)


@dataclass(frozen=True)
class StudyRow:
    """One line of the table: a config that is trained once a seed."""

    __pydantic_config__ = ConfigDict(extra='forbid')
    name: RowName  # folder of its runs; ``after`` and ``baselines`` refer to it
    title: str
    config: Path
    # as --cfg-options; in texts {runs} stands for the folder of all runs of the seed,
    # {work_dir} for the study's, {seed} for the seed; {work_dir}/seed0 is that of the
    # first seed, in the same fold
    options: dict[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()  # rows whose run of the seed, or last one, comes first
    tested: bool = True  # against the baselines; a teacher, say, is not
    # the paper's figures: fractions, ``minutes`` of training
    paper: dict[str, FiniteFloat] = field(default_factory=dict)
    seeds: Annotated[int, Field(ge=1)] | None = None  # the first ones; None: all


@dataclass(frozen=True)
class Study:
    """Rows to be trained, and how they are compared."""

    path: Path  # of its file
    title: str  # of the table
    rows: Annotated[tuple[StudyRow, ...], _Some]  # in the order of the table
    baselines: tuple[str, ...]  # rows that the others are tested against
    compared_by: Literal[metric_names.TESTABLE] = 'balanced_accuracy'
    metrics: _Metrics = metric_names.CLASS_SUMMARY  # columns of the table
    size: Name | None = None  # which of its sizes this is; None as the paper has it
    roles: _Roles = field(default_factory=dict)  # rows that a report looks at closely


@dataclass(frozen=True)
class _Size:
    """What a size changes; a row of None is left out."""

    __pydantic_config__ = ConfigDict(extra='forbid')
    title: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    metrics: Annotated[_Metrics, _Some] | None = None
    rows: dict[RowName, dict[str, Any] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _StudyFile:
    __pydantic_config__ = ConfigDict(extra='forbid')
    rows: Annotated[dict[RowName, dict[str, Any]], _Some]
    title: str = ''
    options: dict[str, Any] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    compared_by: Literal[metric_names.TESTABLE] = 'balanced_accuracy'
    metrics: Annotated[_Metrics, _Some] = metric_names.CLASS_SUMMARY
    sizes: dict[Name, _Size] = field(default_factory=dict)
    roles: _Roles = field(default_factory=dict)


class Run(NamedTuple):
    """A row with one seed, of a cross-validation on one fold."""

    row: StudyRow
    seed: int
    fold: int | None = None

    @property
    def column(self) -> str:
        fold = '' if self.fold is None else f' fold {self.fold}'
        return f'seed {self.seed}{fold}'

    @property
    def name(self) -> str:
        return f'{self.row.name} {self.column}'

    def root(self, work_dir: Path) -> Path:
        if self.fold is not None:
            work_dir = work_dir / f'fold{self.fold}'
        return work_dir / f'seed{self.seed}'

    def folder(self, work_dir: Path) -> Path:
        return self.root(work_dir) / self.row.name

    def built_on(self, rows: Iterable[StudyRow]) -> list[Run]:
        """Runs that come first: of the same seed, or of a row's last one."""
        by_name = {row.name: row for row in rows}
        found = [by_name[name] for name in self.row.after]
        last = [self.seed if row.seeds is None else row.seeds - 1 for row in found]
        return [Run(r, min(self.seed, s), self.fold) for r, s in zip(found, last)]

    def split_file(self, work_dir: Path) -> Path:
        return work_dir / 'splits' / f'fold{self.fold}.json'

    def options(self, work_dir: Path) -> list[str]:
        found, root = [f'seed={self.seed}'], self.root(work_dir)
        for key, value in self.row.options.items():
            text = str(value).replace('{runs}', str(root))
            # another seed's runs: those of the same fold
            other = r'\{work_dir\}(?=/seed(\d+|\{seed\})(/|$))'
            text = re.sub(other, lambda _: str(root.parent), text)
            text = text.replace('{work_dir}', str(work_dir))
            found.append(f'{key}={text.replace("{seed}", str(self.seed))}')
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
    """Read a study file, see docs/compare.md, at one of its ``sizes``.

    Rows that only the size has come first.
    """
    file = validate(_StudyFile, read_keys(path), str(path))
    title, options, rows = file.title or Path(path).stem, file.options, file.rows
    metrics = file.metrics
    if size is not None:
        if size not in file.sizes:
            known = ', '.join(file.sizes) or 'none'
            raise UserError(f'--size {size}: {path} has {known}')
        given = file.sizes[size]
        title = given.title or f'{title} ({size})'
        options, metrics = {**options, **given.options}, given.metrics or metrics
        changes = {n: {} if row is None else row for n, row in given.rows.items()}
        rows = {n: changes[n] for n in changes if n not in rows} | {
            n: {**row, **changes.get(n, {})}
            for n, row in rows.items()
            if given.rows.get(n, {}) is not None
        }
    study = Study(
        Path(path),
        title,
        tuple(_row(name, row, options, path) for name, row in rows.items()),
        file.baselines,
        file.compared_by,
        metrics,
        size,
        file.roles,
    )
    _check_names(study)
    return study


def _row(name: str, given: dict[str, Any], options: dict[str, Any], path) -> StudyRow:
    where = f'{path}: rows.{name}'
    if 'name' in given:
        raise UserError(f'{where}.name is no known key; did you mean title?')
    row = validate(StudyRow, {'title': name, **given, 'name': name}, where)
    config = config_root() / row.config
    if not os.path.isfile(config):  # also of names that no disk takes
        raise UserError(f'{where}: {config} does not exist')
    return replace(row, config=config, options={**options, **row.options})


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
            if few and few < (row.seeds or few + 1):
                _check_place(study, row, other, few)
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


def of_configs(paths: list[str]) -> Study:
    """Make a study of config files, named like them; the first one is the baseline."""
    names = [Path(path).stem for path in paths]
    validate(list[RowName], names, 'names of the configs')
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

    ``teacher=resnet152`` holds for the rows that distil, not for the student alone; the
    row with the role ``teacher`` trains that network itself. Returned are the study and
    the options for all rows.
    """
    if not options:
        return study, options
    given = parse_options(options)
    taken: dict[str, dict[str, str]] = {}  # row -> key -> what the row calls it
    refused: dict[str, NoPlaceError] = {}
    for row in study.rows:
        names = {key: key for key in given}
        if row.name == study.roles.get('teacher') and 'teacher' in given:
            names['teacher'] = 'network'  # its own
        keys = {own: key for key, own in names.items()}
        base = compose_config(row.config, Run(row, 0).options(Path('.')))
        kept, no_place = places_of(base, {o: given[key] for o, key in keys.items()})
        taken[row.name] = {keys[own]: own for own in kept}
        refused |= {keys[own]: error for own, error in no_place.items()}
    common = []
    for key in given:
        names = [found.get(key) for found in taken.values()]
        if not any(names):
            raise refused[key]
        if all(name == key for name in names):
            common.append(key)
    rows = []
    for row in study.rows:
        own = taken[row.name].items()
        own = {name: str(given[key]) for key, name in own if key not in common}
        rows.append(replace(row, options={**row.options, **own}))
    return replace(study, rows=tuple(rows)), [f'{key}={given[key]}' for key in common]


@dataclass(frozen=True)
class Plan:
    """A study and the number of seeds that each row is trained with."""

    study: Study
    seeds: Annotated[int, Field(ge=1, le=1000)]


def write_plan(plan: Plan, work_dir: Path) -> None:
    """Leave ``plan.json`` in the work dir of a study."""
    found = asdict(plan)
    for part in (found['study'], *found['study']['rows']):
        for key in part.keys() & {'path', 'config'}:  # names of any bytes, as text
            part[key] = str(part[key]).encode(errors='backslashreplace').decode()
    write_json(work_dir / PLAN, found)


def read_plan(work_dir: Path) -> Plan | None:
    """Read the plan of a work dir, or of that above the folder of a fold."""
    path = work_dir / PLAN
    if work_dir.name.startswith('fold') and not path.is_file():
        path = work_dir.parent / PLAN
    if not path.is_file():
        return None
    remedy = '; the same command of tools/compare.py writes it again, no run is lost'
    return read_as(Plan, path, remedy)
