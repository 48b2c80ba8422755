# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A split of a data set as batches gathered from a packed store."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hkd_mm.datasets.packed.builder import ensure_store
from hkd_mm.datasets.packed.plan import Plan, make_plan
from hkd_mm.datasets.packed.store import open_store
from hkd_mm.datasets.packed.top_up import Target, topped_up
from hkd_mm.datasets.skin_disease import SkinDisease
from hkd_mm.errors import UserError
from hkd_mm.registry import DATASETS, FUNCTIONS
from hkd_mm.structures.packed_samples import sample_id

Batch = dict[str, Tensor]


@DATASETS.register_module()
class PackedDataset(Dataset):
    """Batches of a ``SkinDisease`` data set, decoded and resized once.

    The store holds all images of the data root, so that all splits and seeds
    share it. The pipeline of the inner data set is not used: pixels are those of
    ``LoadSkinImage`` and ``Resize(scale=(size, size), interpolation=interpolation)``,
    and the data preprocessor augments.

    A batch is a dict of ``inputs`` (B, side, side, 3) uint8 RGB, ``labels``
    (B,) int64 and ``index`` (B,) int64, the row in the store, which
    identifies the image in every split and run; copies of ``top_up`` carry
    their number in it as well, see :mod:`hkd_mm.structures.packed_samples`.
    Loaders take it with ``collate_fn=dict(type='hkd_mm.packed_collate')``.

    Args:
        size: side of the model's input, in pixels.
        margin: images are stored at ``round(size * margin)`` pixels a side,
            room for random crops; >= 1. Evaluation wants 1.
        interpolation: of the resize, a word of ``mmcv.imresize``.
        in_memory, verify: see :class:`hkd_mm.datasets.packed.store.PackedStore`.
        hair_removal: take dark hairs out of the stored images: True, or a dict of
            settings of :func:`hkd_mm.datasets.packed.hair_removal.remove_hair`.
        top_up: list images of small classes of a training split several
            times, up to the size of the ``largest`` class, a fraction of it,
            or a number of images; the copies come after the images.

    Attributes:
        rows: rows in the store, (N,) int64; those of copies come again.
        index: rows and copies in one number, (N,) int64, each once.
        labels: classes, (N,) int64, -1 without a label.

    Raises:
        UserError: the inner data set is no ``SkinDisease``, an argument is
            out of its range, or the store cannot be built or is damaged.
    """

    def __init__(
        self,
        dataset: dict | SkinDisease,
        size: int = 116,
        margin: float = 1.0,
        store_dir: str = 'work_dirs/packed',
        interpolation: str = 'area',
        in_memory: bool = False,
        verify: str = 'all',
        hair_removal: bool | dict | None = None,
        top_up: Target = None,
    ) -> None:
        if not margin >= 1:
            raise UserError(f'PackedDataset margin={margin} must be >= 1')
        if isinstance(dataset, dict):
            # the pipeline would be built, and serialising takes its time
            dataset = DATASETS.build(dict(dataset, pipeline=[], serialize_data=False))
        if not hasattr(dataset, 'records'):
            raise UserError(
                f'PackedDataset packs SkinDisease, HAM10000 and ISIC2019, '
                f'not {type(dataset).__name__}; set packed=False for it'
            )
        self.hair_removal, self.top_up = hair_removal, top_up
        self.size, self.margin, self.interpolation = size, margin, interpolation
        self.dataset, copies = topped_up(dataset, top_up)
        self.dataset.full_init()
        plan = self._plan()
        folder = ensure_store(plan, store_dir)
        self.store = open_store(folder, verify, in_memory, plan)
        row_of = {name: row for row, name in enumerate(self.store.ids)}
        self.sample_ids = self.dataset.sample_ids()
        self.rows = torch.tensor([row_of[name] for name in self.sample_ids])
        self.index = sample_id(self.rows, torch.from_numpy(copies))
        self.labels = torch.from_numpy(self.dataset.get_gt_labels())

    def _plan(self) -> Plan:
        return make_plan(
            *self.dataset.images(),
            round(self.size * self.margin),
            self.interpolation,
            self.hair_removal,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        return dict(
            inputs=self.store.gather(self.rows[chosen]),
            labels=self.labels[chosen],
            index=self.index[chosen],
        )

    def __getitem__(self, index: int) -> Batch:
        """One sample: the batch without its first dimension."""
        return {k: v[0] for k, v in self.__getitems__([int(index)]).items()}

    def full_init(self) -> None:
        """Do nothing: mmengine calls it, and all is initialised."""

    @property
    def metainfo(self) -> dict[str, Any]:
        """That of the inner data set and ``packed_store``, the folder."""
        return dict(self.dataset.metainfo, packed_store=str(self.store.folder))

    # of the inner data set
    classes = property(attrgetter('dataset.classes'))
    data_root = property(attrgetter('dataset.data_root'))
    split = property(attrgetter('dataset.split'))
    split_hash = property(attrgetter('dataset.split_hash'))
    class_counts = property(attrgetter('dataset.class_counts'))  # copies included
    unlabelled = property(attrgetter('dataset.unlabelled'))
    get_data_info = property(attrgetter('dataset.get_data_info'))

    def get_gt_labels(self) -> np.ndarray:
        return self.labels.numpy()

    def get_cat_ids(self, index: int) -> list[int]:
        """Label of one sample in a list, for mmengine's wrappers."""
        return [int(self.labels[index])]


@FUNCTIONS.register_module()
def packed_collate(batch: Batch | Sequence[Batch]) -> Batch:
    """Return a batch as it is; stack single samples, as wrappers give them."""
    if isinstance(batch, dict):
        return batch
    return {key: torch.stack([sample[key] for sample in batch]) for key in batch[0]}
