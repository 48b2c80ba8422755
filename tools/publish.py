#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Pack an exported run into one folder to share."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Pack the student of a run, exported with '
        'tools/export.py, into one folder: networks, safetensors, config, '
        'figures, card, hashes. Nothing leaves this machine without --hub.'
    )
    parser.add_argument('run_dir', help='work dir with an export in it')
    parser.add_argument('--out', required=True, metavar='DIR', help='a new folder')
    parser.add_argument(
        '--licence',
        help='of the weights, such as "CC BY-NC 4.0", or in words (default: that the '
        'terms of the images hold)',
    )
    parser.add_argument(
        '--attribution',
        metavar='TEXT',
        help='whose images it was trained on, as their licence wants them named',
    )
    parser.add_argument(
        '--onnx-only',
        action='store_true',
        help='leave out safetensors, config and figures, for use without torch',
    )
    parser.add_argument(
        '--hub', metavar='OWNER/NAME', help='upload to the Hugging Face Hub as well'
    )
    parser.add_argument(
        '--public',
        action='store_true',
        help='make a new repository of the Hub public (default: private)',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.export.publish:main', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
