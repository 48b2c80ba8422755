# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Sweep files: read, and refused where they contradict themselves."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hkd_mm.config.compose import read_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.tree import dicts
from hkd_mm.errors import UserError
from hkd_mm.experiments.search_space import (
    Choices,
    Space,
    as_text,
    fill,
    grid_points,
    names_in,
    read_space,
)
from hkd_mm.io.signatures import type_name

METHOD = 'method'  # what the choice among ``configs`` is called
SAMPLERS = ('grid', 'tpe', 'random')
PRUNERS = ('median', 'hyperband')
_OF_CLASSES = (  # what hkd_mm.ClinicalMetric says of all images together
    'balanced_accuracy',
    'top1',
    'top5',
    'macro_f1',
    'weighted_f1',
    'macro_precision',
    'macro_specificity',
    'macro_auroc',
    'ece',
)
_OF_SLICES = ('dice', 'iou', 'sensitivity', 'precision', 'hd95')
_OF_MASKS = (  # what hkd_mm.SegmentationMetric says
    *_OF_SLICES,
    *(f'patient_{name}' for name in _OF_SLICES),
)
METRIC_GROUPS = dict(classes=_OF_CLASSES, masks=_OF_MASKS)
METRICS = (*_OF_CLASSES, *_OF_MASKS)
LOWER_IS_BETTER = ('ece', 'hd95', 'patient_hd95')


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Args:
        path: of the file.
        title: of the table.
        configs: method -> config file; one without a choice.
        space: name -> what it may be.
        options: of every run, as ``--cfg-options``; in texts ``{work_dir}``
            stands for the sweep's folder, ``{name}`` and arithmetic with it
            for a value of the space.
        sampler: one of SAMPLERS.
        sampler_seed: what tpe and random draw from.
        metric: of the validation split, at the chosen checkpoint.
        pruner: ``type`` and its arguments; None lets every trial end.
        trials: how many.
        seeds: that each trial is trained with.
    """

    path: Path
    title: str
    configs: dict[str, Path]
    space: Space
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
        return self.metric not in LOWER_IS_BETTER

    def config(self, params: dict[str, Any]) -> Path:
        """The config file of a trial."""
        return self.configs[params.get(METHOD, next(iter(self.configs)))]

    def common(self, work_dir: Path) -> dict[str, str]:
        """Options without a value of the space: key -> text."""
        known = dict(work_dir=str(work_dir))
        return {
            key: fill(value, known)
            for key, value in self.options.items()
            if names_in(value) <= known.keys()
        }

    def varied(self, params: dict[str, Any], work_dir: Path) -> dict[str, str]:
        """Options that the values of a trial decide: key -> text."""
        known = dict(params, work_dir=str(work_dir))
        used = {n for value in self.options.values() for n in names_in(value)}
        found = {
            key: fill(value, known)
            for key, value in self.options.items()
            if names_in(value) - {'work_dir'}
        }
        for name, value in params.items():
            if name != METHOD and name not in used:
                found[name] = as_text(value)
        return found


_KNOWN = {
    'title',
    'config',
    'configs',
    'space',
    'sampler',
    'sampler_seed',
    'metric',
    'pruner',
    'trials',
    'options',
    'seeds',
}


def read_sweep(path: str | os.PathLike, trials: int | None = None) -> Sweep:
    """Read a sweep file.

    Args:
        path: a config with ``space`` and with ``config`` or ``configs``
            (method -> file); names with a leading underscore are its own
            affair. Configs are found from the root of the configs.
        trials: in place of those of the file.

    Raises:
        UserError: it cannot be read, or contradicts itself.
    """
    read = read_config(path).to_dict().items()
    cfg = {key: value for key, value in read if not key.startswith('_')}
    unknown = sorted(cfg.keys() - _KNOWN)
    if unknown:
        raise UserError(
            f'{path} has {unknown[0]}, which no sweep knows; known: '
            f'{", ".join(sorted(_KNOWN))}'
        )
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
        space=read_space(space, str(path)),
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
                f'{names[1]}; say with metric what trials are compared by'
            )
        return names[0]
    group = _group(given)
    for file, name in chosen.items():
        if group not in (None, _group(name)):
            raise UserError(
                f'{path}: {given} is a metric of {group}, and {file} is '
                f'chosen by {name}; give another metric or config'
            )
    return given


def _chosen_by(file: Path, options: dict[str, Any]) -> str:
    """What validation chooses by; of unknown names the task's usual one."""
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
    return 'dice' if masks else 'balanced_accuracy'


def _group(metric: Any) -> str | None:
    for name, metrics in METRIC_GROUPS.items():
        if metric in metrics:
            return name
    return None


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
        raise UserError(
            f'{path}: seeds={given!r} must be how many, or a list of them'
        )
    return found


def _check(sweep: Sweep) -> None:
    for name, value, known in (
        ('sampler', sweep.sampler, SAMPLERS),
        ('metric', sweep.metric, METRICS),
    ):
        if value not in known:
            raise UserError(
                f'{sweep.path}: {name}={value!r}; known: {", ".join(known)}'
            )
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
        strange = names_in(value) - {*sweep.space, 'work_dir'}
        if strange or key in sweep.space:
            raise UserError(
                f'{sweep.path}: options[{key!r}]: '
                + (f'{min(strange)} is not in' if strange else 'is also in')
                + ' the space'
            )


def _with_trials(sweep: Sweep, trials: int | None) -> Sweep:
    """With how many there are; a grid has as many as it has points."""
    if sweep.sampler != 'grid':
        if not isinstance(trials, int) or trials < 1:
            raise UserError(
                f'{sweep.path}: sampler={sweep.sampler!r} needs trials, a '
                'whole number >= 1'
            )
        return replace(sweep, trials=trials)
    for name, entry in sweep.space.items():
        if not isinstance(entry, Choices):
            raise UserError(
                f'{sweep.path}: space[{name!r}] is a range; a grid needs '
                "lists, or take sampler='tpe'"
            )
    points = len(grid_points(sweep.space))
    if trials is not None and trials != points:
        raise UserError(
            f'{sweep.path}: the grid has {points} points; trials is for tpe '
            'and random'
        )
    return replace(sweep, trials=points)
