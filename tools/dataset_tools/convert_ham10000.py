# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Put a download of HAM10000 (or ISIC 2018 task 3) into one layout."""

import argparse
import os
import sys

KIND, OUT = 'HAM10000', 'data/ham10000'
EPILOG = (
    'Downloads: https://doi.org/10.7910/DVN/DBW86T (HAM10000_metadata '
    'and two zip files of images) or https://challenge.isic-archive.com'
    '/data/#2018. Licence of the images: CC BY-NC 4.0. Safe to run '
    'twice.'
)


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG)
    parser.add_argument(
        'sources',
        nargs='+',
        help='folders, zip archives and tables of the download',
    )
    parser.add_argument(
        '--out', default=OUT, help='data root (default: %(default)s)'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from hkd_mm.apis.convert_official import convert_official

    done = convert_official(KIND, args.sources, args.out)
    counts = ', '.join(f'{name} {n}' for name, n in done['counts'].items())
    print(
        f'{done["images"]} images of {done["lesions"]} lesions in '
        f'{args.out}, {done["new"]} newly placed ({counts})'
    )


def main(argv=None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    from hkd_mm.apis.cli import run_tool

    return run_tool(run, args)


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
    )
    sys.exit(main())
