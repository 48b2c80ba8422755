# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files in the folders of runs, read and written.

Workers of a sweep live as long as its trainings: nothing here imports torch.
"""

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, FiniteFloat
from typing_extensions import Required, TypedDict

from hkd_mm.errors import UserError
from hkd_mm.io.files import replacing, to_json
from hkd_mm.io.schema import read_as

TRAINED = ('metrics.json', 'student.pth')
TESTED = ('test.json', 'predictions.csv')
CONSOLE = 'console.log'  # what its processes print
FAILED = 'failed.json'
T = TypeVar('T')
_PART = r'\w[\w.+ -]*'


def _check_name(name: str, pattern: str = _PART) -> str:
    if not re.fullmatch(pattern, name) or len(name.encode()) > 200:
        raise ValueError(
            'a name begins with a letter or digit, more of them and _ . + - follow, '
            'at most 200 bytes'
        )
    return name


_check_row_name = partial(_check_name, pattern=rf'{_PART}(/{_PART})*')
Name = Annotated[str, AfterValidator(_check_name)]  # of a folder
RowName = Annotated[str, AfterValidator(_check_row_name)]  # with / between two
Figure = int | float | None  # in files null, for JSON has no NaN


class Figures(TypedDict, total=False, extra_items=Figure):
    """The figures of ``test.json`` by name, and what they are of."""

    hd95_unit: Literal['mm', 'pixel']
    provenance: dict[str, Any]


class RunReport(TypedDict, total=False, extra_items=Any):
    """What readers of ``metrics.json`` need; it holds more."""

    training_minutes: Required[Annotated[FiniteFloat, Field(ge=0)]]
    epochs: int
    seed: int | None
    split_hash: str | None
    best: dict[str, Figure] | None  # of the checkpoint that validation chose
    last: dict[str, Figure] | None
    student: dict[str, Any] | None


class Latency(TypedDict, extra_items=Any):
    """What ``tools/latency.py --for-report`` leaves."""

    median_ms: Annotated[FiniteFloat, Field(gt=0)]


class EpochRecord(TypedDict, total=False, extra_items=Any):
    """An epoch of ``history.json``."""

    epoch: Required[int]
    train: dict[str, Figure]
    val: dict[str, Figure]


_KINDS = {
    'metrics.json': RunReport,
    'test.json': Figures,
    'latency.json': Latency,
    'history.json': list[EpochRecord],
}


def read_report(path: Path) -> Any:
    """Read a file of ``_KINDS``, by its name."""
    remedy = f'; remove {path.parent}, and the run is done again'
    return read_as(_KINDS[path.name], path, remedy)


def read_if_whole(kind: type[T], path: Path) -> T | None:
    """Read a file; None where there is none, or something else."""
    try:
        return read_as(kind, path)
    except UserError:
        return None


def figure(report: Mapping[str, Any], name: str) -> float:
    """A figure of a report; NaN where it is not known."""
    value = report.get(name)
    known = isinstance(value, int | float) and abs(value) < 1e300
    return value if known else math.nan


def has_files(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether all of these files are there."""
    return all((folder / name).is_file() for name in names)


def is_trained(folder: Path) -> bool:
    """Whether a training came to its end."""
    return has_files(folder, TRAINED)


def is_done(folder: Path) -> bool:
    """Whether a run was trained and tested."""
    return has_files(folder, TRAINED + TESTED)


def is_resumable(folder: Path) -> bool:
    """Whether a training has left a checkpoint."""
    return any(folder.glob('epoch_*.pth'))


def read_history(folder: Path) -> list[EpochRecord]:
    """Read the records of the epochs so far."""
    path = folder / 'history.json'
    return read_report(path) if path.is_file() else []


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there, of any text; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 'w', encoding='utf-8', errors='backslashreplace') as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_text`, see :func:`hkd_mm.io.files.to_json`."""
    write_text(path, to_json(value))
