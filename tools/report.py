#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Make one HTML page of a study, or of single runs."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Tables, figures and pictures of finished runs in one '
        'HTML file that is readable without network.'
    )
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='WORK_DIR | NAME=DIR...',
        help='the work dir of a study, or runs; several of one name are its seeds',
    )
    parser.add_argument('--out', default='report.html', help='(default: report.html)')
    parser.add_argument(
        '--study',
        metavar='FILE',
        help='a study file for titles, order and baselines, in place of what '
        'tools/compare.py wrote down in the work dir',
    )
    parser.add_argument('--size', help='of that study file, if it has several')
    parser.add_argument(
        '--baseline',
        dest='baselines',
        nargs='+',
        metavar='NAME',
        help='methods that the others are tested against (default: those of the study)',
    )
    _add_roles(parser)
    _add_options(parser)
    return parser.parse_args(argv)


def _add_roles(parser: argparse.ArgumentParser) -> None:
    for role, what in (
        ('teacher', 'the teacher'),
        ('alone', 'the student without a teacher'),
        ('distilled', 'the distilled student to look at closely'),
    ):
        parser.add_argument(f'--{role}', metavar='NAME', help=what)
    parser.add_argument(
        '--positive',
        metavar='CLASS',
        help='class whose sensitivity matters most (default: mel or melanoma)',
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--title', help='of the page')
    parser.add_argument(
        '--metadata',
        metavar='CSV',
        help='age, sex and site of the images (default: that of the data)',
    )
    parser.add_argument('--data-root', help='the images, where they have moved')
    parser.add_argument(
        '--verify-report',
        metavar='JSON',
        help='of tools/data/verify.py --json',
    )
    parser.add_argument(
        '--figures',
        metavar='DIR',
        help='write every chart as PNG and SVG as well; needs Chrome',
    )
    parser.add_argument(
        '--still',
        action='store_true',
        help='charts as pictures in place of scripts: a page of about a '
        'megabyte to mail or print; needs Chrome',
    )
    parser.add_argument(
        '--cam-images',
        type=int,
        default=64,
        metavar='N',
        help='images that Grad-CAM looks at; 0 for none (default: 64)',
    )
    parser.add_argument(
        '--no-images',
        dest='images',
        action='store_false',
        help='no photographs in the page, which may then be passed on '
        'whatever their licence is',
    )
    parser.add_argument(
        '--no-calibration',
        dest='calibration',
        action='store_false',
        help='do not predict the validation split where that is missing',
    )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.report.report:main', parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
