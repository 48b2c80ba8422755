# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Results by age, sex and site, and whether images may have leaked."""

from itertools import combinations
from pathlib import Path

import numpy as np
from typing_extensions import NotRequired, TypedDict

from hkd_mm.errors import UserError
from hkd_mm.evaluation import significance
from hkd_mm.experiments import table_text
from hkd_mm.io.schema import read_as
from hkd_mm.io.tables import read_table
from hkd_mm.report.data import ReportData
from hkd_mm.report.page import Cell, KeyFacts, Section, Table, count_cell
from hkd_mm.report.sources import data_root, lesions, read_dataset

SMALL = 20  # images below which a group says nothing
_RESAMPLES = 500
_BANDS = {
    30: '0 to 29', 45: '30 to 44', 60: '45 to 59', 75: '60 to 74', 200: '75 and over'
}  # fmt: skip
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
        age = -1.0
    return next((b for end, b in _BANDS.items() if 0 <= age < end), 'unknown')


def read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """Sample id -> ``age`` (a band), ``sex``, ``site`` of a CSV of HAM10000 or ISIC."""
    if not path.is_file():
        raise UserError(f'--metadata {path} does not exist')
    rows = read_table(path)
    own = next((key for key in _IDS if key in rows[0]), None)
    if own is None:
        raise UserError(
            f'--metadata {path} has no column of image names ({", ".join(_IDS)})'
        )
    columns = {
        fact: key for fact, keys in _FACTS.items() for key in keys if key in rows[0]
    }
    return {
        row[own]: {
            fact: age_band(row[key]) if fact == 'age' else row[key].lower() or 'unknown'
            for fact, key in columns.items()
        }
        for row in rows
    }


def subgroups_section(data: ReportData) -> Section:
    """A table each of age, sex and site."""
    title, path = 'Groups of patients', data.options.get('metadata')
    if not path and (root := data_root(data)):
        path = min(root.glob('*metadata*.csv'), default=None)
    if not path:
        reason = 'no metadata; give a CSV with --metadata'
        return Section('groups', title, left_out=reason)
    path = Path(path)
    metadata = read_metadata(path)
    found = [metadata.get(name, {}) for name in data.sample_ids]
    known = [one for one in found if one]
    if not known:
        return Section('groups', title, left_out=f'{path.name} names no test image')
    blocks = [
        _table(data, fact, np.array([one.get(fact, 'unknown') for one in found]))
        for fact in known[0]
    ]
    how = (
        f'An interval (95 %, bootstrap over {data.unit}) apart from the others shows a '
        f'group with other results; groups under {SMALL} images are marked: they say '
        'nothing. Balanced accuracy is over the classes that occur in a group, so it '
        'compares methods in a row, not groups in a column.'
    )
    basis = f'{data.basis} Metadata of {len(known)} images: {path.name}.'
    return Section('groups', title, how, basis, blocks)


def _table(data: ReportData, fact: str, values: np.ndarray) -> Table:
    roles = data.roles or {m.title: m for m in data.methods[:3]}
    header = [fact, 'images', 'lesions']
    if data.positive is not None:
        header.append(data.classes[data.positive])
    for role in roles:
        header += [f'accuracy, {role}', f'balanced, {role}']
    rows, small = [], set()
    names = sorted(set(values.tolist()), key=lambda n: (n == 'unknown', n))
    for index, name in enumerate(names):
        kept = values == name
        groups, labels = np.array(data.groups)[kept], data.labels[kept]
        if len(labels) < SMALL:
            small.add(index)
            name = f'{name} (too small)'
        lesion_count = ('unknown', 0) if data.unknown else count_cell(len({*groups}))
        row: list[Cell] = [name, count_cell(len(labels)), lesion_count]
        if data.positive is not None:
            row.append(count_cell((labels == data.positive).sum()))
        for method in roles.values():
            chosen = method.chosen[:, kept]
            for score in (significance.accuracy, significance.balanced_accuracy):
                mean = float(significance.scores_by_seed(labels, chosen, score).mean())
                ends = significance.bootstrap_interval(
                    labels, chosen, groups, score, _RESAMPLES
                )
                row.append((f'{mean:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]', mean))
        rows.append(row)
    return Table(f'By {fact}.', header, rows, small)


def shared(parts: dict[str, dict[str, str]]) -> dict[str, tuple[int, int]]:
    """Images and lesions in common of each two parts, by sample id -> lesion id."""
    return {
        f'{a} and {b}': (
            len(parts[a].keys() & parts[b].keys()),
            len({*parts[a].values()} & {*parts[b].values()}),
        )
        for a, b in combinations(parts, 2)
    }


def leakage_section(data: ReportData) -> Section:
    """Hashes of the splits, what parts share, near duplicates."""
    items = [('Split', _hashes(data)), *_parts(data)]
    items.append(('Near duplicates', _near_duplicates(data)))
    how = (
        'One split hash and nothing in common between the parts: the test '
        'split was never trained on'
    )
    name = data.group_name
    if data.unknown:
        how += (
            f'. {name.capitalize()} unknown: that holds for images '
            f'alone. {table_text.unknown_groups_note(name)}'
        )
    else:
        how += f', and none of the {name} that are known is on both sides.'
    return Section('leakage', 'Leakage', how, data.basis, [KeyFacts(items)])


def _hashes(data: ReportData) -> str:
    found: dict[str, dict[str, None]] = {}  # names in their order
    for method in data.methods:
        for report in method.outcome.reports:
            split_hash = str(report.get('split_hash') or 'unknown')
            found.setdefault(split_hash, {})[method.title] = None
    if len(found) == 1:
        return f'{split_hash}, the same for all runs'
    each = (f'{key[:12]}: {", ".join(names)}' for key, names in found.items())
    return f'DIFFERENT splits: {"; ".join(each)}'


def _parts(data: ReportData) -> list[tuple[str, str]]:
    parts, name = _from_data(data), data.group_name
    if parts is None:  # validation and test, as far as their predictions are stored
        parts = {}
        for method in [m for m in data.methods if m.val_labels is not None][:1]:
            parts['val'] = dict(zip(method.val_ids, method.val_groups))
        parts['test'] = dict(zip(data.sample_ids, data.groups))
    counts = {
        split: table_text.format_image_count(part, part.values(), name)
        for split, part in parts.items()
    }
    items = [('Parts', ', '.join(f'{split} {n}' for split, n in counts.items()))]
    for both, (images, count) in shared(parts).items():
        found = [parts[split] for split in both.split(' and ')]
        unknown = any(table_text.are_unknown(part, part.values()) for part in found)
        groups = f'{name} unknown' if unknown else f'{count} {name}'
        leak = ' - LEAK' if images or (count and not unknown) else ''
        items.append((f'In {both}', f'{images} images, {groups}{leak}'))
    return items


def _from_data(data: ReportData) -> dict[str, dict[str, str]] | None:
    parts = {}
    for split in ('train', 'val', 'test'):
        try:
            dataset = read_dataset(data, split)
        except UserError:
            return None
        if dataset is None:
            return None
        parts[split] = lesions(dataset)
    return parts if set(parts['test']) == set(data.sample_ids) else None


class _VerifyReport(TypedDict):
    near_checked: bool
    near_leaks: list
    near_duplicates: list
    images: int
    without_lesion: NotRequired[int | None]


def _near_duplicates(data: ReportData) -> str:
    path = data.options.get('verify_report')
    if path is None:
        return (
            'not looked for; give the file of '
            'tools/data/verify.py --json with --verify-report'
        )
    remedy = '; --verify-report takes what tools/data/verify.py --json writes'
    found = read_as(_VerifyReport, path, remedy)
    if not found['near_checked']:
        return 'not looked for by verify.py'
    which = ' of different lesions'
    if found.get('without_lesion') == found['images']:
        which = ' (lesions unknown)'
    return (
        f'{len(found["near_duplicates"])} pairs of near duplicates{which} among '
        f'{found["images"]} images, {len(found["near_leaks"])} of them in different '
        'parts'
    )
