# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Studies from files, or from configs on the command line."""

import os
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from hkd_mm.config.compose import compose_config, read_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.overrides import NoPlaceError
from hkd_mm.config.teacher_options import places_of
from hkd_mm.errors import UserError
from hkd_mm.evaluation.metric_names import (
    OF_MASKS,
    OF_NETS,
    OVERALL,
    PER_CLASS,
    TESTABLE,
)
from hkd_mm.experiments.plan import Row, Run, Study

_OVERALL = (*OVERALL, *OF_MASKS, *OF_NETS)
_OF_STUDY = {
    'title',
    'rows',
    'options',
    'baselines',
    'compared_by',
    'metrics',
    'sizes',
    'roles',
}
_OF_ROW = {'config', 'title', 'options', 'after', 'tested', 'paper'}
_OF_SIZE = {'title', 'options', 'metrics', 'rows'}
_ROLES = {'teacher', 'alone', 'distilled'}


def read_study(path: str | os.PathLike, size: str | None = None) -> Study:
    """Read a study file.

    It is a config with ``rows``, name -> ``dict(config, title, options,
    after, tested, paper)``, and perhaps ``title``, ``options`` (of every
    row), ``baselines``, ``compared_by``, ``metrics`` and ``roles``; names with
    a leading underscore are its own affair. Configs are found from the root of
    the configs. ``sizes`` says what is other at a size: name -> ``dict(title,
    options, metrics, rows)``; what its rows say replaces what the study's say,
    None leaves a row out, and rows that only the size has come first.

    Args:
        path: of the file.
        size: one of its ``sizes``; None for the study as its paper has it.

    Raises:
        UserError: it has no rows or no such size, unknown keys, names that
            nothing bears or rows that wait for each other.
    """
    read = read_config(path).to_dict().items()
    cfg = {key: value for key, value in read if not key.startswith('_')}
    _check_keys(cfg, _OF_STUDY, f'{path}')
    if not cfg.get('rows'):
        raise UserError(f'{path} has no rows; a study names its configs there')
    if size is not None:
        _resize(cfg, size, path)
    rows = tuple(
        _row(name, given, cfg.get('options') or {}, path)
        for name, given in cfg['rows'].items()
    )
    chosen = {
        key: cfg[key] for key in ('compared_by', 'metrics') if cfg.get(key)
    }
    if 'metrics' in chosen:
        chosen['metrics'] = tuple(chosen['metrics'])
    study = Study(
        Path(path),
        cfg.get('title') or Path(path).stem,
        rows,
        tuple(cfg.get('baselines') or ()),
        size=size,
        roles=dict(cfg.get('roles') or {}),
        **chosen,
    )
    _check_names(study)
    _check_metrics(study)
    return study


def _resize(cfg: dict[str, Any], size: str, path) -> None:
    """Replace in place what is other at a size."""
    sizes = cfg.get('sizes') or {}
    if size not in sizes:
        known = ', '.join(sizes) or 'none'
        raise UserError(f'--size {size}: {path} has {known}')
    given = sizes[size]
    _check_keys(given, _OF_SIZE, f'{path}: sizes.{size}')
    cfg['title'] = given.get('title') or f'{cfg.get("title", "")} ({size})'
    cfg['options'] = {**(cfg.get('options') or {}), **given.get('options', {})}
    cfg['metrics'] = given.get('metrics') or cfg.get('metrics')
    changes = given.get('rows') or {}
    own = {
        name: row for name, row in changes.items() if name not in cfg['rows']
    }
    rows = {
        name: {**row, **(changes.get(name) or {})}
        for name, row in cfg['rows'].items()
        if name not in changes or changes[name] is not None
    }
    cfg['rows'] = {**own, **rows}


def config_files(patterns: list[str]) -> list[str]:
    """Files, and what quoted patterns such as ``'zoo/*/*.py'`` match.

    Raises:
        UserError: a pattern matches nothing.
    """
    found: list[str] = []
    for pattern in patterns:
        if os.path.exists(pattern) or not has_magic(pattern):
            found.append(pattern)
            continue
        matched = sorted(glob(pattern, recursive=True))
        if not matched:
            raise UserError(f'{pattern} matches no file')
        found += matched
    return found


def of_configs(paths: list[str]) -> Study:
    """A study of config files, each a row called like its file.

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
    rows = tuple(
        Row(name, name, Path(path)) for name, path in zip(names, paths)
    )
    return Study(Path('comparison'), 'comparison', rows, (names[0],))


def share_options(study: Study, options: list[str]) -> tuple[Study, list[str]]:
    """Give options of the command line to the rows that have a place for them.

    ``teacher=resnet152`` holds for the rows that distil, not for the student
    alone; the row with the role ``teacher`` trains that network itself.

    Args:
        study: as read.
        options: ``key=value`` texts.

    Returns:
        The study, whose rows have the options that not all rows take, and
        the options for all rows.

    Raises:
        UserError: no row has a place for an option.
    """
    if not options:
        return study, options
    taken: dict[str, list[str]] = {option: [] for option in options}
    refused: dict[str, NoPlaceError] = {}
    asked = {}
    for row in study.rows:
        base = compose_config(row.config, Run(row, 0).options(Path('.')))
        own = {_for_row(study, row, option): option for option in options}
        kept, no_place = places_of(base, list(own))
        for option in kept:
            taken[own[option]].append(row.name)
            asked[row.name, own[option]] = option
        refused.update({own[o]: error for o, error in no_place.items()})
    for option, names in taken.items():
        if not names:
            raise refused[option]
    common = [
        option
        for option in options
        if all(asked.get((row.name, option)) == option for row in study.rows)
    ]
    rows = []
    for row in study.rows:
        more = [
            asked[row.name, option].split('=', 1)
            for option in options
            if option not in common and (row.name, option) in asked
        ]
        rows.append(replace(row, options={**row.options, **dict(more)}))
    return replace(study, rows=tuple(rows)), common


def _for_row(study: Study, row: Row, option: str) -> str:
    """``teacher=NAME`` of the row that is the teacher: its own network."""
    if row.name == study.roles.get('teacher') and option.startswith(
        'teacher='
    ):
        return f'network={option.removeprefix("teacher=")}'
    return option


def _row(
    name: str, given: dict[str, Any], options: dict[str, Any], path
) -> Row:
    _check_keys(given, _OF_ROW, f'{path}: rows.{name}')
    if not given.get('config'):
        raise UserError(f'{path}: rows.{name} names no config')
    config = config_root() / given['config']
    if not config.is_file():
        raise UserError(f'{path}: rows.{name}: {config} does not exist')
    return Row(
        name,
        given.get('title') or name,
        config,
        {**options, **(given.get('options') or {})},
        tuple(given.get('after') or ()),
        given.get('tested', True),
        dict(given.get('paper') or {}),
    )


def _check_keys(given: dict, known: set[str], where: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise UserError(
            f'{where} has {unknown[0]}, which no study knows; known: '
            f'{", ".join(sorted(known))}'
        )


def _check_names(study: Study) -> None:
    seen: set[str] = set()
    names = {row.name for row in study.rows}
    for row in study.rows:
        for other in row.after:
            if other not in names:
                raise UserError(
                    f'{study.path}: rows.{row.name} comes after {other}, '
                    'which is no row'
                )
            if other not in seen:
                raise UserError(
                    f'{study.path}: rows.{row.name} comes after {other}, '
                    'which stands below it; put it above'
                )
        seen.add(row.name)
    for name in study.baselines:
        if name not in names:
            raise UserError(f'{study.path}: baseline {name} is no row')
    _check_keys(study.roles, _ROLES, f'{study.path}: roles')
    for role, name in study.roles.items():
        if name not in names:
            raise UserError(f'{study.path}: roles.{role}={name} is no row')


def _check_metrics(study: Study) -> None:
    """Before days go into runs whose table cannot be made."""
    if study.compared_by not in TESTABLE:
        raise UserError(
            f'{study.path}: compared_by={study.compared_by} cannot be tested '
            f'for significance; known: {", ".join(TESTABLE)}'
        )
    for metric in study.metrics:
        name, _, figure = metric.rpartition('/')
        known = (*PER_CLASS, *OF_MASKS) if name else _OVERALL
        if (figure if name else metric) not in known:
            raise UserError(
                f'{study.path}: metrics has {metric}; known: '
                f'{", ".join(_OVERALL)}, and CLASS/F with F one of '
                f'{", ".join(PER_CLASS)}'
            )
