# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Write the table of all methods into docs/zoo.md, from the registry."""

import argparse
import os
import sys


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check',
        action='store_true',
        help='change nothing; exit code 2 if the table is out of date',
    )
    return parser.parse_args()


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
    )
    args = parse_args()  # before any import of torch: --help is instant
    from hkd_mm.cli import run_tool
    from hkd_mm.report.network_tables import print_zoo_table as main

    sys.exit(run_tool(main, sys.path[0], args.check))
