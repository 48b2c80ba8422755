# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with masks of the training and validation splits, in batches."""

from collections.abc import Iterator

import numpy as np

from hkd_mm.inference.manifest_fields import InputSpec
from hkd_mm.inference.values import normalised

from .run_data import build_split
from .samples import balanced_choice
from .source_run import SourceRun

_BATCH = 8  # images whose logits are there at once


class Slices:
    """A split in its packed store, or a part of it.

    Args:
        dataset: a ``PackedMasks``.
        places: positions in it.
        spec: how the net is fed.
    """

    def __init__(self, dataset, places: np.ndarray, spec: InputSpec) -> None:
        self._dataset, self._places, self._spec = dataset, places, spec
        self.labels: np.ndarray = dataset.labels.numpy()[places]

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, size: int = _BATCH) -> Iterator[np.ndarray]:
        """Images as the net takes them, (B, C, H, W) float32 each."""
        return (images for images, _ in self.pairs(size))

    def pairs(
        self, size: int = _BATCH
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
