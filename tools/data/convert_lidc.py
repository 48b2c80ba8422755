# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Turn LIDC-IDRI (DICOM and XML) into 16-bit slices with nodule masks."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Download: https://www.cancerimagingarchive.net/collection'
        '/lidc-idri/ (Images and Radiologist Annotations, CC BY 3.0). Values '
        'are Hounsfield units + 1024 unless --window is given.',
    )
    parser.add_argument('sources', nargs='+', help='folders with DICOM and XML files')
    parser.add_argument(
        '--out', default='data/lidc', help='data root (default: %(default)s)'
    )
    parser.add_argument(
        '--window',
        nargs=2,
        type=float,
        metavar=('CENTRE', 'WIDTH'),
        help='in Hounsfield units, stretched to 0..65535, such as -600 1500',
    )
    parser.add_argument(
        '--clean',
        type=int,
        default=0,
        metavar='N',
        help='slices without a nodule to keep of each patient (default: %(default)s)',
    )
    parser.add_argument(
        '--consensus',
        type=float,
        default=0.5,
        metavar='SHARE',
        help='of the readers who must include a pixel (default: %(default)s)',
    )
    parser.add_argument(
        '--workers', type=int, default=0, help='processes, 0 for all cores'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from hkd_mm.data_tools.convert_lidc import convert_lidc

    done = convert_lidc(
        args.sources,
        args.out,
        tuple(args.window) if args.window else None,
        args.clean,
        args.consensus,
        args.workers,
    )
    print(
        f'{done["slices"]} slices of {done["patients"]} patients in '
        f'{args.out}, {done["clean"]} of them clean; {done["nodules"]} '
        'nodules that readers share'
    )
    print(
        'train on them with '
        + (
            'data_preprocessor.window=None, the default: they are stretched '
            'over all 16 bits'
            if args.window
            else '--cfg-options data_preprocessor.window=[424,1500], the lung '
            'window -600 / 1500 in what is stored, Hounsfield units + 1024'
        )
    )
    if done['unread']:
        print(f'{done["unread"]} CT scans have no XML file and were left out')
    if done['lost']:
        print(
            f'{done["lost"]} outlines were left out, for their slices are '
            'missing; nodules may be cut or gone'
        )


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
