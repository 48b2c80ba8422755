# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images of the same photograph as groups that splits keep together."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from hkd_mm.engine.atomic_backend import AtomicBackend
from hkd_mm.errors import UserError


def group_names(
    records: Sequence, links: Iterable[Sequence[str]]
) -> list[str | None]:
    """Names of the connected groups of images.

    Args:
        records: all images; those of one lesion belong together.
        links: sample ids that belong together as well.

    Returns:
        One name a record, in their order: the first by the alphabet of the
        lesions, and of the ids where an image has no lesion. A lone image
        keeps its lesion, or None.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    place = {record.sample_id: i for i, record in enumerate(records)}
    lesions = defaultdict(list)
    for i, record in enumerate(records):
        if record.lesion_id:
            lesions[record.lesion_id].append(i)
    edges = [(group[0], i) for group in lesions.values() for i in group[1:]]
    edges += [
        (place[names[0]], place[name]) for names in links for name in names[1:]
    ]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    size = len(records)
    graph = coo_matrix((np.ones(len(ends), bool), ends.T), (size, size))
    groups = defaultdict(list)
    for record, number in zip(records, connected_components(graph)[1]):
        groups[number].append(record)
    names = {}
    for members in groups.values():
        name = members[0].lesion_id
        if len(members) > 1:
            name = min(r.lesion_id or r.sample_id for r in members)
            # An image may be called as a lesion of others.
            while name in lesions and all(
                r.lesion_id != name for r in members
            ):
                name += '+'
        names.update((record.sample_id, name) for record in members)
    return [names[record.sample_id] for record in records]


def write_groups(
    records: Sequence, report: dict, data_root: str, out: str
) -> dict:
    """Write an annotation table whose lesions are groups of photographs.

    Args:
        records: all images.
        report: of :func:`hkd_mm.apis.data.verify_data.verify_data`, whose
            duplicates and near duplicates are joined.
        data_root: that the images are below.
        out: the table.

    Returns:
        ``groups`` of several images, ``images`` in them, ``joined`` (images
        that share a group with an image of another or of no lesion), and
        ``torn``, groups in several parts of a given split. Where there are
        any, the table names no parts, so that a split is drawn.

    Raises:
        UserError: the images have masks, or the file is there or cannot be
            written.
    """
    if hasattr(records[0], 'mask_path'):
        raise UserError(
            '--group writes a table of classes, and these images have masks: '
            'name their patients in a column patient_id instead'
        )
    if os.path.lexists(out):
        raise UserError(
            f'{out} is there already; remove it or name another file with '
            '--group'
        )
    near = [pair['images'] for pair in report['near_duplicates']]
    names = group_names(records, [*report['duplicates'], *near])
    members = defaultdict(list)
    for record, name in zip(records, names):
        members[name or ('alone', record.sample_id)].append(record)
    several = [group for group in members.values() if len(group) > 1]
    torn = [group for group in several if len({r.split for r in group}) > 1]
    given = any(record.split for record in records) and not torn
    rows = [
        {
            'image': image,
            'label': record.label,
            'lesion_id': name or '',
            **(dict(split=record.split) if given else {}),
            **record.metadata,
        }
        for record, name, image in zip(
            records, names, _images(records, Path(data_root))
        )
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    try:
        Path(out).absolute().parent.mkdir(parents=True, exist_ok=True)
        AtomicBackend().put_text(stream.getvalue(), os.path.abspath(out))
    except OSError as error:
        raise UserError(
            f'{out} cannot be written ({error.strerror}); name another file '
            'with --group'
        ) from None
    return dict(
        groups=len(several),
        images=sum(map(len, several)),
        joined=sum(
            len(group)
            for group in several
            if len({r.lesion_id or r.sample_id for r in group}) > 1
        ),
        torn=len(torn),
    )


def _images(records: Sequence, root: Path) -> list[str]:
    """What the table calls each image so that its file is found."""
    from hkd_mm.datasets.image_finder import ImageFinder

    root = Path(os.path.expanduser(root))
    finder = ImageFinder(root)
    return [
        record.sample_id
        if finder(record.sample_id) == record.path
        else os.path.relpath(record.path, root)
        for record in records
    ]
