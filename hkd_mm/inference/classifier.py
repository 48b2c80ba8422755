# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A trained student that answers: images in, classes out."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.calibration import softmax
from hkd_mm.inference.student import Images, StudentModel, sources_of
from hkd_mm.io import images as reading

_SHOWN = 3  # classes named when it is not confident


@dataclass(frozen=True)
class Answer:
    """Classes with their probabilities in [0, 1], the most probable first.

    ``confident``: whether the first reaches the threshold that was fitted on
    validation; None where no threshold is known.
    """

    classes: tuple[tuple[str, float], ...]
    confident: bool | None

    @property
    def best(self) -> str:
        """The most probable class, also where it is not confident."""
        return self.classes[0][0]

    @property
    def probability(self) -> float:
        """Probability of the best class."""
        return self.classes[0][1]

    def __getattr__(self, name: str) -> NoReturn:
        hint = ' is now called Answer.confident' if name == 'sure' else ''
        raise AttributeError(f'Answer.{name}{hint or " does not exist"}')

    def __str__(self) -> str:
        if self.confident:
            return f'{self.best} ({self.probability:.1%})'
        if self.confident is None:
            return (
                f'{self.best} ({self.probability:.1%}; from which '
                'probability on it is confident is not known)'
            )
        first = self.classes[:_SHOWN]
        return 'not confident: ' + ', '.join(f'{n} {p:.1%}' for n, p in first)


class SkinClassifier(StudentModel):
    """Classifies images as the student was trained to, see :class:`.StudentModel`."""

    task = 'classification'
    _batch_size = 32

    def __call__(self, images: Images) -> Answer | list[Answer]:
        """Classify one image, or several: one answer for one image, else a list.

        Args:
            images: a path, the bytes of a file, a Pillow image, an array (see
                :func:`hkd_mm.io.images.read_rgb`), or a list of them; or a folder,
                whose images are taken in the order of their paths.
        """
        sources, many = sources_of(images)
        answers = [
            self.answer(row)
            for batch in self._batches(sources, self.prepare)
            for row in self.classify(np.stack(batch))
        ]
        return answers if many else answers[0]

    def probabilities(self, images: Images) -> np.ndarray:
        """As :meth:`__call__`, but (N, C) float32 in the order of ``classes``."""
        found = [np.zeros((0, len(self.classes)), np.float32)]
        for batch in self._batches(sources_of(images)[0], self.prepare):
            found.append(self.classify(np.stack(batch)))
        return np.concatenate(found)

    def prepare(self, source: reading.Source) -> np.ndarray:
        """Read one image as the network is fed it, (3, H, W) float32."""
        return reading.prepare(source, self.student.input, self.max_pixels)

    def classify(self, ready: np.ndarray) -> np.ndarray:
        """Probabilities (N, C) of prepared images (N, 3, H, W), float32."""
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
        """Rank the classes by (C,); the first of equals comes first."""
        order = np.argsort(-probabilities, kind='stable')
        ranked = ((self.classes[i], float(probabilities[i])) for i in order)
        threshold = self.student.threshold
        return Answer(
            tuple(ranked),
            None if threshold is None else bool(probabilities.max() >= threshold),
        )
