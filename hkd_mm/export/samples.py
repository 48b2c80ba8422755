# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images of the training and validation splits, never of the test split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hkd_mm.config.tree import innermost_dataset
from hkd_mm.errors import UserError
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.io.input_spec import InputSpec, normalised

_SPLITS = ('train', 'val')


def build_split(run: SourceRun, split: str, node: dict) -> Any:
    """Build a data set of a run; never that of the test split.

    Args:
        run: whose data.
        split: ``train`` or ``val``.
        node: config of the data set, a part of the loader's.

    Raises:
        UserError: the data is not here, is of another split than the run's,
            has other classes, or the split is empty.
    """
    from mmengine.registry import DATASETS

    from hkd_mm.engine.run_data import split_hash

    if split not in _SPLITS:
        raise ValueError(f'an export does not read the {split} split')
    named = innermost_dataset(dict(dataset=node)).get('split', split)
    if named != split:
        raise UserError(
            f'{split}_dataloader is on the split {named}; an export '
            'calibrates on train and measures on val'
        )
    scope = run.cfg.get('default_scope', 'mmpretrain')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        dataset = registry.build(node)
        dataset.full_init()
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


_BATCH = 64


@dataclass
class Samples:
    """Images as the network's pipeline resizes them.

    Attributes:
        paths: of the photographs.
        labels: (N,) int64.
        images: (N, 3, H, W) uint8, RGB.
        spec: how the network is fed them.
        lesions: (N,) int, equal for photographs of one lesion; None where
            the data name no lesion.
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


def read_samples(
    run: SourceRun, split: str, count: int | None = None
) -> Samples:
    """Read a split, or a class-balanced part of it.

    Args:
        run: whose data.
        split: ``train`` or ``val``.
        count: how many images at most; None for all.

    Raises:
        UserError: the data is not here, is of another split than the run's,
            or the split is empty.
    """
    infos = _listing(run, split)
    labels = np.array([info['gt_label'] for info in infos], np.int64)
    chosen = np.arange(len(infos))
    if count is not None:
        seed = int(run.meta.get('seed') or 0)
        chosen = balanced_choice(labels, count, seed)
    paths = [infos[place]['img_path'] for place in chosen]
    images = np.stack([resized(path, run.spec) for path in paths])
    lesions = lesions_of([infos[place] for place in chosen])
    return Samples(paths, labels[chosen], images, run.spec, lesions)


def lesions_of(infos: list[dict]) -> np.ndarray | None:
    """Which photographs show one lesion.

    Args:
        infos: of a data set; ``lesion_id`` where it is known.

    Returns:
        (N,) int, a number of its own for each unknown one; None where all
        are unknown.
    """
    names = [info.get('lesion_id') for info in infos]
    if all(name is None for name in names):
        return None
    keys = [
        ('', place) if name is None else (name, -1)
        for place, name in enumerate(names)
    ]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])


def _listing(run: SourceRun, split: str) -> list[dict]:
    loader = run.cfg[f'{split}_dataloader']
    node = {
        **innermost_dataset(loader),
        'pipeline': [],
        'serialize_data': False,
    }
    dataset = build_split(run, split, node)
    return [dataset.get_data_info(place) for place in range(len(dataset))]


def balanced_choice(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Places of images, from the classes in turn.

    Args:
        labels: (N,) int.
        count: how many; all where there are fewer.
        seed: of the order within each class.

    Returns:
        Sorted places. No class has two images more than another that has any
        left.
    """
    random = np.random.default_rng(seed)
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        rank[random.permutation(places)] = np.arange(len(places))
    order = np.lexsort((labels, rank))
    return np.sort(order[:count])


def resized(path: str, spec: InputSpec) -> np.ndarray:
    """A photograph as validation sees it.

    Args:
        path: of the file.
        spec: the size.

    Returns:
        (3, H, W) uint8, RGB.
    """
    from mmcv import imresize

    from hkd_mm.datasets.load_skin_image import read_image

    high, wide = spec.size
    image = imresize(read_image(path), (wide, high), interpolation='area')
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))


_SLICE_BATCH = 8  # images whose logits are there at once


class Slices:
    """A split in its packed store, or a part of it.

    Args:
        dataset: a ``PackedMasks``.
        places: positions in it.
        spec: how the network is fed.
    """

    def __init__(self, dataset, places: np.ndarray, spec: InputSpec) -> None:
        self._dataset, self._places, self._spec = dataset, places, spec
        self.labels: np.ndarray = dataset.labels.numpy()[places]

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, size: int = _SLICE_BATCH) -> Iterator[np.ndarray]:
        """Images as the network takes them, (B, C, H, W) float32 each."""
        return (images for images, _ in self.pairs(size))

    def pairs(
        self, size: int = _SLICE_BATCH
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same with the masks, (B, H, W) uint8."""
        for start in range(0, len(self), size):
            chosen = self._places[start : start + size].tolist()
            batch = self._dataset.__getitems__(chosen)
            images = normalised(
                batch['inputs'].numpy().transpose(0, 3, 1, 2), self._spec
            )
            yield images, batch['masks'].numpy()

    def part(self, count: int) -> 'Slices':
        """Some of them, with and without something to see in turn."""
        chosen = balanced_choice(self.labels, count, 0)
        return Slices(self._dataset, self._places[chosen], self._spec)

    @property
    def paths(self) -> list[str]:
        """Of the images."""
        return [info['img_path'] for info in self._infos()]

    @property
    def patients(self) -> list[str | None]:
        """Whose each image is."""
        return [info['patient_id'] for info in self._infos()]

    def _infos(self) -> Iterator[dict]:
        return (self._dataset.get_data_info(int(i)) for i in self._places)


def read_slices(
    run: SourceRun, split: str, count: int | None = None
) -> Slices:
    """Open a split, or a part with and without something to see in turn.

    Args:
        run: whose data; packed if they are not.
        split: ``train`` or ``val``.
        count: how many images at most; None for all.

    Raises:
        UserError: as of :func:`.run_data.build_split`.
    """
    dataset = build_split(run, split, run.cfg[f'{split}_dataloader'].dataset)
    places = np.arange(len(dataset))
    if count is not None:
        seed = int(run.meta.get('seed') or 0)
        places = balanced_choice(dataset.labels.numpy(), count, seed)
    return Slices(dataset, places, run.spec)
