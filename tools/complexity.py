# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Print parameters and GMACs of networks, at any image sizes."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'names',
        nargs='*',
        metavar='networks',
        help='names of configs/_base_/models, or config files (of a '
        'distillation the student); all networks if none is given',
    )
    parser.add_argument(
        '--input-size',
        dest='sizes',
        type=int,
        nargs='+',
        default=[116, 224],
        metavar='PIXELS',
        help='sides of the square images (default: 116 224)',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(
        'hkd_mm.report.network_tables:print_network_table',
        **vars(parse_args(argv)),
    )


if __name__ == '__main__':
    sys.exit(main())
