# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a work dir was made of, kept in it for whoever reads it later."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from hkd_mm.engine.atomic_backend import AtomicBackend
from hkd_mm.engine.report.history import to_json
from hkd_mm.errors import UserError

from .plan import Row, Study

FILE = 'plan.json'


class Plan(NamedTuple):
    """A study and the number of seeds that each row is trained with."""

    study: Study
    seeds: int


def write_plan(plan: Plan, work_dir: Path) -> None:
    """Leave ``plan.json`` in the work dir of a study."""
    study = asdict(plan.study)
    study['path'] = str(plan.study.path)
    for row in study['rows']:
        row['config'] = str(row['config'])
    text = to_json(dict(study=study, seeds=plan.seeds))
    AtomicBackend().put_text(text, str(work_dir / FILE))


def read_plan(work_dir: Path) -> Plan | None:
    """What :func:`write_plan` left there, or above the folder of a fold.

    Raises:
        UserError: the file is damaged.
    """
    path = work_dir / FILE
    if work_dir.name.startswith('fold') and not path.is_file():
        path = work_dir.parent / FILE
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding='utf-8'))
        study = told['study']
        rows = tuple(
            Row(
                **{
                    **row,
                    'config': Path(row['config']),
                    'after': tuple(row['after']),
                }
            )
            for row in study['rows']
        )
        plan = Study(
            **{
                **study,
                'path': Path(study['path']),
                'rows': rows,
                'baselines': tuple(study['baselines']),
                'metrics': tuple(study['metrics']),
            }
        )
        return Plan(plan, int(told['seeds']))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{path} is no plan of a study ({error}); the same command of '
            'tools/compare.py writes it again, no run is lost'
        ) from None
