# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a classifier says of one photograph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
