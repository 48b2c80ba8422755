# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw stratified, grouped splits and folds, equal on every machine.

Only integers, fractions and SHA-256 are used: no generator whose stream may
change with a library version.
"""

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from hkd_mm.datasets.records import SPLITS, Record, columns_of
from hkd_mm.errors import UserError

VERSION = 1


def parse_ratios(ratios) -> tuple[Fraction, Fraction, Fraction]:
    """Shares of train, val and test that sum to one.

    Args:
        ratios: two or three numbers >= 0 or a text such as ``80:10:10``,
            ``70:20:10`` or ``8:2``, in any unit. Two numbers are train and
            val: there is no test part then.

    Raises:
        UserError: not two or three numbers, negative, or no train or val.
    """
    hint = 'use split_ratios=80:10:10 or two numbers for train and val'
    try:
        text = isinstance(ratios, str)
        parts = re.split(r'[:,/ ]+', ratios.strip('()[] ')) if text else [*ratios]
        if not all(math.isfinite(float(part)) for part in parts):
            raise ValueError
        shares = [Fraction(str(part)) for part in parts]
    except (ValueError, TypeError, OverflowError):
        raise UserError(f'split_ratios {ratios} are not numbers; {hint}') from None
    if len(shares) == 2:
        shares.append(Fraction(0))
    if len(shares) != 3 or min(shares) < 0 or 0 in shares[:2]:
        raise UserError(
            f'split_ratios {ratios} must be two or three numbers above zero; {hint}'
        )
    return tuple(share / sum(shares) for share in shares)


def ratio_name(ratios) -> str:
    """Percentages for a file name, such as ``80-10-10``."""
    shares = parse_ratios(ratios)
    return '-'.join(f'{float(100 * share):g}' for share in shares).replace('.', 'p')


def data_hash(records: list[Record]) -> str:
    """SHA-256 (hex) over ids, labels and lesions in the order of the ids."""
    rows = sorted((r.sample_id, r.label, r.lesion_id or '') for r in records)
    return hash_list(rows, separators=(',', ':'))


def assignment_hash(parts: dict) -> str:
    """SHA-256 (hex) over the data hash and which id is in which split."""
    lists = [sorted(parts[name]) for name in SPLITS]
    return hash_list([parts['data_hash'], *lists], separators=(',', ':'))


def hash_list(items: Sequence, **options) -> str:
    """SHA-256 (hex) of a list as ``json.dumps`` writes it."""
    return hashlib.sha256(json.dumps(items, **options).encode()).hexdigest()


def draw_split(records: list[Record], ratios=(0.8, 0.1, 0.1), seed: int = 42) -> dict:
    """Split images by class share, lesions kept together.

    Groups (lesions; an image without lesion id is its own group) are taken from the
    largest to the smallest, in an order drawn by ``seed`` among equals. Each goes where
    its classes are filled least in relation to the wanted share, ties to the larger
    split. So a class with three lesions or more is in all three splits.
    """
    drawn = draw_parts(records, parse_ratios(ratios), seed)
    parts = dict(zip(SPLITS, drawn))
    return as_document(records, parts, ratios=ratios, seed=seed)


def draw_parts(
    records: list[Record], shares: Sequence[Fraction], seed: int
) -> list[list[str]]:
    """Ids of parts of any number, by the rule of :func:`draw_split`."""
    groups = defaultdict(list)
    for record in records:
        lesion = record.lesion_id
        key = ('lesion', lesion) if lesion else ('image', record.sample_id)
        groups[key].append(record)
    totals = Counter(record.label for record in records)
    # Filling of a part by each label, weighted so that all costs are whole
    # numbers: exact, and much faster than fractions.
    common = math.lcm(*totals.values())
    weights = {name: common // total for name, total in totals.items()}
    unit = math.lcm(*(share.numerator for share in shares if share))
    costs = [s and s.denominator * (unit // s.numerator) for s in shares]
    filled = {name: [0] * len(shares) for name in totals}
    open_parts = [i for i, share in enumerate(shares) if share]
    open_parts.sort(key=lambda i: -shares[i])
    parts: list[list[str]] = [[] for _ in shares]

    def rank(kind: str, name: str) -> bytes:  # among groups of one size, by the seed
        text = json.dumps([seed, kind, name], separators=(',', ':'))
        return hashlib.sha256(text.encode()).digest()

    order = sorted((-len(groups[key]), rank(*key), key) for key in groups)
    for _, _, key in order:
        members = groups[key]
        labels = Counter(record.label for record in members)
        shares = {
            i: sum(n * filled[name][i] * weights[name] for name, n in labels.items())
            for i in open_parts
        }
        best = min(open_parts, key=lambda i: costs[i] * shares[i])
        for label, count in labels.items():
            filled[label][best] += count
        parts[best] += [record.sample_id for record in members]
    return parts


def as_document(
    records: list[Record],
    parts: dict,
    ratios=None,
    seed: int | None = None,
    dataset: str = '',
) -> dict:
    """The content of a split file, see :class:`.split_file.SplitFile`.

    Args:
        parts: ids by ``train``, ``val`` and ``test``.
        ratios: as drawn; None, as ``seed``, when the data came split.
        dataset: name of the data, for the reader.
    """
    labels = {record.sample_id: record.label for record in records}
    parts = {name: sorted(parts.get(name, ())) for name in SPLITS}
    document = dict(
        version=VERSION,
        dataset=dataset,
        ratios=None if ratios is None else ratio_name(ratios),
        seed=seed,
        grouped_by=grouped_by(records),
        counts={
            name: dict(sorted(Counter(map(labels.get, ids)).items()))
            for name, ids in parts.items()
        },
        data_hash=data_hash(records),
    )
    document['hash'] = assignment_hash({**document, **parts})
    return {**document, **parts}


def grouped_by(records: Iterable[Record]) -> str:
    """The columns that keep images in one part: ``lesion_id and patient_id``."""
    kinds = sorted({columns_of(r.group) for r in records if r.lesion_id})
    return ' and '.join(kinds) or 'image'


def check_split(document: dict, records: list[Record], path) -> None:
    """Check a split against the data.

    Raises:
        UserError: the data or the lists have changed since it was written, or
            an id or a lesion is in two splits.
    """
    check_data(document, records, path)
    where = {}
    for name in SPLITS:
        for sample_id in document[name]:
            if sample_id in where:
                raise UserError(
                    f'split file {path}: image {sample_id} is in '
                    f'{where[sample_id]} and in {name}; draw the split again'
                )
            where[sample_id] = name
    check_lesions(records, where, f'split file {path}')
    if document['hash'] != assignment_hash(document):
        raise UserError(
            f'split file {path} was changed by hand (its hash '
            'does not match its lists); draw the split again'
        )


def check_data(document: dict, records: list[Record], path) -> None:
    """Refuse a split that was drawn for other data."""
    found = data_hash(records)
    if document['data_hash'] != found:
        raise UserError(
            f'split file {path} was drawn for other data (hash '
            f'{document["data_hash"][:8]}, these images have {found[:8]}); '
            'name the matching data_root, or another split_file'
        )


def check_lesions(records: list[Record], where: dict, source: str) -> None:
    """Refuse images of one lesion in two splits (sample id -> split)."""
    seen = {}
    for record in records:
        name = where.get(record.sample_id)
        if name is None or not record.lesion_id:
            continue
        first = seen.setdefault(record.lesion_id, (name, record.sample_id))
        if first[0] != name:
            raise UserError(
                f'{source}: {record.group} {record.lesion_id} is in '
                f'{first[0]} (image {first[1]}) and in {name} (image '
                f'{record.sample_id}); draw the split again'
            )


def draw_folds(records: list[Record], count: int, seed: int = 42) -> list[dict]:
    """Split files for cross-validation: each image is tested once.

    Of ``count`` equal parts, three or more, drawn as by :func:`draw_split`, fold i
    tests on part i, validates on the next one and trains on the others.
    """
    if count < 3:
        raise UserError(
            f'{count} folds: at least 3 are needed, one to test, one to '
            'validate and one to train on'
        )
    drawn = draw_parts(records, (Fraction(1, count),) * count, seed)
    folds = []
    for test in range(count):
        val = (test + 1) % count
        rest = [part for i, part in enumerate(drawn) if i not in (test, val)]
        parts = dict(train=sum(rest, []), val=drawn[val], test=drawn[test])
        ratios = (count - 2, 1, 1)
        folds.append(as_document(records, parts, ratios=ratios, seed=seed))
    return folds


def balanced_choice(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Indices of at most ``count`` images, from the classes in turn."""
    random = np.random.default_rng(seed)
    turns = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        turns[random.permutation(own)] = np.arange(len(own))
    return np.lexsort((labels, turns))[:count]
