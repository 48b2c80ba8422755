# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Seconds from the command to the first iteration, and peak memory.

``tools/train.py`` runs in a process of its own, one epoch on a few images:
on MMPretrain's pipeline as mmrazor.SingleTeacherDistill, on packed images the
first time (the store is built) and later, with a teacher cache that is there,
as the student alone, and ``--help``. ``imports`` is what a training cannot do
without, ``import torch, timm, mmengine, mmpretrain``: the first iteration of
each way comes as a multiple of it. ``wrong key`` ends with an option that the
config does not have. Medians over the repeats, the ways in turn, ratios within
a repeat.

Example:
    python tools/benchmarks/startup.py --repeats 5 --out startup.json
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
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
    'student, later': 'student',
    'imports': None,
    'wrong key': None,
    'help': None,
}
IMPORTS = 'import torch, timm, mmengine, mmpretrain'
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
        if way == 'imports':
            command = [sys.executable, '-W', 'ignore', '-c', IMPORTS]
            return measure(command, self.folder, self.folder / 'imports.log')
        if way == 'wrong key':
            return dict(seconds=self._wrong_key())
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

    def _wrong_key(self) -> float:
        """Seconds until a misspelled option is refused."""
        command = [sys.executable, str(ROOT / 'tools/train.py')]
        command += [str(ROOT / 'configs/hybrid_wrn50_mbv2.py')]
        options = ['--cfg-options', f'data_root={self.data}']
        options += ['model.distiller.distill_losses.loss_hybrid.tua=2.0']
        begun = time.perf_counter()
        ran = subprocess.run(
            [*command, *options],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - begun
        assert ran.returncode == 2 and 'tua' in ran.stderr, ran.stderr
        return seconds

    def run(self) -> None:
        """Every way, repeatedly; what comes later is prepared first."""
        for way in self.found:
            if way.endswith('later'):
                self.once(way)
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
                    run[name] - run['begun'] if name in run else None for run in runs
                )
            row['times_imports'] = _median(
                (run['first_iteration'] - run['begun']) / imports['seconds']
                if 'first_iteration' in run
                else None
                for run, imports in zip(runs, self.found.get('imports', []))
            )
            row['end_s'] = _median(run['seconds'] for run in runs)
            row['memory_mib'] = _median(
                run['bytes'] / MEBIBYTE if 'bytes' in run else None for run in runs
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
