# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Verify a data set: files, duplicates, leaks, counts."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hkd_mm.data_tools.duplicates import (
    near_pairs,
    perceptual_hash,
    require_imagehash,
)
from hkd_mm.errors import UserError
from hkd_mm.io.files import sha256, walk
from hkd_mm.io.progress import parallel_map

_CHECKS = (  # key of the report, its title, whether findings are errors
    ('refused', 'what a training refuses', True),
    ('unreadable', 'unreadable files', True),
    ('leaks', 'leaks between splits', True),
    ('conflicting', 'equal files with different labels', False),
    ('duplicates', 'groups of equal files', False),
    ('near_leaks', 'near duplicates in different splits', False),
    ('near_duplicates', 'near duplicates of different lesions', False),
    ('tiny', 'tiny images', False),
)


def verify_data(
    records,
    where: dict,
    min_size: int = 32,
    near: int | None = 2,
    workers: int = 0,
    group_near: bool = False,
) -> dict:
    """Read every file once and report the findings.

    Args:
        records: all images.
        where: sample id -> list of its splits.
        min_size: shorter sides below this many pixels are reported as tiny.
        near: perceptual hashes (64 bits) that differ in at most this many
            bits are near duplicates; None does not look for them.
        workers: processes, 0 for all cores.
        group_near: near duplicates in different splits are leaks.

    Returns:
        images; without_lesion, how many of them name no lesion or patient; counts
        (split -> class -> images); unreadable (image, reason); tiny (image, width,
        height); duplicates, a list of groups of images with equal bytes; conflicting,
        those of them with several labels; near_duplicates (two images of different
        lesions, bits); grouped_by, the kinds of leaks that were looked for; leaks (kind
        id, lesion, patient, content or near duplicate; key; the splits and images);
        near_leaks, the near duplicates in different splits; ok (bool: no unreadable
        file and no leak). Near duplicates do not count by themselves: similar lesions
        exist.

    Raises:
        UserError: ``near`` is not from 0 to 64, or the package ImageHash is missing.
    """
    if near is not None:
        require_imagehash()
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
    """Groups that are in several splits."""
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


def print_report(report: dict, name: str, classes, show: int = 5) -> None:
    """Print class counts, a line for each check, and the first findings.

    Args:
        report: of :func:`verify_data`; with ``refused``, lines of what a training
            refuses, and ``skipped``, see :func:`count_skipped`.
        name: of the data.
        classes: in the order of their lines.
        show: findings of each check.
    """
    console = Console()
    console.print(_count_table(report, name, classes))
    missing, images = report['without_lesion'], report['images']
    unknown = missing == images
    table = Table(title='checks')
    table.add_column('check')
    table.add_column('found', justify='right')
    table.add_column('')
    titles = {}
    for key, text, fails in _CHECKS:
        if unknown:
            text = text.replace(' of different lesions', ', lesions unknown')
        titles[key] = text
        if key.startswith('near') and not report['near_checked']:
            table.add_row(text, '-', 'not looked for')
            continue
        number = len(report[key])
        if number:
            verdict = '[red]error' if fails else '[yellow]look at them'
        elif key == 'leaks' and unknown:
            verdict = '[yellow]none by id or content, lesions unknown'
        else:
            verdict = '[green]ok'
        table.add_row(text, str(number), verdict)
    console.print(table)
    console.print('leaks were looked for by ' + ', '.join(report['grouped_by']))
    if report['skipped']:
        files = ', '.join(f'{n} {suffix}' for suffix, n in report['skipped'].items())
        console.print(
            f'not read, for nothing names them or their format is unknown: '
            f'{escape(files)}; save photographs of other formats as JPEG or PNG, and '
            'name a table with --ann-file',
            soft_wrap=True,
        )
    if missing:
        share = 'all' if unknown else f'{missing} of {images}'
        console.print(
            f'lesions unknown of {share} images: nothing keeps several '
            'photographs of one lesion or patient in one part, and none of '
            'them is found; name them in a column lesion_id, or let --group '
            'OUT.csv join what is the same photograph',
            soft_wrap=True,
        )
    for key, text in titles.items():
        found = report[key]
        for finding in found[:show]:
            line = escape(_line(key, finding))
            console.print(f'{text}: {line}', soft_wrap=True)
        if len(found) > show:
            console.print(
                f'{text}: and {len(found) - show} more (--json FILE lists all)'
            )


def _count_table(report: dict, name: str, classes) -> Table:
    counts = report['counts']
    parts = [p for p in ('train', 'val', 'test', 'none') if p in counts]
    table = Table(title=f'{escape(name)}: {report["images"]} images')
    table.add_column('class')
    for part in parts:
        table.add_column(part, justify='right')
    for label in classes:
        row = [str(counts[part].get(label, 0)) for part in parts]
        table.add_row(escape(label), *row)
    table.add_row('all', *(str(sum(counts[part].values())) for part in parts))
    return table


def _line(key: str, finding) -> str:
    if key == 'refused':
        return finding
    if key == 'unreadable':
        return f'{finding["image"]} ({finding["reason"]})'
    if key == 'tiny':
        return f'{finding["image"]} is {finding["width"]} x {finding["height"]}'
    if key == 'duplicates':
        return ' = '.join(finding)
    if key == 'conflicting':
        return ', '.join(f'{name} is {x}' for name, x in finding.items())
    if key == 'leaks':
        homes = '; '.join(
            f'{split}: {", ".join(names[:3])}'
            for split, names in finding['splits'].items()
        )
        return f'same {finding["kind"]} {finding["key"][:16]} in {homes}'
    return f'{" ~ ".join(finding["images"])} ({finding["bits"]} bits)'
