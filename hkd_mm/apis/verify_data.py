# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What is wrong with a data set: files, duplicates, leaks, counts."""

import hashlib
import os
from collections import Counter, defaultdict
from functools import partial

import numpy as np

from hkd_mm.errors import UserError

from .parallel import parallel_map

_BLOCK = 512


def verify_data(
    records,
    where: dict,
    min_size: int = 32,
    near: int | None = 2,
    workers: int = 0,
) -> dict:
    """Read every file once and report what is found.

    Args:
        records: all photographs.
        where: sample id -> list of splits it is in.
        min_size: shorter sides below this many pixels are reported as tiny.
        near: perceptual hashes (64 bits) that differ in at most this many
            bits are near duplicates; None does not look for them.
        workers: processes, 0 for all cores.

    Returns:
        images; counts (split -> class -> images); unreadable (image, reason);
        tiny (image, width, height); duplicates, a list of groups of images
        with equal bytes; conflicting, those of them with several labels;
        near_duplicates (two images of different lesions, bits); leaks (kind
        id, lesion or content; key; the splits and images); near_leaks, the
        near duplicates in different splits; ok (bool: no unreadable file and
        no leak). Near duplicates do not count: similar lesions exist.

    Raises:
        UserError: ``near`` is given and the package ImageHash is missing.
    """
    if near is not None:
        require_imagehash()
    scans = parallel_map(
        partial(_scan, near is not None),
        [record.path for record in records],
        'reading images',
        workers,
    )
    found = dict(zip([record.sample_id for record in records], scans))
    report = dict(images=len(records), counts=_counts(records, where))
    report['unreadable'] = [
        dict(image=name, reason=scan['error'])
        for name, scan in found.items()
        if scan['error']
    ]
    report['tiny'] = [
        dict(image=name, width=scan['width'], height=scan['height'])
        for name, scan in found.items()
        if scan['width'] and min(scan['width'], scan['height']) < min_size
    ]
    groups = defaultdict(list)
    for name, scan in found.items():
        if scan['sha256'] and scan['bytes']:
            groups[scan['sha256']].append(name)
    same = {key: names for key, names in groups.items() if len(names) > 1}
    labels = {record.sample_id: record.label for record in records}
    report['duplicates'] = list(same.values())
    report['conflicting'] = [
        {name: labels[name] for name in names}
        for names in same.values()
        if len({labels[name] for name in names}) > 1
    ]
    report['leaks'] = _leaks(records, where, same)
    report['near_checked'] = near is not None
    pairs = [] if near is None else _near_pairs(records, found, near)
    report['near_duplicates'] = pairs
    report['near_leaks'] = [
        pair
        for pair in pairs
        if set(where.get(pair['images'][0], ()))
        != set(where.get(pair['images'][1], ()))
    ]
    report['ok'] = not (report['unreadable'] or report['leaks'])
    return report


def require_imagehash() -> None:
    """Raise a UserError when near duplicates cannot be looked for."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise UserError(
            'near duplicates need the package ImageHash: pip '
            'install ImageHash, or leave --near out'
        ) from None


def _counts(records, where: dict) -> dict:
    counts = defaultdict(Counter)
    for record in records:
        for split in where.get(record.sample_id, ['none']):
            counts[split][record.label] += 1
    return {
        split: dict(sorted(count.items())) for split, count in counts.items()
    }


def _scan(perceptual: bool, path: str) -> dict:
    from hkd_mm.datasets.load_skin_image import read_image

    result = dict(
        error=None, sha256=None, bytes=0, width=0, height=0, phash=None
    )
    try:
        result['bytes'] = os.path.getsize(path)
        if not result['bytes']:
            return dict(result, error='the file is empty')
        with open(path, 'rb') as stream:
            result['sha256'] = (
                hashlib.file_digest(stream, 'sha256').hexdigest()
                if hasattr(hashlib, 'file_digest')
                else hashlib.sha256(stream.read()).hexdigest()
            )
        image = read_image(path)
    except UserError as error:
        reason = str(error).split('cannot be read (', 1)[-1]
        return dict(result, error=reason.rsplit('); replace', 1)[0])
    except OSError as error:
        return dict(result, error=error.strerror or str(error))
    result['height'], result['width'] = image.shape[:2]
    if perceptual:
        import imagehash
        from PIL import Image

        bits = imagehash.phash(Image.fromarray(image[..., ::-1])).hash
        result['phash'] = int(np.packbits(bits).view('>u8')[0])
    return result


def _leaks(records, where: dict, same: dict) -> list[dict]:
    leaks = []
    for name, splits in where.items():
        if len(splits) > 1:
            leaks.append(_leak('id', name, {s: [name] for s in splits}))
    lesions = defaultdict(list)
    for record in records:
        if record.lesion_id:
            lesions[record.lesion_id].append(record.sample_id)
    for kind, groups in (('lesion', lesions), ('content', same)):
        for key, names in groups.items():
            homes = defaultdict(list)
            for name in names:
                for split in where.get(name, ()):
                    homes[split].append(name)
            if len(homes) > 1:
                leaks.append(_leak(kind, key, homes))
    return leaks


def _leak(kind: str, key: str, homes: dict) -> dict:
    return dict(
        kind=kind,
        key=key,
        splits={split: sorted(homes[split]) for split in sorted(homes)},
    )


def _near_pairs(records, found: dict, near: int) -> list[dict]:
    """Pairs of different content and lesion within ``near`` bits."""
    usable = [
        record
        for record in records
        if found[record.sample_id]['phash'] is not None
    ]
    hashes = np.array(
        [found[record.sample_id]['phash'] for record in usable],
        dtype=np.uint64,
    )
    pairs = []
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, None] ^ hashes[None, start:]
        bits = _popcount(block)
        for i, j in np.argwhere(bits <= near):
            first, second = usable[start + i], usable[start + j]
            if j <= i or (
                first.lesion_id and first.lesion_id == second.lesion_id
            ):
                continue
            names = [first.sample_id, second.sample_id]
            if found[names[0]]['sha256'] != found[names[1]]['sha256']:
                pairs.append(dict(images=names, bits=int(bits[i, j])))
    return pairs


def _popcount(values: np.ndarray) -> np.ndarray:
    if hasattr(np, 'bitwise_count'):
        return np.bitwise_count(values)
    octets = values[..., None].view(np.uint8)
    table = np.array([bin(value).count('1') for value in range(256)], np.uint8)
    return table[octets].sum(-1, dtype=np.uint8)
