#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Train several configs side by side in one process."""

import argparse
import os
import sys


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Train several configs in one process, off one stream of '
        'batches and one teacher pass. tools/compare.py --together calls it.'
    )
    parser.add_argument(
        'trainings',
        help='JSON file: trainings, name -> arguments of '
        'hkd_mm.apis.train.train, and reasons, the file that is told what '
        'failed',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse first, import the heavy packages after."""
    args = parse_args(argv)
    from hkd_mm.apis.cli import run_tool

    return run_tool('hkd_mm.apis.together:main', args)


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    )
    sys.exit(main())
