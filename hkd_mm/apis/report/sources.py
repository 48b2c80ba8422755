# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Back from the run folders to their configs and data."""

from pathlib import Path

from mmengine.config import Config

from ..config.compose import read_config
from ..config.packing import stock_steps
from ..config.tree import dataset_chain, kind
from .runs import Material, Method


def method_config(method: Method) -> Config | None:
    """The config of a method's first seed; None where none lies there."""
    found = sorted(method.folders[0].glob('*.py'))
    return read_config(str(found[0])) if len(found) == 1 else None


def closest(material: Material) -> Method:
    """The method that stands for the data: all were tested on the same."""
    return material.distilled or material.alone or material.methods[0]


def data_root(material: Material) -> Path | None:
    """Where the images are; None where that is not on this machine."""
    said = material.options.get('data_root')
    if said is None:
        cfg = method_config(closest(material))
        said = cfg.get('data_root') if cfg is not None else None
    return Path(said) if said and Path(said).is_dir() else None


def listing(material: Material, split: str, seen_by: Method | None = None):
    """The dataset of a split; None where the data is not here.

    Args:
        material: whose data.
        split: train, val or test.
        seen_by: whose test pipeline makes the images that are taken out of
            it; None if none will be.
    """
    from mmengine.registry import DATASETS

    cfg = method_config(seen_by or closest(material))
    root = data_root(material)
    if cfg is None or root is None or not cfg.get('test_dataloader'):
        return None
    *wrappers, inner = dataset_chain(cfg, 'test_dataloader')
    node = {**inner, 'split': split, 'data_root': str(root)}
    for wrapper in wrappers:
        if kind(wrapper) == 'PackedDataset':
            node['pipeline'] = stock_steps(wrapper)
    node['serialize_data'] = False
    if seen_by is None:
        node['pipeline'] = []
    scope = cfg.get('default_scope', 'mmpretrain')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        dataset = registry.build(node)
        dataset.full_init()
    return dataset


def lesions(dataset) -> dict[str, str]:
    """Sample id -> lesion id of a listing, the sample id where none is."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {
        info['sample_id']: info.get('lesion_id') or info['sample_id']
        for info in infos
    }
