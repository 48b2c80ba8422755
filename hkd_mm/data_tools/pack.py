# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Pack the images of a data root, without a config."""

import os
from argparse import Namespace

from hkd_mm.data_tools.source import read_records
from hkd_mm.datasets.packed import PackedStore, ensure_store, make_plan
from hkd_mm.errors import UserError


def pack_root(args: Namespace) -> PackedStore:
    """Build the store of a data root, by the arguments of ``pack.py``."""
    if args.size is None:
        raise UserError(f'{args.data_root} is a folder: say --size PIXELS')
    records, _, _ = read_records(args)
    if hasattr(records[0], 'mask_path'):
        raise UserError(
            f'{args.data_root} holds images with masks; give a config, such '
            'as configs/segmentation/unet-r18_lidc.py, with --cfg-options '
            'data_root=PATH'
        )
    plan = make_plan(
        args.data_root,
        records,
        args.size,
        args.interpolation,
        getattr(args, 'hair_removal', None),
    )
    return PackedStore(ensure_store(plan, args.store_dir, args.workers))


def print_store(store: PackedStore) -> None:
    """Describe a store in one line."""
    size = sum(entry.stat().st_size for entry in os.scandir(store.folder))
    print(
        f'{store.folder}: {len(store)} images of {store.side} x '
        f'{store.side}, {size / 1e6:.1f} MB ({size / len(store) / 1e3:.1f} '
        f'kB each), all checked, hash {store.hash[:8]}'
    )
