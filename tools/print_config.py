#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Print the config that would run, as one file."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Print the config that would run, as Python without '
        '_base_; tools/train.py takes that file and runs the same.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='change values of the config, such as batch_size=32 or '
        'student=timm:ghostnet_050',
    )
    parser.add_argument(
        '--data',
        action='store_true',
        help='read the training split for what is counted on it: the number '
        'of classes, and class weights such as balanced',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.config.config_text:print_config', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
