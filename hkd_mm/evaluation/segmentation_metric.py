# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The metric of segmentation: overlap and distance, by slice and patient."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from hkd_mm.errors import UserError
from hkd_mm.evaluation import segmentation_scores as scoring
from hkd_mm.evaluation.stored_metric import StoredMetric
from hkd_mm.registry import METRICS
from hkd_mm.structures.mask_samples import IGNORE
from hkd_mm.structures.packed_samples import masks_of

# row in the store, counts of pixels, distances
Result = tuple[int, np.ndarray, np.ndarray]


@METRICS.register_module()
class SegmentationMetric(StoredMetric):
    """Overlap and boundary distance of masks, in the size that the network saw.

    ``dice``, ``iou``, ``sensitivity``, ``precision`` and ``hd95`` are means over the
    slices (images), by :func:`.overlap_scores` and :func:`.hausdorff_95`; what is
    undefined is left out. ``patient_dice`` and so on are of the pixels of all slices of
    a patient (else lesion) together, ``patient_hd95`` of the mean over these slices,
    each a mean over the patients that are known. Pixels of truth 255 count nowhere.
    With several classes beside the background each has its own figures,
    ``<class>/dice`` and so on, and the plain names are means over the classes.

    After an evaluation ``last`` holds, on rank 0, ``rows``, a dict a slice with
    ``sample_id``, ``patient`` and the figures (None where undefined); ``patients``,
    name -> ``patient_dice`` and so on; ``classes`` and ``unit``, of the distances,
    ``mm`` or ``pixel``.

    Args:
        threshold: probability from which a pixel is of the class, where the network
            gives one; in (0, 1).
        spacing: height and width of a pixel of the compared masks in mm, or their
            common value; None takes ``spacing`` of the data set, or its ``extents``
            (sample id -> height and width of the whole image), else counts pixels.
        hd95: False leaves the distances out, which cost most of the time.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        spacing: float | Sequence[float] | None = None,
        hd95: bool = True,
        **collected,
    ) -> None:
        super().__init__(**collected)
        if not 0 < threshold < 1:
            raise UserError(
                f'SegmentationMetric: threshold={threshold} must be in (0, 1)'
            )
        self.threshold, self.hd95 = threshold, hd95
        self._spacing = _spacing_pair(spacing)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the figures of one batch, a ``MaskPredictions``."""
        for batch in data_samples:
            if 'batch_probabilities' not in batch:
                raise UserError(
                    'SegmentationMetric found no masks in the predictions: '
                    'it needs a segmentor, such as hkd_mm.SMPSegmentor'
                )
            self.process_batch(
                batch['batch_probabilities'], batch['batch_masks'], batch['batch_index']
            )

    def process_batch(
        self, probabilities: torch.Tensor, masks: torch.Tensor, index: torch.Tensor
    ) -> None:
        """Keep the figures of one batch given as whole tensors.

        Probabilities are (B, C, h, w) on any device, C = 1 of one class, else with the
        background; masks (B, h, w) uint8 class ids, or 255; ``index`` (B,) int64, rows
        in the packed store.
        """
        sizes = tuple(probabilities.shape[2:]), tuple(masks.shape[1:])
        if len(probabilities) != len(masks) or sizes[0] != sizes[1]:
            raise UserError(
                f'SegmentationMetric got {len(probabilities)} predictions of '
                f'{sizes[0]} and {len(masks)} masks of {sizes[1]}: the network '
                'must answer in the size of its images'
            )
        classes = max(probabilities.shape[1], 2)
        predicted = masks_of(probabilities, self.threshold).cpu().numpy()
        truth = masks.cpu().numpy()
        finite = probabilities.isfinite().flatten(1).all(1).tolist()
        sizes = self._pixel_sizes(index, truth.shape[1:])
        for one, row in enumerate(index.tolist()):
            fits = (truth[one] < classes) | (truth[one] == IGNORE)
            if not finite[one] or not fits.all():
                name = f'sample {self.sample_names(index)[one] or row}'
                raise UserError(
                    f'the mask of {name} has a class beyond {classes - 1}, the last '
                    'of the network: num_classes must equal the classes of the data set'
                    if finite[one]
                    else f'probabilities of {name} are NaN or infinite: the network '
                    'has diverged; lower optim_wrapper.optimizer.lr or clip gradients'
                )
            counts = scoring.confusion_counts(predicted[one], truth[one], classes)
            distances = np.full(classes - 1, np.nan)
            if self.hd95:
                counted = np.where(truth[one] == IGNORE, 0, predicted[one])
                distances[:] = [
                    scoring.hausdorff_95(counted == k, truth[one] == k, sizes[one])
                    for k in range(1, classes)
                ]
            self.results.append((row, counts, distances))

    def _known_spacing(self) -> tuple[float, float] | None:
        meta = self.dataset_meta or {}
        return self._spacing or _spacing_pair(meta.get('spacing'))

    def _pixel_sizes(
        self, index: torch.Tensor, shape: tuple[int, int]
    ) -> list[tuple[float, float]]:
        """Height and width of the pixels of B masks of one shape."""
        spacing = self._known_spacing()
        extents = (self.dataset_meta or {}).get('extents')
        if spacing or not extents:
            return [spacing or (1.0, 1.0)] * len(index)
        names = self.sample_names(index)
        return [tuple(np.divide(extents[name], shape).tolist()) for name in names]

    def compute_metrics(self, results: list[Result]) -> dict[str, float]:
        if not results:
            raise UserError(
                'SegmentationMetric has nothing to evaluate: the data set is empty'
            )
        rows, counts, distances = zip(*results)
        counts = np.stack(counts)
        classes = self.class_names(counts.shape[1])[1:]
        figures = scoring.overlap_scores(counts)
        if self.hd95:
            figures['hd95'] = np.stack(distances)
        meta = self.dataset_meta or {}
        names = self.sample_names(torch.tensor(rows))
        groups = meta.get('groups') or {}
        patients = [groups.get(name) for name in names]
        found = scoring.by_patient(counts, patients, figures.get('hd95'))
        in_mm = self._known_spacing() or meta.get('extents')
        self.last = dict(
            rows=scoring.slice_rows(names, patients, figures, classes),
            patients={
                patient: {
                    key: value
                    for name, values in one.items()
                    for key, value in scoring.named(name, values, classes).items()
                }
                for patient, one in found.items()
            },
            classes=classes,
            unit='mm' if in_mm else 'pixel',
        )
        scoring.add_patients(figures, found)
        return scoring.means(figures, classes)


def _spacing_pair(
    spacing: float | Sequence[float] | None,
) -> tuple[float, float] | None:
    """Height and width of a pixel, of one number or two."""
    if spacing is None:
        return None
    pair = (spacing, spacing) if isinstance(spacing, Real) else tuple(spacing)
    numbers = all(type(side) in (int, float) and side > 0 for side in pair)
    if len(pair) != 2 or not numbers:
        raise UserError(
            f'SegmentationMetric: spacing={spacing} must be the height and '
            'width of a pixel in mm, both > 0, or one number'
        )
    return pair
