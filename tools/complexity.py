# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Print parameters and GMACs of networks, at any image sizes."""

import argparse
import os
import sys


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'networks',
        nargs='*',
        help='names of configs/_base_/models, or config files (of a '
        'distillation the student); all networks if none is given',
    )
    parser.add_argument(
        '--input-size',
        type=int,
        nargs='+',
        default=[116, 224],
        metavar='PIXELS',
        help='sides of the square images (default: 116 224)',
    )
    return parser.parse_args()


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..'))
    )
    args = parse_args()  # before any import of torch: --help is instant
    from hkd_mm.cli import run_tool
    from hkd_mm.report.network_tables import print_network_table as main

    sys.exit(run_tool(main, args.networks, args.input_size))
