# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Run folders named on the command line."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hkd_mm.engine.run_files import is_old
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import is_done, read_json
from hkd_mm.experiments.study import Study, StudyRow, read_plan
from hkd_mm.inference.student import named

_SEED = re.compile(r'seed(\d+)$')


class Found(NamedTuple):
    """The runs of a report.

    Args:
        study: titles, order, baselines and roles.
        folders: name -> the run of each seed.
        unfinished: rows that are not done with all seeds.
    """

    study: Study
    folders: dict[str, list[Path]]
    unfinished: list[str]


def find_runs(
    places: list[str],
    study: Study | None = None,
    baselines: Sequence[str] | None = None,
) -> Found:
    """Look for finished runs.

    Args:
        places: as of :func:`.gather.gather`.
        study: of a work dir, in place of the plan that lies in it.
        baselines: in place of those of the study.

    Raises:
        UserError: nothing is finished there, or a baseline is not.
    """
    if len(places) == 1 and _seed_folders(Path(places[0])):
        found = _of_work_dir(Path(places[0]), study)
    else:
        found = _of_runs(places, study)
    for name in baselines or ():
        if name not in found.folders:
            raise UserError(
                f'--baseline {name}: finished are {", ".join(found.folders)}'
            )
    if baselines:
        other = replace(found.study, baselines=tuple(baselines))
        found = found._replace(study=other)
    return found


def _seed_folders(place: Path) -> list[Path]:
    found = [path for path in place.glob('seed*') if _SEED.search(path.name)]
    return sorted(found, key=lambda path: int(_SEED.search(path.name)[1]))


def _of_work_dir(place: Path, study: Study | None) -> Found:
    plan = read_plan(place)
    seeds = (
        [place / f'seed{seed}' for seed in range(plan.seeds)]
        if plan
        else _seed_folders(place)
    )
    study = study or (plan.study if plan else _study_of(_names(seeds), place))
    folders, unfinished = {}, []
    for row in study.rows:
        runs = [seed / row.name for seed in seeds]
        if all(map(is_done, runs)):
            folders[row.name] = runs
        else:
            unfinished.append(row.name)
    if not folders:
        raise UserError(
            f'{place} holds no method that is trained and tested with all of '
            f'its {len(seeds)} seeds; let tools/compare.py finish one'
        )
    return Found(study, folders, unfinished)


def _names(seeds: list[Path]) -> list[str]:
    """Of runs below the folders of seeds, old states of them left out.

    What a run has trained first lies in its own folder, and is none.
    """
    names = {
        path.parent.relative_to(seed).as_posix()
        for seed in seeds
        for path in seed.glob('**/metrics.json')
    }
    return [
        name
        for name in sorted(names)
        if not is_old(name) and not names & set(_above(name))
    ]


def _above(name: str) -> list[str]:
    return [parent.as_posix() for parent in Path(name).parents]


def _of_runs(places: list[str], study: Study | None) -> Found:
    folders: dict[str, list[Path]] = {}
    for place in places:
        name, folder = named(place)
        path = Path(folder)
        if any(path.glob('fold*/seed*')):
            raise UserError(
                f'{path} holds a cross-validation; give one of its folds, '
                f'{path}/fold0'
            )
        if not is_done(path):
            raise UserError(
                f'{path} is no finished run: it needs metrics.json and '
                'student.pth of tools/train.py, and test.json and '
                f'predictions.csv of: python tools/test.py {path}'
            )
        folders.setdefault(name or path.name, []).append(path)
    ordered = {name: _by_seed(name, paths) for name, paths in folders.items()}
    title = Path(places[0]).name if len(places) == 1 else 'Runs'
    return Found(study or _study_of(list(folders), Path(title)), ordered, [])


def _by_seed(name: str, folders: list[Path]) -> list[Path]:
    seeds = {
        path: read_json(path / 'metrics.json').get('seed') or 0
        for path in folders
    }
    if len(set(seeds.values())) < len(folders):
        raise UserError(
            f'{name}: {" and ".join(map(str, folders))} have one seed; runs '
            'of a name are its seeds, give each once'
        )
    return sorted(folders, key=seeds.__getitem__)


def _study_of(names: list[str], place: Path) -> Study:
    rows = tuple(StudyRow(name, name, Path(name)) for name in names)
    return Study(place, place.name, rows, (), 'balanced_accuracy')
