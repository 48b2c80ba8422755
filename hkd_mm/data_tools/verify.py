# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Verify a data set: files, duplicates, leaks, counts."""

import hashlib
import os
from collections import Counter, defaultdict
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hkd_mm.data_tools.duplicates import (
    near_pairs,
    perceptual_hash,
    require_imagehash,
)
from hkd_mm.errors import UserError
from hkd_mm.io.progress import parallel_map


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
        images; without_lesion, how many of them name no lesion or patient;
        counts (split -> class -> images); unreadable (image, reason);
        tiny (image, width, height); duplicates, a list of groups of images
        with equal bytes; conflicting, those of them with several labels;
        near_duplicates (two images of different lesions, bits); leaks (kind
        id, lesion, patient or content; key; the splits and images);
        near_leaks, the near duplicates in different splits; ok (bool: no
        unreadable file and no leak). Near duplicates do not count: similar
        lesions exist.

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
    same = _same_content(found)
    pairs = [] if near is None else near_pairs(records, found, near)
    report = dict(
        images=len(records),
        without_lesion=sum(not record.lesion_id for record in records),
        counts=_counts(records, where),
        **_bad_files(found, min_size),
        duplicates=list(same.values()),
        conflicting=_conflicting(records, same),
        leaks=_leaks(records, where, same),
        near_checked=near is not None,
        near_duplicates=pairs,
        near_leaks=[pair for pair in pairs if _is_leak(pair, where)],
    )
    report['ok'] = not (report['unreadable'] or report['leaks'])
    return report


def _bad_files(found: dict, min_size: int) -> dict[str, list[dict]]:
    return dict(
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
    )


def _same_content(found: dict) -> dict[str, list[str]]:
    """Hash -> images, of contents that more than one image has."""
    groups = defaultdict(list)
    for name, scan in found.items():
        if scan['sha256'] and scan['bytes']:
            groups[scan['sha256']].append(name)
    return {key: names for key, names in groups.items() if len(names) > 1}


def _conflicting(records, same: dict) -> list[dict[str, str]]:
    labels = {record.sample_id: record.label for record in records}
    return [
        {name: labels[name] for name in names}
        for names in same.values()
        if len({labels[name] for name in names}) > 1
    ]


def _is_leak(pair: dict, where: dict) -> bool:
    first, second = (set(where.get(name, ())) for name in pair['images'])
    return first != second


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
        result['phash'] = perceptual_hash(image)
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
    whose = next((r.group for r in records if r.lesion_id), 'lesion')
    for kind, groups in ((whose, lesions), ('content', same)):
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


_LINES = (
    ('unreadable', 'unreadable files', True),
    ('leaks', 'leaks between splits', True),
    ('conflicting', 'equal files with different labels', False),
    ('duplicates', 'groups of equal files', False),
    ('near_leaks', 'near duplicates in different splits', False),
    ('near_duplicates', 'near duplicates of different lesions', False),
    ('tiny', 'tiny images', False),
)


def print_report(report: dict, name: str, classes, show: int = 5) -> None:
    """Print class counts, a line for each check, and the first findings.

    Args:
        report: of :func:`hkd_mm.data_tools.verify.verify_data`.
        name: of the data.
        classes: names in their order.
        show: findings told in full for each check.
    """
    console = Console()
    unknown = report['without_lesion'] == report['images']
    lines = [
        (key, _text(text) if unknown else text, fails)
        for key, text, fails in _LINES
    ]
    console.print(_count_table(report, name, classes))
    table = Table(title='checks')
    table.add_column('check')
    table.add_column('found', justify='right')
    table.add_column('')
    for key, text, fails in lines:
        if key.startswith('near') and not report['near_checked']:
            table.add_row(text, '-', 'not looked for')
            continue
        number = len(report[key])
        verdict = (
            '[green]ok'
            if not number
            else ('[red]error' if fails else '[yellow]look at them')
        )
        if key == 'leaks' and unknown and not number:
            verdict = '[yellow]none by id or content, lesions unknown'
        table.add_row(text, str(number), verdict)
    console.print(table)
    if report['without_lesion']:
        console.print(_unknown(report), soft_wrap=True)
    for key, text, _ in lines:
        for finding in report[key][:show]:
            console.print(
                f'{text}: {escape(_line(key, finding))}', soft_wrap=True
            )
        if len(report[key]) > show:
            console.print(
                f'{text}: and {len(report[key]) - show} more '
                '(--json FILE lists all)'
            )


def _text(text: str) -> str:
    return text.replace(' of different lesions', ', lesions unknown')


def _unknown(report: dict) -> str:
    number, images = report['without_lesion'], report['images']
    whose = 'all' if number == images else f'{number} of {images}'
    return (
        f'lesions unknown of {whose} images: nothing keeps several '
        'photographs of one lesion or patient in one part, and none of them '
        'is found; name them in a column lesion_id, or let --group OUT.csv '
        'join what is the same photograph'
    )


def _count_table(report: dict, name: str, classes) -> Table:
    parts = [
        part
        for part in ('train', 'val', 'test', 'none')
        if part in report['counts']
    ]
    table = Table(title=f'{escape(name)}: {report["images"]} images')
    table.add_column('class')
    for part in parts:
        table.add_column(part, justify='right')
    for label in classes:
        table.add_row(
            escape(label),
            *(str(report['counts'][part].get(label, 0)) for part in parts),
        )
    table.add_row(
        'all', *(str(sum(report['counts'][part].values())) for part in parts)
    )
    return table


def _line(key: str, finding) -> str:
    if key == 'unreadable':
        return f'{finding["image"]} ({finding["reason"]})'
    if key == 'tiny':
        return (
            f'{finding["image"]} is {finding["width"]} x {finding["height"]}'
        )
    if key == 'duplicates':
        return ' = '.join(finding)
    if key == 'conflicting':
        return ', '.join(
            f'{name} is {label}' for name, label in finding.items()
        )
    if key == 'leaks':
        homes = '; '.join(
            f'{split}: {", ".join(names[:3])}'
            for split, names in finding['splits'].items()
        )
        return f'same {finding["kind"]} {finding["key"][:16]} in {homes}'
    return f'{" ~ ".join(finding["images"])} ({finding["bits"]} bits)'
