# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Put a download of class folders (as on Kaggle) into one layout."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Example: convert_class_folders.py '
        'archive.zip --rename "Acne and Rosacea Photos=Acne". Safe to run '
        'twice.',
    )
    parser.add_argument(
        'sources',
        nargs='+',
        help='folders or archives (zip, tar) of class folders, with '
        'or without train, val and test above them',
    )
    parser.add_argument(
        '--out', default='data/skin_disease', help='data root (default: %(default)s)'
    )
    parser.add_argument(
        '--rename',
        action='append',
        default=[],
        metavar='OLD=NEW',
        help='class of the download = '
        'class here; several may become one, "OLD=" leaves '
        'the class out',
    )
    parser.add_argument(
        '--lesion-id',
        metavar='REGEX',
        help='its first group in the file name is the lesion or patient',
    )
    parser.add_argument(
        '--val-ratio',
        type=float,
        default=0.1,
        help='share of train that becomes val where the '
        'download has no val (default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=42, help='of that draw (default: %(default)s)'
    )
    parser.add_argument(
        '--ignore-split', action='store_true', help='leave the split to the data set'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from hkd_mm.data_tools.convert import convert_folders
    from hkd_mm.errors import UserError

    rename = {}
    for pair in args.rename:
        old, equals, new = pair.partition('=')
        if not equals:
            raise UserError(f'--rename {pair}: write OLD=NEW')
        rename[old] = new
    done = convert_folders(
        args.sources,
        args.out,
        rename,
        args.lesion_id,
        args.val_ratio,
        args.seed,
        args.ignore_split,
    )
    for what, title in (('counts', ''), ('splits', ''), ('skipped', 'not taken: ')):
        if done[what]:
            print(title + ', '.join(f'{name} {n}' for name, n in done[what].items()))
    print(f'{done["images"]} images in {args.out}, {done["new"]} newly placed')
    if args.lesion_id is None:
        print(
            'no lesion ids: photographs of one lesion may be in two parts '
            '(--lesion-id REGEX finds them in the file names)',
            file=sys.stderr,
        )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
