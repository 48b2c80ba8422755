# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Pack the images that a config reads."""

from typing import Any

from mmengine.config import Config
from mmengine.dist import all_gather_object

from hkd_mm.config.compose import compose_config
from hkd_mm.config.data_summary import build_listing
from hkd_mm.config.packing import is_packed, pack, unpack
from hkd_mm.config.tree import innermost_dataset, packed_datasets, preprocessor
from hkd_mm.datasets.packed.builder import NoRoomError, ensure_store
from hkd_mm.datasets.packed.hair_removal import hair_settings
from hkd_mm.datasets.packed.plan import make_plan
from hkd_mm.datasets.packed.store import PackedStore
from hkd_mm.errors import UserError

_ELSEWHERE = 'another process of the run has no room for packed images'


def pack_config(
    config: str, cfg_options: list[str] | dict[str, Any] | None = None, workers: int = 0
) -> list[PackedStore]:
    """Build every store that a config reads."""
    cfg = compose_config(config, cfg_options)
    if not is_packed(cfg):
        pack(cfg)
    return build_stores(cfg, workers)


def build_stores(cfg: Config, workers: int = 0) -> list[PackedStore]:
    """Build every store that the packed datasets of a config read."""
    plans = {}
    for loader, node in packed_datasets(cfg):
        side = round(node['size'] * node.get('margin', 1.0))
        where = node.get('store_dir', 'work_dirs/packed')
        rule = (side, node.get('interpolation', 'area'))
        hair = node.get('hair_removal')
        folder = innermost_dataset(cfg[loader]).get('unlabelled_root')
        kind = (*rule, where, repr(hair_settings(hair)), folder)
        if kind not in plans:  # the processes of a run list together
            dataset = build_listing(cfg, loader)
            plan = make_plan(*dataset.images(), *rule, hair)
            plans[kind] = plan, where
    return [
        PackedStore(ensure_store(plan, where, workers))
        for plan, where in plans.values()
    ]


def pack_or_read_singly(cfg: Config) -> str:
    """Build the packed images of a run, or change its config to ``packed=False``.

    That is where the disk has no room; returned is what to tell the user of it, or ''.
    """
    if preprocessor(cfg).get('type') != 'hkd_mm.PackedPreprocessor':
        return ''
    full = None
    try:  # every process: one builds, the others wait for it
        build_stores(cfg)
    except NoRoomError as error:
        full = error
    if all(all_gather_object(full is None)):
        return ''
    try:
        unpack(cfg)
    except UserError:
        raise full or NoRoomError(_ELSEWHERE) from None
    reason = full or _ELSEWHERE
    return f'; packed=False, photographs are read one by one: {reason}'
