# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A trained student that marks: images in, masks out."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.calibration import softmax
from hkd_mm.inference.classifier import Images, check_words, sources_of
from hkd_mm.inference.student import read_student
from hkd_mm.io.images import Source, prepare_stored


def pixel_probabilities(logits: np.ndarray) -> np.ndarray:
    """Sigmoid of one output, softmax of several.

    Args:
        logits: (N, C, H, W) floats.

    Returns:
        (N, C, H, W) float32.
    """
    values = logits.astype(np.float32)
    if values.shape[1] == 1:
        raised = np.exp(-np.abs(values))
        return np.where(values >= 0, 1, raised) / (1 + raised)
    return softmax(values)


def pixel_classes(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The class of each pixel, as ``hkd_mm.SegmentationMetric`` takes it.

    Args:
        probabilities: (N, C, H, W); C = 1 of one class against the
            background, else with the background, which is first.
        threshold: from which a pixel is of the one class.

    Returns:
        (N, H, W) uint8.
    """
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] >= threshold).astype(np.uint8)
    return probabilities.argmax(1).astype(np.uint8)


def enlarged(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The probabilities of one image at its own size, bilinear.

    Args:
        probabilities: (C, h, w) float32.
        size: (H, W).

    Returns:
        (C, H, W) float32.
    """
    height, width = size
    planes = [
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        for plane in probabilities
    ]
    return np.stack(planes)


Prepared = tuple[np.ndarray, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentor says of one image; as text one line.

    Attributes:
        mask: (H, W) uint8, of the size of the image: places in ``classes``.
        classes: names, the background first.
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


class Segmentor:
    """Marks images as the student was trained to.

    With the ONNX backend neither torch nor OpenMMLab is imported. Once built,
    it may be called by several threads.

    Args:
        path: a folder of ``tools/export.py``; or, for torch, the work dir of
            a run or its ``student.pth``.
        backend: ``onnx`` or ``torch``; None takes the first that the folder
            and this machine have.
        precision: ``fp32``, or ``int8`` (ONNX alone).
        threads: of the backend; None leaves it to the backend.
        device: ``cpu`` or ``cuda``; None is the CPU for ONNX, and the GPU
            where there is one for torch.
        batch_size: images that go through the network together.
        max_pixels: larger images are refused;
            ``hkd_mm.io.images.MAX_PIXELS`` by default.

    Raises:
        UserError: a file is missing, changed or of another version, the
            network is a classifier, or a package is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        backend: str | None = None,
        precision: str = 'fp32',
        threads: int | None = None,
        device: str | None = None,
        batch_size: int = 4,
        max_pixels: int | None = None,
    ) -> None:
        check_words(backend, precision, threads, batch_size)
        self.student = read_student(path, backend, precision, 'segmentation')
        self.classes = tuple(self.student.classes)
        self.batch_size, self.max_pixels = batch_size, max_pixels
        self._network = self.student.load(threads, device)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        backend: str | None = None,
        precision: str = 'fp32',
        revision: str | None = None,
        **kwargs,
    ) -> 'Segmentor':
        """A folder here, or one of the Hugging Face Hub.

        As :meth:`.classifier.SkinClassifier.from_pretrained`.

        Raises:
            UserError: as of the class; or it is not there, the Hub cannot be
                reached, or huggingface_hub is missing.
        """
        from hkd_mm.inference.hub import place_of

        folder = place_of(name, backend, precision, revision)
        return cls(folder, backend, precision, **kwargs)

    def __call__(self, images: Images) -> Segmentation | list[Segmentation]:
        """Mark one image, or several.

        Args:
            images: a path, the bytes of a file, a Pillow image, an array of
                the depth that the network was trained on (uint16 (H, W) of 16
                bits; uint8 (H, W, 3) RGB or (H, W) of 8), or a list of them;
                or a folder, whose images are taken in the order of their
                paths.

        Returns:
            One answer for one image, a list for a list or a folder.

        Raises:
            UserError: an image cannot be read, or is of another depth; names
                it.
        """
        _, many = sources_of(images)
        found = list(self.stream(images))
        return found if many else found[0]

    def stream(self, images: Images) -> Iterator[Segmentation]:
        """The same one after another, for more than memory holds.

        Args:
            images: as of :meth:`__call__`.

        Raises:
            UserError: as of :meth:`__call__`, when it is its turn.
        """
        sources, _ = sources_of(images)
        for one in self._answers(sources):
            mask = pixel_classes(one[None], self.student.threshold)[0]
            yield Segmentation(mask, self.classes)

    def probabilities(self, image: Source) -> np.ndarray:
        """Of one image, at its own size.

        Args:
            image: as of :meth:`__call__`.

        Returns:
            (C, H, W) float32; C = 1 of one class against the background, else
            with the background, which is first.

        Raises:
            UserError: as of :meth:`__call__`.
        """
        return next(self._answers([image]))

    def _answers(self, sources: Iterable[Source]) -> Iterator[np.ndarray]:
        ready = map(self._prepare, sources)
        while batch := list(islice(ready, self.batch_size)):
            images = np.stack([image for image, _ in batch])
            found = pixel_probabilities(self._logits(images))
            for one, (_, size) in zip(found, batch, strict=True):
                yield enlarged(one, size)

    def _prepare(self, source: Source) -> Prepared:
        return prepare_stored(source, self.student.input, self.max_pixels)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        logits = self._network.logits(images)
        count = len(self.classes)
        outputs = 1 if count == 2 else count
        right = logits.ndim == 4 and logits.shape[1] in (outputs, count)
        if not right or not np.isfinite(logits).all():
            raise UserError(
                f'{self.student.weights} does not give finite numbers for '
                'every pixel and class; export it again'
            )
        return logits
