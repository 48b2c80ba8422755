# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Compare configs over several seeds: train, test, tabulate."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from hkd_mm.config.compose import compose_config, read_config
from hkd_mm.config.data_summary import build_listing
from hkd_mm.datasets.masks.mask_dataset import MaskDataset
from hkd_mm.datasets.split_file import read_split, write_split
from hkd_mm.datasets.splits import check_split, draw_folds
from hkd_mm.engine.environment import collect_environment, without_places
from hkd_mm.errors import UserError
from hkd_mm.experiments import children
from hkd_mm.experiments.executor import Processes
from hkd_mm.experiments.outcome import MethodResult, read_outcomes
from hkd_mm.experiments.outdated import Keys, handle_outdated
from hkd_mm.experiments.plan import (
    Plan,
    Run,
    Study,
    all_runs,
    is_trained,
    split_file,
    write_plan,
)
from hkd_mm.experiments.study_file import (
    config_files,
    of_configs,
    read_study,
    share_options,
)
from hkd_mm.experiments.study_progress import ProgressTable
from hkd_mm.experiments.tables import terminal, write_tables
from hkd_mm.io.locks import locked
from hkd_mm.io.progress import default_workers

_WITHOUT_IMAGES = ('support', 'specificity')  # the others are undefined


def check_class_columns(
    study: Study, runs: Sequence[Run], options: list[str], work_dir: Path
) -> None:
    """Refuse ``CLASS/F`` of a class that no test split can have.

    The table could not be made when all runs are done. All rows have the
    same images, so those of the first one are looked at, in each fold.

    Args:
        study: whose columns.
        runs: of the study, all rows on the same images.
        options: of the command line.
        work_dir: of the study.

    Raises:
        UserError: the data has no such class, or no test image of it.
    """
    columns = [name for name in study.metrics if '/' in name]
    if not columns:
        return
    first = runs[0]
    for run in runs:
        if run.row is first.row and run.seed == first.seed:
            cfg = compose_config(
                run.row.config, [*run.options(work_dir), *options]
            )
            data = build_listing(cfg, 'test_dataloader')
            fold = '' if run.fold is None else f' (fold {run.fold})'
            where = f'{cfg.get("data_root")}{fold}'
            _check(study, columns, data, where)


def _check(study: Study, columns: list[str], data, where: str) -> None:
    classes = tuple(data.metainfo['classes'])
    masks = isinstance(data, MaskDataset)
    if masks:  # one class beside the background has the plain names
        classes = classes[1:] if len(classes) > 2 else ()
    else:
        counts = np.bincount(data.get_gt_labels(), minlength=len(classes))
    for column in columns:
        name, _, figure = column.rpartition('/')
        if name not in classes:
            raise UserError(
                f'{study.path}: metrics has {column}, but the classes of '
                f'{where} with figures of their own are '
                f'{", ".join(classes) or "none"}; name the columns after '
                'them, or take a --size of the study that does'
            )
        if masks or figure in _WITHOUT_IMAGES:
            continue
        if not counts[classes.index(name)]:
            raise UserError(
                f'{study.path}: metrics has {column}, but {where} has no test '
                f'image of {name}; take the column out, or give another split'
            )


def provide_folds(
    study: Study, options: list[str], work_dir: Path, folds: int
) -> None:
    """Draw the folds, or check those that are there.

    Args:
        study: its first row says which images, and with what ``split_seed``.
        options: of the command line.
        work_dir: of the study.
        folds: how many; 0 does nothing.

    Raises:
        UserError: the images come split, there are too few folds, or the
            folds that are there are of other images or another number.
    """
    if not folds:
        return
    row = study.rows[0]
    cfg = compose_config(row.config, Run(row, 0).options(work_dir) + options)
    dataset = build_listing(cfg, 'train_dataloader')
    records = dataset.records()
    if any(record.split for record in records):
        raise UserError(
            f'{cfg.data_root} comes split into train, val and test: no folds '
            'can be drawn'
        )
    drawn = draw_folds(records, folds, cfg.get('split_seed', 42))
    for number, fold in enumerate(drawn):
        path = split_file(work_dir, number)
        if not path.exists():
            write_split({**fold, 'dataset': Path(cfg.data_root).name}, path)
            continue
        found = read_split(path)
        check_split(found, records, str(path))
        if found['hash'] != fold['hash']:
            raise UserError(
                f'{path} is another fold than one of {folds}; give another '
                '--work-dir'
            )


def time_networks(
    runs: list[Run], work_dir: Path, say: Callable[[str], None]
) -> None:
    """Leave ``latency.json`` in a run of each row, unless all have one.

    Batches of one image, in torch, on all cores. The networks take turns, so
    that their ratios hold; a new row has all of them timed again. What
    cannot be timed leaves its column empty, and the trainings their table.

    Args:
        runs: of the study.
        work_dir: of the study.
        say: takes a line on what went wrong.
    """
    folders = {}
    for run in runs:
        folder = run.folder(work_dir)
        if run.row.name not in folders and is_trained(folder):
            folders[run.row.name] = folder
    left = [f for f in folders.values() if not (f / 'latency.json').is_file()]
    if not left:
        return
    command = [str(children.TOOLS / 'latency.py'), '--for-report']
    command += ['--runtimes', 'eager', '--batch', '1', '--rounds', '3']
    command += ['--threads', str(default_workers()), '--seconds', '0.5']
    command += [f'{name}={folder}' for name, folder in folders.items()]
    try:
        children.run_child(command, work_dir / 'latency.log')
    except children.Failed as error:
        say(f'the networks were not timed: {error}')


def main(
    data_root: str | None, cfg_options: list[str] | None, **options: Any
) -> None:
    """Compare as the command line says."""
    shared = list(cfg_options or [])
    if data_root:
        shared.append(f'data_root={data_root}')
    run_study(options=shared, **options)


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
) -> list[MethodResult]:
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
            has made, see :func:`.stale.handle_outdated`.
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
        board = ProgressTable(wanted, place, runs, _console())
        kept = handle_outdated(runs, keys, place, stale)
        write_plan(Plan(study, seeds), place)
        say = partial(board.console.print, markup=False)
        processes = Processes(
            runs, place, options, jobs, keys, say, study.compared_by
        )
        board.how_far = processes.how_far
        with board.live():
            failed = processes.run(board.tick)
        if 'milliseconds' in study.metrics:
            time_networks(runs, place, say)
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
