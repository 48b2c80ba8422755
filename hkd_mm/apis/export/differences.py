# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How far the answers of two nets are apart, batch after batch."""

import numpy as np


class Differences:
    """Of logits, and of the classes they name."""

    def __init__(self) -> None:
        self._most = self._scaled = np.float64(0)
        self._squares, self._count = 0.0, 0
        self._same, self._answers = 0, 0

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        """A batch of logits of both nets, (N, ...) of any equal shape."""
        apart = np.abs(one - other)
        self._most = np.maximum(self._most, apart.max())  # keeps NaN
        most, largest = (
            np.abs(values).reshape(len(one), -1).max(1)
            for values in (apart, one)
        )
        scaled = (most / np.maximum(1.0, largest)).max()
        self._scaled = np.maximum(self._scaled, scaled)
        self._squares += float(np.square(apart, dtype=np.float64).sum())
        self._count += apart.size

    def add_answers(self, one: np.ndarray, other: np.ndarray) -> None:
        """A batch of class ids of both nets, of any equal shape."""
        self._same += int((one == other).sum())
        self._answers += one.size

    @property
    def most(self) -> float:
        """Largest difference of two logits; NaN where one is."""
        return float(self._most)

    @property
    def scaled(self) -> float:
        """Largest difference in an image, where logits of the first net are
        above 1 as a part of the largest of the same image; NaN where one is.
        """
        return float(self._scaled)

    @property
    def rms(self) -> float:
        """Root of the mean square of the differences."""
        return float(np.sqrt(self._squares / self._count))

    @property
    def same_answers(self) -> float:
        """Share of equal class ids."""
        return self._same / self._answers
