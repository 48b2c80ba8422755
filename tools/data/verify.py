# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Check a data set: unreadable, tiny and duplicate images, leaks, counts.

Exit code 0: nothing serious; 1: an unreadable file, something that a training
refuses, or the same image id, lesion, patient or file content in two splits (with
--group near duplicates as well); 2: the data could not be looked at.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    from hkd_mm.data_tools.source import add_source_arguments

    add_source_arguments(parser)
    parser.add_argument(
        '--split-file',
        help='split to hold against the data (default: the one that a training draws)',
    )
    parser.add_argument(
        '--ratios',
        default='80:10:10',
        help='of the split without --split-file (default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=42, help='of that split (default: %(default)s)'
    )
    parser.add_argument(
        '--min-size',
        type=int,
        default=32,
        help='shorter sides below this are tiny (default: %(default)s)',
    )
    parser.add_argument(
        '--near',
        type=int,
        metavar='BITS',
        help='bits of 64 '
        'in which near duplicates may differ (default: 2 if '
        'ImageHash is installed)',
    )
    parser.add_argument(
        '--no-near', action='store_true', help='do not look for near duplicates'
    )
    parser.add_argument(
        '--group',
        metavar='OUT.csv',
        help='write an annotation table in which images of the same '
        'photograph, equal or near duplicates, share a lesion_id, so that '
        'splits keep them together',
    )
    parser.add_argument('--json', metavar='FILE', help='write all findings')
    parser.add_argument(
        '--workers', type=int, default=0, help='processes (default: all cores)'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace, codes: list[int]) -> None:
    """Do the work."""
    from hkd_mm.data_tools.source import read_records, read_tables, read_where, refusals
    from hkd_mm.data_tools.verify import count_skipped, verify_data
    from hkd_mm.errors import UserError
    from hkd_mm.lazy import require

    near = None if args.no_near else 2 if args.near is None else args.near
    if near is not None:
        try:
            require('imagehash', '--near', 'ImageHash')
        except UserError as error:
            if args.near is not None:
                raise
            near = None
            print(f'note: {error}', file=sys.stderr)
    records, classes, name = read_records(args)
    where, document = read_where(records, args)
    report = verify_data(
        records, where, args.min_size, near, args.workers, bool(args.group)
    )
    report.update(
        data_root=args.data_root,
        split_hash=document['hash'],
        refused=refusals(args, document),
        skipped=count_skipped(args.data_root, records, read_tables(args)),
    )
    report['ok'] = report['ok'] and not report['refused']
    _print(report, name, classes)
    if args.json:
        try:
            Path(args.json).parent.mkdir(parents=True, exist_ok=True)
            Path(args.json).write_text(json.dumps(report, indent=1) + '\n')
        except OSError as error:
            raise UserError(
                f'--json {args.json} cannot be written ({error.strerror})'
            ) from None
    if args.group:
        from hkd_mm.data_tools.duplicates import write_groups

        done = write_groups(records, report, args.data_root, args.group)
        print(_told(done, args))
    codes.append(0 if report['ok'] else 1)


def _print(report: dict, name: str, classes, show: int = 5) -> None:
    """Print class counts, a line for each check, and the first findings."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    counts = report['counts']
    parts = [p for p in ('train', 'val', 'test', 'none') if p in counts]
    table = Table(title=f'{escape(name)}: {report["images"]} images')
    table.add_column('class')
    for part in parts:
        table.add_column(part, justify='right')
    for label in classes:
        numbers = [str(counts[part].get(label, 0)) for part in parts]
        table.add_row(escape(label), *numbers)
    table.add_row('all', *(str(sum(counts[part].values())) for part in parts))
    checks = Table(title='checks')
    checks.add_column('check')
    checks.add_column('found', justify='right')
    checks.add_column('')
    unknown = report['without_lesion'] == report['images']
    lines = []
    for key, title, fails, line in CHECKS:
        found = report[key]
        if unknown:
            title = title.replace(' of different lesions', ', lesions unknown')
        if key.startswith('near') and not report['near_checked']:
            checks.add_row(title, '-', 'not looked for')
            continue
        verdict = '[green]ok'
        if found:
            verdict = '[red]error' if fails else '[yellow]look at them'
        elif key == 'leaks' and unknown:
            verdict = '[yellow]none by id or content, lesions unknown'
        checks.add_row(title, str(len(found)), verdict)
        lines += [f'{title}: {line(finding)}' for finding in found[:show]]
        if len(found) > show:
            lines.append(
                f'{title}: and {len(found) - show} more (--json FILE lists all)'
            )
    notes = ['leaks were looked for by ' + ', '.join(report['grouped_by'])]
    if report['skipped']:
        files = ', '.join(f'{n} {suffix}' for suffix, n in report['skipped'].items())
        notes.append(
            f'not read, for nothing names them or their format is unknown: {files}; '
            'save photographs of other formats as JPEG or PNG, and name a table with '
            '--ann-file'
        )
    if report['without_lesion']:
        share = f'{report["without_lesion"]} of {report["images"]}'
        notes.append(
            f'lesions unknown of {"all" if unknown else share} images: nothing keeps '
            'several photographs of one lesion or patient in one part, and none of '
            'them is found; name them in a column lesion_id, or let --group OUT.csv '
            'join what is the same photograph'
        )
    console = Console()
    console.print(table)
    console.print(checks)
    for text in (*notes, *lines):
        console.print(escape(text), soft_wrap=True)


def _leak(finding: dict) -> str:
    homes = '; '.join(
        f'{split}: {", ".join(names[:3])}' for split, names in finding['splits'].items()
    )
    return f'same {finding["kind"]} {finding["key"][:16]} in {homes}'


def _pair(finding: dict) -> str:
    return f'{" ~ ".join(finding["images"])} ({finding["bits"]} bits)'


CHECKS = (  # key of the report, its title, whether findings are errors, their line
    ('refused', 'what a training refuses', True, str),
    ('unreadable', 'unreadable files', True, '{0[image]} ({0[reason]})'.format),
    ('leaks', 'leaks between splits', True, _leak),
    (
        'conflicting',
        'equal files with different labels',
        False,
        lambda labels: ', '.join(f'{name} is {x}' for name, x in labels.items()),
    ),
    ('duplicates', 'groups of equal files', False, ' = '.join),
    ('near_leaks', 'near duplicates in different splits', False, _pair),
    ('near_duplicates', 'near duplicates of different lesions', False, _pair),
    ('tiny', 'tiny images', False, '{0[image]} is {0[width]} x {0[height]}'.format),
)


def _told(done: dict, args: argparse.Namespace) -> str:
    """What --group has written, and how to train on it."""
    table, root = map(os.path.abspath, (args.group, args.data_root))
    text = (
        f'wrote {args.group}: {done["images"]} images in {done["groups"]} '
        f'groups of several, {done["joined"]} of them joined by their '
        'content'
    )
    if done['torn']:
        text += (
            f'. {done["torn"]} groups are in several parts of the split that '
            'the data names, so the table names no parts and a split is drawn'
        )
    found = os.path.join(root, 'annotations.csv') == table
    use = f'data_root={root}' + ('' if found else f' ann_file={table}')
    return f'{text}\nuse it: --cfg-options {use}'


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    codes: list[int] = []
    return run_tool(run, parse_args(argv), codes) or codes[0]


if __name__ == '__main__':
    sys.exit(main())
