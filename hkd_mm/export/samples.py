# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images of the training and validation splits, never of the test split."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmcv import imresize

from hkd_mm.config.data_summary import build_dataset
from hkd_mm.config.tree import innermost_dataset
from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.datasets.splits import balanced_choice
from hkd_mm.engine.run_data import split_hash
from hkd_mm.errors import UserError
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.io.input_spec import InputSpec, normalised

_BATCH = 64
_SLICE_BATCH = 8  # images whose logits are there at once
USUAL_SIZES = (640, 480), (450, 600), (1024, 768), (4032, 3024)  # of photographs


@dataclass
class Samples:
    """Images as the network's pipeline resizes them, (N, 3, H, W) uint8 RGB.

    ``lesions`` (N,) are equal for images of one lesion; None where the data name none.
    """

    paths: list[str]
    labels: np.ndarray
    images: np.ndarray
    spec: InputSpec
    lesions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int = _BATCH) -> Iterator[np.ndarray]:
        """Normalised parts, (B, 3, H, W) float32 each."""
        for start in range(0, len(self), size):
            yield normalised(self.images[start : start + size], self.spec)


class Slices:
    """A split in its packed store (``PackedMasks``), or a part of it."""

    def __init__(self, dataset, indices: np.ndarray, spec: InputSpec) -> None:
        self._dataset, self._indices, self._spec = dataset, indices, spec
        self.labels: np.ndarray = dataset.labels.numpy()[indices]

    def __len__(self) -> int:
        return len(self._indices)

    def batches(self, size: int = _SLICE_BATCH) -> Iterator[np.ndarray]:
        return (images for images, _ in self.pairs(size))

    def pairs(
        self, size: int = _SLICE_BATCH
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(self), size):
            chosen = self._indices[start : start + size].tolist()
            batch = self._dataset.__getitems__(chosen)
            images = batch['inputs'].numpy().transpose(0, 3, 1, 2)
            yield normalised(images, self._spec), batch['masks'].numpy()

    def part(self, count: int) -> 'Slices':
        chosen = np.sort(balanced_choice(self.labels, count))
        return Slices(self._dataset, self._indices[chosen], self._spec)

    def values(self, key: str) -> list[Any]:
        return [self._dataset.get_data_info(int(i))[key] for i in self._indices]


def read_samples(run: SourceRun, split: str, count: int | None = None) -> Samples:
    """Read ``train`` or ``val`` of a run, or a class-balanced part of it."""
    node = innermost_dataset(run.cfg[f'{split}_dataloader'])
    node = {**node, 'pipeline': [], 'serialize_data': False}
    dataset = _build_split(run, split, node)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    labels = np.array([info['gt_label'] for info in infos], np.int64)
    chosen = _choice(run, labels, count)
    infos = [infos[index] for index in chosen]
    paths = [info['img_path'] for info in infos]
    images = as_seen(map(read_image, paths), run.spec)
    return Samples(paths, labels[chosen], images, run.spec, lesions_of(infos))


def as_seen(images: Iterable[np.ndarray], spec: InputSpec) -> np.ndarray:
    """Resize BGR images (H, W, 3) as validation does, (N, 3, h, w) uint8 RGB."""
    size = spec.size[::-1]
    small = [imresize(one, size, interpolation='area') for one in images]
    return np.ascontiguousarray(np.stack(small)[..., ::-1].transpose(0, 3, 1, 2))


def read_slices(run: SourceRun, split: str, count: int | None = None) -> Slices:
    """Open a packed split, or ``count`` of it with and without something to see."""
    dataset = _build_split(run, split, run.cfg[f'{split}_dataloader'].dataset)
    indices = _choice(run, dataset.labels.numpy(), count)
    return Slices(dataset, indices, run.spec)


def _build_split(run: SourceRun, split: str, node: dict) -> Any:
    """Build a data set of a run; never that of the test split."""
    if split not in ('train', 'val'):
        raise ValueError(f'an export does not read the {split} split')
    named = innermost_dataset(dict(dataset=node)).get('split', split)
    if named != split:
        raise UserError(
            f'{split}_dataloader is on the split {named}; an export '
            'calibrates on train and measures on val'
        )
    dataset = build_dataset(run.cfg, node)
    there, here = run.meta.get('split_hash'), split_hash(dataset)
    if there is not None and there != here:
        raise UserError(
            f'{run.folder} was trained on split {there[:8]}, the data now '
            f'give {(here or "none")[:8]}; repeat the --cfg-options of the '
            'training, such as data_root'
        )
    found = list(dataset.metainfo['classes'])
    if found != run.classes:
        raise UserError(
            f'{run.folder} was trained for the classes '
            f'{", ".join(run.classes)}, the data have {", ".join(found)}'
        )
    if not len(dataset):
        raise UserError(f'the {split} split of the run has no images')
    return dataset


def _choice(run: SourceRun, labels: np.ndarray, count: int | None) -> np.ndarray:
    if count is None:
        return np.arange(len(labels))
    return np.sort(balanced_choice(labels, count, int(run.meta.get('seed') or 0)))


def lesions_of(infos: list[dict]) -> np.ndarray | None:
    """Number images by ``lesion_id``, (N,) int, unknown ones singly, or None."""
    names = [info.get('lesion_id') for info in infos]
    if all(name is None for name in names):
        return None
    numbers: dict[Any, int] = {}
    keys = ((name, name is None and index) for index, name in enumerate(names))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])
