# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/dataset_tools/pack.py`` does."""

import os
from argparse import Namespace
from typing import Any

from hkd_mm.datasets.packed.builder import ensure_store
from hkd_mm.datasets.packed.hair_removal import hair_settings
from hkd_mm.datasets.packed.plan import make_plan
from hkd_mm.datasets.packed.store import PackedStore
from hkd_mm.errors import UserError

from ..config.compose import compose_config
from ..config.data_summary import build_listing
from ..config.packing import is_packed, pack
from ..config.tree import packed_datasets
from .source import read_records


def pack_config(
    config: str,
    cfg_options: list[str] | dict[str, Any] | None = None,
    workers: int = 0,
) -> list[PackedStore]:
    """Build every store that a config reads.

    Args:
        config: a config file; packed whatever its ``packed`` says.
        cfg_options: as of ``tools/train.py``.
        workers: processes, 0 for all cores.

    Raises:
        UserError: as of building a store.
    """
    cfg = compose_config(config, cfg_options)
    if not is_packed(cfg):
        pack(cfg)
    found = {}
    for loader, node in packed_datasets(cfg):
        side = round(node['size'] * node.get('margin', 1.0))
        where = node.get('store_dir', 'work_dirs/packed')
        rule = (side, node.get('interpolation', 'area'))
        hair = node.get('hair_removal')
        kind = (*rule, where, repr(hair_settings(hair)))
        if kind not in found:
            dataset = build_listing(cfg, loader)
            plan = make_plan(dataset.data_root, dataset.records(), *rule, hair)
            found[kind] = PackedStore(ensure_store(plan, where, workers))
    return list(found.values())


def pack_root(args: Namespace) -> PackedStore:
    """Build the store of a data root.

    Args:
        args: ``data_root``, ``dataset``, ``ann_file``, ``classes``, ``size``,
            ``interpolation``, ``hair_removal``, ``store_dir`` and
            ``workers``.

    Raises:
        UserError: as of building a store.
    """
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
    """Say in one line what a store is."""
    size = sum(entry.stat().st_size for entry in os.scandir(store.folder))
    print(
        f'{store.folder}: {len(store)} images of {store.side} x '
        f'{store.side}, {size / 1e6:.1f} MB ({size / len(store) / 1e3:.1f} '
        f'kB each), all checked, hash {store.hash[:8]}'
    )
