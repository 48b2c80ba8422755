#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Make one HTML page of a study, or of single runs."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool

_TEXTS = {  # option -> what its value is called, what it does
    'study': (
        'FILE',
        'a study file for titles, order and baselines, in place of what '
        'tools/compare.py wrote down in the work dir',
    ),
    'size': (None, 'of that study file, if it has several'),
    'teacher': ('NAME', 'the teacher'),
    'alone': ('NAME', 'the student without a teacher'),
    'distilled': ('NAME', 'the distilled student to look at closely'),
    'positive': (
        'CLASS',
        'class whose sensitivity matters most (default: mel or melanoma)',
    ),
    'title': (None, 'of the page'),
    'metadata': ('CSV', 'age, sex and site of the images (default: that of the data)'),
    'data-root': (None, 'the images, where they have moved'),
    'verify-report': ('JSON', 'of tools/data/verify.py --json'),
    'figures': ('DIR', 'write every chart as PNG and SVG as well; needs Chrome'),
}
_FLAGS = (
    (
        '--still',
        'still',
        'charts as pictures in place of scripts: a page of about a megabyte to mail '
        'or print; needs Chrome',
    ),
    (
        '--no-images',
        'images',
        'no photographs in the page, which may then be passed on whatever their '
        'licence is',
    ),
    (
        '--no-calibration',
        'calibration',
        'do not predict the validation split where that is missing',
    ),
)


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
        '--baseline',
        dest='baselines',
        nargs='+',
        metavar='NAME',
        help='methods that the others are tested against (default: those of the study)',
    )
    for name, (value, text) in _TEXTS.items():
        parser.add_argument(f'--{name}', metavar=value, help=text)
    parser.add_argument(
        '--cam-images',
        type=int,
        default=64,
        metavar='N',
        help='images that Grad-CAM looks at; 0 for none (default: 64)',
    )
    for flag, name, text in _FLAGS:
        action = 'store_false' if flag.startswith('--no-') else 'store_true'
        parser.add_argument(flag, dest=name, action=action, help=text)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.report.report:main', parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
