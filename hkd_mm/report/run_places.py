# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Run folders named on the command line."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hkd_mm.engine.run_files import is_old
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import is_done
from hkd_mm.experiments.study import Study, StudyRow, read_plan
from hkd_mm.inference.student import named
from hkd_mm.io.files import read_record

_SEED = re.compile(r'seed(\d+)$')


class FoundRuns(NamedTuple):
    """The runs of a report: row -> a folder a seed, and rows not done."""

    study: Study
    folders: dict[str, list[Path]]
    incomplete: list[str]


def find_runs(
    paths: list[str], study: Study | None = None, baselines: Sequence[str] | None = None
) -> FoundRuns:
    """Look for finished runs; arguments as of :func:`.data.gather`."""
    if len(paths) == 1 and _seed_folders(Path(paths[0])):
        found = _of_work_dir(Path(paths[0]), study)
    else:
        found = _of_runs(paths, study)
    for name in baselines or ():
        if name not in found.folders:
            known = ', '.join(found.folders)
            raise UserError(f'--baseline {name}: finished are {known}')
    kept = tuple(baselines or found.study.baselines)
    return found._replace(study=replace(found.study, baselines=kept))


def _seed_folders(folder: Path) -> list[Path]:
    found = [path for path in folder.glob('seed*') if _SEED.search(path.name)]
    return sorted(found, key=lambda path: int(_SEED.search(path.name)[1]))


def _of_work_dir(folder: Path, study: Study | None) -> FoundRuns:
    plan = read_plan(folder)
    seeds = _seed_folders(folder)
    if plan:
        seeds = [folder / f'seed{seed}' for seed in range(plan.seeds)]
        study = study or plan.study
    study = study or _study_of(_names(seeds), folder)
    folders, incomplete = {}, []
    for row in study.rows:
        runs = [seed / row.name for seed in seeds[: row.seeds]]
        if all(map(is_done, runs)):
            folders[row.name] = runs
        else:
            incomplete.append(row.name)
    if not folders:
        raise UserError(
            f'{folder} holds no method that is trained and tested with all '
            f'of its {len(seeds)} seeds; let tools/compare.py finish one'
        )
    return FoundRuns(study, folders, incomplete)


def _names(seeds: list[Path]) -> list[str]:
    """Names of runs below the folders of seeds, without stages and old states."""
    found = {
        path.parent.relative_to(seed)
        for seed in seeds
        for path in seed.glob('**/metrics.json')
    }
    names = [path.as_posix() for path in found if not found & {*path.parents}]
    return sorted(name for name in names if not is_old(name))


def _of_runs(paths: list[str], study: Study | None) -> FoundRuns:
    folders: dict[str, list[Path]] = {}
    for path in paths:
        name, folder = named(path)
        folder = Path(folder)
        if any(folder.glob('fold*/seed*')):
            raise UserError(
                f'{folder} holds a cross-validation; give one of its folds, '
                f'{folder}/fold0'
            )
        if not is_done(folder):
            raise UserError(
                f'{folder} is no finished run: it needs metrics.json and '
                'student.pth of tools/train.py, and test.json and '
                f'predictions.csv of: python tools/test.py {folder}'
            )
        folders.setdefault(name or folder.name, []).append(folder)
    ordered = {name: _by_seed(name, runs) for name, runs in folders.items()}
    title = Path(paths[0]).name if len(paths) == 1 else 'Runs'
    study = study or _study_of(list(folders), Path(title))
    return FoundRuns(study, ordered, [])


def _by_seed(name: str, folders: list[Path]) -> list[Path]:
    seeds = {}
    for path in folders:  # a damaged file is named when all of it is read
        seed = read_record(path / 'metrics.json').get('seed')
        seeds[path] = seed if isinstance(seed, int) else 0
    if len(set(seeds.values())) < len(folders):
        raise UserError(
            f'{name}: {" and ".join(map(str, folders))} have one seed; runs '
            'of a name are its seeds, give each once'
        )
    return sorted(folders, key=seeds.__getitem__)


def _study_of(names: list[str], folder: Path) -> Study:
    rows = tuple(StudyRow(name, name, Path(name)) for name in names)
    return Study(folder, folder.name, rows, (), 'balanced_accuracy')
