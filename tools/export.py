#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Export the student of a finished run as ONNX, float32 and int8."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Export the student of a finished run. Training images '
        'calibrate int8, validation images check every file; the test split '
        'is not read.'
    )
    parser.add_argument('run_dir', help='work dir of the training')
    parser.add_argument('--out', metavar='DIR', help='(default: RUN_DIR/export)')
    parser.add_argument(
        '--int8',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='write an int8 network as well (default: yes)',
    )
    parser.add_argument(
        '--with-preprocessing',
        action='store_true',
        help='write graphs from a photograph of any size to probabilities',
    )
    parser.add_argument(
        '--executorch',
        action='store_true',
        help='write student.pte for mobile devices; needs executorch',
    )
    _add_numbers(parser)
    parser.add_argument(
        '--opset',
        type=int,
        default=18,
        metavar='N',
        help='of ONNX, 15 to 22, for older and newer runtimes (default: 18)',
    )
    parser.add_argument(
        '--ir-version',
        type=int,
        metavar='N',
        help='of the ONNX format (default: the least that goes with the opset)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='change values of the config, such as data_root=PATH',
    )
    args = parser.parse_args(argv)
    if args.sure_accuracy is not None:
        parser.error('--sure-accuracy is now called --confident-accuracy')
    del args.sure_accuracy
    return args


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--calibration-images',
        type=int,
        default=512,
        metavar='N',
        help='training images that int8 is calibrated on, from the classes '
        'in turn (default: 512)',
    )
    parser.add_argument(
        '--weight-bits',
        type=int,
        choices=[7, 8],
        default=8,
        help='of int8: 7 loses a little more and is meant for x86 '
        'processors without VNNI (default: 8)',
    )
    parser.add_argument(
        '--int8-limit',
        type=float,
        default=1.0,
        metavar='POINTS',
        help='of balanced accuracy (of a segmentor: Dice) on validation that '
        'int8 may lose (default: 1)',
    )
    parser.add_argument(
        '--int8-recall-limit',
        type=float,
        default=5.0,
        metavar='POINTS',
        help="of one class's recall on validation that int8 may lose (default: 5)",
    )
    parser.add_argument(
        '--int8-strict',
        action='store_true',
        help='refuse losses above a limit also where they may be chance',
    )
    parser.add_argument(
        '--confident-accuracy',
        type=float,
        default=0.9,
        metavar='A',
        help='accuracy that confident answers are to reach on validation '
        '(default: 0.9)',
    )
    parser.add_argument('--sure-accuracy', help=argparse.SUPPRESS)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.export.export_run:main', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
