# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The export of a segmentor."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from hkd_mm.evaluation.segmentation_scores import (
    confusion_counts,
    overlap_scores,
)
from hkd_mm.evaluation.segmentation_tables import (
    add_patients,
    by_patient,
    means,
)
from hkd_mm.inference.manifest_fields import SegmentorManifest
from hkd_mm.inference.pixels import pixel_classes, pixel_probabilities
from hkd_mm.inference.stored_images import read_stored
from hkd_mm.progress import Progress

from .answers import graph_of, of_images, of_torch
from .checks import close, same_probabilities
from .differences import Differences
from .making import Making
from .manifest_of import described
from .net_graph import plain_net
from .slices import Slices, read_slices

_IMAGES = 8  # that graphs with a resize are checked on
_OVERLAP = ('dice', 'iou', 'sensitivity', 'precision')


class SegmentorMaking(Making):
    """Of a net that gives every pixel a class.

    Validation images go through two nets at a time and are forgotten; what
    is kept of each is (classes, classes) counts of pixels.

    Attributes:
        threshold: from which probability on a pixel is of the one class; that
            of the run's validation.
    """

    score = ('dice', 'Dice')
    parts = 'means over the images'

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.threshold = self.run.pixel_threshold
        self._counts: dict[str, np.ndarray] = {}
        self._apart: dict[str, Differences] = {}

    def read(self, split: str, count: int | None = None) -> Slices:
        return read_slices(self.run, split, count)

    def measure(self, kind: str) -> None:
        if kind == 'fp32':
            other = partial(of_torch, plain_net(self.run))
        else:
            other = graph_of(self.path('fp32'))
        apart = self._compare(kind, graph_of(self.path(kind)), other)
        figures = overlap_scores(self._counts[kind])
        found = by_patient(self._counts[kind], self.val.patients)
        add_patients(figures, found)
        self.measured[kind] = means(figures, self.run.classes[1:])
        if kind == 'fp32':
            self.checks['logits'] = close(apart)

    def _compare(
        self,
        kind: str,
        graph: Callable[[np.ndarray], np.ndarray],
        other: Callable[[np.ndarray], np.ndarray],
    ) -> Differences:
        apart, counts = Differences(), []
        with Progress(
            f'measuring {kind}', len(self.val), 'images'
        ) as progress:
            for images, masks in self.val.pairs():
                logits, known = graph(images), other(images)
                found = self._classes_of(logits)
                apart.add(known, logits)
                apart.add_answers(self._classes_of(known), found)
                counts += [
                    confusion_counts(one, mask, len(self.run.classes))
                    for one, mask in zip(found, masks, strict=True)
                ]
                progress.advance(len(images))
        self._counts[kind], self._apart[kind] = np.stack(counts), apart
        return apart

    def _classes_of(self, logits: np.ndarray) -> np.ndarray:
        return pixel_classes(pixel_probabilities(logits), self.threshold)

    def compare_int8(self) -> dict:
        """As of every task; the error is that of other images.

        Images of one patient count as independent: where they are alike the
        error is larger than said, and int8 is refused too early rather than
        too late.
        """
        before, after = (
            overlap_scores(self._counts[kind])['dice'].mean(1)
            for kind in ('fp32', 'int8')
        )
        lost, apart = before - after, self._apart['int8']
        error = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else 0
        return dict(
            points_lost=100 * float(lost.mean()),
            standard_error=100 * float(error),
            limit=self.wishes.int8_limit,
            same_pixels=apart.same_answers,
            max_logit_difference=apart.most,
            rms_logit_difference=apart.rms,
        )

    def fit(self) -> None:
        """Nothing: the threshold is that of the run's validation."""

    @property
    def temperature(self) -> float:
        return 1.0

    def check_image(self, kind: str, path: Path) -> dict:
        chosen, spec = self.val.part(_IMAGES), self.run.spec
        answer = graph_of(self.path(kind))
        wanted = [
            pixel_probabilities(answer(part)) for part in chosen.batches()
        ]
        pixels = (
            read_stored(name, spec.channels, spec.bits)
            for name in chosen.paths
        )
        found = of_images(
            path, (one.reshape(*one.shape[:2], -1) for one in pixels)
        )
        return same_probabilities(
            path.stem, np.concatenate(wanted), found, int8=kind == 'int8'
        )

    def figures_by_part(self, kind: str) -> dict[str, float | None]:
        return {name: self.measured[kind].get(name) for name in _OVERLAP}

    def manifest(self) -> SegmentorManifest:
        words = described(self, self.measured['fp32'])
        return SegmentorManifest(**words, threshold=self.threshold)
