# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images without labels, as the training part beside a labelled data set."""

import filecmp
import os
from collections import defaultdict
from collections.abc import Sequence

from hkd_mm.datasets.records import Record, image_paths, log_once
from hkd_mm.errors import UserError
from hkd_mm.io.files import printable

NO_LABEL = -1


def check_unlabelled(folder: str) -> str:
    """The path of a folder of images without labels, if there is one."""
    root = os.path.expanduser(folder)
    if not os.path.isdir(root):
        raise UserError(
            f'unlabelled_root {folder} is not a folder; set --cfg-options '
            'unlabelled_root=PATH to the images without labels'
        )
    return root


def list_unlabelled(root: str) -> list[Record]:
    """All images below a folder, whatever its subfolders are called; label ''.

    Sample ids are paths below the folder, with their suffix.
    """
    records = [
        Record(printable(os.path.relpath(path, root)), path, '')
        for path in image_paths(root)
    ]
    if not records:
        raise UserError(
            f'unlabelled_root {root} holds no photograph; put some there, or leave '
            'unlabelled_root out'
        )
    return records


def without_copies(
    records: list[Record], held_out: Sequence[Record], folder: str
) -> list[Record]:
    """Leave out the files of validation and test images, by content, and log it."""
    known = defaultdict(list)
    for record in held_out:
        known[os.path.getsize(record.path)].append(record.path)
    kept = [
        record
        for record in records
        if not any(
            filecmp.cmp(record.path, other, shallow=False)
            for other in known.get(os.path.getsize(record.path), ())
        )
    ]
    if len(kept) < len(records):
        log_once(
            f'{printable(folder)}: left out {len(records) - len(kept)} of '
            f'{len(records)} images, which are files of the validation or test part'
        )
    if not kept:
        raise UserError(
            f'all images of unlabelled_root {folder} are validation or test images; '
            'name a folder of others'
        )
    return kept
