# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Compare configs over several seeds: train, test, tabulate."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hkd_mm.config.compose import compose_config, read_config
from hkd_mm.config.data_summary import build_listing
from hkd_mm.datasets.masks.mask_dataset import MaskDataset
from hkd_mm.datasets.split_file import read_split, write_split
from hkd_mm.datasets.splits import check_split, draw_folds
from hkd_mm.engine.environment import collect_environment, without_places
from hkd_mm.errors import UserError
from hkd_mm.experiments import child_processes
from hkd_mm.experiments.executor import RunExecutor
from hkd_mm.experiments.outcome import MethodResult, read_outcomes
from hkd_mm.experiments.outdated import (
    StudyFingerprints,
    handle_outdated,
    without_data_root,
)
from hkd_mm.experiments.progress_table import StudyProgress
from hkd_mm.experiments.run_folders import is_trained
from hkd_mm.experiments.study import (
    Plan,
    Run,
    Study,
    all_runs,
    of_configs,
    read_study,
    share_options,
    write_plan,
)
from hkd_mm.experiments.study_report import terminal, write_tables
from hkd_mm.io.locks import locked
from hkd_mm.io.progress import default_workers

_WITHOUT_IMAGES = ('support', 'specificity')  # the others are undefined


def main(data_root: str | None, cfg_options: list[str] | None, **given: Any) -> None:
    """Compare as the command line asks."""
    options = list(cfg_options or [])
    options += [f'data_root={data_root}'] if data_root else []
    run_study(options=options, **given)


def run_study(
    configs: list[str],
    work_dir: str | None = None,
    seeds: int = 3,
    options: list[str] | None = None,
    jobs: int | None = None,
    out: str | None = None,
    rows: list[str] | None = None,
    outdated: str = 'refuse',
    size: str | None = None,
    folds: int = 0,
    baseline: list[str] | None = None,
) -> list[MethodResult]:
    """Train and test what is missing, then compare; options as of ``tools/compare.py``.

    Returned are the rows that are done with all seeds, also those ``rows`` does not
    name.
    """
    study, options = share_options(_read(configs, size, baseline), options or [])
    chosen = _choose(study, rows)
    name = '_'.join(filter(None, (study.path.stem, size)))
    folder = Path(work_dir or f'work_dirs/{name}')
    if jobs is None:
        jobs = 1 if torch.cuda.is_available() else default_workers()
    with locked(folder, waiting=f'waiting for the study in {folder}'):
        provide_folds(study, options, folder, folds)
        fingerprints = StudyFingerprints(study, options, folder)
        runs = all_runs(chosen, range(seeds), folds)
        split = fingerprints.of(runs[0]).split
        for run in runs:
            if run.fold is None and fingerprints.of(run).split != split:
                raise UserError(
                    f'{run.row.name} has other images or another split than '
                    f'{runs[0].row.name}: give both one data_root and split'
                )
        check_class_columns(study, runs, options, folder)
        kept = handle_outdated(runs, fingerprints, folder, outdated)
        write_plan(Plan(study, seeds), folder)
        given = runs, folder, options, jobs, fingerprints
        executor = RunExecutor(
            *given, lambda line: progress.print(line), study.compared_by
        )
        progress = StudyProgress(chosen, folder, runs, executor.how_far)
        with progress:
            failed = executor.run(progress.update)
        if 'milliseconds' in study.metrics:
            time_networks(runs, folder, progress.print)
        outcomes = read_outcomes(study, folder, range(seeds), folds)
    if outcomes:
        environment = collect_environment()
        # what the figures come from, without the folders of this machine
        facts = dict(
            size=size,
            seeds=seeds,
            folds=folds,
            study=study.path.name,
            options=without_data_root(options),
            of_another_origin=kept,
            environment=dict(
                environment, command=without_places(environment['command'])
            ),
        )
        write_tables(study, outcomes, Path(out) if out else folder, facts)
        progress.console.print(terminal(study, outcomes))
    if failed:
        lines = '; '.join(f'{name}: {why}' for name, why in failed.items())
        raise UserError(f'{len(failed)} runs failed: {lines}')
    return outcomes


def _read(configs: list[str], size: str | None, baseline: list[str] | None) -> Study:
    found = (sorted(glob(name, recursive=True)) or [name] for name in configs)
    configs = list(itertools.chain(*found))  # patterns, or plain names
    if len(configs) == 1 and read_config(configs[0]).get('rows'):
        study = read_study(configs[0], size)
    elif size is not None:
        raise UserError(f'--size {size}: only a study file has sizes')
    else:
        study = of_configs(configs)
    known = [row.name for row in study.rows]
    for name in baseline or ():
        if name not in known:
            raise UserError(f'--baseline {name}: the rows are {", ".join(known)}')
    return replace(study, baselines=tuple(baseline)) if baseline else study


def _choose(study: Study, rows: list[str] | None) -> Study:
    """The rows to train, with those they come after."""
    if not rows:
        return study
    names = [row.name for row in study.rows]
    for name in rows:
        if name not in names:
            raise UserError(f'--rows {name}: {study.path} has {", ".join(names)}')
    wanted = set(rows)
    for row in reversed(study.rows):  # what a row builds on is above it
        if row.name in wanted:
            wanted.update(row.after)
    chosen = tuple(row for row in study.rows if row.name in wanted)
    return replace(study, rows=chosen)


def check_class_columns(
    study: Study, runs: Sequence[Run], options: list[str], work_dir: Path
) -> None:
    """Refuse ``CLASS/F`` of a class that no test split has, before anything runs."""
    columns = [name for name in study.metrics if '/' in name]
    first = runs[0]
    for run in runs if columns else ():
        if run.row is first.row and run.seed == first.seed:
            cfg = compose_config(run.row.config, [*run.options(work_dir), *options])
            data = build_listing(cfg, 'test_dataloader')
            fold = '' if run.fold is None else f' (fold {run.fold})'
            _check_columns(study, columns, data, f'{cfg.get("data_root")}{fold}')


def _check_columns(study: Study, columns: list[str], data, data_name: str) -> None:
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
                f'{study.path}: metrics has {column}, but the classes of {data_name} '
                f'with figures of their own are {", ".join(classes) or "none"}; name '
                'the columns after them, or take a --size of the study that does'
            )
        if masks or figure in _WITHOUT_IMAGES:
            continue
        if not counts[classes.index(name)]:
            raise UserError(
                f'{study.path}: metrics has {column}, but {data_name} has no test '
                f'image of {name}; take the column out, or give another split'
            )


def provide_folds(study: Study, options: list[str], work_dir: Path, folds: int) -> None:
    """Draw the folds of the first row's images, or check those there."""
    if not folds:
        return
    row = study.rows[0]
    cfg = compose_config(row.config, Run(row, 0).options(work_dir) + options)
    records = build_listing(cfg, 'train_dataloader').records()
    if any(record.split for record in records):
        raise UserError(
            f'{cfg.data_root} comes split into train, val and test: no folds '
            'can be drawn'
        )
    drawn = draw_folds(records, folds, cfg.get('split_seed', 42))
    for number, fold in enumerate(drawn):
        path = Run(row, 0, number).split_file(work_dir)
        if not path.exists():
            write_split({**fold, 'dataset': Path(cfg.data_root).name}, path)
            continue
        found = read_split(path)
        check_split(found, records, str(path))
        if found['hash'] != fold['hash']:
            raise UserError(
                f'{path} is another fold than one of {folds}; give another --work-dir'
            )


def time_networks(runs: list[Run], work_dir: Path, log: Callable[[str], None]) -> None:
    """Time a run of each row in turns (``latency.json``), unless all have been."""
    folders: dict[str, Path] = {}
    for run in runs:
        folder = run.folder(work_dir)
        if is_trained(folder):
            folders.setdefault(run.row.name, folder)
    if all((f / 'latency.json').is_file() for f in folders.values()):
        return
    arguments = '--for-report --runtimes eager --batch 1 --rounds 3'.split()
    arguments += ['--seconds', '0.5', '--threads', str(default_workers())]
    arguments += [f'{name}={folder}' for name, folder in folders.items()]
    try:
        child_processes.run_tool('latency.py', arguments, work_dir / 'latency.log')
    except child_processes.Failed as error:
        log(f'the networks were not timed: {error}')
