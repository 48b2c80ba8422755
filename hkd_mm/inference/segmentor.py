# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A trained student that marks: images in, masks out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.calibration import softmax
from hkd_mm.inference.student import Images, StudentModel, sources_of
from hkd_mm.io.images import Source, prepare_stored


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentor says of one image.

    ``mask`` is (H, W) uint8, of the size of the image: positions in ``classes``,
    of which the background is first.
    """

    mask: np.ndarray
    classes: tuple[str, ...]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class but the background, in [0, 1]."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes))
        shares = (counts / self.mask.size).tolist()
        return dict(zip(self.classes[1:], shares[1:], strict=True))

    def __str__(self) -> str:
        found = [f'{n} {s:.2%}' for n, s in self.shares.items() if s]
        return ', '.join(found) or 'nothing marked'


class Segmentor(StudentModel):
    """Marks images as the student was trained to, see :class:`.StudentModel`."""

    task = 'segmentation'
    _batch_size = 4

    def __call__(self, images: Images) -> Segmentation | list[Segmentation]:
        """Mark one image, or several: one answer for one image, else a list.

        Sources are those of :class:`.SkinClassifier`, but of the depth that the network
        was trained on (uint16 (H, W) of 16 bits; uint8 (H, W, 3) RGB or (H, W) of 8).
        """
        _, many = sources_of(images)
        found = list(self.stream(images))
        return found if many else found[0]

    def stream(self, images: Images) -> Iterator[Segmentation]:
        """Mark images one after another, for more than memory holds."""
        sources, _ = sources_of(images)
        for one in self._answers(sources):
            mask = pixel_classes(one[None], self.student.threshold)[0]
            yield Segmentation(mask, self.classes)

    def probabilities(self, image: Source) -> np.ndarray:
        """Probabilities of the pixels of one image, at its own size, (C, H, W) float32.

        C is 1 of one class against the background, else the background is first.
        """
        return next(self._answers([image]))

    def _answers(self, sources: Iterable[Source]) -> Iterator[np.ndarray]:
        for batch in self._batches(sources, self._prepare):
            images = np.stack([image for image, _ in batch])
            found = pixel_probabilities(self._logits(images))
            for one, (_, size) in zip(found, batch, strict=True):
                yield enlarged(one, size)

    def _prepare(self, source: Source) -> tuple[np.ndarray, tuple[int, int]]:
        return prepare_stored(source, self.student.input, self.max_pixels)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        logits = self._network.logits(images)
        count = len(self.classes)
        outputs = (1, 2) if count == 2 else (count,)
        right = logits.ndim == 4 and logits.shape[1] in outputs
        if not right or not np.isfinite(logits).all():
            raise UserError(
                f'{self.student.weights} does not give finite numbers for '
                'every pixel and class; export it again'
            )
        return logits


def pixel_probabilities(logits: np.ndarray) -> np.ndarray:
    """Sigmoid of one output, softmax of several; (N, C, H, W) float32."""
    values = logits.astype(np.float32)
    if values.shape[1] > 1:
        return softmax(values)
    raised = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, raised) / (1 + raised)


def pixel_classes(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Classes (N, H, W) uint8 of (N, C, H, W), as ``hkd_mm.SegmentationMetric`` does.

    C is 1 of one class against the background, else the background is first.
    """
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] >= threshold).astype(np.uint8)
    return probabilities.argmax(1).astype(np.uint8)


def enlarged(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge (C, h, w) to (C, H, W), float32, bilinear."""
    return np.stack([cv2.resize(plane, size[::-1]) for plane in probabilities])
