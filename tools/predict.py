#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Classify photographs with the student that comes with hkd_mm, or an exported one."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Classify all photographs of files and folders into one '
        'table. The same command goes on where a killed one stopped, and '
        'adds new photographs to a finished table. Needs neither torch nor '
        'OpenMMLab.'
    )
    parser.add_argument(
        'paths', nargs='+', metavar='FOLDER|FILE', help='what to look at'
    )
    parser.add_argument(
        '--model',
        help='folder of tools/export.py, or OWNER/NAME on the Hugging Face '
        'Hub; with --backend torch also the work dir of a run (default: ham10000, '
        'the student that comes with hkd_mm)',
    )
    parser.add_argument(
        '--out',
        default='predictions.csv',
        metavar='FILE',
        help='.csv or .parquet (default: predictions.csv)',
    )
    parser.add_argument(
        '--top',
        type=int,
        metavar='K',
        help='the K most probable classes instead of a column for each',
    )
    _add_options(parser)
    return parser.parse_args(argv)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--precision', choices=['fp32', 'int8'], default='fp32')
    parser.add_argument('--backend', choices=['onnx', 'torch'])
    parser.add_argument('--device', choices=['cpu', 'cuda'])
    parser.add_argument('--batch-size', type=int, default=32, metavar='N')
    parser.add_argument(
        '--workers',
        type=int,
        default=0,
        metavar='N',
        help='threads that decode (default: one a core)',
    )
    parser.add_argument(
        '--max-pixels',
        type=int,
        metavar='N',
        help='larger photographs are not read (default: 100 million)',
    )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.serve.predictor:predict', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
