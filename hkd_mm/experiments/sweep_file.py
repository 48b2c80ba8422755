# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Sweep files: read, and refused where they contradict themselves."""

import itertools
import json
import math
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hkd_mm.config.compose import read_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.tree import dicts
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name
from hkd_mm.metric_names import MAIN, OF_MASKS, OVERALL

METHOD = 'method'  # name of the choice among ``configs``
SAMPLERS = ('grid', 'tpe', 'random')
PRUNERS = ('median', 'hyperband')
METRICS = {**OVERALL, **OF_MASKS}
_KEYS = (
    *('title', 'config', 'configs', 'space', 'sampler', 'sampler_seed'),
    *('metric', 'pruner', 'trials', 'options', 'seeds'),
)
_BRACES = re.compile(r'\{([^{}]+)\}')
_IN_BRACES = re.compile(r'\s*(1\s*-)?\s*([A-Za-z_]\w*)\s*')

Value = bool | int | float | str | None
Entry = tuple[Value, ...] | dict[str, Any]  # values, or keywords of a range


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Args:
        path: of the file.
        title: of the table.
        configs: method -> config file; one without a choice.
        space: name -> values to choose from, or ``dict(low, high, log,
            step)`` of a range with both ends.
        options: of every run, as ``--cfg-options``; in texts ``{work_dir}``
            stands for the sweep's folder, ``{name}`` for a value of the space
            and ``{1 - name}`` for its difference to 1.
        sampler: one of SAMPLERS.
        sampler_seed: of ``tpe`` and ``random``.
        metric: of the validation split, at the chosen checkpoint.
        pruner: ``type`` and its arguments; None lets every trial end.
        trials: how many.
        seeds: that each trial is trained with.
    """

    path: Path
    title: str
    configs: dict[str, Path]
    space: dict[str, Entry]
    options: dict[str, Any]
    sampler: str
    sampler_seed: int
    metric: str
    pruner: dict[str, Any] | None
    trials: int
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """For folders and storages."""
        return self.path.stem

    @property
    def maximised(self) -> bool:
        """Whether more of the metric is better."""
        return METRICS[self.metric].larger_is_better

    @property
    def ranges(self) -> dict[str, dict[str, Any]]:
        """The ranges of the space, with all of their keywords."""
        return {
            name: dict(log=False, step=None) | entry
            for name, entry in self.space.items()
            if isinstance(entry, dict)
        }

    def config(self, params: dict[str, Any]) -> Path:
        """The config file of a trial."""
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
    """The names in braces in a text.

    Raises:
        UserError: there is something else in braces.
    """
    texts = _BRACES.findall(value) if isinstance(value, str) else []
    for text in texts:
        if not _IN_BRACES.fullmatch(text):
            raise UserError(
                f'{{{text}}} cannot be read; write {{name}} or {{1 - name}}'
            )
    return {_IN_BRACES.fullmatch(text)[2] for text in texts}


def fill_in(value: Any, known: dict[str, Any]) -> str:
    """A value as the command line takes it, braces replaced.

    Args:
        value: of an option; only in texts braces mean something.
        known: values of the names in braces.

    Raises:
        UserError: ``{1 - name}`` where the name is no number.
    """

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


def read_keys(path: str | os.PathLike, known: Iterable[str]) -> dict[str, Any]:
    """Read a sweep or study file, without names with a leading underscore.

    Raises:
        UserError: it cannot be read, or has other keys.
    """
    read = read_config(path).to_dict().items()
    cfg = {key: value for key, value in read if not key.startswith('_')}
    check_keys(cfg, known, f'{path}')
    return cfg


def check_keys(given: dict, known: Iterable[str], where: str) -> None:
    """Raise a UserError that names a key that is not known."""
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise UserError(
            f'{where} has {unknown[0]}, which is not known; known: '
            f'{", ".join(sorted(known))}'
        )


def read_sweep(path: str | os.PathLike, trials: int | None = None) -> Sweep:
    """Read a sweep file, see docs/compare.md.

    Args:
        path: of the file; configs are found from the root of the configs.
        trials: in place of those of the file.

    Raises:
        UserError: it cannot be read, or contradicts itself.
    """
    cfg = read_keys(path, _KEYS)
    if trials is not None:
        cfg['trials'] = trials
    configs, space = _configs(cfg, path), dict(cfg.get('space') or {})
    if METHOD in space:
        raise UserError(f'{path}: give the methods as configs, not in space')
    if 'configs' in cfg:
        space = {METHOD: list(configs), **space}
    if not space:
        raise UserError(f'{path} varies nothing; give it a space')
    found = Sweep(
        path=Path(path),
        title=cfg.get('title') or Path(path).stem,
        configs=configs,
        space={
            name: _entry(entry, f'{path}: space[{name!r}]')
            for name, entry in space.items()
        },
        options=dict(cfg.get('options') or {}),
        sampler=cfg.get('sampler', 'tpe'),
        sampler_seed=cfg.get('sampler_seed', 0),
        metric=_metric(cfg, configs, path),
        pruner=_pruner(cfg.get('pruner'), path),
        trials=0,
        seeds=_seeds(cfg.get('seeds', 1), path),
    )
    _check(found)
    return _with_trials(found, cfg.get('trials'))


def _configs(cfg: dict[str, Any], path) -> dict[str, Path]:
    if ('config' in cfg) == ('configs' in cfg):
        raise UserError(f'{path} must name either config or configs')
    given = cfg.get('configs') or {'': cfg.get('config')}
    if not isinstance(given, dict):
        raise UserError(f'{path}: configs is dict(name=file, ...)')
    found = {name: config_root() / str(file) for name, file in given.items()}
    for file in found.values():
        if not file.is_file():
            raise UserError(f'{path}: {file} does not exist')
    return found


def _entry(entry: Any, where: str) -> Entry:
    if isinstance(entry, dict):
        try:
            distribution(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f'{where} must be dict(low=, high=, log=, step=): {error}'
            ) from None
        return entry
    if not isinstance(entry, (list, tuple)) or not entry:
        raise UserError(
            f'{where}={entry!r} must be a list of values or '
            'dict(low=, high=, log=, step=)'
        )
    for value in entry:
        if not isinstance(value, Value) or value != value:
            raise UserError(
                f'{where} holds {value!r}; values are numbers, texts, True, '
                'False and None'
            )
    if len({as_key(value) for value in entry}) < len(entry):
        raise UserError(f'{where} names a value twice')
    return tuple(entry)


def _metric(cfg: dict[str, Any], configs: dict[str, Path], path) -> str:
    """The one given, else the one that the configs choose checkpoints by."""
    options = cfg.get('options') or {}
    chosen = {f: _chosen_by(f, options) for f in configs.values()}
    given = cfg.get('metric')
    if given is None:
        names = sorted(set(chosen.values()))
        if len(names) > 1:
            raise UserError(
                f'{path}: its configs choose checkpoints by {names[0]} and by '
                f'{names[1]}; name the one to compare trials by as metric'
            )
        return names[0]
    _check_choice(path, 'metric', given, tuple(METRICS))
    for file, name in chosen.items():
        if (given in OF_MASKS) != (name in OF_MASKS):
            task = 'masks' if given in OF_MASKS else 'classes'
            raise UserError(
                f'{path}: {given} is a metric of {task}, and {file} is '
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
    if name in METRICS:
        return name
    masks = any(
        type_name(node) == 'SegmentationMetric'
        for node in dicts(cfg.get('val_evaluator'))
    )
    return MAIN['segmentation' if masks else 'classification']


def _pruner(given: Any, path) -> dict[str, Any] | None:
    if given is None:
        return None
    pruner = dict(type=given) if isinstance(given, str) else dict(given)
    if pruner.get('type') not in PRUNERS:
        raise UserError(
            f'{path}: pruner={given!r}; known: {", ".join(PRUNERS)}, or None'
        )
    return pruner


def _seeds(given: Any, path) -> tuple[int, ...]:
    seeds = range(given) if isinstance(given, int) else given
    try:
        found = tuple(int(seed) for seed in seeds)
    except (TypeError, ValueError):
        found = ()
    if not found or len(set(found)) < len(found):
        raise UserError(f'{path}: seeds={given!r} must be how many, or a list of them')
    return found


def _check_choice(path, key: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f'{path}: {key}={value!r}; known: {", ".join(known)}')


def _check(sweep: Sweep) -> None:
    _check_choice(sweep.path, 'sampler', sweep.sampler, SAMPLERS)
    seed = sweep.sampler_seed
    if not isinstance(seed, int) or seed < 0:
        raise UserError(
            f'{sweep.path}: sampler_seed={seed!r} must be a whole number >= 0'
        )
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


def _with_trials(sweep: Sweep, trials: int | None) -> Sweep:
    """With the number of trials; a grid has as many as it has points."""
    if sweep.sampler != 'grid':
        if not isinstance(trials, int) or trials < 1:
            raise UserError(
                f'{sweep.path}: sampler={sweep.sampler!r} needs trials, a '
                'whole number >= 1'
            )
        return replace(sweep, trials=trials)
    for name in sweep.ranges:
        raise UserError(
            f'{sweep.path}: space[{name!r}] is a range; a grid needs lists, '
            "or take sampler='tpe'"
        )
    points = len(grid_points(sweep))
    if trials not in (None, points):
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
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def grid_points(sweep: Sweep) -> list[dict[str, Value]]:
    """Every combination; the last name varies fastest."""
    points = itertools.product(*sweep.space.values())
    return [dict(zip(sweep.space, point)) for point in points]


def corners(sweep: Sweep) -> list[dict[str, Value]]:
    """First and last point, to try whether all options are accepted."""
    ends = {
        name: (entry['low'], entry['high']) if isinstance(entry, dict) else entry
        for name, entry in sweep.space.items()
    }
    return [{n: values[i] for n, values in ends.items()} for i in (0, -1)]


def optuna():
    """The package, quiet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna as found
    except ImportError:
        raise UserError(
            'a sweep needs Optuna, which is not installed; pip install "optuna>=5.0"'
        ) from None
    found.logging.set_verbosity(found.logging.ERROR)
    warnings.simplefilter('ignore', found.exceptions.ExperimentalWarning)
    return found


def distribution(entry: Entry, grid: bool = False) -> Any:
    """An entry of the space as an Optuna distribution.

    Numbers of a grid become ranges: Optuna never lets a list of choices grow,
    and a grid may be made finer later.

    Raises:
        KeyError, TypeError, ValueError: the range contradicts itself.
    """
    kinds = optuna().distributions
    if isinstance(entry, tuple):
        if not grid or not all(map(_is_number, entry)):
            return kinds.CategoricalDistribution(entry)
        whole = all(isinstance(value, int) for value in entry)
        kind = int if whole else float  # whole only if all are
        entry = dict(low=kind(min(entry)), high=kind(max(entry)))
    else:
        numbers = [entry['low'], entry['high']]
        if not all(map(_is_number, numbers)) or not numbers[0] < numbers[1]:
            raise ValueError('low must be a number below high')
    entry = {key: value for key, value in entry.items() if value is not None}
    numbers = [entry[key] for key in ('low', 'high', 'step') if key in entry]
    if all(isinstance(number, int) for number in numbers):
        return kinds.IntDistribution(**entry)
    return kinds.FloatDistribution(**entry)
