# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What happened in each epoch, kept across a resume."""

import json
import math
from pathlib import Path

from ..atomic_backend import AtomicBackend


class History:
    """Records of epochs, written to a JSON file after each change.

    A record holds ``epoch`` (1-based) and, as far as they are known,
    ``train`` (mean of each logged loss), ``lr``, ``seconds`` and ``images``
    of training, ``val`` (metrics), ``val_seconds`` and ``confusion``.

    Args:
        path: the file; its folder is made when it is first written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.records: dict[int, dict] = {}

    def load(self, up_to: int, *sources: str | Path) -> bool:
        """Take over the epochs of the run that is resumed.

        Args:
            up_to: last epoch that the resumed checkpoint contains; later
                ones will be trained again.
            sources: files to try after the own one.

        Returns:
            Whether one of them was there.
        """
        for source in (self.path, *map(Path, sources)):
            if source.is_file():
                records = json.loads(source.read_text('utf-8'))
                self.records = {
                    record['epoch']: record
                    for record in records
                    if record['epoch'] <= up_to
                }
                return True
        return False

    def add(self, epoch: int, **fields) -> None:
        """Put fields into the record of an epoch and write the file."""
        record = self.records.setdefault(epoch, dict(epoch=epoch))
        record.update(fields)
        AtomicBackend().put_text(to_json(self.ordered()), self.path)

    def ordered(self) -> list[dict]:
        """All records, oldest epoch first."""
        return [self.records[epoch] for epoch in sorted(self.records)]

    def total(self, key: str) -> float:
        """Sum of a numeric field over the epochs."""
        return sum(record.get(key, 0) for record in self.records.values())

    def validated(self) -> list[int]:
        """Epochs that have validation metrics."""
        return [r['epoch'] for r in self.ordered() if 'val' in r]


def to_json(value) -> str:
    """JSON text that every reader takes: no NaN or infinity, but null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False) + '\n'


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
