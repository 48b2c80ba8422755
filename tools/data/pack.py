# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Decode and resize all photographs once, ahead of the first training.

A training with packed=True does the same by itself. What was begun and killed
goes on where it was; what is there is checked.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    from hkd_mm.data_tools.source import add_column_arguments

    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Examples: pack.py configs/hybrid_wrn50_mbv2.py --cfg-options '
        'data_root=my_images\n          pack.py my_images --size 116',
    )
    parser.add_argument('data_root', metavar='CONFIG|DATA_ROOT', help='what to pack')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='of a config, as for train.py; packed.margin=1.15 stores larger '
        'images for training',
    )
    parser.add_argument('--size', type=int, help='of a data root: pixels a side')
    parser.add_argument(
        '--interpolation', default='area', help='of a data root (default: %(default)s)'
    )
    parser.add_argument(
        '--hair-removal',
        action='store_true',
        help='of a data root: take dark hairs out of the images',
    )
    parser.add_argument(
        '--store-dir',
        default='work_dirs/packed',
        help='of a data root: where the store goes (default: %(default)s)',
    )
    parser.add_argument(
        '--dataset',
        choices=('SkinDisease', 'HAM10000', 'ISIC2019'),
        help='of a data root: how to read it (default: found by its tables)',
    )
    parser.add_argument('--ann-file', help='of a data root: its table')
    parser.add_argument('--classes', nargs='+', help='of a data root')
    add_column_arguments(parser)
    parser.add_argument(
        '--workers', type=int, default=0, help='processes (default: all cores)'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from hkd_mm.training.pack_data import pack_config

    if os.path.isdir(args.data_root):
        stores = [_pack_root(args)]
    else:
        stores = pack_config(args.data_root, args.cfg_options, args.workers)
    for store in stores:
        size = sum(entry.stat().st_size for entry in os.scandir(store.folder))
        print(
            f'{store.folder}: {len(store)} images of {store.side} x '
            f'{store.side}, {size / 1e6:.1f} MB ({size / len(store) / 1e3:.1f} '
            f'kB each), all checked, hash {store.hash[:8]}'
        )


def _pack_root(args: argparse.Namespace):
    """The store of a data root, without a config."""
    from hkd_mm.data_tools.source import read_records
    from hkd_mm.datasets.packed import PackedStore, ensure_store, make_plan
    from hkd_mm.errors import UserError

    if not args.size or not 8 <= args.size <= 10_000:
        raise UserError(
            f'{args.data_root} is a folder: say --size PIXELS, from 8 to 10000'
        )
    records, _, _ = read_records(args)
    if hasattr(records[0], 'mask_path'):
        raise UserError(
            f'{args.data_root} holds images with masks; give a config, such '
            'as configs/segmentation/unet-r18_lidc.py, with --cfg-options '
            'data_root=PATH'
        )
    plan = make_plan(
        args.data_root, records, args.size, args.interpolation, args.hair_removal
    )
    return PackedStore(ensure_store(plan, args.store_dir, args.workers))


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
