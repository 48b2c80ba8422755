# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A verification as tables on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
        report: of :func:`hkd_mm.apis.data.verify_data.verify_data`.
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
