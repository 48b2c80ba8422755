# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Wall time of the whole Hybrid KD run: the paper reports 125 minutes.

100 epochs on as many images as the paper has, 30,909 in six classes, drawn
at 116 x 116 and written as JPEG before the clock starts. Then
``tools/train.py`` runs as anyone would call it: packed images, teacher cache,
validation and checkpoints after every epoch; with ``--amp`` also
``model.teacher_inference.dtype=bfloat16``. Start, packing and the epochs
that fill the cache are part of the time; training a teacher is not (as in the
paper's figure), so it is a random one. No network is needed.

Example:
    python tools/benchmarks/full_schedule.py --amp --out full.json
    python tools/benchmarks/full_schedule.py --images 200 --epochs 2 --size 32
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from _common import make_parser, show, write
from _launch import call, train

CLASSES = ('Acne', 'Benign', 'Eczema', 'Infectious', 'Malignant', 'Pigment')
PAPER_MINUTES = 125
MEBIBYTE = 2**20


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, batch=64)
    parser.add_argument('--images', type=int, default=30_909)
    parser.add_argument('--epochs', type=int, default=100)
    parser.add_argument('--num-views', type=int, default=10)
    parser.add_argument(
        '--amp', action='store_true', help='bf16 on a GPU that has it'
    )
    parser.add_argument(
        '--setup', default='cached', choices=('cached', 'online', 'stock')
    )
    parser.add_argument(
        '--options', nargs='*', default=[], help='more --cfg-options'
    )
    parser.add_argument(
        '--folder', type=Path, help='kept; default: a temporary one'
    )
    args = parser.parse_args(argv)
    if args.folder and args.folder.exists():
        parser.error(f'--folder {args.folder} is there already')
    return args


def draw(folder: Path, count: int, size: int) -> Path:
    """Smooth random images in class folders."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        kind = CLASSES[number % len(CLASSES)]
        path = folder / 'data' / kind / f'{number:05d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), 'uint8'))
        image.resize((size, size), Image.Resampling.BICUBIC).save(path)
    return folder / 'data'


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Draw, train, and say what took how long."""
    data = draw(folder, args.images, args.size)
    teacher = str(folder / 'teacher.pth')
    call('_common', 'save_teacher', teacher, args.teacher, str(len(CLASSES)))
    options = dict(word.split('=', 1) for word in args.options)
    if args.amp and args.setup != 'stock':
        options.setdefault('model.teacher_inference.dtype', 'bfloat16')
    found = train(
        args,
        args.setup,
        data,
        folder,
        'run',
        {'max_epochs': args.epochs, **options},
        flags=('--amp',) if args.amp else (),
    )
    epochs = [one['seconds'] for one in found['epochs']]
    filling = args.num_views if args.setup == 'cached' else 0
    memory = found.get('gpu_bytes')
    return dict(
        options={'max_epochs': args.epochs, **options},
        minutes=found['seconds'] / 60,
        minutes_of_the_paper=PAPER_MINUTES,
        seconds_to_first_iteration=found['first_iteration'] - found['begun'],
        seconds_of_training=sum(epochs),
        median_epoch_that_fills=_median(epochs[:filling]),
        median_epoch=_median(epochs[filling:]),
        images_of_an_epoch=found['epochs'][0]['images'],
        memory_mib=found['bytes'] / MEBIBYTE,
        gpu_mib=memory / MEBIBYTE if memory else None,
        seconds_of_epochs=epochs,
        machine=found['machine'],
    )


def _median(values: list[float]) -> float | None:
    return median(values) if values else None


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    if args.folder:
        args.folder.mkdir(parents=True)
        found = run(args, args.folder.resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = run(args, Path(folder).resolve())
    show(
        f'{args.epochs} epochs, {args.images} images of {args.size} x '
        f'{args.size}, batch {args.batch}, {args.setup}, {args.teacher} -> '
        f'{args.student}',
        ('', ''),
        [
            (key.replace('_', ' '), value)
            for key, value in found.items()
            if key not in ('seconds_of_epochs', 'machine', 'options')
        ],
    )
    settings = {
        k: v
        for k, v in vars(args).items()
        if k not in ('out', 'folder', 'options')
    }
    write(dict(command=' '.join(sys.argv), **settings, **found), args.out)


if __name__ == '__main__':
    main()
