# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw a stratified split that keeps lesions together; write file and hash."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='A training draws the same split by '
        'itself. Use the file with --cfg-options split_file=FILE.',
    )
    from hkd_mm.data_tools.source import add_source_arguments

    add_source_arguments(parser)
    parser.add_argument(
        '--ratios',
        default='80:10:10',
        help='train:val:test or train:val (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=42, help='default: %(default)s')
    parser.add_argument(
        '--out',
        help='JSON file (default: where a training '
        'looks for it, under work_dirs/splits)',
    )
    parser.add_argument(
        '--group-duplicates',
        action='store_true',
        help='keep byte-identical files in one part as well',
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from rich.console import Console
    from rich.table import Table

    from hkd_mm.data_tools.source import read_records
    from hkd_mm.data_tools.split import draw_split_file

    records, classes, name = read_records(args)
    document, path, new = draw_split_file(
        records, name, args.ratios, args.seed, args.out, args.group_duplicates
    )
    table = Table(title=f'{name}, split by {document["grouped_by"]}')
    for column in ('class', 'train', 'val', 'test'):
        table.add_column(column, justify='left' if column == 'class' else 'right')
    parts = [document['counts'][part] for part in ('train', 'val', 'test')]
    for label in classes:
        table.add_row(label, *(str(part.get(label, 0)) for part in parts))
    table.add_row('all', *(str(sum(part.values())) for part in parts))
    Console().print(table)
    print(f'{"wrote" if new else "found"} {path}')
    print(f'hash {document["hash"]}')
    if document['grouped_by'] == 'image':
        print(
            'no lesion ids: photographs of one lesion may be in two parts',
            file=sys.stderr,
        )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
