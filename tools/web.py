#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A static page that classifies photographs in the browser."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Write a page for phones and browsers that classifies photographs '
        'on the device, where they stay; no server but one of files is needed. No '
        'diagnostic device.'
    )
    parser.add_argument(
        'students',
        nargs='*',
        metavar='[NAME=]EXPORT_DIR',
        help='one or two folders of tools/export.py, or ham10000, the student that '
        'comes with hkd_mm (the default)',
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='SITE',
        help='a new folder, or a site to write again; files of others in it stay',
    )
    parser.add_argument(
        '--runtime',
        metavar='FOLDER_OR_TGZ',
        help='npm package of ONNX Runtime Web, where it cannot be fetched',
    )
    args = parser.parse_args(argv)
    if len(args.students) > 2:
        parser.error('give one or two students')
    return args


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.serve.web:main', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
