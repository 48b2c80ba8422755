# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Compare answers of exported files with those of the trained network."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.evaluation import selective
from hkd_mm.evaluation.calibration import softmax, temperature_note
from hkd_mm.evaluation.classification_scores import classification_scores
from hkd_mm.inference.manifest import Threshold

LOGITS = 1e-4  # of an image's largest logit, or of 1 where that is smaller
IMAGES = dict(fp32=1e-3, int8=2e-2)  # probabilities
PIXELS = 2e-3  # of int8, mean over those of an image


@torch.no_grad()
def torch_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Logits of the trained network, for images (N, C, H, W) float32."""
    return network(torch.from_numpy(images)).numpy()


def graph_of(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Open a graph, on the CPU with torch's threads, as a function."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )
    return lambda images: session.run(None, dict(images=images))[0]


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """``softmax(logits / temperature)`` in float64, (N, C)."""
    return softmax(logits.astype(np.float64), temperature)


def figures(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict:
    """Balanced accuracy, and each class's recall, None without images."""
    metrics, _ = classification_scores(logits, labels, classes)
    return dict(
        balanced_accuracy=metrics['balanced_accuracy'],
        recall={name: metrics.get(f'{name}/sensitivity') for name in classes},
    )


class Differences:
    """Differences of two networks' logits, and of the classes they name."""

    def __init__(self) -> None:
        # the largest; the largest in an image as a part of its own largest above 1
        self.most = self.scaled = 0.0
        self._squares, self._count = 0.0, 0
        self._same, self._answers = 0, 0

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        apart = np.abs(one - other)
        most, largest = (
            np.abs(values).reshape(len(one), -1).max(1) for values in (apart, one)
        )
        scaled = most / np.maximum(1.0, largest)
        # np.maximum keeps NaN
        self.most = float(np.maximum(self.most, most.max()))
        self.scaled = float(np.maximum(self.scaled, scaled.max()))
        self._squares += float(np.square(apart, dtype=np.float64).sum())
        self._count += apart.size

    def add_answers(self, one: np.ndarray, other: np.ndarray) -> None:
        self._same += int((one == other).sum())
        self._answers += one.size

    @property
    def rms(self) -> float:
        return float(np.sqrt(self._squares / self._count))

    @property
    def same_answers(self) -> float:
        return self._same / self._answers


def same_logits(trained: np.ndarray, graph: np.ndarray, **messages) -> dict[str, float]:
    """Compare logits (N, C) of two networks, see :func:`check_logits`."""
    apart = Differences()
    apart.add(trained, graph)
    return check_logits(apart, **messages)


def check_logits(
    apart: Differences,
    wrong: str = 'the ONNX graph is not the trained network',
    remedy: str = 'nothing was written',
) -> dict[str, float]:
    """Refuse differences of logits above the limit; the largest are returned."""
    if not apart.scaled <= LOGITS:
        raise UserError(
            f'{wrong}: logits differ by {apart.scaled:.2e} of the largest of '
            f'an image (limit {LOGITS:g}); {remedy}'
        )
    return dict(max=apart.most, scaled=apart.scaled, limit=LOGITS)


def same_probabilities(
    name: str, tensors: np.ndarray, images: np.ndarray, int8: bool = False
) -> dict[str, float]:
    """Compare probabilities of images resized by cv2 and in the graph.

    Of int8 pixels the mean over an image counts: some move far at the edge of a level.
    """
    apart = np.abs(tensors - images)
    limit = IMAGES['int8' if int8 else 'fp32']
    if int8 and apart.ndim == 4:
        apart, limit = apart.mean((2, 3)), PIXELS
    difference = float(apart.max())
    if not difference <= limit:
        raise UserError(
            f'{name}: the resize in the graph is not that of the training: '
            f'probabilities differ by {difference:.2e} (limit {limit:g}); '
            'nothing was written'
        )
    return dict(max=difference, limit=limit, images=len(images))


def fit_threshold(exporter) -> Threshold:
    """Find the probability from which answers are confident; warn of its weaknesses."""
    labels, lesions = exporter.val.labels, exporter.val.lesions
    checks, temperature = exporter.checks, exporter.temperature
    wanted = exporter.options.confident_accuracy
    scores = probabilities(exporter.logits['fp32'], temperature)
    found = selective.confidence_threshold(scores, labels, wanted, lesions)
    by_class = selective.confident_by_class(
        scores, labels, exporter.run.classes, found.probability
    )
    notes = [
        temperature_note(temperature, scores, labels),
        selective.classes_note(by_class),
    ]
    checks.update(
        confident_by_class=by_class,
        confident_lesions=None if lesions is None else len(set(lesions)),
        temperature_note=notes[0],
    )
    if 'int8' in exporter.logits:
        int8 = probabilities(exporter.logits['int8'], temperature)
        at = selective.answered(int8, labels, found.probability, lesions)
        notes.append(selective.int8_note(at.accuracy, at.coverage, wanted))
        checks['int8'].update(
            confident_coverage=at.coverage,
            confident_accuracy=at.accuracy,
            confident_note=notes[-1],
        )
    for note in filter(None, notes):
        exporter.report(f'warning: {note}')
    counted = 'the photographs of a lesion count as one answer'
    if lesions is None:
        counted = 'a photograph counts for itself, no lesion is known'
    rule = (
        'smallest probability whose answers at or above it reach an '
        f'accuracy of {wanted:g} on validation, over all classes together, '
        f'by the lower end of a 95 % Wilson interval; {counted}'
    )
    return Threshold(rule=rule, **found._asdict())
