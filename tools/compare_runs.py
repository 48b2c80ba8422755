#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Print finished runs side by side."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Print finished runs side by side: on the test split '
        'where DIR/test.json is there (tools/test.py DIR), else on the '
        'validation split.'
    )
    parser.add_argument(
        'runs', nargs='+', metavar='[NAME=]DIR', help='work dir of a training'
    )
    parser.add_argument('--title', help='printed above the table')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.experiments.runs_table:compare', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
