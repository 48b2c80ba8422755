#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Print finished runs side by side."""

import argparse
import os
import sys


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
    """Parse first, import after."""
    args = parse_args(argv)
    from hkd_mm.cli import run_tool
    from hkd_mm.experiments.compare_runs import compare

    return run_tool(compare, args.runs, args.title)


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..'))
    )
    sys.exit(main())
