# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images of the training and validation splits; never of the test split."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hkd_mm.inference.manifest_fields import InputSpec
from hkd_mm.inference.values import normalised

from .input_specs import innermost
from .run_data import build_split
from .source_run import SourceRun

_BATCH = 64


@dataclass
class Samples:
    """Images as the net's pipeline resizes them.

    Attributes:
        paths: of the photographs.
        labels: (N,) int64.
        images: (N, 3, H, W) uint8, RGB.
        spec: how the net is fed them.
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
    node = {**innermost(loader), 'pipeline': [], 'serialize_data': False}
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
