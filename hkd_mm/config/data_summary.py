# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the data of a config is, known before any network is built."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mmengine.config import Config

from hkd_mm.config import tree
from hkd_mm.config.cfg_options import option_text
from hkd_mm.config.overrides import num_classes
from hkd_mm.datasets.class_weights import balanced_weights, class_prior
from hkd_mm.datasets.packed.top_up import topped_up
from hkd_mm.datasets.skin_disease import EmptyPartError, SkinDisease
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name


@dataclass
class DataSummary:
    """The splits of a config; ``split_hash`` is None where a dataset has none.

    ``sizes`` are samples by split name, of the loaders that the config has;
    ``train_counts`` samples per class of the training split, those that
    ``packed.top_up`` lists again included, (C,) int64, None where it is
    ``unlabelled``, a folder of images without labels.
    """

    data_root: str
    classes: tuple[str, ...]
    split_hash: str | None
    sizes: dict[str, int] = field(default_factory=dict)
    train_counts: np.ndarray | None = None
    copies: int = 0
    unlabelled: str | None = None

    def __str__(self) -> str:
        sizes = ', '.join(
            f'{n} {name}' if n else f'no {name} part' for name, n in self.sizes.items()
        )
        if self.unlabelled:
            sizes += f'; the train images, without labels, of {self.unlabelled}'
        if self.copies:
            sizes += f'; {self.copies} of the training images are copies'
        split = (self.split_hash or 'unknown')[:8]
        return f'{self.data_root} ({len(self.classes)} classes; {sizes}; split {split})'


def summarize_data(cfg: Config, loaders: tuple[str, ...] = tree.LOADERS) -> DataSummary:
    """List the data of the loaders, without reading an image.

    A test part may be empty; only testing refuses that.
    """
    summary = None
    for name in loaders:
        try:
            dataset = build_listing(cfg, name)
        except EmptyPartError:
            if summary is None or name != 'test_dataloader':
                raise
            summary.sizes['test'] = 0
            continue
        if dataset is None:
            continue
        chain = tree.dataset_chain(cfg[name])
        targets = (node['top_up'] for node in chain if node.get('top_up'))
        dataset, copies = topped_up(dataset, next(targets, None))
        if summary is None:
            summary = DataSummary(
                str(cfg.get('data_root', dataset.data_root)),
                tuple(dataset.metainfo['classes']),
                getattr(dataset, 'split_hash', None),
            )
        part = getattr(dataset, 'split', name.split('_')[0])
        summary.sizes[part] = len(dataset)
        if name == 'train_dataloader':
            summary.copies = int((copies > 0).sum())
            if getattr(dataset, 'unlabelled', False):
                summary.unlabelled = dataset.unlabelled_root
                continue
            summary.train_counts = np.bincount(
                dataset.get_gt_labels(), minlength=len(summary.classes)
            )
    assert summary is not None, f'none of {loaders} in the config'
    return summary


def build_listing(cfg: Config, loader: str):
    """The dataset of a loader without its pipeline, or None; one process goes first."""
    from mmengine.dist import barrier, is_main_process

    if not cfg.get(loader):
        return None
    # Serialising collects garbage for half a second, for nothing here.
    node = tree.innermost_dataset(cfg[loader])
    node = {**node, 'pipeline': [], 'serialize_data': False}
    if not is_main_process():
        barrier()
    try:
        return build_dataset(cfg, node)
    finally:
        if is_main_process():
            barrier()


def build_dataset(cfg: Config, node: dict):
    """Build and list a dataset in the scope of a config."""
    from mmengine.registry import DATASETS

    from hkd_mm.registry import DATASETS as ours

    scope = cfg.get('default_scope', 'mmpretrain')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        if isinstance(node['type'], str) and registry.get(node['type']) is None:
            kinds = ours.module_dict.items()
            known = sorted(n for n, kind in kinds if issubclass(kind, SkinDisease))
            raise UserError(
                f'there is no data set {node["type"]}; set dataset_type to one of '
                f'ours: {", ".join(f"hkd_mm.{name}" for name in known)}'
            )
        dataset = registry.build(node)
        dataset.full_init()
    return dataset


def check_training(cfg: Config, summary: DataSummary, world_size: int = 1) -> None:
    """Hold the batch size and the heads against the data."""
    size = summary.sizes.get('train') or int(summary.train_counts.sum())
    batch = cfg.train_dataloader.get('batch_size')
    if batch and batch * world_size > size:
        many = f' on each of {world_size} processes' if world_size > 1 else ''
        raise UserError(
            f'batch_size={batch}{many} is larger than the training split of '
            f'{summary.data_root} ({size} images); set --cfg-options '
            f'batch_size=N with N <= {max(size // world_size, 1)}'
        )
    for node in _queues(cfg):
        if (node.get('queue') or 0) >= size:
            raise UserError(
                f'QueueDistillLoss: queue={node["queue"]} is not smaller than the '
                f'training split ({size} images); take it out, and it is '
                f'{queue_size(size, batch or 1)}'
            )
    for node in tree.dicts(cfg.get('model')):
        number = node.get('num_classes', -1)
        if tree.is_binary_segmentor(node) and len(summary.classes) == 2:
            continue
        if number > 0 and number != len(summary.classes):
            raise UserError(
                f'the data has {len(summary.classes)} classes '
                f'({", ".join(summary.classes)}) and the config a network for '
                f'{number}; set both with --cfg-options '
                + option_text('classes', summary.classes)
            )


def resolve_data(cfg: Config, read_data: bool = True) -> None:
    """Write the numbers that are counted on the data into a config.

    Where the config names no classes, those of the data root set the size of every
    head; a word in ``class_weight`` or a loss's ``class_prior`` becomes numbers,
    without ``read_data`` None, and no ``queue`` of a ``QueueDistillLoss`` one that
    suits the number of training images.
    """
    parts = [*tree.dicts(cfg.get('model'), tree.TEACHERS)]
    top = [cfg._cfg_dict, *parts]
    weighed = [node for node in top if isinstance(node.get('class_weight'), str)]
    priors = [node for node in parts if isinstance(node.get('class_prior'), str)]
    named = not cfg.get('train_dataloader') or names_its_classes(cfg)
    queues = [node for node in _queues(cfg) if not node.get('queue')]
    if read_data and (weighed or priors or queues or not named):
        summary = summarize_data(cfg, ('train_dataloader',))
        if not named:
            fit_heads(cfg, summary.classes)
        if summary.unlabelled and (weighed or priors):
            raise UserError(
                f'{"class_weight" if weighed else "class_prior"} counts the labels of '
                f'the training images, and unlabelled_root={summary.unlabelled} has '
                'none; give numbers, or leave one of them out'
            )
        batch = cfg.train_dataloader.get('batch_size') or 1
        for node in queues:
            node['queue'] = queue_size(sum(summary.sizes.values()), batch)
    for node in weighed:
        word, node['class_weight'] = node['class_weight'], None
        if read_data:
            given = summary.train_counts, word, summary.classes
            node['class_weight'] = balanced_weights(*given)
    for node in priors:
        word, node['class_prior'] = node['class_prior'], None
        if read_data:
            node['class_prior'] = class_prior(summary.train_counts, word)


def queue_size(images: int, batch_size: int = 1) -> int:
    """Vectors to keep of so many training images: a quarter, as a power of 2.

    At least a batch, at most 8192, and always fewer than there are images.
    """
    quarter = 1 << max(images // 4, 1).bit_length() - 1
    return max(min(max(quarter, batch_size), 8192, images - 1), 1)


def _queues(cfg: Config) -> list[dict]:
    found = tree.dicts(cfg.get('model'), skip=tree.TEACHERS)
    return [node for node in found if type_name(node) == 'QueueDistillLoss']


def names_its_classes(cfg: Config) -> bool:
    """Whether the class names stand in the config."""
    return any(node.get('classes') for node in tree.datasets(cfg))


def fit_heads(cfg: Config, classes: Sequence[str]) -> None:
    """Give every head of a config that names no classes those of its data."""
    for group, key, value in num_classes(cfg, len(classes)):
        group[key] = value
