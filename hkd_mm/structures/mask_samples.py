# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""True and predicted masks of a batch as whole tensors."""

from torch import Tensor

from hkd_mm.errors import UserError

IGNORE = 255  # a pixel of a mask that no loss and no metric counts


class MaskSamples:
    """Masks of a batch, for losses and metrics.

    Args:
        gt_masks: (B, h, w) uint8, class ids: 0 is the background, 255 is
            ignored; 0 and 1 where there is one class.
        index: (B,) int64, rows of the images in the packed store.
        view: number of the view, -1 in evaluation, see
            ``hkd_mm.PackedMaskPreprocessor``.
    """

    gt_scores = None  # masks are never mixed

    def __init__(self, gt_masks: Tensor, index: Tensor, view: int = 0) -> None:
        self.gt_masks, self.index, self.view = gt_masks, index, view

    def __len__(self) -> int:
        return len(self.gt_masks)

    def __getitem__(self, item: slice) -> 'MaskSamples':
        if not isinstance(item, slice):
            raise TypeError('MaskSamples takes slices: there is one tensor')
        return MaskSamples(self.gt_masks[item], self.index[item], self.view)

    @property
    def gt_labels(self) -> Tensor:
        """The masks as losses take them, (B, h, w) int64."""
        return self.gt_masks.long()

    targets = gt_labels

    def to(self, *args, **kwargs) -> 'MaskSamples':
        return MaskSamples(
            self.gt_masks.to(*args, **kwargs), self.index.to(*args, **kwargs), self.view
        )


class MaskPredictions(dict):
    """Predictions of a batch, the one element that ``predict`` returns.

    ``batch_probabilities`` (B, C, h, w) float32 (C = 1: sigmoid, else softmax with the
    background) of logits of that shape, ``batch_masks`` (B, h, w) uint8, the truth, and
    ``batch_index`` (B,) int64. mmengine passes it to the metrics unchanged.
    """

    def __init__(self, logits: Tensor, samples: MaskSamples) -> None:
        logits, binary = logits.float(), logits.shape[1] == 1
        super().__init__(
            batch_probabilities=logits.sigmoid() if binary else logits.softmax(1),
            batch_masks=samples.gt_masks,
            batch_index=samples.index,
        )

    def __missing__(self, key: str) -> None:
        raise UserError(
            f'a metric asks for "{key}", which a segmentation does not have: '
            'use hkd_mm.SegmentationMetric'
        )
