# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Write the table of all methods into docs/zoo.md, from the registry."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check',
        action='store_true',
        help='change nothing; exit code 2 if the table is out of date',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(
        'hkd_mm.report.network_tables:print_zoo_table',
        root=sys.path[0],
        **vars(parse_args(argv)),
    )


if __name__ == '__main__':
    sys.exit(main())
