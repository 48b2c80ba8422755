# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Seconds from the command to the first iteration, and peak memory.

``tools/train.py`` runs in a process of its own, one epoch on a few images:
on MMPretrain's pipeline as mmrazor.SingleTeacherDistill, on packed images the
first time (the store is built) and later, with a teacher cache that is there,
and ``--help``. Medians over the repeats, the ways in turn.

Example:
    python tools/benchmarks/startup.py --repeats 5 --out startup.json
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from _common import ROOT, add_data_root, make_parser, photographs, show, write
from _launch import call, measure, train

FIRST = 'packed, first time'
# Way -> set-up, see _common.py.
WAYS = {
    'stock': 'stock',
    FIRST: 'online',
    'packed, later': 'online',
    'cached, later': 'cached',
    'help': None,
}
MEBIBYTE = 2**20


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_data_root(parser)
    parser.add_argument('--images', type=int, default=640)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--ways', nargs='+', default=WAYS, choices=WAYS)
    return parser.parse_args(argv)


class Startup:
    """All ways in one folder.

    Args:
        args: of the command line.
        folder: empty.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.data = photographs(args.data_root, folder, args.images)
        call(
            '_common',
            'save_teacher',
            str(folder / 'teacher.pth'),
            args.teacher,
            '2',
        )
        self.found: dict[str, list[dict]] = {way: [] for way in args.ways}

    def once(self, way: str) -> dict[str, Any]:
        """Run a way."""
        if way == 'help':
            tool = str(ROOT / 'tools/train.py')
            return measure(
                [sys.executable, tool, '--help'],
                self.folder,
                self.folder / 'help.log',
            )
        if way == FIRST:
            shutil.rmtree(self.folder / 'work_dirs/packed', ignore_errors=True)
        return train(
            self.args,
            WAYS[way],
            self.data,
            self.folder,
            way.replace(', ', '_').replace(' ', '_'),
            dict(max_epochs=1),
        )

    def run(self) -> None:
        """Every way, repeatedly; what comes later is prepared first."""
        if {'packed, later', 'cached, later'} & set(self.found):
            self.once('packed, later')
        if 'cached, later' in self.found:
            self.once('cached, later')
        for _ in range(self.args.repeats):
            for way, runs in self.found.items():
                runs.append(self.once(way))

    def rows(self) -> list[dict[str, Any]]:
        """Medians."""
        rows = []
        for way, runs in self.found.items():
            row: dict[str, Any] = dict(way=way)
            for name in ('first_batch', 'first_iteration'):
                row[f'{name}_s'] = _median(
                    run[name] - run['begun'] if name in run else None
                    for run in runs
                )
            row['end_s'] = _median(run['seconds'] for run in runs)
            row['memory_mib'] = _median(
                run['bytes'] / MEBIBYTE for run in runs
            )
            row['gpu_mib'] = _median(
                run['gpu_bytes'] / MEBIBYTE if 'gpu_bytes' in run else None
                for run in runs
            )
            rows.append(row)
        return rows


def _median(values) -> float | None:
    found = [value for value in values if value is not None]
    return median(found) if found else None


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        startup = Startup(args, Path(folder).resolve())
        startup.run()
        rows = startup.rows()
        report = dict(command=' '.join(sys.argv), rows=rows)
        report['runs'] = startup.found
        report['machine'] = next(
            (
                run['machine']
                for runs in startup.found.values()
                for run in runs
                if 'machine' in run
            ),
            None,
        )
    show(
        f'{args.images} images, batch {args.batch}, {args.teacher} -> '
        f'{args.student}, medians of {args.repeats}',
        [key.replace('_', ' ') for key in rows[0]],
        [row.values() for row in rows],
    )
    write(report, args.out)


if __name__ == '__main__':
    main()
