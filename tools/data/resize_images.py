# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Copy a data root with all images area-resized to one small size."""

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
        epilog='Example: resize_images.py data/ham10000 '
        '--size 64 --out data/ham10000_64',
    )
    parser.add_argument('data_root', help='folder of the images, any layout')
    parser.add_argument(
        '--size',
        type=int,
        required=True,
        help='pixels a side; the aspect ratio is not kept',
    )
    parser.add_argument('--out', help='the copy (default: DATA_ROOT_SIZE)')
    parser.add_argument(
        '--workers', type=int, default=0, help='processes (default: all cores)'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from _resize import resize_images

    from hkd_mm.errors import UserError

    out = args.out or f'{args.data_root.rstrip("/")}_{args.size}'
    done = resize_images(args.data_root, out, args.size, args.workers)
    print(f'{done["images"]} images, {done["written"]} newly written to {out}')
    for message in done['failed'][1:]:
        print(message, file=sys.stderr)
    if done['failed']:
        raise UserError(done['failed'][0])


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
