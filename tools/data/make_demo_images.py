# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw lesion-like photographs to try the tools with; they mean nothing."""

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
        '--out', default='data/demo', help='data root (default: %(default)s)'
    )
    parser.add_argument(
        '--num', type=int, default=600, help='photographs (default: %(default)s)'
    )
    parser.add_argument(
        '--size', type=int, default=96, help='pixels a side (default: %(default)s)'
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='same seed, same images (default: %(default)s)',
    )
    parser.add_argument(
        '--workers', type=int, default=0, help='processes (default: all cores)'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from _demo_images import make_demo_images

    done = make_demo_images(args.out, args.num, args.size, args.seed, args.workers)
    counts = ', '.join(f'{name} {n}' for name, n in done['counts'].items())
    said = 'wrote' if done['new'] else 'found'
    print(
        f'{said} {done["images"]} demo images of {done["lesions"]} lesions '
        f'in {args.out} ({counts})'
    )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
