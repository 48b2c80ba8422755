# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Labels and predictions of a batch as whole tensors.

The id of a sample is ``row + copy * 2**32``: the row of the image in the packed store,
and 0 for the image itself, 1, 2, ... for its copies by ``packed.top_up``. Augmentation
and teacher cache depend on this number, so that each copy has views of its own, while
those of copy 0 are the same with and without copies.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from hkd_mm.errors import UserError

_BITS = 32  # of the row

Numbers = TypeVar('Numbers', Tensor, np.ndarray)


def sample_id(rows: Numbers, copies: Numbers) -> Numbers:
    """Ids (B,) of rows in [0, 2^32) and copies >= 0, (B,) int64 each."""
    return rows + (copies << _BITS)


def row_of(ids: Numbers) -> Numbers:
    """Rows in the packed store."""
    return ids & ((1 << _BITS) - 1)


def copy_of(ids: Numbers) -> Numbers:
    """Numbers of the copies, 0 for the images themselves."""
    return ids >> _BITS


def predicted(logits: Tensor) -> Tensor:
    """The class of every image (N, C) or pixel (N, C, h, w), C = 1 against background.

    Returns:
        (N,) or (N, h, w) int64.
    """
    if logits.dim() == 4 and logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(1)


def masks_of(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """The class (B, h, w), uint8, of every pixel of (B, C, h, w) probabilities.

    With C = 1 the pixels at the threshold or above are foreground.
    """
    if probabilities.shape[1] == 1:
        found = probabilities[:, 0] >= threshold
    else:
        found = probabilities.argmax(1)
    return found.to(torch.uint8)


class PackedSamples(Sequence):
    """Labels of a batch as whole tensors.

    Also a sequence of mmpretrain's ``DataSample``, made on access for its heads and
    metrics.

    Args:
        gt_labels: (B,) int64.
        index: (B,) int64, ids of the samples, see above.
        view: number of the view, see ``hkd_mm.PackedPreprocessor``.
        gt_scores: (B, C) float32, targets of mixed images, or None.
        teacher_images: (B, 3, h, w) float32, what a teacher is shown, or None.
    """

    def __init__(
        self,
        gt_labels: Tensor,
        index: Tensor,
        view: int = 0,
        gt_scores: Tensor | None = None,
        teacher_images: Tensor | None = None,
    ) -> None:
        self.gt_labels, self.index = gt_labels, index
        self.view, self.gt_scores = view, gt_scores
        self.teacher_images = teacher_images
        self._made: dict[int, DataSample] = {}  # heads write into samples

    def __len__(self) -> int:
        return len(self.gt_labels)

    def __getitem__(self, item: int | slice) -> 'DataSample | PackedSamples':
        if isinstance(item, slice):
            return self.mapped(lambda x: x[item])
        if item in self._made:
            return self._made[item]
        sample = DataSample(metainfo=dict(view=self.view))
        sample.set_gt_label(self.gt_labels[item])
        sample.set_field(self.index[item], 'index')
        if self.gt_scores is not None:
            sample.set_gt_score(self.gt_scores[item])
        return self._made.setdefault(item, sample)

    def __iter__(self) -> Iterator[DataSample]:
        return (self[i] for i in range(len(self)))

    @property
    def targets(self) -> Tensor:
        """The targets of a loss: mixed scores if any, else labels."""
        return self.gt_labels if self.gt_scores is None else self.gt_scores

    def to(self, *args, **kwargs) -> 'PackedSamples':
        return self.mapped(lambda x: x.to(*args, **kwargs))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> 'PackedSamples':
        """A copy with each tensor (B, ...) changed."""
        labels, index = change(self.gt_labels), change(self.index)
        others = (
            None if x is None else change(x)
            for x in (self.gt_scores, self.teacher_images)
        )
        return PackedSamples(labels, index, self.view, *others)


def teacher_images(images: Tensor, samples: Sequence | None) -> Tensor:
    """What a teacher is shown of a batch: the student's images or its own."""
    own = getattr(samples, 'teacher_images', None)
    return images if own is None else own


class PackedPredictions(dict):
    """Predictions of a batch, the one element that ``predict`` returns.

    ``batch_scores`` (B, C) probabilities of logits of that shape, ``batch_labels`` and
    ``batch_index`` (B,) int64. mmengine passes it to the metrics unchanged.
    """

    def __init__(self, logits: Tensor, samples: PackedSamples) -> None:
        super().__init__(
            batch_scores=torch.softmax(logits.float(), 1),
            batch_labels=samples.gt_labels,
            batch_index=samples.index,
        )

    def __missing__(self, key: str) -> None:
        raise UserError(
            f'a metric asks for "{key}" of single images, which packed data '
            'do not have: use hkd_mm.ClinicalMetric, or set packed=False'
        )
