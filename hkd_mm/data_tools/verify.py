# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Verify a data set: files, duplicates, leaks, counts."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

from hkd_mm.data_tools.duplicates import near_pairs, perceptual_hash
from hkd_mm.errors import UserError
from hkd_mm.io.files import sha256, walk
from hkd_mm.io.progress import parallel_map
from hkd_mm.lazy import require


def verify_data(
    records,
    where: dict,
    min_size: int = 32,
    near: int | None = 2,
    workers: int = 0,
    group_near: bool = False,
) -> dict:
    """Read every file once and report the findings.

    Returned are images; without_lesion, how many of them name no lesion or patient;
    counts (split -> class -> images); unreadable (image, reason); tiny (image, width,
    height), with a side below ``min_size`` pixels; duplicates, groups of images with
    equal bytes; conflicting, those with several labels; near_duplicates (two images of
    different lesions, bits); grouped_by, the kinds of leaks that were looked for; leaks
    (kind; key; the splits and images), with ``group_near`` of near duplicates, too;
    near_leaks, the near duplicates in different splits; ok (no unreadable file and no
    leak).

    Args:
        where: sample id -> list of its splits.
        near: perceptual hashes (64 bits) that differ in at most this many bits are near
            duplicates; None does not look for them.
    """
    if near is not None:
        require('imagehash', '--near', 'ImageHash')
        if not 0 <= near <= 64:
            raise UserError(f'--near {near} must lie between 0 and 64 bits')
    scans = parallel_map(
        partial(_scan, near is not None),
        [record.path for record in records],
        'reading images',
        workers,
    )
    labels = {record.sample_id: record.label for record in records}
    found = dict(zip(labels, scans))
    same = defaultdict(list)  # content -> its images
    for name, scan in found.items():
        if scan['sha256']:
            same[scan['sha256']].append(name)
    same = {key: names for key, names in same.items() if len(names) > 1}
    pairs = [] if near is None else near_pairs(records, found, near)
    counts = defaultdict(Counter)
    for name, label in labels.items():
        for split in where.get(name, ['none']):
            counts[split][label] += 1
    lesions = defaultdict(list)  # connected over lesions and patients
    for record in records:
        if record.lesion_id:
            lesions[record.lesion_id].append(record.sample_id)
    kinds = {'id': {name: [name] for name in where}}
    if lesions:
        kinds[next(r.group for r in records if r.lesion_id)] = lesions
    kinds['content'] = same
    if group_near and near is not None:
        kinds['near duplicate'] = {pair['images'][0]: pair['images'] for pair in pairs}
    report = dict(
        images=len(records),
        without_lesion=sum(not record.lesion_id for record in records),
        counts={split: dict(sorted(n.items())) for split, n in counts.items()},
        unreadable=[
            dict(image=name, reason=scan['error'])
            for name, scan in found.items()
            if scan['error']
        ],
        tiny=[
            dict(image=name, width=scan['width'], height=scan['height'])
            for name, scan in found.items()
            if scan['width'] and min(scan['width'], scan['height']) < min_size
        ],
        duplicates=list(same.values()),
        conflicting=[
            {name: labels[name] for name in names}
            for names in same.values()
            if len({labels[name] for name in names}) > 1
        ],
        grouped_by=[*kinds],
        leaks=[leak for kind in kinds for leak in _leaks(kind, kinds[kind], where)],
        near_checked=near is not None,
        near_duplicates=pairs,
        near_leaks=[
            pair
            for pair in pairs
            if len({frozenset(where.get(n, ())) for n in pair['images']}) > 1
        ],
    )
    report['ok'] = not (report['unreadable'] or report['leaks'])
    return report


def _scan(perceptual: bool, path: str) -> dict:
    from hkd_mm.datasets.load_skin_image import read_image

    result = dict(error=None, sha256=None, width=0, height=0, phash=None)
    try:
        if not os.path.getsize(path):
            return dict(result, error='the file is empty')
        result['sha256'] = sha256(path)
        image = read_image(path)
    except UserError as error:
        reason = str(error).split('cannot be read (', 1)[-1]
        return dict(result, error=reason.rsplit('); replace', 1)[0])
    except OSError as error:
        return dict(result, error=error.strerror or str(error))
    result['height'], result['width'] = image.shape[:2]
    if perceptual:
        result['phash'] = perceptual_hash(image)
    return result


def _leaks(kind: str, groups: dict[str, list[str]], where: dict) -> list[dict]:
    leaks = []
    for key, names in groups.items():
        splits = defaultdict(list)
        for name in names:
            for split in where.get(name, ()):
                splits[split].append(name)
        if len(splits) > 1:
            splits = {s: sorted(splits[s]) for s in sorted(splits)}
            leaks.append(dict(kind=kind, key=key, splits=splits))
    return leaks


def count_skipped(root: str, records, tables: Iterable[Path]) -> dict[str, int]:
    """Files below a data root that are no image, mask or table of it, by suffix."""
    real = cache(os.path.realpath)  # folders may be links, and have many files
    used = {*map(str, tables)}
    for record in records:
        used |= {record.path, getattr(record, 'mask_path', None) or record.path}
    used = {(real(os.path.dirname(path)), os.path.basename(path)) for path in used}
    skipped = Counter(
        os.path.splitext(file)[1].lower() or 'no suffix'
        for folder, files in walk(os.path.expanduser(root))
        for file in files
        if not file.startswith('.') and (real(folder), file) not in used
    )
    return dict(skipped.most_common())
