# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Write tables of images as CSV, whole or not at all."""

import csv
import io
import os
from collections.abc import Iterable, Sequence

from hkd_mm.io.atomic_files import AtomicBackend


def write_table(
    path: str | os.PathLike,
    rows: Sequence[dict],
    columns: Iterable[str] | None = None,
) -> None:
    """Write rows as CSV; ``columns`` are by default all keys, in order."""
    if columns is None:
        columns = dict.fromkeys(key for row in rows for key in row)
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream,
        list(columns),
        restval='',
        extrasaction='ignore',
        lineterminator='\n',
    )
    writer.writeheader()
    writer.writerows(rows)
    AtomicBackend().put_text(stream.getvalue(), path)


def write_annotations(path: str | os.PathLike, records: Sequence) -> None:
    """Write ``image,label``, lesions and splits if any, and the metadata."""
    optional = [
        name
        for name in ('lesion_id', 'split')
        if any(getattr(record, name) for record in records)
    ]
    rows = [
        {
            'image': record.sample_id,
            'label': record.label,
            **{name: getattr(record, name) or '' for name in optional},
            **record.metadata,
        }
        for record in records
    ]
    write_table(path, rows)
