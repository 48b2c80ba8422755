# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Put a download of the ISIC 2019 training set into one layout."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    from hkd_mm.data_tools.source import add_column_arguments

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Downloads: https://challenge.isic-archive.com/data/#2019 (training '
        'input, ground truth and metadata). Licence of the images: CC BY-NC '
        '4.0. Safe to run twice.',
    )
    parser.add_argument(
        'sources', nargs='+', help='folders, archives and tables of the download'
    )
    parser.add_argument(
        '--out', default='data/isic2019', help='data root (default: %(default)s)'
    )
    add_column_arguments(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from hkd_mm.data_tools.convert import convert_official
    from hkd_mm.data_tools.source import column_words

    done = convert_official('ISIC2019', args.sources, args.out, **column_words(args))
    counts = ', '.join(f'{name} {n}' for name, n in done['counts'].items())
    print(
        f'{done["images"]} images of {done["lesions"]} lesions in '
        f'{args.out}, {done["new"]} newly placed ({counts})'
    )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
