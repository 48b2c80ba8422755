# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A trained student that answers: images in, classes out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.calibration import softmax
from hkd_mm.inference.student import read_student
from hkd_mm.io import images as reading

_SHOWN = 3  # classes named when it is not sure


@dataclass(frozen=True)
class Answer:
    """Classes and their probabilities; as text one line.

    Attributes:
        classes: (name, probability in [0, 1]), the most probable first.
        sure: whether the first reaches the threshold that was fitted on
            validation; None where no threshold is known.
    """

    classes: tuple[tuple[str, float], ...]
    sure: bool | None

    @property
    def best(self) -> str:
        """The most probable class, also where it is not sure."""
        return self.classes[0][0]

    @property
    def probability(self) -> float:
        """Of the best class."""
        return self.classes[0][1]

    def __str__(self) -> str:
        if self.sure:
            return f'{self.best} ({self.probability:.1%})'
        if self.sure is None:
            return (
                f'{self.best} ({self.probability:.1%}; from which '
                'probability on it is sure is not known)'
            )
        first = self.classes[:_SHOWN]
        return 'not sure: ' + ', '.join(f'{n} {p:.1%}' for n, p in first)


def rank(
    names: Sequence[str], probabilities: np.ndarray, sure: bool | None
) -> Answer:
    """Put the classes of one photograph in order; the first of equals first.

    Args:
        names: of the C classes.
        probabilities: (C,).
        sure: see :class:`Answer`.
    """
    order = np.argsort(-probabilities, kind='stable')
    return Answer(
        tuple((names[i], float(probabilities[i])) for i in order), sure
    )


_BACKENDS = (None, 'onnx', 'torch')
_PRECISIONS = ('fp32', 'int8')

Images = reading.Source | Iterable[reading.Source]


class SkinClassifier:
    """Classifies photographs as the student was trained to.

    With the ONNX backend neither torch nor OpenMMLab is imported. Once built,
    it may be called by several threads.

    Args:
        path: a folder of ``tools/export.py``; or, for torch, the work dir of
            a run or its ``student.pth``, which know neither temperature nor
            threshold.
        backend: ``onnx`` or ``torch``; None takes the first that the folder
            and this machine have.
        precision: ``fp32``, or ``int8`` (ONNX alone).
        threads: of the backend; None leaves it to the backend.
        device: ``cpu`` or ``cuda``; None is the CPU for ONNX, and the GPU
            where there is one for torch.
        batch_size: images that go through the network together.
        max_pixels: larger photographs are refused, see
            :func:`hkd_mm.io.images.read_rgb`.

    Raises:
        UserError: a file is missing, changed or of another version, or a
            package is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        backend: str | None = None,
        precision: str = 'fp32',
        threads: int | None = None,
        device: str | None = None,
        batch_size: int = 32,
        max_pixels: int | None = None,
    ) -> None:
        check_words(backend, precision, threads, batch_size)
        self.student = read_student(path, backend, precision)
        self.classes = self.student.classes
        self.precision = precision
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
    ) -> 'SkinClassifier':
        """A folder on this machine, or one of the Hugging Face Hub.

        Of the Hub only the manifest and the one file that is used are
        fetched, and that file is held against the manifest's hash.

        Args:
            name: path of the folder, or ``owner/name``.
            backend: as of the class.
            precision: as of the class.
            revision: branch, tag or commit on the Hub.
            kwargs: passed on to the class.

        Raises:
            UserError: as of the class; or it is not there, the Hub cannot be
                reached, or huggingface_hub is missing.
        """
        from hkd_mm.inference.hub import place_of

        folder = place_of(name, backend, precision, revision)
        return cls(folder, backend, precision, **kwargs)

    def __call__(self, images: Images) -> Answer | list[Answer]:
        """Classify one photograph, or several.

        Args:
            images: a path, the bytes of a file, a Pillow image, an array
                (see :func:`hkd_mm.io.images.read_rgb`), or a list of
                them; or a folder, whose images are taken in the order of
                their paths.

        Returns:
            One answer for one photograph, a list for a list or a folder.

        Raises:
            UserError: a photograph cannot be read; names it.
        """
        sources, many = sources_of(images)
        answers = [
            self.answer(row)
            for batch in self._batches(sources)
            for row in self.classify(batch)
        ]
        return answers if many else answers[0]

    def probabilities(self, images: Images) -> np.ndarray:
        """As calling it, but plain numbers.

        Args:
            images: as of :meth:`__call__`.

        Returns:
            (N, C) float32 in the order of ``classes``; N is 1 for one
            photograph.

        Raises:
            UserError: as of :meth:`__call__`.
        """
        sources, _ = sources_of(images)
        found = [self.classify(batch) for batch in self._batches(sources)]
        empty = np.zeros((0, len(self.classes)), np.float32)
        return np.concatenate([empty, *found])

    def prepare(self, source: reading.Source) -> np.ndarray:
        """One photograph as the network is fed it, (3, H, W) float32.

        Raises:
            UserError: it cannot be read.
        """
        return reading.prepare(source, self.student.input, self.max_pixels)

    def classify(self, ready: np.ndarray) -> np.ndarray:
        """Probabilities of prepared photographs, in one batch.

        Args:
            ready: (N, 3, H, W) float32.

        Returns:
            (N, C) float32.

        Raises:
            UserError: the network gives what are no numbers.
        """
        logits = self._network.logits(ready).astype(np.float64)
        if logits.shape != (len(ready), len(self.classes)) or not (
            np.isfinite(logits).all()
        ):
            raise UserError(
                f'{self.student.weights} does not give one finite number a '
                'class; export it again'
            )
        scores = softmax(logits, self.student.temperature)
        return scores.astype(np.float32)

    def answer(self, probabilities: np.ndarray) -> Answer:
        """The answer that (C,) probabilities amount to."""
        return rank(self.classes, probabilities, self.sure(probabilities))

    def sure(self, probabilities: np.ndarray) -> bool | None:
        """Whether the best of (C,) reaches the threshold; None without one."""
        if self.student.threshold is None:
            return None
        return bool(probabilities.max() >= self.student.threshold)

    def _batches(
        self, sources: Iterable[reading.Source]
    ) -> Iterator[np.ndarray]:
        ready = map(self.prepare, sources)
        while batch := list(islice(ready, self.batch_size)):
            yield np.stack(batch)


def check_words(
    backend: str | None, precision: str, threads: int | None, batch_size: int
) -> None:
    """Refuse what no network takes.

    Raises:
        UserError: names the word.
    """
    if backend not in _BACKENDS:
        raise UserError(f'backend {backend!r}: give "onnx" or "torch"')
    if precision not in _PRECISIONS:
        raise UserError(f'precision {precision!r}: give "fp32" or "int8"')
    if backend == 'torch' and precision != 'fp32':
        raise UserError('int8 runs in ONNX Runtime only; leave out torch')
    if threads is not None and threads < 1:
        raise UserError(f'threads={threads}: at least 1')
    if batch_size < 1:
        raise UserError(f'batch_size={batch_size}: at least 1')


def sources_of(images: Images) -> tuple[Iterable[reading.Source], bool]:
    """The images, and whether there may be several."""
    if isinstance(images, (str, os.PathLike)):
        if not os.path.isdir(images):
            return [images], False
        from hkd_mm.inference.folder import find_images

        return find_images([images]), True
    one = isinstance(images, (bytes, bytearray, memoryview))
    if one or isinstance(images, reading.Image.Image):
        return [images], False
    if isinstance(images, np.ndarray) and images.ndim != 4:
        return [images], False
    if not isinstance(images, Iterable):
        return [images], False  # read_rgb says what is wrong with it
    return images, True
