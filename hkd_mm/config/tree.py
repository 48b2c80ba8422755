# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find the parts of a nested config."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from hkd_mm.io.signatures import type_name

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
TEACHERS = ('teacher', 'teachers')


def dicts(node: Any, skip: tuple[str, ...] = ()) -> Iterator[dict]:
    """Yield every dict of a nested config, outermost first, but what ``skip`` names."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in skip:
                yield from dicts(value, skip)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from dicts(value, skip)


def is_ours(node: dict) -> bool:
    """Whether ``type`` names a component of hkd_mm."""
    return str(node.get('type', '')).startswith('hkd_mm.')


def is_packed_dataset(node: dict) -> bool:
    """Whether a dataset config is a ``PackedDataset`` or ``PackedMasks``."""
    return type_name(node) in ('PackedDataset', 'PackedMasks')


def dataset_chain(loader: dict | None) -> Iterator[dict]:
    """Yield the dataset configs of a loader, the outermost wrapper first."""
    node = (loader or {}).get('dataset')
    while isinstance(node, dict):
        yield node
        node = node.get('dataset')


def innermost_dataset(loader: dict) -> dict:
    """The config of a loader's dataset without its wrappers."""
    return [*dataset_chain(loader)][-1]


def datasets(cfg: Config) -> Iterator[dict]:
    """Yield the innermost dataset config of every loader."""
    for name in LOADERS:
        yield from [*dataset_chain(cfg.get(name))][-1:]


def packed_datasets(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield (loader, config) of every packed dataset."""
    for name in LOADERS:
        for node in dataset_chain(cfg.get(name)):
            if is_packed_dataset(node):
                yield name, node


def preprocessor(cfg: Config) -> dict:
    """The data preprocessor in use: the model's, else the top-level one."""
    own = (cfg.get('model') or {}).get('data_preprocessor')
    return own if own else cfg.get('data_preprocessor') or {}


def mixes(steps: Any) -> bool:
    """Whether one of some augmentation steps mixes images."""
    return any(type_name(step) in ('Mixup', 'CutMix') for step in steps or ())


def hooks(cfg: Config) -> Iterator[dict]:
    """Yield every hook, the named ones first."""
    named = (cfg.get('default_hooks') or {}).values()
    found = [*named, *(cfg.get('custom_hooks') or ())]
    yield from (node for node in found if isinstance(node, dict))


def is_binary_segmentor(node: dict) -> bool:
    """Whether a network has one logit a pixel, for two classes."""
    return type_name(node) == 'SMPSegmentor' and node.get('num_classes', 1) == 1


def number_of_classes(network: dict) -> int:
    """Size of the last layer of a classifier's config."""
    counts = [part['num_classes'] for part in dicts(network) if 'num_classes' in part]
    return counts[-1] if counts else 6
