# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images without labels, as the training part beside a labelled data set."""

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from hkd_mm.datasets.records import Record, image_paths, log_once
from hkd_mm.errors import UserError
from hkd_mm.io.files import printable, sha256

NO_LABEL = -1


def list_unlabelled(folder: str) -> list[Record]:
    """All images below a folder, whatever its subfolders are called; label ''.

    Sample ids are paths below the folder, with their suffix.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    root = os.path.expanduser(folder)
    paths = image_paths(root) if os.path.isdir(root) else []
    if not paths:
        raise UserError(
            f'unlabelled_root {folder} is no folder with photographs; set '
            '--cfg-options unlabelled_root=PATH to the images without labels'
        )
    return [Record(printable(os.path.relpath(p, root)), p, '') for p in paths]


def without_copies(records: list[Record], held_out: Sequence[Record]) -> list[Record]:
    """Leave out the files of validation and test images, by content, and log it."""
    sizes = defaultdict(list)
    for record in held_out:
        sizes[os.path.getsize(record.path)].append(record.path)
    hashes = cache(lambda size: {sha256(path) for path in sizes[size]})

    def copied(path: str) -> bool:
        size = os.path.getsize(path)
        return size in sizes and sha256(path) in hashes(size)

    kept = [record for record in records if not copied(record.path)]
    if len(kept) < len(records):
        log_once(
            f'unlabelled_root: left out {len(records) - len(kept)} of {len(records)} '
            'images, which are files of the validation or test part'
        )
    if not kept:
        raise UserError(
            'all images of unlabelled_root are validation or test images; name a '
            'folder of others'
        )
    return kept
