# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The files of an export, each checked once it is written."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from mmcv import imresize

from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.datasets.splits import balanced_choice
from hkd_mm.evaluation import segmentation_scores as scoring
from hkd_mm.evaluation.calibration import fit_temperature
from hkd_mm.evaluation.classification_scores import classification_scores
from hkd_mm.evaluation.int8_gate import compare_int8, refuse_int8
from hkd_mm.export import checks, onnx_writer, samples
from hkd_mm.export.options import NAMES, ExportOptions
from hkd_mm.inference import manifest as manifests
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.inference.segmentor import pixel_classes, pixel_probabilities
from hkd_mm.io.files import read_record
from hkd_mm.io.images import read_stored
from hkd_mm.io.input_spec import normalised
from hkd_mm.io.progress import Progress
from hkd_mm.report.model_card import INTENDED_USE, LICENCE

_EXECUTORCH = 8  # images that student.pte is checked on
_PHOTOGRAPHS, _SLICES = 32, 8  # that graphs with a resize are checked on
_TINY = 1e-300  # probabilities come from logits, nothing is rounded
_OVERLAP = ('dice', 'iou', 'sensitivity', 'precision')
_HAIRS = (
    'the network was trained on images whose hairs were removed; here it is '
    'measured, and will be used, on photographs as they are'
)


@dataclass(eq=False)
class Exporter(ABC):
    """One export under way; what depends on the task is in the children."""

    score: ClassVar[tuple[str, str]]  # key and title of the figure int8 may not lose
    parts: ClassVar[str]  # title of ``by_part``
    run: SourceRun
    options: ExportOptions
    folder: Path
    report: Callable[[str], None]
    # by kind: the files that are written, their figures on validation, and those that
    # are printed line by line, in [0, 1]
    files: dict[str, manifests.FileSpec] = field(default_factory=dict)
    measured: dict[str, dict] = field(default_factory=dict)
    by_part: dict[str, dict[str, float | None]] = field(default_factory=dict)
    checks: dict[str, dict] = field(default_factory=dict)  # what was compared
    calibrated: int = 0  # training images that int8 has seen
    temperature: float = 1.0
    # of answers, or of pixels
    threshold: manifests.Threshold | float = field(init=False)

    def make(self) -> manifests.Manifest:
        """Write all files but the card and the manifest, and check each."""
        self.report(f'{self.run.folder}: reading the validation images')
        self.val = self.read('val')
        if self.run.hairs_removed:
            self.report(f'ATTENTION: {_HAIRS}')
        self.report(f'{self.run.architecture}: writing {NAMES["fp32"]}')
        model = onnx_writer.export_network(self.run, self.options.opset)
        onnx_writer.save(model, self.path('fp32'))
        self.measure('fp32')
        self._add('fp32')
        if self.options.int8:
            self._int8()
        self.fit()
        if self.options.with_preprocessing:
            for kind in list(self.measured):
                self._image(kind)
        for kind in self.files:
            self._add_metadata(kind)
        if self.options.executorch:
            self._executorch()
        return self.manifest()

    @abstractmethod
    def read(
        self, split: str, count: int | None = None
    ) -> samples.Samples | samples.Slices:
        """Read images of ``train`` or ``val``, at most so many."""

    @abstractmethod
    def measure(self, kind: str) -> None:
        """Add to ``measured``, and of ``fp32``, compared with torch, to ``checks``."""

    @abstractmethod
    def compare_int8(self) -> dict:
        """Measure what int8 costs, as :func:`.refuse_int8` takes it."""

    def fit(self) -> None:  # noqa: B027
        """Fit to validation what follows the logits, if anything does."""

    @abstractmethod
    def examples(self, kind: str) -> tuple[np.ndarray, Iterable[np.ndarray]]:
        """Probabilities of some images, and the images, (H, W, C) each."""

    @abstractmethod
    def manifest(self) -> manifests.Manifest:
        """Describe the files, when all is done."""

    def path(self, kind: str) -> Path:
        return self.folder / NAMES[kind]

    def describe(self, val: dict[str, float | None]) -> dict[str, Any]:
        """Values of a manifest, without those of its task."""
        run, name = self.run, self.run.folder.resolve().name
        tested = {
            key: value
            for key, value in read_record(run.folder / 'test.json').items()
            if isinstance(value, (int, float)) and value == value
        }
        hairs = f' Note: {_HAIRS}.' if run.hairs_removed else ''
        return dict(
            name=name,
            architecture=run.architecture,
            parameters=sum(p.numel() for p in run.network.parameters()),
            classes=tuple(run.classes),
            input=run.spec,
            files=self.files,
            split_hash=run.meta.get('split_hash'),
            source=dict(
                run=name,
                checkpoint=run.meta.get('source'),
                epoch=run.meta.get('epoch'),
                seed=run.meta.get('seed'),
                weights_sha256=run.weights_sha256,
            ),
            metrics=dict(val=val, test=tested or None),
            checks=dict(self.checks, images=len(self.val), measured=self.measured),
            calibration_images=self.calibrated,
            licence=LICENCE,
            notice=INTENDED_USE + hairs,
            created=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        )

    def _add(self, kind: str) -> None:
        image = kind.endswith('_image')
        ends = ('image', 'probabilities') if image else ('tensor', 'logits')
        self.files[kind] = manifests.file_spec(self.path(kind), *ends)

    def _add_metadata(self, kind: str) -> None:
        model = onnx.load(self.path(kind))
        threshold = getattr(self.threshold, 'probability', self.threshold)
        facts = dict(asdict(self.run.spec), classes=self.run.classes)
        facts.update(temperature=self.temperature, threshold=threshold)
        onnx.helper.set_model_props(
            model, {key: json.dumps(value) for key, value in facts.items()}
        )
        onnx_writer.save(model, self.path(kind), self.options.ir_version)
        self._add(kind)

    def _int8(self) -> None:
        train = self.read('train', self.options.calibration_images)
        self.calibrated = len(train)
        self.report(f'int8: calibrating on {self.calibrated} training images')
        bits = self.options.weight_bits
        batches = _watched(train.batches(onnx_writer.BATCH), 'calibrating', len(train))
        onnx_writer.quantise(self.path('fp32'), self.path('int8'), batches, bits)
        self.measure('int8')
        self._add('int8')
        costs = self.compare_int8()
        # recorded before it may be refused: the table shows it
        found = self.checks['int8'] = dict(costs, weight_bits=bits)
        strict = self.options.int8_strict
        note = found['limit_note'] = refuse_int8(costs, self.score[1], strict)
        if note:
            self.report(f'warning: {note}')

    def _image(self, kind: str) -> None:
        whole = f'{kind}_image'
        self.report(f'{NAMES[whole]}: putting the resize into the graph')
        network = onnx.load(self.path(kind))
        spec = self.run.spec
        path = self.path(whole)
        onnx_writer.save(onnx_writer.whole_graph(network, spec, self.temperature), path)
        wanted, images = self.examples(kind)
        graph = checks.graph_of(path)
        found = np.concatenate([graph(image[None]) for image in images])
        self.checks[whole] = checks.same_probabilities(
            path.stem, wanted, found, int8=kind == 'int8'
        )
        self._add(whole)

    def _executorch(self) -> None:
        self.report(f'{NAMES["executorch"]}: lowering to ExecuTorch')
        images = next(self.val.batches(_EXECUTORCH))
        found = onnx_writer.write_executorch(self.run, self.path('executorch'), images)
        self.checks['executorch'] = checks.same_logits(
            checks.torch_logits(onnx_writer.plain_network(self.run), images),
            found,
            wrong='student.pte is not the trained network',
        )
        self._add('executorch')


def _watched(
    batches: Iterator[np.ndarray], title: str, total: int
) -> Iterator[np.ndarray]:
    with Progress(title, total, 'images') as progress:
        for batch in batches:
            yield batch
            progress.advance(len(batch))


class ClassifierExporter(Exporter):
    """Export of a network that gives an image a class."""

    score = ('balanced_accuracy', 'balanced accuracy')
    parts = 'recall of each class'

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.logits: dict[str, np.ndarray] = {}  # (N, C) on validation

    def read(self, split: str, count: int | None = None) -> samples.Samples:
        return samples.read_samples(self.run, split, count)

    def measure(self, kind: str) -> None:
        graph = checks.graph_of(self.path(kind))
        found = self._answers(graph, f'measuring {kind}')
        self.logits[kind] = found
        self.measured[kind] = checks.figures(found, self.val.labels, self.run.classes)
        self.by_part[kind] = self.measured[kind]['recall']
        if kind == 'fp32':
            network = partial(checks.torch_logits, onnx_writer.plain_network(self.run))
            trained = self._answers(network, 'comparing')
            self.checks['logits'] = checks.same_logits(trained, found)

    def _answers(
        self, network: Callable[[np.ndarray], np.ndarray], title: str
    ) -> np.ndarray:
        batches = _watched(self.val.batches(), title, len(self.val))
        return np.concatenate([network(batch) for batch in batches])

    def compare_int8(self) -> dict:
        limits = self.options.int8_limit, self.options.int8_recall_limit
        before, after = self.logits['fp32'], self.logits['int8']
        return compare_int8(before, after, self.val.labels, self.measured, *limits)

    def fit(self) -> None:
        scores = checks.probabilities(self.logits['fp32'])
        self.temperature = fit_temperature(scores, self.val.labels, _TINY)
        self.threshold = checks.fit_threshold(self)

    def examples(self, kind: str) -> tuple[np.ndarray, Iterable[np.ndarray]]:
        chosen = np.sort(balanced_choice(self.val.labels, _PHOTOGRAPHS))
        paths = [self.val.paths[i] for i in chosen]
        first = read_image(paths[0])
        scaled = [imresize(first, size) for size in samples.USUAL_SIZES]
        seen = normalised(samples.as_seen(scaled, self.run.spec), self.run.spec)
        logits = checks.graph_of(self.path(kind))(seen)
        logits = np.concatenate([self.logits[kind][chosen], logits])
        images = (one[..., ::-1] for one in chain(map(read_image, paths), scaled))
        wanted = checks.probabilities(logits, self.temperature)
        return wanted, map(np.ascontiguousarray, images)

    def manifest(self) -> manifests.ClassifierManifest:
        scores = checks.probabilities(self.logits['fp32'], self.temperature)
        val, _ = classification_scores(scores, self.val.labels, self.run.classes)
        return manifests.ClassifierManifest(
            **self.describe(val), temperature=self.temperature, threshold=self.threshold
        )


class SegmentorExporter(Exporter):
    """Export of a network that gives every pixel a class.

    Validation images go through two networks at a time and are forgotten; what is kept
    of each is (classes, classes) counts of pixels.
    """

    score = ('dice', 'Dice')
    parts = 'means over the images'

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.threshold = self.run.pixel_threshold
        self._counts: dict[str, np.ndarray] = {}
        self._apart: dict[str, checks.Differences] = {}

    def read(self, split: str, count: int | None = None) -> samples.Slices:
        return samples.read_slices(self.run, split, count)

    def measure(self, kind: str) -> None:
        graph, apart = checks.graph_of(self.path(kind)), checks.Differences()
        if kind == 'fp32':
            other = partial(checks.torch_logits, onnx_writer.plain_network(self.run))
        else:
            other = checks.graph_of(self.path('fp32'))
        counts = []
        with Progress(f'measuring {kind}', len(self.val), 'images') as progress:
            for images, masks in self.val.pairs():
                logits, known = graph(images), other(images)
                found = self._classes_of(logits)
                apart.add(known, logits)
                apart.add_answers(self._classes_of(known), found)
                counts += [
                    scoring.confusion_counts(one, mask, len(self.run.classes))
                    for one, mask in zip(found, masks, strict=True)
                ]
                progress.advance(len(images))
        self._counts[kind], self._apart[kind] = np.stack(counts), apart
        scores = scoring.overlap_scores(self._counts[kind])
        patients = self.val.values('patient_id')
        scoring.add_patients(scores, scoring.by_patient(self._counts[kind], patients))
        found = self.measured[kind] = scoring.means(scores, self.run.classes[1:])
        self.by_part[kind] = {name: found.get(name) for name in _OVERLAP}
        if kind == 'fp32':
            self.checks['logits'] = checks.check_logits(apart)

    def _classes_of(self, logits: np.ndarray) -> np.ndarray:
        return pixel_classes(pixel_probabilities(logits), self.threshold)

    def compare_int8(self) -> dict:
        # Images of one patient count as independent: where they are similar
        # the error is larger than reported, and int8 is refused too early
        # rather than too late.
        before, after = (
            scoring.overlap_scores(self._counts[kind])['dice'].mean(1)
            for kind in ('fp32', 'int8')
        )
        lost, apart = before - after, self._apart['int8']
        error = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else 0
        return dict(
            points_lost=100 * float(lost.mean()),
            standard_error=100 * float(error),
            limit=self.options.int8_limit,
            same_pixels=apart.same_answers,
            max_logit_difference=apart.most,
            rms_logit_difference=apart.rms,
        )

    def examples(self, kind: str) -> tuple[np.ndarray, Iterable[np.ndarray]]:
        chosen, spec = self.val.part(_SLICES), self.run.spec
        graph = checks.graph_of(self.path(kind))
        logits = np.concatenate([graph(batch) for batch in chosen.batches()])
        paths = chosen.values('img_path')
        images = (read_stored(path, spec.channels, spec.bits) for path in paths)
        planes = (one.reshape(*one.shape[:2], -1) for one in images)
        return pixel_probabilities(logits), planes

    def manifest(self) -> manifests.SegmentorManifest:
        return manifests.SegmentorManifest(
            **self.describe(self.measured['fp32']), threshold=self.threshold
        )
