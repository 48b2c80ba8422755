#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A page to try a teacher and its student on a photograph."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Open a page where a photograph is dropped and networks '
        'answer side by side. No diagnostic device. Photographs stay in '
        'memory; the page is for this machine alone unless --host opens it.'
    )
    parser.add_argument(
        'networks',
        nargs='*',
        metavar='[NAME=]PATH',
        help='such as teacher and student: work dirs of runs (their export '
        'is taken where there is one), exported folders, or ham10000, the '
        'student that comes with hkd_mm (the default)',
    )
    parser.add_argument('--host', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=7860)
    parser.add_argument(
        '--root-path',
        default='',
        metavar='/NAME',
        help='under which a proxy shows the page',
    )
    parser.add_argument(
        '--allowed-host',
        nargs='+',
        action='extend',
        default=[],
        metavar='NAME',
        help='other names under which a proxy or a network shows the page',
    )
    parser.add_argument(
        '--max-megabytes',
        type=float,
        default=20,
        help='of a file (default: 20)',
    )
    parser.add_argument(
        '--max-megapixels',
        type=float,
        default=50,
        help='of an image (default: 50)',
    )
    args = parser.parse_args(argv)
    for name in ('max_megabytes', 'max_megapixels'):
        if not 0 < getattr(args, name) <= 1000:
            parser.error(f'--{name.replace("_", "-")} must lie between 0 and 1000')
    if not 0 < args.port < 65536:
        parser.error('--port must lie between 1 and 65535')
    return args


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.serve.demo:main', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
