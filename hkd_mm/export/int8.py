# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Static int8 of the student, and when its loss is too much."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import shape_inference
from scipy.stats import binomtest

from hkd_mm.errors import UserError
from hkd_mm.evaluation.significance import holm
from hkd_mm.export.graphs import save, tidied

BATCH = 16  # images that calibration feeds together
_LAYERS = ('Conv', 'Gemm', 'MatMul')


class _Reader(quantization.CalibrationDataReader):
    """Batches as onnxruntime asks for them."""

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else dict(images=batch)


def quantise(
    fp32: Path,
    out: Path,
    batches: Iterator[np.ndarray],
    weight_bits: int = 8,
) -> None:
    """Write the int8 graph of a network: QDQ, one scale for each weight
    channel.

    Ranges of activations are the least and the most that calibration has
    seen. The first convolution and the last layer stay float32: they are
    small, and see the widest values.

    Args:
        fp32: of :func:`.network_graph.export_network`.
        out: the file to write.
        batches: normalised training images, (B, C, H, W) float32 each.
        weight_bits: 8, or 7 for x86 processors without VNNI, where a sum of
            two products of eight bits overflows.
    """
    ready = out.with_name(f'{out.name}.ready')
    try:
        shape_inference.quant_pre_process(
            str(fp32), str(ready), skip_symbolic_shape=True
        )
        quantization.quantize_static(
            str(ready),
            str(out),
            _Reader(batches),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=_ends(onnx.load(ready)),
        )
    finally:
        ready.unlink(missing_ok=True)
    save(tidied(onnx.load(out)), out)


def _ends(model: onnx.ModelProto) -> list[str]:
    """Names of the first convolution and the last layer."""
    nodes = model.graph.node
    first = [node.name for node in nodes if node.op_type == 'Conv'][:1]
    last = [node.name for node in nodes if node.op_type in _LAYERS][-1:]
    return first + last


ONE_SIDED = 1.645  # standard errors: 5 % of chance lies above
CHANCE = 0.05
_CURE = 'calibrate on more images, allow more, or give --no-int8'


def compare_int8(
    fp32: np.ndarray,
    int8: np.ndarray,
    labels: np.ndarray,
    measured: dict[str, dict],
    limit: float,
    recall_limit: float,
) -> dict[str, Any]:
    """What int8 costs.

    ``points_lost`` and their standard error are of balanced accuracy. The
    error is that of other validation images: of each class the answers that
    turned wrong less those that turned right, their variance over its
    images. ``recall`` says the same of each class that has images.

    Args:
        fp32: (N, C) logits.
        int8: (N, C) logits.
        labels: (N,) int.
        measured: ``fp32`` and ``int8`` of :func:`.checks.figures`.
        limit: of the loss, in points of balanced accuracy.
        recall_limit: of the loss of one class, in points of its recall.
    """
    before, after = measured['fp32'], measured['int8']
    lost = before['balanced_accuracy'] - after['balanced_accuracy']
    return dict(
        points_lost=100 * lost,
        standard_error=100 * _standard_error(fp32, int8, labels),
        limit=limit,
        recall_limit=recall_limit,
        recall=_recall(fp32, int8, labels, list(before['recall'])),
        same_answers=float((fp32.argmax(1) == int8.argmax(1)).mean()),
        max_logit_difference=float(np.abs(fp32 - int8).max()),
        rms_logit_difference=float(np.sqrt(((fp32 - int8) ** 2).mean())),
    )


def _recall(
    fp32: np.ndarray, int8: np.ndarray, labels: np.ndarray, names: list[str]
) -> dict[str, dict[str, float]]:
    """Of each class with images, what it lost.

    ``p`` is that of an exact sign test: how often as many of the answers
    that changed turn wrong where right and wrong are as likely; adjusted
    after Holm, for the classes are tested together.
    """
    right, still = fp32.argmax(1) == labels, int8.argmax(1) == labels
    found = {}
    for place, name in enumerate(names):
        own = labels == place
        if not own.any():
            continue
        wrong = int((own & right & ~still).sum())
        mended = int((own & ~right & still).sum())
        changed = wrong + mended
        found[name] = dict(
            images=int(own.sum()),
            turned_wrong=wrong,
            turned_right=mended,
            points_lost=100 * (wrong - mended) / int(own.sum()),
            p=float(binomtest(wrong, changed, alternative='greater').pvalue)
            if changed
            else 1.0,
        )
    adjusted = holm([one['p'] for one in found.values()])
    for one, p in zip(found.values(), adjusted, strict=True):
        one['p'] = float(p)
    return found


def _standard_error(
    fp32: np.ndarray, int8: np.ndarray, labels: np.ndarray
) -> float:
    """Of the difference of two balanced accuracies on the same images."""
    lost = (fp32.argmax(1) == labels).astype(float)
    lost -= int8.argmax(1) == labels
    parts = [lost[labels == label] for label in np.unique(labels)]
    # an error rate of none or all of two images says nothing of the rest
    variances = [p.var(ddof=1) / len(p) for p in parts if len(p) > 1]
    return float(np.sqrt(sum(variances)) / len(parts))


def refuse_int8(
    costs: dict[str, Any],
    score: str = 'balanced accuracy',
    strict: bool = False,
) -> str | None:
    """Refuse an int8 network that lost too much, in all or in one class.

    More than a limit is too much where chance does not explain it, in a
    one-sided test at 5 %. A few validation images cannot tell a loss of a
    point from none.

    Args:
        costs: ``points_lost``, their ``standard_error`` and the ``limit``;
            of a classifier ``recall`` and ``recall_limit``, see
            :func:`compare_int8`.
        score: what the points are of.
        strict: a loss that may be chance is too much as well.

    Returns:
        What to tell of losses above a limit that may be chance, else None.

    Raises:
        UserError: naming the class and what can be done.
    """
    doubts = []
    for told, chance in (*_of_score(costs, score), *_of_classes(costs)):
        if not chance:
            raise UserError(f'{told}; {_CURE}; nothing was written')
        if strict:
            raise UserError(
                f'{told}; that may be chance, which --int8-strict does not '
                f'let pass; {_CURE}; nothing was written'
            )
        doubts.append(told)
    if not doubts:
        return None
    return f'{"; ".join(doubts)}; that may be chance: more images would tell'


def _of_score(costs: dict[str, Any], score: str) -> list[tuple[str, bool]]:
    lost, error = costs['points_lost'], costs['standard_error']
    if lost <= costs['limit']:
        return []
    told = (
        f'int8 loses {lost:.2f} points of {score} on the validation split '
        f'(standard error {error:.2f}), more than '
        f'--int8-limit {costs["limit"]:g}'
    )
    return [(told, lost <= ONE_SIDED * error)]


def _of_classes(costs: dict[str, Any]) -> list[tuple[str, bool]]:
    """Classes that lost more than the limit, the surest loss first."""
    above = [
        (name, one)
        for name, one in costs.get('recall', {}).items()
        if one['points_lost'] > costs['recall_limit']
    ]
    above.sort(key=lambda item: (item[1]['p'], -item[1]['points_lost']))
    return [
        (
            f'int8 loses {one["points_lost"]:.2f} points of the recall of '
            f'{name} on the validation split (of {one["images"]} images '
            f'{one["turned_wrong"]} turned wrong and {one["turned_right"]} '
            'right), more than --int8-recall-limit '
            f'{costs["recall_limit"]:g}',
            one['p'] > CHANCE,
        )
        for name, one in above
    ]
