# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Sweep files: read, and refused where they contradict themselves."""

import itertools
import json
import math
import os
import re
import warnings
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat

from hkd_mm.config.compose import read_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.tree import dicts
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import Name
from hkd_mm.io.schema import validate
from hkd_mm.io.signatures import type_name
from hkd_mm.lazy import require
from hkd_mm.metric_names import MAIN, OF_MASKS, OVERALL

METHOD = 'method'  # name of the choice among ``configs``
MOST_TRIALS = 10_000
METRICS = {**OVERALL, **OF_MASKS}
_BRACES = re.compile(r'\{([^{}]+)\}')
_IN_BRACES = re.compile(r'\s*(1\s*-)?\s*([A-Za-z_]\w*)\s*')

_Number = Annotated[int, Field(ge=-(2**53), le=2**53)] | FiniteFloat
Value = bool | _Number | str | None


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included; of whole ends whole ones."""

    __pydantic_config__ = ConfigDict(extra='forbid')
    low: _Number
    high: _Number
    log: bool = False
    step: _Number | None = None


def _check_values(values: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(set(map(as_key, values))) < len(values):
        raise ValueError('names a value twice')
    return values


def _read_seeds(given: Any) -> tuple[int, ...]:
    found = range(min(given, 101)) if type(given) is int else given
    if (
        not isinstance(found, range | list)
        or not 1 <= len(found) <= 100
        or any(type(seed) is not int or not 0 <= seed < 2**32 for seed in found)
        or len(set(found)) < len(found)
    ):
        raise ValueError('must be how many (1 to 100), or a list of different ones')
    return tuple(found)


def _read_pruner(given: Any) -> dict[str, Any] | None:
    found = dict(type=given) if isinstance(given, str) else given
    if found is not None and (
        not isinstance(found, dict) or found.get('type') not in ('median', 'hyperband')
    ):
        raise ValueError("must be 'median' or 'hyperband', or dict(type=one of them)")
    return found


_Values = Annotated[
    tuple[Value, ...], Field(min_length=1), AfterValidator(_check_values)
]
_Natural = Annotated[int, Field(ge=0, lt=2**32)]
Entry = _Values | Range


@dataclass(frozen=True)
class _SweepFile:
    __pydantic_config__ = ConfigDict(extra='forbid')
    title: str = ''
    config: str | None = None
    configs: Annotated[dict[str, str], Field(min_length=1)] | None = None
    space: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    sampler: Literal['grid', 'tpe', 'random'] = 'tpe'
    sampler_seed: _Natural = 0
    metric: Literal[tuple(METRICS)] | None = None
    pruner: Annotated[Any, AfterValidator(_read_pruner)] = None
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    seeds: Annotated[Any, AfterValidator(_read_seeds)] = (0,)


@dataclass(frozen=True)
class Sweep(_SweepFile):
    """A sweep file whose ``configs`` are files by method, one without a choice.

    In texts of ``options`` ``{work_dir}`` stands for the sweep's folder, ``{name}`` for
    a value of the space and ``{1 - name}`` for its difference to 1. The ``metric`` is
    of the validation split, at the chosen checkpoint.
    """

    path: Path = Path()

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def maximised(self) -> bool:
        return METRICS[self.metric].larger_is_better

    @property
    def ranges(self) -> dict[str, dict[str, Any]]:
        """The ranges of the space, with all of their keywords."""
        return {n: asdict(e) for n, e in self.space.items() if isinstance(e, Range)}

    def config_of(self, params: dict[str, Any]) -> Path:
        return self.configs[params.get(METHOD, next(iter(self.configs)))]

    def common(self, work_dir: Path) -> dict[str, str]:
        """Options without a value of the space: key -> text."""
        known = dict(work_dir=str(work_dir))
        return {
            key: fill_in(value, known)
            for key, value in self.options.items()
            if names_in(value) <= known.keys()
        }

    def varied(self, params: dict[str, Any], work_dir: Path) -> dict[str, str]:
        """Options that depend on the values of a trial: key -> text."""
        known = dict(params, work_dir=str(work_dir))
        used = {n for value in self.options.values() for n in names_in(value)}
        found = {
            key: fill_in(value, known)
            for key, value in self.options.items()
            if names_in(value) - {'work_dir'}
        }
        for name, value in params.items():
            if name != METHOD and name not in used:
                found[name] = as_text(value)
        return found


def names_in(value: Any) -> set[str]:
    """The names in braces in a text."""
    texts = _BRACES.findall(value) if isinstance(value, str) else []
    for text in texts:
        if not _IN_BRACES.fullmatch(text):
            raise UserError(
                f'{{{text}}} cannot be read; write {{name}} or {{1 - name}}'
            )
    return {_IN_BRACES.fullmatch(text)[2] for text in texts}


def fill_in(value: Any, known: dict[str, Any]) -> str:
    """A value as the command line takes it, names in braces of texts replaced."""

    def replacement(found: re.Match) -> str:
        minus, name = _IN_BRACES.fullmatch(found[1]).groups()
        try:
            return as_text(1 - known[name] if minus else known[name])
        except TypeError:
            raise UserError(
                f'{found[0]}: {name}={known[name]!r} is no number'
            ) from None

    if isinstance(value, str):
        return _BRACES.sub(replacement, value)
    return as_text(value)


def as_text(value: Any) -> str:
    """A float without rounding errors: 1 - 0.9 is 0.1."""
    if isinstance(value, float):
        return repr(float(f'{value:.12g}'))
    return str(value)


def read_keys(path: str | os.PathLike) -> dict[str, Any]:
    """Read a sweep or study file, without names with a leading underscore."""
    read = read_config(path).to_dict().items()
    return {key: value for key, value in read if not key.startswith('_')}


def read_sweep(path: str | os.PathLike, trials: int | None = None) -> Sweep:
    """Read a sweep file, see docs/compare.md; ``trials`` go before its own."""
    given = read_keys(path) | ({} if trials is None else dict(trials=trials))
    file = validate(_SweepFile, given, str(path))
    name = validate(Name, Path(path).stem, f'{path}: name of the file')
    if (file.config is None) == (file.configs is None):
        raise UserError(f'{path} must name either config or configs')
    configs = {
        method: config_root() / config
        for method, config in (file.configs or {'': file.config}).items()
    }
    for config in configs.values():
        if not os.path.isfile(config):  # also of names that no disk takes
            raise UserError(f'{path}: {config} does not exist')
    space = {
        n: _entry(entry, f'{path}: space[{n!r}]') for n, entry in file.space.items()
    }
    if METHOD in space:
        raise UserError(f'{path}: give the methods as configs, not in space')
    if file.configs:
        space = {METHOD: tuple(configs), **space}
    if not space:
        raise UserError(f'{path} varies nothing; give it a space')
    title, metric = file.title or name, _metric(file, configs, path)
    own = dict(title=title, configs=configs, space=space, metric=metric)
    found = Sweep(**{**vars(file), **own, 'path': Path(path)})
    _check_options(found)
    if found.sampler == 'grid':
        return _with_points(found)
    if not file.trials:
        raise UserError(f'{path}: sampler={file.sampler!r} needs trials')
    return found


def _entry(given: Any, where: str) -> Entry:
    if not isinstance(given, dict):
        remedy = '; give a list of values or dict(low=, high=, log=, step=)'
        return validate(_Values, given, where, remedy)
    entry = validate(Range, given, where)
    try:
        if entry.low >= entry.high:
            raise ValueError('low must be below high')
        distribution(entry)
    except ValueError as error:
        raise UserError(f'{where}: {error}') from None
    return entry


def _metric(file: _SweepFile, configs: dict[str, Path], path) -> str:
    """The one given, else the one that the configs choose checkpoints by."""
    chosen = {f: _chosen_by(f, file.options) for f in configs.values()}
    given = file.metric
    if given is None:
        names = sorted(set(chosen.values()))
        if len(names) > 1:
            raise UserError(
                f'{path}: its configs choose checkpoints by {names[0]} and by '
                f'{names[1]}; name the one to compare trials by as metric'
            )
        return names[0]
    for config, name in chosen.items():
        if (given in OF_MASKS) != (name in OF_MASKS):
            task = 'masks' if given in OF_MASKS else 'classes'
            raise UserError(
                f'{path}: {given} is a metric of {task}, and {config} is '
                f'chosen by {name}; give another metric or config'
            )
    return given


def _chosen_by(file: Path, options: dict[str, Any]) -> str:
    """The metric that chooses checkpoints; if unknown, that of the task."""
    cfg = read_config(file)
    hooks = cfg.get('default_hooks') or {}
    name = options.get(
        'default_hooks.checkpoint.save_best',
        (hooks.get('checkpoint') or {}).get('save_best'),
    )
    name = name[0] if isinstance(name, list) and name else name
    if isinstance(name, str) and name in METRICS:
        return name
    masks = 'SegmentationMetric' in map(type_name, dicts(cfg.get('val_evaluator')))
    return MAIN['segmentation' if masks else 'classification']


def _check_options(sweep: Sweep) -> None:
    for key in ('seed', 'work_dir'):
        if key in sweep.space or key in sweep.options:
            raise UserError(
                f"{sweep.path} sets {key}, which is the sweep's own; seeds "
                'says how often each trial is trained'
            )
    for key, value in sweep.options.items():
        unknown = names_in(value) - {*sweep.space, 'work_dir'}
        if unknown or key in sweep.space:
            raise UserError(
                f'{sweep.path}: options[{key!r}]: '
                + (f'{min(unknown)} is not in' if unknown else 'is also in')
                + ' the space'
            )


def _with_points(sweep: Sweep) -> Sweep:
    for name in sweep.ranges:
        raise UserError(
            f'{sweep.path}: space[{name!r}] is a range; a grid needs lists, '
            "or take sampler='tpe'"
        )
    points = math.prod(map(len, sweep.space.values()))
    if points > MOST_TRIALS:
        raise UserError(
            f'{sweep.path}: the grid has {points} points, more than {MOST_TRIALS}; '
            "shorten its lists, or take sampler='tpe' and trials"
        )
    if sweep.trials not in (None, points):
        raise UserError(
            f'{sweep.path}: the grid has {points} points; trials is for tpe and random'
        )
    return replace(sweep, trials=points)


def as_key(params: Any) -> str:
    """One text for one set of values; 1 and 1.0 are the same, True is not."""
    if isinstance(params, dict):
        return json.dumps({k: as_key(v) for k, v in sorted(params.items())})
    return repr(float(params)) if _is_number(params) else json.dumps(params)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def grid_points(sweep: Sweep) -> list[dict[str, Value]]:
    """Every combination; the last name varies fastest."""
    points = itertools.product(*sweep.space.values())
    return [dict(zip(sweep.space, point)) for point in points]


def corners(sweep: Sweep) -> list[dict[str, Value]]:
    """First and last point, to try whether all options are accepted."""
    ends = {
        name: (entry.low, entry.high) if isinstance(entry, Range) else entry
        for name, entry in sweep.space.items()
    }
    return [{n: values[i] for n, values in ends.items()} for i in (0, -1)]


def optuna():
    """The package, quiet."""
    found = require('optuna', 'a sweep', '"optuna>=5.0"')
    found.logging.set_verbosity(found.logging.ERROR)
    warnings.simplefilter('ignore', found.exceptions.ExperimentalWarning)
    return found


def distribution(entry: Entry, grid: bool = False) -> Any:
    """An Optuna distribution; a ValueError of a bad range.

    Numbers of a grid become ranges: Optuna never lets a list of choices grow.
    """
    kinds = optuna().distributions
    if isinstance(entry, tuple):
        if not grid or not all(map(_is_number, entry)):
            return kinds.CategoricalDistribution(entry)
        whole = all(isinstance(value, int) for value in entry)
        kind = int if whole else float  # whole only if all are
        entry = Range(kind(min(entry)), kind(max(entry)))
    given = {key: value for key, value in asdict(entry).items() if value is not None}
    whole = all(isinstance(number, int) for number in given.values())
    kind = kinds.IntDistribution if whole else kinds.FloatDistribution
    return kind(**given)
