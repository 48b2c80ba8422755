# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw CT-like slices with nodules and masks; they mean nothing."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parent))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Safe to run twice: a finished set is left as it is.',
    )
    parser.add_argument(
        '--out', default='data/demo_ct', help='data root (default: %(default)s)'
    )
    parser.add_argument(
        '--grade',
        default='medium',
        help='of difficulty: easy, medium or hard (default: %(default)s)',
    )
    for name, value, what in (
        ('patients', 60, 'half of them for training'),
        ('slices', 8, 'of each patient'),
        ('size', 64, 'pixels a side'),
        ('seed', 0, 'same seed, same slices'),
    ):
        parser.add_argument(
            f'--{name}', type=int, default=value, help=f'{what} (default: %(default)s)'
        )
    parser.add_argument(
        '--workers', type=int, default=0, help='processes (default: all cores)'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from _demo_slices import make_demo_slices

    done = make_demo_slices(**vars(args))
    counts = ', '.join(f'{name} {n}' for name, n in done['counts'].items())
    print(
        f'{"wrote" if done["new"] else "found"} {sum(done["counts"].values())}'
        f' {args.grade} slices in {args.out} ({counts}; {done["clean"]} '
        'without a nodule)'
    )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
