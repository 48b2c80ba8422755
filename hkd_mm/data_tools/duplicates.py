# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find near duplicates, and group images of the same photograph."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hkd_mm.data_tools.source import write_annotations
from hkd_mm.errors import UserError

_BITS = 64  # of a hash


def perceptual_hash(image: np.ndarray) -> int:
    """64 bits that similar pictures share, of a (H, W, 3) BGR image."""
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(image[..., ::-1])).hash
    return int(np.packbits(bits).view('>u8')[0])


def near_pairs(records, found: dict, near: int) -> list[dict]:
    """Find pairs of different content and lesion within ``near`` bits.

    Of equal files of one lesion only the first is compared. ``found`` is sample id ->
    its ``sha256`` and ``phash``, None where unreadable. Returned are ``images`` (two
    sample ids) and ``bits``, in the order of the records.
    """
    contents: dict[str, dict] = {}  # content -> lesion -> index of a record
    hashes = []
    for index, record in enumerate(records):
        scan = found[record.sample_id]
        if scan['phash'] is None:
            continue
        if scan['sha256'] not in contents:
            hashes.append(scan['phash'])
        known = contents.setdefault(scan['sha256'], {})
        known.setdefault(record.lesion_id or ('alone',), index)
    members = list(contents.values())
    pairs = []
    for one, other, bits in zip(*pairs_within(np.array(hashes, np.uint64), near)):
        pairs += [
            (*sorted((first, second)), int(bits))
            for lesion, first in members[one].items()
            for other_lesion, second in members[other].items()
            if lesion != other_lesion or lesion == ('alone',)
        ]
    return [
        dict(images=[records[i].sample_id, records[j].sample_id], bits=bits)
        for i, j, bits in sorted(pairs)
    ]


def pairs_within(
    hashes: np.ndarray, near: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of hashes, (N,) uint64, that differ in at most ``near`` bits.

    Two such hashes agree in at least one of ``near + 1`` shares of their bits, so that
    only neighbours are compared after sorting by a share: time and memory grow with the
    hashes, not with their square. From 32 bits on all pairs are compared. Returned are
    i < j (M,) int64, each pair once and in order, and their bits (M,).
    """
    shares = near + 1 if near < _BITS // 2 else 1
    pairs = [np.zeros((0, 2), np.int64)]
    for share in range(shares):
        # every shares-th bit: neighbouring bits of a hash are correlated
        mask = sum(1 << bit for bit in range(share, _BITS, shares))
        keys = hashes & np.uint64(mask if shares > 1 else 0)
        order = np.argsort(keys, kind='stable')
        pairs.append(order[_pairs_of_runs(keys[order], hashes[order], near)])
    found = np.sort(np.concatenate(pairs), axis=1)
    found = np.unique(found, axis=0)
    bits = _popcount(hashes[found[:, 0]] ^ hashes[found[:, 1]])
    return found[:, 0], found[:, 1], bits


def _pairs_of_runs(keys: np.ndarray, hashes: np.ndarray, near: int) -> np.ndarray:
    """Indices (M, 2) of near hashes within runs of equal, sorted keys."""
    found = [np.zeros((0, 2), np.int64)]
    first, distance = np.arange(len(keys)), 0
    while len(first):
        distance += 1
        first = first[first + distance < len(keys)]
        # a run that has ended at this distance has ended at larger ones
        first = first[keys[first] == keys[first + distance]]
        second = first + distance
        close = _popcount(hashes[first] ^ hashes[second]) <= near
        found.append(np.stack([first[close], second[close]], 1))
    return np.concatenate(found)


def _popcount(values: np.ndarray) -> np.ndarray:
    octets = values[..., None].view(np.uint8)  # numpy 1 has no bitwise_count
    return np.unpackbits(octets, -1).sum(-1, dtype=np.uint8)


def joined_names(records: Sequence, links: Iterable[Sequence[str]]) -> list[str | None]:
    """Name the groups of images that are linked by lesion or by ``links``.

    One name a record: the first by the alphabet of the lesions, and of the ids where an
    image has no lesion. A lone image keeps its lesion, or None.
    """
    from hkd_mm.datasets.records import connected_groups

    index = {record.sample_id: i for i, record in enumerate(records)}
    lesions = defaultdict(list)
    for i, record in enumerate(records):
        if record.lesion_id:
            lesions[record.lesion_id].append(i)
    known = [[index[name] for name in names] for names in links]
    numbers = connected_groups(len(records), [*lesions.values(), *known])
    groups = defaultdict(list)
    for record, number in zip(records, numbers):
        groups[number].append(record)
    names = {}
    for members in groups.values():
        name = members[0].lesion_id
        if len(members) > 1:
            name = min(r.lesion_id or r.sample_id for r in members)
            # an image may have the name of a lesion of others
            while name in lesions and all(r.lesion_id != name for r in members):
                name += '+'
        names.update((record.sample_id, name) for record in members)
    return [names[record.sample_id] for record in records]


def write_groups(records: Sequence, report: dict, data_root: str, out: str) -> dict:
    """Write an annotation table whose lesions are groups of equal and near images.

    ``report`` is that of :func:`.verify_data`. Returned are ``groups`` of several
    images, ``images`` in them, ``joined`` (images in a group with an image of another
    or of no lesion), and ``torn``, groups in several parts of a given split: where
    there are any, the table names no parts.
    """
    from hkd_mm.datasets.records import ImageFinder

    if hasattr(records[0], 'mask_path'):
        raise UserError(
            '--group writes a table of classes, and these images have masks: '
            'name their patients in a column patient_id instead'
        )
    if os.path.lexists(out):
        raise UserError(
            f'{out} is there already; remove it or name another file with --group'
        )
    near = [pair['images'] for pair in report['near_duplicates']]
    names = joined_names(records, [*report['duplicates'], *near])
    members = defaultdict(list)
    for record, name in zip(records, names):
        members[name or ('alone', record.sample_id)].append(record)
    several = [group for group in members.values() if len(group) > 1]
    torn = [group for group in several if len({r.split for r in group}) > 1]
    given = any(record.split for record in records) and not torn
    root = Path(os.path.expanduser(data_root))
    finder = ImageFinder(root)
    renamed = []
    for record, name in zip(records, names):
        found = finder(record.sample_id) == record.path
        sample_id = record.sample_id if found else os.path.relpath(record.path, root)
        split = record.split if given else None
        renamed.append(
            replace(record, sample_id=sample_id, lesion_id=name, split=split)
        )
    try:
        write_annotations(os.path.abspath(out), renamed)
    except OSError as error:
        raise UserError(
            f'{out} cannot be written ({error.strerror}); name another file '
            'with --group'
        ) from None
    joined = [g for g in several if len({r.lesion_id or r.sample_id for r in g}) > 1]
    return dict(
        groups=len(several),
        images=sum(map(len, several)),
        joined=sum(map(len, joined)),
        torn=len(torn),
    )
