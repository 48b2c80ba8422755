# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images a second from JPEGs to the input of a network.

The stock mmpretrain pipeline (decode, area resize, flip, colour jitter with
hue, rotation; normalised by ClsDataPreprocessor) against packed images and the
same augmentation in one PackedPreprocessor: the same images, size and batch,
in the same run, alternated; medians. A table, and a JSON file.

Example: python tools/benchmarks/loader.py data/ham10000/originals
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from _common import PHOTOGRAPHS, ROOT, photographs, show, write

# name -> (packed, with workers, what follows the loader)
WAYS = {
    'stock': (False, False, 'train'),
    'stock, workers': (False, True, 'train'),
    'packed': (True, False, 'train'),
    'packed, workers': (True, True, 'train'),
    'packed, no augmentation': (True, False, 'val'),
    'packed, loader alone': (True, False, None),
    'packed, loader alone, workers': (True, True, None),
}


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'source',
        nargs='?',
        help='folder of JPEGs (default: ../shared/data/ham10000/originals if '
        'it exists, else generated ones)',
    )
    parser.add_argument(
        '--images', dest='count', type=int, default=512, help='different ones'
    )
    parser.add_argument(
        '--times', type=int, default=10, help='as many a repeat when packed'
    )
    parser.add_argument('--size', type=int, default=116)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--workers', type=int, default=os.cpu_count())
    parser.add_argument(
        '--threads', type=int, default=1, help='of torch in this process'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/benchmarks/loader.json')
    )
    return parser.parse_args(argv)


class Way:
    """Batches of one way of loading, ready for a network.

    Args:
        name: one of ``WAYS``.
        folder: the images.
        args: the command line.
    """

    def __init__(self, name: str, folder: Path, args: argparse.Namespace) -> None:
        from mmengine.runner import Runner
        from mmpretrain.registry import MODELS

        from hkd_mm.config.compose import compose_config

        packed, with_workers, self.follows = WAYS[name]
        workers = args.workers if with_workers else 0
        options = dict(
            packed=packed,
            data_root=str(folder / 'data'),
            classes=['Acne', 'Benign'],
            split_file=str(folder / 'split.json'),
            input_size=args.size,
            batch_size=args.batch,
        )
        if packed:
            options['packed.store_dir'] = str(folder / '.packed')
        config = ROOT / 'configs/students/resnet8_skin.py'
        cfg = compose_config(config, options)
        loader = cfg.train_dataloader
        (loader.dataset.dataset if packed else loader.dataset).split = 'all'
        self.images = args.count * (args.times if packed else 1)
        self.images -= self.images % args.batch
        loader.update(num_workers=workers, persistent_workers=workers > 0)
        loader['sampler'] = dict(type='hkd_mm.BalancedSampler', num_samples=self.images)
        self.loader = Runner.build_dataloader(loader, seed=0)
        config = dict(type='ClsDataPreprocessor')
        config.update(cfg.data_preprocessor)
        self.preprocessor = MODELS.build(config)
        self.rates: list[float] = []

    def run(self) -> float:
        """Images a second of one epoch."""
        clock = time.perf_counter()
        for batch in self.loader:
            if self.follows:
                self.preprocessor(batch, self.follows == 'train')
        return self.images / (time.perf_counter() - clock)


def measure(folder: Path, args: argparse.Namespace) -> dict[str, list[float]]:
    """Images a second of every way, one value a repeat."""
    ways = {name: Way(name, folder, args) for name in WAYS}
    for way in ways.values():
        way.run()  # starts workers, fills caches
    for repeat in range(args.repeats):
        order = list(ways.values())
        for way in order if repeat % 2 else reversed(order):
            way.rates.append(way.run())
    return {name: way.rates for name, way in ways.items()}


def report(rates: dict[str, list[float]], title: str) -> list[dict]:
    """Print the table; returns its rows."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    best = max(medians['stock'], medians['stock, workers'])
    rows = [
        dict(
            way=name,
            images_per_second=round(medians[name], 1),
            lowest=round(min(found), 1),
            highest=round(max(found), 1),
            times_the_faster_stock=round(medians[name] / best, 2),
        )
        for name, found in rates.items()
    ]
    show(
        title,
        [key.replace('_', ' ') for key in rows[0]],
        [row.values() for row in rows],
    )
    return rows


def _kind(source: str | Path) -> str:
    found = any(Path(source).rglob('*.jpg'))
    return f'of {Path(source).name}' if found else 'generated, 600 x 450'


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    import torch
    from mmengine.registry import init_default_scope

    import hkd_mm  # noqa: F401, registers everything

    init_default_scope('mmpretrain')
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        source = args.source or PHOTOGRAPHS
        photographs(source, Path(folder), args.count, args.count)
        rates = measure(Path(folder), args)
    title = (
        f'{args.count} JPEGs ({_kind(source)}) to {args.size} x '
        f'{args.size}, batches of {args.batch}, {os.cpu_count()} cores, '
        f'{args.workers} workers where there are, {args.threads} torch '
        f'thread(s), {args.repeats} repeats'
    )
    rows = report(rates, title)
    write(
        dict(
            title=title,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            rows=rows,
            rates=rates,
        ),
        args.out,
    )
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
