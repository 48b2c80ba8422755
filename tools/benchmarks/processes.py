# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images a second of one and of several processes, at one global batch.

``tools/train.py`` alone and under torchrun (gloo on CPUs, NCCL on GPUs) on
the same images, with a teacher cache that is being read, with the teacher
online, and with mmrazor.SingleTeacherDistill on MMPretrain's pipeline. All
cores are used each time, shared out evenly. The first epoch warms up and
fills the cache; medians over the others.

Example:
    python tools/benchmarks/processes.py --epochs 6 --out processes.json
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from _common import add_data_root, make_parser, photographs, show, write
from _launch import call, train

SETUPS = ('cached', 'online', 'stock')


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, batch=64)
    add_data_root(parser)
    parser.add_argument('--images', type=int, default=1600)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--setups', nargs='+', default=SETUPS, choices=SETUPS)
    args = parser.parse_args(argv)
    if args.epochs < 2:
        parser.error('--epochs must be >= 2: the first one warms up')
    for count in args.processes:
        if args.batch % count:
            parser.error(f'--batch {args.batch} is no multiple of {count}')
    return args


def rate(
    args: argparse.Namespace, setup: str, count: int, data: Path, folder: Path
) -> dict[str, Any]:
    """Images a second of one set-up and number of processes."""
    options = dict(max_epochs=args.epochs, batch_size=args.batch // count)
    if setup == 'stock' and count > 1:  # its teacher gets no gradient
        options['find_unused_parameters'] = True
    found = train(
        args,
        setup,
        data,
        folder,
        f'{setup}_{count}',
        options,
        processes=count,
        flags=('--no-validate',),
        threads=max(1, (os.cpu_count() or 1) // count),
    )
    rates = [one['images'] / one['seconds'] for one in found['epochs'][1:]]
    return dict(
        setup=setup,
        processes=count,
        batch_of_each=args.batch // count,
        images_per_second=median(rates),
        rates=rates,
        machine=found['machine'],
    )


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        data = photographs(args.data_root, folder, args.images)
        call(
            '_common',
            'save_teacher',
            str(folder / 'teacher.pth'),
            args.teacher,
            '2',
        )
        rows = [
            rate(args, setup, count, data, folder)
            for setup in args.setups
            for count in args.processes
        ]
    alone = {
        row['setup']: row['images_per_second']
        for row in rows
        if row['processes'] == args.processes[0]
    }
    for row in rows:
        row['times'] = row['images_per_second'] / alone[row['setup']]
    show(
        f'images/s at a global batch of {args.batch}, {args.teacher} -> '
        f'{args.student}, {args.size} x {args.size}',
        ('set-up', 'processes', 'batch of each', 'images/s', 'times'),
        [
            [
                value
                for key, value in row.items()
                if key not in ('rates', 'machine')
            ]
            for row in rows
        ],
    )
    write(
        dict(command=' '.join(sys.argv), rows=rows),
        args.out,
    )


if __name__ == '__main__':
    main()
