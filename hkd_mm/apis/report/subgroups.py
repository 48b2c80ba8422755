# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Does a net serve the young and the old, women and men, every site?"""

import csv
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.significance import (
    accuracy,
    balanced_accuracy,
    bootstrap_interval,
)

from .page import Section, Table
from .runs import Material
from .sources import data_root

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


def subgroups(material: Material) -> Section:
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


def _find(material: Material) -> Path | None:
    """The file said, or the one that lies with the data."""
    said = material.options.get('metadata')
    if said:
        return Path(said)
    root = data_root(material)
    if root is None:
        return None
    found = sorted(root.glob('*metadata*.csv'))
    return found[0] if found else None


def _table(material: Material, fact: str, values: list[str]) -> Table:
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


def _lesions(material: Material, groups: list[str]) -> tuple[str, int]:
    """How many lesions some images show, and a number to sort by."""
    count = len(set(groups))
    return ('unknown', 0) if material.unknown else (str(count), count)
