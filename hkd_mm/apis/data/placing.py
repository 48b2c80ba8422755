# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The layout of a converted download: ``images/`` and ``annotations.csv``."""

import csv
import os
from pathlib import Path
from typing import Any

from hkd_mm.progress import tracked

from .downloads import Entry, place


def place_images(found: list[tuple[Any, Entry]], out: str) -> int:
    """Put every image where its record's path says, below ``out/images``.

    Args:
        found: pairs of a record and the entry of its image.
        out: data root; made when missing.

    Returns:
        How many were not there before.
    """
    new = 0
    for record, entry in tracked(found, 'placing', len(found), 'images'):
        new += place(entry, Path(out, 'images', record.path))
    return new


def write_annotations(records, out: str) -> None:
    """Write ``annotations.csv`` of records, whole or not at all."""
    extra = list(
        dict.fromkeys(key for record in records for key in record.metadata)
    )
    known = ['image', 'label']
    known += ['lesion_id'] * any(record.lesion_id for record in records)
    known += ['split'] * any(record.split for record in records)
    target = Path(out, 'annotations.csv')
    aside = target.with_name(f'.{target.name}.{os.getpid()}')
    with open(aside, 'w', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(
            stream,
            [*known, *extra],
            restval='',
            lineterminator='\n',
            extrasaction='ignore',
        )
        writer.writeheader()
        for record in records:
            writer.writerow(
                dict(
                    record.metadata,
                    image=record.sample_id,
                    label=record.label,
                    lesion_id=record.lesion_id or '',
                    split=record.split or '',
                )
            )
    os.replace(aside, target)
