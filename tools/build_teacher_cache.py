#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Fill the teacher cache of a distillation ahead of the training."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Fill the teacher cache of a distillation ahead of the '
        'training. Run again after a kill, it goes on where it was.',
        epilog='Example: build_teacher_cache.py configs/hybrid_wrn50_mbv2.py '
        '--cfg-options data_root=PATH packed=True '
        'model.teacher_ckpt=FILE model.teacher_cache.num_views=10',
    )
    parser.add_argument('config', help='config file of the distillation')
    parser.add_argument(
        '--batch-size',
        type=int,
        help='images a forward (default: that of the training)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='those of the training',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(
        'hkd_mm.training.fill_teacher_cache:build_teacher_cache',
        **vars(parse_args(argv)),
    )


if __name__ == '__main__':
    sys.exit(main())
