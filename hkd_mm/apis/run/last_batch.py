# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A last batch of one image, which BatchNorm cannot be trained on."""

import numpy as np
from mmengine.config import Config

from hkd_mm.datasets.packed.top_up import topped_up

from ..config.data_summary import DataSummary, build_listing, top_up_of
from ..config.tree import is_packed_dataset


class _Listed:
    """As much of a data set as a sampler looks at."""

    def __init__(self, counts: np.ndarray) -> None:
        self._labels = np.repeat(np.arange(len(counts)), counts)

    def __len__(self) -> int:
        return len(self._labels)

    def get_gt_labels(self) -> np.ndarray:
        return self._labels


def leave_out_lone_image(cfg: Config, summary: DataSummary) -> str:
    """Drop the last training batch where it is one image on a process.

    A net whose last map is 1 x 1 would stop there: BatchNorm expects more
    than one value per channel. Another image is left out every epoch.

    Args:
        cfg: its ``train_dataloader`` gets ``drop_last=True`` if need be.
        summary: of its data.

    Returns:
        What to add to the start line; nothing where nothing was changed.
    """
    loader = cfg.train_dataloader
    batch = loader.get('batch_size') or 1
    if (
        batch == 1
        or loader.get('drop_last')
        or loader.get('batch_sampler')
        or loader.get('num_batch_per_epoch')
        or not isinstance(loader.get('sampler'), dict)
        or _images_an_epoch(cfg, summary) % batch != 1
    ):
        return ''
    loader.drop_last = True
    return (
        f'; the last batch of an epoch (batch_size={batch}) would be a '
        'single image, which BatchNorm cannot train on: left out'
    )


def _images_an_epoch(cfg: Config, summary: DataSummary) -> int:
    """Images that the sampler gives this process."""
    from mmengine.registry import DATA_SAMPLERS, DATASETS

    loader = cfg.train_dataloader
    wrappers, node = [], loader.dataset
    while 'dataset' in node:
        if not is_packed_dataset(node):
            wrappers.append({k: v for k, v in node.items() if k != 'dataset'})
        node = node.dataset
    if wrappers:
        name = 'train_dataloader'
        dataset, _ = topped_up(build_listing(cfg, name), top_up_of(cfg, name))
    else:
        dataset = _Listed(summary.train_counts)
    scope = cfg.get('default_scope', 'mmpretrain')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        for wrapper in reversed(wrappers):
            dataset = registry.build(dict(wrapper, dataset=dataset))
    with DATA_SAMPLERS.switch_scope_and_registry(scope) as registry:
        sampler = registry.build(
            dict(loader.sampler), default_args=dict(dataset=dataset, seed=0)
        )
    return len(sampler)
