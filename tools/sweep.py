#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Try settings over a grid or a search space, and test the winner once."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Train the trials of a sweep, choose by validation and '
        'read the test split for the winner alone. Killed at any point, the '
        'same command goes on.'
    )
    parser.add_argument('sweep', help='a file of configs/sweeps')
    parser.add_argument(
        '--work-dir', help='where everything goes (default: work_dirs/<sweep>)'
    )
    parser.add_argument('--data-root', help='the images, for every run')
    parser.add_argument('--workers', type=int, default=1, help='trials side by side')
    parser.add_argument(
        '--trials', type=int, help='how many, in place of those of the file'
    )
    parser.add_argument(
        '--storage',
        metavar='URL',
        help='database for the trials, such as postgresql://HOST/NAME '
        '(default: a file in the work dir)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'slurm'],
        default='none',
        help='run the workers here, or as jobs of a cluster',
    )
    parser.add_argument(
        '--slurm-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='of sbatch, such as partition=gpu gpus_per_node=1 time=600',
    )
    parser.add_argument(
        '--retry-failed',
        action='store_true',
        help='try the values of failed trials again',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='change values of every run',
    )
    # how it calls itself
    for flag in ('--worker', '--teacher-of'):
        kind = 'store_true' if flag == '--worker' else 'store'
        parser.add_argument(flag, action=kind, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name, most in dict(workers=256, trials=10_000).items():
        value = getattr(args, name)
        if value is not None and not 1 <= value <= most:
            parser.error(f'--{name} must be between 1 and {most}')
    if args.slurm_options and args.launcher != 'slurm':
        parser.error('--slurm-options goes with --launcher slurm')
    return args


def main(argv=None) -> int:
    """Parse first, import the heavy packages after."""
    args = parse_args(argv)
    entry = 'run_sweep:main'
    if args.teacher_of:
        entry = 'trial_runner:provide_teacher'
    elif args.worker:
        entry = 'run_sweep:work'
    return run_tool(f'hkd_mm.experiments.{entry}', args)


if __name__ == '__main__':
    sys.exit(main())
