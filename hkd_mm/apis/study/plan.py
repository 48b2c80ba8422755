# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a study is made of, as its file says."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hkd_mm.errors import UserError

from ..config.compose import read_config
from ..config.nets import config_root

_OF_STUDY = {'title', 'rows', 'options', 'baselines', 'compared_by'}
_OF_ROW = {'config', 'title', 'options', 'after', 'tested'}


@dataclass(frozen=True)
class Row:
    """One line of the table: a config that is trained once a seed.

    Args:
        name: folder of its runs; also what ``after`` and ``baselines`` say.
        title: what the reader calls it.
        config: file.
        options: as ``--cfg-options``; in texts ``{runs}`` stands for the
            folder of all runs of the seed, ``{work_dir}`` for the study's.
        after: names of rows whose run of the same seed comes first.
        tested: against the baselines; a teacher, say, is not.
    """

    name: str
    title: str
    config: Path
    options: dict[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    tested: bool = True


@dataclass(frozen=True)
class Study:
    """A study file.

    Args:
        path: of the file.
        title: of the table.
        rows: in the order of the table.
        baselines: names of the rows that the others are tested against.
        compared_by: the metric that is tested.
    """

    path: Path
    title: str
    rows: tuple[Row, ...]
    baselines: tuple[str, ...]
    compared_by: str


class Run(NamedTuple):
    """A row with one seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """For what is said."""
        return f'{self.row.name} seed {self.seed}'

    def folder(self, work_dir: Path) -> Path:
        """Work dir of the training."""
        return seed_folder(work_dir, self.seed) / self.row.name

    def options(self, work_dir: Path) -> list[str]:
        """Options for the command line, those of the study and its own."""
        places = {
            '{runs}': str(seed_folder(work_dir, self.seed)),
            '{work_dir}': str(work_dir),
        }
        found = [f'seed={self.seed}']
        for key, value in self.row.options.items():
            text = str(value)
            for mark, place in places.items():
                text = text.replace(mark, place)
            found.append(f'{key}={text}')
        return found


def seed_folder(work_dir: Path, seed: int) -> Path:
    """Folder of all runs of a seed: what one builds on lies beside it."""
    return work_dir / f'seed{seed}'


def read_study(path: str | os.PathLike) -> Study:
    """Read a study file.

    It is a config with ``rows``, name -> ``dict(config, title, options,
    after, tested)``, and perhaps ``title``, ``options`` (of every row),
    ``baselines`` and ``compared_by``; names with a leading underscore are its
    own affair. Configs are found from the root of the configs.

    Args:
        path: of the file.

    Raises:
        UserError: it has no rows, unknown keys, names that nothing bears or
            rows that wait for each other.
    """
    read = read_config(path).to_dict().items()
    cfg = {key: value for key, value in read if not key.startswith('_')}
    _check_keys(cfg, _OF_STUDY, f'{path}')
    if not cfg.get('rows'):
        raise UserError(f'{path} has no rows; a study names its configs there')
    rows = tuple(
        _row(name, given, cfg.get('options') or {}, path)
        for name, given in cfg['rows'].items()
    )
    study = Study(
        Path(path),
        cfg.get('title') or Path(path).stem,
        rows,
        tuple(cfg.get('baselines') or ()),
        cfg.get('compared_by') or 'balanced_accuracy',
    )
    _check_names(study)
    return study


def of_configs(paths: list[str], title: str = 'comparison') -> Study:
    """A study of config files, each a row called like its file.

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
    return Study(Path(paths[0]), title, rows, (), 'balanced_accuracy')


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
