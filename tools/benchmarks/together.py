# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Students that one process trains off one stream and one teacher pass.

The same student with several loss weights, each in a process of its own (one
after another, with all cores) and all in one, with the teacher online and
with a cache of its answers that is being read. Seconds of an epoch of all
students, without validation; the first epoch warms up and fills the cache.

Example:
    python tools/benchmarks/together.py --students 1 2 4 --out together.json
"""

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from statistics import median
from typing import Any

from _common import (
    ROOT,
    add_data_root,
    make_parser,
    photographs,
    recipe,
    show,
    write,
)
from _launch import call, measure

SETUPS = ('online', 'cached')
LOSS = 'model.distiller.distill_losses.loss_hybrid'


def parse_args(argv=None) -> Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_data_root(parser)
    parser.add_argument('--images', type=int, default=640)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--students', type=int, nargs='+', default=[1, 2, 4])
    parser.add_argument('--setups', nargs='+', default=SETUPS, choices=SETUPS)
    args = parser.parse_args(argv)
    if args.epochs < 2:
        parser.error('--epochs must be >= 2: the first one warms up')
    return args


def seconds(
    args: Namespace, setup: str, count: int, data: Path, folder: Path
) -> dict[str, Any]:
    """Of an epoch of so many students in one process."""
    path, options = recipe(args, setup, data)
    place = folder / f'{setup}_{count}'
    place.mkdir()
    options.update(
        {
            'model.teacher_ckpt': str(folder / 'teacher.pth'),
            'max_epochs': args.epochs,
            'packed.store_dir': str(folder / 'images'),
        }
    )
    if setup == 'cached':
        options['model.teacher_cache.dir'] = str(place / 'cache')
    trainings = {
        str(i): dict(
            config=str(path),
            work_dir=str(place / str(i)),
            validate=False,
            cfg_options={**options, f'{LOSS}.alpha': 0.9 - 0.1 * i},
        )
        for i in range(count)
    }
    asked, reasons = place / 'asked.json', place / 'reasons.json'
    asked.write_text(
        json.dumps(dict(trainings=trainings, reasons=str(reasons)))
    )
    tool = str(ROOT / 'tools/train_together.py')
    command = [sys.executable, '-W', 'ignore', tool, str(asked)]
    usage = measure(command, place, place / 'log.log')
    failed = json.loads(reasons.read_text())
    assert not failed, failed
    history = [
        json.loads((place / str(i) / 'history.json').read_text())
        for i in range(count)
    ]
    # The clock of each stands while others have their turn.
    epochs = [
        sum(one[e]['seconds'] for one in history) for e in range(args.epochs)
    ]
    return dict(
        setup=setup,
        students=count,
        seconds=median(epochs[1:]),
        epochs=epochs,
        gigabytes=usage['bytes'] / 1e9,
    )


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        data = photographs(args.data_root, folder, args.images)
        teacher = str(folder / 'teacher.pth')
        call('_common', 'save_teacher', teacher, args.teacher, '2')
        rows = [
            seconds(args, setup, count, data, folder)
            for setup in args.setups
            for count in sorted({1, *args.students})
        ]
    alone = {
        row['setup']: row['seconds'] for row in rows if row['students'] == 1
    }
    for row in rows:
        one = alone[row['setup']]
        row['times_faster'] = row['students'] * one / row['seconds']
    shown = ('setup', 'students', 'seconds', 'times_faster', 'gigabytes')
    show(
        f'seconds of an epoch of {args.images} images, {args.teacher} -> '
        f'{args.student}, {args.size} x {args.size}',
        ('set-up', 'students', 's / epoch', 'than one by one', 'peak GB'),
        [[row[name] for name in shown] for row in rows],
    )
    write(dict(command=' '.join(sys.argv), rows=rows), args.out)


if __name__ == '__main__':
    main()
