# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Whose an image is, as its table says."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hkd_mm.errors import UserError

PATIENT = ('patient_id', 'patient')
LESION = 'lesion_id'
NONE = ('', 'nan', 'none')  # what programs write into empty cells


class Group(NamedTuple):
    """Images that never come apart.

    Args:
        name: of the patient or the lesion; None where neither is known.
        kind: ``patient`` or ``lesion``.
    """

    name: str | None
    kind: str


def groups_of(rows: Sequence[dict[str, str]], table: Path) -> list[Group]:
    """The group of each row: its patient, else its lesion.

    Where the patient of a row is not told but its lesion is that of a patient
    in another row, the row is that patient's. Lesions of patients are not
    looked at otherwise: some tables number them anew for each patient.

    Args:
        rows: of the table.
        table: for messages.

    Raises:
        UserError: such a lesion has several patients.
    """
    patients = defaultdict(dict)  # lesion -> its patients, in their order
    for row in rows:
        if (patient := _patient(row)) and (lesion := _filled(row, LESION)):
            patients[lesion][patient] = None
    known = {patient for row in rows if (patient := _patient(row))}
    return [_group(row, patients, known, table) for row in rows]


def columns_of(header: Sequence[str]) -> list[str]:
    """The columns that name patients, or lesions where there are none."""
    found = [name for name in PATIENT if name in header]
    return found or [name for name in (LESION,) if name in header]


def _group(
    row: dict[str, str],
    patients: dict[str, dict[str, None]],
    known: set[str],
    table: Path,
) -> Group:
    if patient := _patient(row):
        return Group(patient, 'patient')
    lesion = _filled(row, LESION)
    if not lesion:
        return Group(None, 'patient')
    found = list(patients.get(lesion, ()))
    if len(found) > 1:
        raise UserError(
            f'{table}: lesion {lesion} is of patient {found[0]}, of '
            f'{found[1]} and of an image whose patient is not told; fill in '
            'its patient'
        )
    if found:
        return Group(found[0], 'patient')
    taken = lesion in known  # a patient may be called as a lesion
    return Group(f'lesion {lesion}' if taken else lesion, 'lesion')


def _patient(row: dict[str, str]) -> str:
    return next((name for key in PATIENT if (name := _filled(row, key))), '')


def _filled(row: dict[str, str], key: str) -> str:
    value = row.get(key, '')
    return '' if value.lower() in NONE else value
