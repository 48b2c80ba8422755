# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw a split file ahead of the training, by lesion and by content."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from hkd_mm.data_tools.duplicates import joined_names
from hkd_mm.errors import UserError
from hkd_mm.io.files import sha256
from hkd_mm.io.progress import parallel_map


def draw_split_file(
    records,
    name: str,
    ratios='80:10:10',
    seed: int = 42,
    out: str | None = None,
    group_duplicates: bool = False,
    workers: int = 0,
) -> tuple[dict, str, bool]:
    """Draw a split and write it, unless the file exists.

    ``group_duplicates`` keeps byte-identical files in one part as well, which
    ``workers`` processes read. Returned are content, path, and whether it was written
    now.
    """
    from hkd_mm.datasets.split_file import default_split_file, read_split, write_split
    from hkd_mm.datasets.splits import as_document, check_split, draw_split

    if any(record.split for record in records):
        raise UserError(
            f'{name} comes split into train, val and test; there is nothing to draw'
        )
    grouped = records
    if group_duplicates:  # equal files share a lesion id
        paths = [record.path for record in records]
        equal = defaultdict(list)
        hashes = parallel_map(sha256, paths, 'comparing files', workers)
        for record, content in zip(records, hashes):
            equal[content].append(record.sample_id)
        names = joined_names(records, equal.values())
        grouped = [replace(r, lesion_id=name) for r, name in zip(records, names)]
    parts = draw_split(grouped, ratios, seed)
    document = as_document(records, parts, ratios, seed, name)
    if group_duplicates:
        document['grouped_by'] += ' and content'
    path = out or default_split_file(name, records, ratios, seed)
    if Path(path).exists():
        found = read_split(path)
        check_split(found, records, path)
        if found['hash'] != document['hash']:
            raise UserError(
                f'split file {path} holds another split of this '
                'data; remove it or name another --out'
            )
        return found, path, False
    write_split(document, path)
    return document, path, True
