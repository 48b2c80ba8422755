# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The export of a classifier."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.evaluation.classification_scores import classification_scores
from hkd_mm.evaluation.temperature import fit_temperature
from hkd_mm.inference.manifest_fields import ClassifierManifest, Threshold

from .answers import graph_of, of_images, of_torch, probabilities
from .checks import figures, same_logits, same_probabilities
from .int8_gate import compare_int8
from .making import Making, watched
from .manifest_of import described
from .net_graph import plain_net
from .samples import Samples, balanced_choice, read_samples
from .sure import fit_threshold

_PHOTOGRAPHS = 32  # that graphs with a resize are checked on
_TINY = 1e-300  # probabilities come from logits, nothing is rounded


class ClassifierMaking(Making):
    """Of a net that gives an image a class.

    Attributes:
        logits: kind -> (N, C) on validation.
        threshold: of sure answers, fitted on validation.
    """

    score = ('balanced_accuracy', 'balanced accuracy')
    parts = 'recall of each class'

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.logits: dict[str, np.ndarray] = {}
        self.threshold: Threshold | None = None
        self._temperature = 1.0

    def read(self, split: str, count: int | None = None) -> Samples:
        return read_samples(self.run, split, count)

    def measure(self, kind: str) -> None:
        answer = graph_of(self.path(kind))
        found = np.concatenate(
            [answer(part) for part in self._batches(f'measuring {kind}')]
        )
        self.logits[kind] = found
        self.measured[kind] = figures(found, self.val.labels, self.run.classes)
        if kind == 'fp32':
            net = plain_net(self.run)
            trained = [
                of_torch(net, part) for part in self._batches('comparing')
            ]
            self.checks['logits'] = same_logits(np.concatenate(trained), found)

    def _batches(self, what: str) -> Iterator[np.ndarray]:
        return watched(self.val.batches(), what, len(self.val))

    def compare_int8(self) -> dict:
        return compare_int8(
            self.logits['fp32'],
            self.logits['int8'],
            self.val.labels,
            self.measured,
            self.wishes.int8_limit,
            self.wishes.int8_recall_limit,
        )

    def fit(self) -> None:
        """Temperature, and the threshold of sure answers."""
        scores = probabilities(self.logits['fp32'])
        self._temperature = fit_temperature(scores, self.val.labels, _TINY)
        self.threshold = fit_threshold(self)

    @property
    def temperature(self) -> float:
        return self._temperature

    def check_image(self, kind: str, path: Path) -> dict:
        chosen = balanced_choice(self.val.labels, _PHOTOGRAPHS, 0)
        photographs = (
            np.ascontiguousarray(read_image(self.val.paths[place])[..., ::-1])
            for place in chosen
        )
        return same_probabilities(
            path.stem,
            probabilities(self.logits[kind][chosen], self.temperature),
            of_images(path, photographs),
            int8=kind == 'int8',
        )

    def figures_by_part(self, kind: str) -> dict[str, float | None]:
        return self.measured[kind]['recall']

    def manifest(self) -> ClassifierManifest:
        scores = probabilities(self.logits['fp32'], self.temperature)
        val, _ = classification_scores(
            scores, self.val.labels, self.run.classes
        )
        return ClassifierManifest(
            **described(self, val),
            temperature=self.temperature,
            threshold=self.threshold,
        )
