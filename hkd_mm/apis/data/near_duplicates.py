# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Photographs that look alike, by their perceptual hashes."""

import numpy as np

from hkd_mm.errors import UserError

_BITS = 64  # of a hash


def require_imagehash() -> None:
    """Raise a UserError when near duplicates cannot be looked for."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise UserError(
            'near duplicates need the package ImageHash: pip '
            'install ImageHash, or leave --near out'
        ) from None


def perceptual_hash(image: np.ndarray) -> int:
    """64 bits that similar pictures share, of a (H, W, 3) BGR image."""
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(image[..., ::-1])).hash
    return int(np.packbits(bits).view('>u8')[0])


def near_pairs(records, found: dict, near: int) -> list[dict]:
    """Pairs of different content and lesion within ``near`` bits.

    Of equal files of one lesion the first stands for all: the others are
    duplicates already.

    Args:
        records: all photographs.
        found: sample id -> its ``sha256`` and ``phash``, None where it could
            not be read.
        near: bits that may differ.

    Returns:
        ``images`` (two sample ids) and ``bits``, in the order of the records.
    """
    contents: dict[str, dict] = {}  # content -> lesion -> place of a record
    hashes = []
    for place, record in enumerate(records):
        scan = found[record.sample_id]
        if scan['phash'] is None:
            continue
        if scan['sha256'] not in contents:
            hashes.append(scan['phash'])
        known = contents.setdefault(scan['sha256'], {})
        known.setdefault(record.lesion_id or ('alone',), place)
    members = list(contents.values())
    pairs = []
    for one, other, bits in zip(
        *pairs_within(np.array(hashes, np.uint64), near)
    ):
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
    """All pairs of hashes that differ in at most ``near`` bits.

    Two such hashes agree in one of ``near + 1`` shares of their bits at
    least, so that only those are compared that stand together when they are
    sorted by a share: time and memory grow with the hashes, and not with
    their square, as long as few are alike.

    Args:
        hashes: (N,) uint64.
        near: bits that may differ; from 32 on, all pairs are compared.

    Returns:
        i and j (M,) int64, i < j, each pair once and in order, and their
        bits (M,).
    """
    shares = near + 1 if near < _BITS // 2 else 1
    pairs = [np.zeros((0, 2), np.int64)]
    for share in range(shares):
        # Every so manieth bit: neighbours in a hash are alike.
        mask = sum(1 << bit for bit in range(share, _BITS, shares))
        keys = hashes & np.uint64(mask if shares > 1 else 0)
        order = np.argsort(keys, kind='stable')
        pairs.append(order[_pairs_of_runs(keys[order], hashes[order], near)])
    found = np.sort(np.concatenate(pairs), axis=1)
    found = np.unique(found, axis=0)
    bits = _popcount(hashes[found[:, 0]] ^ hashes[found[:, 1]])
    return found[:, 0], found[:, 1], bits


def _pairs_of_runs(
    keys: np.ndarray, hashes: np.ndarray, near: int
) -> np.ndarray:
    """Places (M, 2) of near hashes within runs of equal, sorted keys."""
    found = [np.zeros((0, 2), np.int64)]
    first, distance = np.arange(len(keys)), 0
    while len(first):
        distance += 1
        first = first[first + distance < len(keys)]
        # The next ones of a run that has ended here have ended as well.
        first = first[keys[first] == keys[first + distance]]
        second = first + distance
        alike = _popcount(hashes[first] ^ hashes[second]) <= near
        found.append(np.stack([first[alike], second[alike]], 1))
    return np.concatenate(found)


def _popcount(values: np.ndarray) -> np.ndarray:
    if hasattr(np, 'bitwise_count'):
        return np.bitwise_count(values)
    octets = values[..., None].view(np.uint8)
    table = np.array([bin(value).count('1') for value in range(256)], np.uint8)
    return table[octets].sum(-1, dtype=np.uint8)
