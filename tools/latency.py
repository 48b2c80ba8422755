#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Time a teacher and its student in torch and in ONNX Runtime."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Time networks in torch and ONNX Runtime, in turns, each '
        'in a process of its own: median, p99, memory, file size.'
    )
    parser.add_argument(
        'networks',
        nargs='+',
        metavar='[NAME=]PATH',
        help='work dirs, exported folders, or configs (weights are then '
        'random); the first is what the others are compared with',
    )
    parser.add_argument(
        '--runtimes',
        nargs='+',
        choices=['eager', 'compiled', 'onnx', 'int8'],
        help='torch as it is, torch.compile, ONNX Runtime in float32 and in '
        'int8 (default: all; compiling takes minutes)',
    )
    parser.add_argument(
        '--batch',
        dest='batches',
        nargs='+',
        type=int,
        help='(default: 1 32)',
    )
    parser.add_argument(
        '--threads', nargs='+', type=int, help='(default: 1 and all cores)'
    )
    parser.add_argument(
        '--rounds', type=int, default=5, help='turns of each (default: 5)'
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=1.0,
        help='that a turn lasts at least (default: 1)',
    )
    parser.add_argument('--out', metavar='FILE', help='all of it as JSON')
    parser.add_argument(
        '--for-report',
        action='store_true',
        help='leave latency.json in each work dir, for tools/report.py',
    )
    args = parser.parse_args(argv)
    for flag, numbers, least, most in (
        ('batch', args.batches, 1, 65536),
        ('threads', args.threads, 1, 1024),
        ('rounds', [args.rounds], 1, 10_000),
        ('seconds', [args.seconds], 0, 3600),
    ):
        if not all(least <= number <= most for number in numbers or ()):
            parser.error(f'--{flag} must lie between {least} and {most}')
    return args


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.serve.latency:main', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
