# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/compare.py`` does."""

from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hkd_mm.engine.report.environment import collect_environment
from hkd_mm.errors import UserError
from hkd_mm.file_lock import locked
from hkd_mm.parallel import default_workers

from ..config.compose import read_config
from ..run.card_texts import without_places
from .board import Board
from .class_columns import check_class_columns
from .folds import provide_folds
from .keys import Keys
from .outcome import Outcome, read_outcomes
from .plan import Run, Study, all_runs
from .plan_file import Plan, write_plan
from .processes import Processes
from .stale import settle_stale
from .study_file import (
    config_files,
    of_configs,
    read_study,
    share_options,
)
from .tables import terminal, write_tables
from .timing import time_nets


def main(args: Namespace) -> None:
    """Compare as the command line says."""
    options = list(args.cfg_options or [])
    if args.data_root:
        options.append(f'data_root={args.data_root}')
    run_study(
        args.configs,
        args.work_dir,
        args.seeds,
        options,
        args.jobs,
        args.out,
        args.rows,
        args.stale,
        args.size,
        args.folds,
        args.baseline,
    )


def run_study(
    configs: list[str],
    work_dir: str | None = None,
    seeds: int = 3,
    options: list[str] | None = None,
    jobs: int | None = None,
    out: str | None = None,
    rows: list[str] | None = None,
    stale: str = 'refuse',
    size: str | None = None,
    folds: int = 0,
    baseline: list[str] | None = None,
) -> list[Outcome]:
    """Train and test what is missing, then compare.

    Args:
        configs: one study file, or config files, patterns included.
        work_dir: where the runs go; ``work_dirs/<study>`` by default.
        seeds: each row is trained with the seeds 0 to ``seeds - 1``.
        options: as ``--cfg-options``, for every run that has a place for
            them, see :func:`.study_file.share_options`.
        jobs: runs side by side; None: one on a GPU, else one a core.
        out: folder of the tables; the work dir by default.
        rows: names of the rows to train; all by default.
        stale: what becomes of runs there that another config, split or code
            has made, see :func:`.stale.settle_stale`.
        size: of the study, see :func:`.study_file.read_study`.
        folds: of a cross-validation over lesions, which tests on every
            photograph once a seed; 0 for the one split of the configs.
        baseline: rows that the others are tested against; None takes those
            of the study, of configs the first.

    Returns:
        The rows of the study that are done with all seeds, also those that
        ``rows`` does not name.

    Raises:
        UserError: the study cannot be read, its rows have other images, its
            work dir holds stale runs, or runs failed.
    """
    study, options = share_options(
        _read(configs, size, baseline), options or []
    )
    wanted = _choose(study, rows)
    name = '_'.join(filter(None, (study.path.stem, size)))
    place = Path(work_dir or f'work_dirs/{name}')
    if jobs is None:
        jobs = 1 if torch.cuda.is_available() else default_workers()
    with locked(place, waiting=f'waiting for the study in {place}'):
        provide_folds(study, options, place, folds)
        keys = Keys(study, options, place)
        runs = all_runs(wanted, range(seeds), folds)
        _check_split(runs, keys)
        check_class_columns(study, runs, options, place)
        board = Board(wanted, place, runs, _console())
        kept = settle_stale(runs, keys, place, stale)
        write_plan(Plan(study, seeds), place)
        say = partial(board.console.print, markup=False)
        processes = Processes(
            runs, place, options, jobs, keys, say, study.compared_by
        )
        board.how_far = processes.how_far
        with board.live():
            failed = processes.run(board.tick)
        if 'milliseconds' in study.metrics:
            time_nets(runs, place, say)
        outcomes = read_outcomes(study, place, range(seeds), folds)
    if outcomes:
        board.console.print(terminal(study, outcomes))
        facts = dict(size=size, seeds=seeds, folds=folds)
        facts |= _origin(study, options, kept)
        write_tables(study, outcomes, Path(out) if out else place, facts)
    _check_all_done(failed)
    return outcomes


def _origin(
    study: Study, options: list[str], kept: dict[str, list[str]]
) -> dict[str, Any]:
    """What the figures come from, without the folders of this machine."""
    environment = collect_environment()
    command = without_places(environment['command'])
    return dict(
        study=study.path.name,
        options=[o for o in options if not o.startswith('data_root=')],
        of_another_origin=kept,
        environment=dict(environment, command=command),
    )


def _check_all_done(failed: dict[str, str]) -> None:
    if failed:
        lines = '; '.join(f'{name}: {why}' for name, why in failed.items())
        raise UserError(f'{len(failed)} runs failed: {lines}')


def _read(
    configs: list[str], size: str | None, baseline: list[str] | None
) -> Study:
    """A study file where one is given, else the configs as rows."""
    configs = config_files(configs)
    if len(configs) == 1 and read_config(configs[0]).get('rows'):
        study = read_study(configs[0], size)
    elif size is not None:
        raise UserError(f'--size {size}: only a study file has sizes')
    else:
        study = of_configs(configs)
    known = [row.name for row in study.rows]
    for name in baseline or ():
        if name not in known:
            raise UserError(
                f'--baseline {name}: the rows are {", ".join(known)}'
            )
    return replace(study, baselines=tuple(baseline)) if baseline else study


def _choose(study: Study, rows: list[str] | None) -> Study:
    """The rows to train, with those they come after."""
    if not rows:
        return study
    known = {row.name: row for row in study.rows}
    wanted: set[str] = set()
    waiting = list(rows)
    while waiting:
        name = waiting.pop()
        if name not in known:
            raise UserError(
                f'--rows {name}: {study.path} has {", ".join(known)}'
            )
        if name not in wanted:
            wanted.add(name)
            waiting += known[name].after
    chosen = tuple(row for row in study.rows if row.name in wanted)
    return replace(study, rows=chosen)


def _check_split(runs: list[Run], keys: Keys) -> None:
    """Rows are compared image by image: they need one test split."""
    first, *others = runs
    for run in others:
        if run.fold is None and keys.of(run).split != keys.of(first).split:
            raise UserError(
                f'{run.row.name} has other images or another split than '
                f'{first.row.name}: give both one data_root and split'
            )


def _console() -> Console:
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:  # a log file has no width
        console = Console(width=200, soft_wrap=True, highlight=False)
    return console
