# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The files of an export, each checked once it is written."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx

from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.evaluation.calibration import fit_temperature
from hkd_mm.evaluation.classification_scores import classification_scores
from hkd_mm.evaluation.int8_gate import compare_int8, refuse_int8
from hkd_mm.evaluation.segmentation_scores import (
    add_patients,
    by_patient,
    confusion_counts,
    means,
    overlap_scores,
)
from hkd_mm.export.checks import (
    Differences,
    close,
    figures,
    graph_of,
    of_images,
    of_torch,
    probabilities,
    same_logits,
    same_probabilities,
)
from hkd_mm.export.confidence import fit_threshold
from hkd_mm.export.folder import HAIRS, NAMES, described
from hkd_mm.export.graphs import (
    export_network,
    plain_network,
    save,
    whole_graph,
)
from hkd_mm.export.int8 import BATCH, quantise
from hkd_mm.export.samples import (
    Samples,
    Slices,
    balanced_choice,
    read_samples,
    read_slices,
)
from hkd_mm.inference.manifest_fields import (
    ClassifierManifest,
    FileSpec,
    Manifest,
    SegmentorManifest,
    Threshold,
    file_spec,
)
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.inference.segmentor import pixel_classes, pixel_probabilities
from hkd_mm.io.images import read_stored
from hkd_mm.io.progress import Progress

_EXECUTORCH = 8  # images that student.pte is checked on


class Exporter(ABC):
    """One export under way; what a task asks of it stands in the children.

    Args:
        run: what is exported.
        wishes: see :class:`.run_export.ExportOptions`.
        place: where the files are written.
        say: takes lines on what is done.

    Attributes:
        score: key and title of the figure that int8 may not lose.
        parts: title of what ``measured`` has beside it, see
            :meth:`figures_by_part`.
        files: kind -> file, as far as they are written.
        measured: kind -> figures on validation.
        checks: what was compared.
        calibrated: training images that int8 has seen.
        val: the validation images; ``len`` of it, and ``batches(size)``.
    """

    score: ClassVar[tuple[str, str]]
    parts: ClassVar[str]

    def __init__(
        self, run: SourceRun, wishes, place: Path, say: Callable[[str], None]
    ) -> None:
        self.run, self.wishes, self.place, self.say = run, wishes, place, say
        self.files: dict[str, FileSpec] = {}
        self.measured: dict[str, dict] = {}
        self.checks: dict[str, dict] = {}
        self.calibrated = 0

    def make(self) -> Manifest:
        """Write all files but the card and the manifest.

        Raises:
            UserError: a file does not answer as it should.
        """
        self.say(f'{self.run.folder}: reading the validation images')
        self.val = self.read('val')
        if self.run.hairs_removed:
            self.say(f'ATTENTION: {HAIRS}')
        self._fp32()
        if self.wishes.int8:
            self._int8()
        self.fit()
        if self.wishes.with_preprocessing:
            for kind in list(self.measured):
                self._image(kind)
        if self.wishes.executorch:
            self._executorch()
        return self.manifest()

    @abstractmethod
    def read(self, split: str, count: int | None = None) -> Any:
        """Images of ``train`` or ``val``, at most so many.

        Raises:
            UserError: they are not here, or not those of the run.
        """

    @abstractmethod
    def measure(self, kind: str) -> None:
        """Let a written graph answer the validation images.

        Adds its figures to ``measured``; of ``fp32`` adds ``logits`` to
        ``checks``.

        Raises:
            UserError: the graph is not the trained network.
        """

    @abstractmethod
    def compare_int8(self) -> dict:
        """What int8 costs: ``points_lost`` of the score, its
        ``standard_error``, the ``limit`` and ``max_logit_difference``; of a
        classifier ``recall`` and ``recall_limit`` as well.
        """

    @abstractmethod
    def fit(self) -> None:
        """Fit to validation what comes behind the logits."""

    @property
    @abstractmethod
    def temperature(self) -> float:
        """That divides the logits."""

    @abstractmethod
    def check_image(self, kind: str, path: Path) -> dict:
        """Hold a graph that takes images against the one behind it.

        Args:
            kind: of the graph behind it.
            path: of the graph.

        Raises:
            UserError: they do not answer alike.
        """

    @abstractmethod
    def figures_by_part(self, kind: str) -> dict[str, float | None]:
        """What is told of a graph line by line, in [0, 1]."""

    @abstractmethod
    def manifest(self) -> Manifest:
        """Describe the files, when all is done."""

    def path(self, kind: str) -> Path:
        """Of a file."""
        return self.place / NAMES[kind]

    def _add(self, kind: str, takes: str, gives: str) -> None:
        self.files[kind] = file_spec(self.path(kind), takes, gives)

    def _fp32(self) -> None:
        self.say(f'{self.run.architecture}: writing {NAMES["fp32"]}')
        save(export_network(self.run), self.path('fp32'))
        self.measure('fp32')
        self._add('fp32', 'tensor', 'logits')

    def _int8(self) -> None:
        train = self.read('train', self.wishes.calibration_images)
        self.calibrated = len(train)
        self.say(f'int8: calibrating on {self.calibrated} training images')
        bits = self.wishes.weight_bits
        quantise(
            self.path('fp32'),
            self.path('int8'),
            watched(train.batches(BATCH), 'calibrating', len(train)),
            bits,
        )
        self.measure('int8')
        self._add('int8', 'tensor', 'logits')
        costs = self.compare_int8()
        found = self.checks['int8'] = dict(costs, weight_bits=bits)
        strict = self.wishes.int8_strict
        found['limit_note'] = refuse_int8(costs, self.score[1], strict)
        if found['limit_note']:
            self.say(f'warning: {found["limit_note"]}')

    def _image(self, kind: str) -> None:
        whole = f'{kind}_image'
        self.say(f'{NAMES[whole]}: putting the resize into the graph')
        network = onnx.load(self.path(kind))
        spec = self.run.spec
        save(whole_graph(network, spec, self.temperature), self.path(whole))
        self.checks[whole] = self.check_image(kind, self.path(whole))
        self._add(whole, 'image', 'probabilities')

    def _executorch(self) -> None:
        from hkd_mm.export.executorch_file import write_executorch

        self.say(f'{NAMES["executorch"]}: lowering to ExecuTorch')
        given = next(self.val.batches(_EXECUTORCH))
        found = write_executorch(self.run, self.path('executorch'), given)
        self.checks['executorch'] = same_logits(
            of_torch(plain_network(self.run), given),
            found,
            'student.pte is not the trained network',
        )
        self._add('executorch', 'tensor', 'logits')


def watched(
    batches: Iterator[np.ndarray], what: str, total: int
) -> Iterator[np.ndarray]:
    """Pass batches on and show how many images there were.

    Args:
        batches: (B, ...) each.
        what: is done to them.
        total: images of all batches.
    """
    with Progress(what, total, 'images') as progress:
        for batch in batches:
            yield batch
            progress.advance(len(batch))


_PHOTOGRAPHS = 32  # that graphs with a resize are checked on
_TINY = 1e-300  # probabilities come from logits, nothing is rounded


class ClassifierMaking(Exporter):
    """Of a network that gives an image a class.

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
            network = plain_network(self.run)
            trained = [
                of_torch(network, part) for part in self._batches('comparing')
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


_IMAGES = 8  # that graphs with a resize are checked on
_OVERLAP = ('dice', 'iou', 'sensitivity', 'precision')


class SegmentorMaking(Exporter):
    """Of a network that gives every pixel a class.

    Validation images go through two networks at a time and are forgotten; what
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
            other = partial(of_torch, plain_network(self.run))
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
