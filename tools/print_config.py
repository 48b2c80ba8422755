#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Print the config that would run, as one file."""

import argparse
import os
import sys


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
    """Parse first, import the heavy packages after."""
    args = parse_args(argv)
    try:
        from hkd_mm.cli import run_tool
        from hkd_mm.config.config_text import main as work
    except ImportError as error:
        if 'Mend it with' not in str(error):
            raise
        print(f'error: {error}', file=sys.stderr)
        return 2
    return run_tool(work, args)


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    )
    sys.exit(main())
