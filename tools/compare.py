#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Train many configs with several seeds and compare them."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Train what is missing of a study, test each run once, '
        'and print a table with significance. Killed at any point, the same '
        'command goes on.'
    )
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='STUDY | CONFIG...',
        help='a file of configs/studies, or configs to compare (also as a '
        'quoted pattern)',
    )
    parser.add_argument(
        '--work-dir', help='where the runs go (default: work_dirs/<study>)'
    )
    parser.add_argument('--data-root', help='the images, for every run')
    parser.add_argument(
        '--seeds', type=int, default=3, help='of each row: 0 to N - 1 (default: 3)'
    )
    parser.add_argument(
        '--folds',
        type=int,
        default=0,
        help='cross-validate: every photograph is tested once a seed '
        '(default: the one split of the configs)',
    )
    parser.add_argument('--size', help='of a study that has several: small, say')
    parser.add_argument(
        '--jobs',
        type=int,
        help='trainings side by side (default: one on a GPU, else one a core)',
    )
    parser.add_argument(
        '--rows',
        nargs='+',
        metavar='NAME',
        help='train only these rows of the study, and those they build on',
    )
    _add_rest(parser)
    args = parser.parse_args(argv)
    if vars(args).pop('stale') is not None:
        parser.error('--stale is now called --outdated')
    for name, least, most in (('seeds', 1, 100), ('jobs', 1, 256), ('folds', 0, 100)):
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            parser.error(f'--{name} must be between {least} and {most}')
    return args


def _add_rest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--outdated',
        choices=['refuse', 'keep', 'redo'],
        default='refuse',
        help='runs in the work dir that another config, split or code has '
        'made: refuse to go on, take them as they are, or train them again',
    )
    parser.add_argument('--stale', nargs='?', const='', help=argparse.SUPPRESS)
    parser.add_argument(
        '--baseline',
        nargs='+',
        metavar='NAME',
        help='rows that the others are tested against (default: those of '
        'the study; of configs the first)',
    )
    parser.add_argument('--out', help='folder of the tables (default: the work dir)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='change values of every config',
    )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.experiments.run_study:main', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
