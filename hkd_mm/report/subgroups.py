# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Results by age, sex and site, and whether images may have leaked."""

import csv
import json
from itertools import combinations
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.significance import (
    accuracy,
    balanced_accuracy,
    bootstrap_interval,
)
from hkd_mm.experiments.tables import (
    are_unknown,
    format_image_count,
    unknown_groups_note,
)
from hkd_mm.report.data import ReportData
from hkd_mm.report.page import Facts, Section, Table
from hkd_mm.report.sources import data_root, lesions, listing

SMALL = 20  # images below which a group says nothing
_RESAMPLES = 500
_BANDS = ((0, 30), (30, 45), (45, 60), (60, 75), (75, 200))
_IDS = ('image_id', 'isic_id', 'image', 'sample_id')
_FACTS = dict(
    age=('age', 'age_approx'),
    sex=('sex',),
    site=('localization', 'anatom_site_general', 'anatom_site'),
)


def age_band(text: str) -> str:
    """``30 to 44`` of ``31.0``; ``unknown`` of what is no number."""
    try:
        age = float(text)
    except ValueError:
        return 'unknown'
    for low, high in _BANDS:
        if low <= age < high:
            return f'{low} to {high - 1}' if high < 200 else f'{low} and over'
    return 'unknown'


def read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """Sample id -> ``age`` (a band), ``sex``, ``site``, as far as told.

    Args:
        path: CSV with a column of image names and some of age (years), sex
            and site, as HAM10000 and ISIC call them.

    Raises:
        UserError: the file cannot be read or has none of these columns.
    """
    try:
        with path.open(newline='', encoding='utf-8-sig') as stream:
            lines = list(csv.DictReader(stream))
        own = next(key for key in _IDS if key in lines[0])
    except (OSError, UnicodeDecodeError, IndexError, StopIteration):
        raise UserError(
            f'--metadata {path} cannot be read or has no column of image '
            f'names ({", ".join(_IDS)})'
        ) from None
    columns = {
        fact: key
        for fact, keys in _FACTS.items()
        for key in keys
        if key in lines[0]
    }
    return {
        line[own]: {
            fact: age_band(line[key])
            if fact == 'age'
            else (line[key] or 'unknown').strip().lower()
            for fact, key in columns.items()
        }
        for line in lines
    }


def subgroups(material: ReportData) -> Section:
    """A table each of age, sex and site."""
    title = 'Groups of patients'
    path = _find(material)
    if path is None:
        return Section(
            'groups', title, left_out='no metadata; give a CSV with --metadata'
        )
    told = read_metadata(path)
    facts = [told.get(name) for name in material.sample_ids]
    known = [fact for fact in facts if fact]
    if not known:
        return Section(
            'groups', title, left_out=f'{path.name} names no test image'
        )
    blocks = [
        _table(material, fact, [(f or {}).get(fact, 'unknown') for f in facts])
        for fact in _FACTS
        if fact in known[0]
    ]
    how = (
        f'An interval (95 %, bootstrap over {material.unit}) that lies apart '
        'from the others tells of a group that is served otherwise; groups '
        f'under {SMALL} images are marked: they say nothing. Balanced '
        'accuracy is over the classes that occur in a group, so it compares '
        'methods in a row, not groups in a column.'
    )
    basis = f'{material.basis} Facts of {len(known)} images: {path.name}.'
    return Section('groups', title, how, basis, blocks)


def _find(material: ReportData) -> Path | None:
    """The file said, or the one that lies with the data."""
    said = material.options.get('metadata')
    if said:
        return Path(said)
    root = data_root(material)
    if root is None:
        return None
    found = sorted(root.glob('*metadata*.csv'))
    return found[0] if found else None


def _table(material: ReportData, fact: str, values: list[str]) -> Table:
    roles = material.roles or {m.title: m for m in material.methods[:3]}
    header = [fact, 'images', 'lesions']
    if material.positive is not None:
        header.append(material.classes[material.positive])
    for role in roles:
        header += [f'accuracy, {role}', f'balanced, {role}']
    rows, marked = [], set()
    every = np.array(values)
    for place, value in enumerate(_ordered(set(values))):
        kept = every == value
        count = int(kept.sum())
        groups = [g for g, inside in zip(material.groups, kept) if inside]
        labels = material.labels[kept]
        name = value if count >= SMALL else f'{value} (too small)'
        row: list = [name, (str(count), count), _lesions(material, groups)]
        if material.positive is not None:
            found = int((labels == material.positive).sum())
            row.append((str(found), found))
        for method in roles.values():
            chosen = method.chosen[:, kept]
            row += [
                _score(labels, chosen, groups, score)
                for score in (accuracy, balanced_accuracy)
            ]
        rows.append(row)
        if count < SMALL:
            marked.add(place)
    return Table(f'By {fact}.', header, rows, marked)


def _score(labels, chosen, groups, score) -> tuple[str, float]:
    ones = np.ones(len(labels))
    mean = float(np.mean([score(labels, row, ones) for row in chosen]))
    low, high = bootstrap_interval(labels, chosen, groups, score, _RESAMPLES)
    return f'{mean:.2f} [{low:.2f}, {high:.2f}]', mean


def _ordered(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (name == 'unknown', name))


def _lesions(material: ReportData, groups: list[str]) -> tuple[str, int]:
    """How many lesions some images show, and a number to sort by."""
    count = len(set(groups))
    return ('unknown', 0) if material.unknown else (str(count), count)


def shared(parts: dict[str, dict[str, str]]) -> dict[str, tuple[int, int]]:
    """How many images and lesions two parts have in common.

    Args:
        parts: split -> sample id -> lesion id.

    Returns:
        ``train and test`` -> images, lesions.
    """
    return {
        f'{one} and {other}': (
            len(parts[one].keys() & parts[other].keys()),
            len(set(parts[one].values()) & set(parts[other].values())),
        )
        for one, other in combinations(parts, 2)
    }


def leakage(material: ReportData) -> Section:
    """Hashes of the splits, what parts share, near duplicates."""
    items = [('Split', _hashes(material)), *_parts(material)]
    items.append(('Near duplicates', _near(material)))
    how = (
        'One split hash and nothing in common between the parts: the test '
        'split was never trained on'
    )
    if material.unknown:
        how += (
            f'. {material.whose.capitalize()} unknown: that holds for images '
            f'alone. {unknown_groups_note(material.whose)}'
        )
    else:
        how += (
            f', and none of the {material.whose} that are known is on both '
            'sides.'
        )
    return Section('leakage', 'Leakage', how, material.basis, [Facts(items)])


def _hashes(material: ReportData) -> str:
    found: dict[str, list[str]] = {}
    for method in material.methods:
        for report in method.outcome.reports:
            told = str(report.get('split_hash') or 'unknown')
            found.setdefault(told, []).append(method.title)
    if len(found) == 1:
        return f'{next(iter(found))}, the same for all runs'
    return 'DIFFERENT splits: ' + '; '.join(
        f'{key[:12]}: {", ".join(dict.fromkeys(names))}'
        for key, names in found.items()
    )


def _parts(material: ReportData) -> list[tuple[str, str]]:
    parts = _from_data(material) or _from_predictions(material)
    whose = material.whose
    sizes = ', '.join(
        f'{split} {format_image_count(part, part.values(), whose)}'
        for split, part in parts.items()
    )
    items = [('Parts', sizes)]
    for both, (images, count) in shared(parts).items():
        one, other = (parts[name] for name in both.split(' and '))
        unknown = any(are_unknown(p, p.values()) for p in (one, other))
        told = f'{whose} unknown' if unknown else f'{count} {whose}'
        leak = ' - LEAK' if images or (count and not unknown) else ''
        items.append((f'In {both}', f'{images} images, {told}{leak}'))
    return items


def _from_data(material: ReportData) -> dict[str, dict[str, str]] | None:
    """All three parts; None where the data or its split has changed."""
    try:
        found = {
            split: listing(material, split)
            for split in ('train', 'val', 'test')
        }
    except UserError:
        return None
    if None in found.values():
        return None
    parts = {split: lesions(one) for split, one in found.items()}
    if set(parts['test']) != set(material.sample_ids):
        return None
    return parts


def _from_predictions(material: ReportData) -> dict[str, dict[str, str]]:
    """Validation and test, as far as their predictions lie there."""
    parts = {}
    for method in material.methods:
        if method.val_labels is not None:
            parts['val'] = dict(zip(method.val_ids, method.val_groups))
            break
    parts['test'] = dict(zip(material.sample_ids, material.groups))
    return parts


def _near(material: ReportData) -> str:
    path = material.options.get('verify_report')
    if path is None:
        return (
            'not looked for; give the file of '
            'tools/data/verify.py --json with --verify-report'
        )
    try:
        told = json.loads(Path(path).read_text(encoding='utf-8'))
        checked = told['near_checked']
        across, within = len(told['near_leaks']), len(told['near_duplicates'])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'--verify-report {path} is not what '
            'tools/data/verify.py --json writes'
        ) from None
    if not checked:
        return 'not looked for by verify.py'
    return (
        f'{within} pairs of near duplicates{_leakage_lesions(told)} among '
        f'{told["images"]} images, {across} of them in different parts'
    )


def _leakage_lesions(told: dict) -> str:
    """Whether verify.py knew which images are of one lesion."""
    if told.get('without_lesion') == told['images']:
        return ' (lesions unknown)'
    return ' of different lesions'
