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
from hkd_mm.export.checks import Differences
from hkd_mm.export.graphs import save, tidied

BATCH = 16  # images that calibration feeds together
_LAYERS = ('Conv', 'Gemm', 'MatMul')
ONE_SIDED = 1.645  # standard errors: 5 % of chance lies above
CHANCE = 0.05
_REMEDY = 'calibrate on more images, allow more, or give --no-int8'


class _Reader(quantization.CalibrationDataReader):
    """Feed batches to onnxruntime."""

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
    """Write the int8 graph of a network: QDQ, a scale a weight channel.

    Ranges of activations are the least and the most that calibration has
    seen. The first convolution and the last layer stay float32: they are
    small, and see the widest values.

    Args:
        fp32: of :func:`.graphs.export_network`.
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
        nodes = onnx.load(ready).graph.node
        first = [node.name for node in nodes if node.op_type == 'Conv'][:1]
        last = [node.name for node in nodes if node.op_type in _LAYERS][-1:]
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
            nodes_to_exclude=first + last,
        )
    finally:
        ready.unlink(missing_ok=True)
    save(tidied(onnx.load(out)), out)


def compare_int8(
    fp32: np.ndarray,
    int8: np.ndarray,
    labels: np.ndarray,
    measured: dict[str, dict],
    limit: float,
    recall_limit: float,
) -> dict[str, Any]:
    """Measure what int8 costs, from logits (N, C) and :func:`.checks.figures`.

    ``points_lost`` and their standard error are of balanced accuracy. The
    error is that of other validation images: of each class the answers that
    turned wrong less those that turned right, their variance over its
    images. ``recall`` has the same of each class that has images.
    """
    before, after = measured['fp32'], measured['int8']
    lost = before['balanced_accuracy'] - after['balanced_accuracy']
    apart = Differences()
    apart.add(fp32, int8)
    apart.add_answers(fp32.argmax(1), int8.argmax(1))
    # 1 where an answer turned wrong, -1 where it turned right
    turned = (fp32.argmax(1) == labels).astype(int)
    turned -= int8.argmax(1) == labels
    parts = {
        name: turned[labels == label]
        for label, name in enumerate(before['recall'])
        if (labels == label).any()
    }
    return dict(
        points_lost=100 * lost,
        standard_error=100 * _standard_error(list(parts.values())),
        limit=limit,
        recall_limit=recall_limit,
        recall=_recall(parts),
        same_answers=apart.same_answers,
        max_logit_difference=apart.most,
        rms_logit_difference=apart.rms,
    )


def _standard_error(parts: list[np.ndarray]) -> float:
    """Of the difference of two balanced accuracies on the same images."""
    # an error rate of none or all of two images says nothing of the rest
    variances = [p.var(ddof=1) / len(p) for p in parts if len(p) > 1]
    return float(np.sqrt(sum(variances)) / len(parts))


def _recall(parts: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """What each class lost.

    ``p`` is that of an exact sign test: how often as many of the answers
    that changed turn wrong where right and wrong are as likely; adjusted
    after Holm, for the classes are tested together.
    """
    found = {}
    for name, part in parts.items():
        wrong, right = int((part > 0).sum()), int((part < 0).sum())
        changed = wrong + right
        p = 1.0
        if changed:
            p = binomtest(wrong, changed, alternative='greater').pvalue
        found[name] = dict(
            images=len(part),
            turned_wrong=wrong,
            turned_right=right,
            points_lost=100 * (wrong - right) / len(part),
            p=p,
        )
    adjusted = holm([one['p'] for one in found.values()])
    for one, p in zip(found.values(), adjusted, strict=True):
        one['p'] = float(p)
    return found


def refuse_int8(
    costs: dict[str, Any],
    score: str = 'balanced accuracy',
    strict: bool = False,
) -> str | None:
    """Refuse an int8 network that lost too much, in all or in one class.

    More than a limit is too much where chance does not explain it, in a
    one-sided test at 5 %: in a few validation images a loss of a point is no
    different from none.

    Args:
        costs: of :meth:`.exporter.Exporter.compare_int8`.
        score: what the points are of.
        strict: a loss that may be chance is too much as well.

    Returns:
        Note on losses above a limit that may be chance, else None.

    Raises:
        UserError: naming the class and what can be done.
    """
    doubts = []
    for loss, may_be_chance in _losses(costs, score):
        if strict and may_be_chance:
            loss += '; that may be chance, which --int8-strict refuses'
        if strict or not may_be_chance:
            raise UserError(f'{loss}; {_REMEDY}; nothing was written')
        doubts.append(loss)
    if not doubts:
        return None
    return f'{"; ".join(doubts)}; that may be chance: more images would tell'


def _losses(costs: dict[str, Any], score: str) -> Iterator[tuple[str, bool]]:
    """Losses above a limit, and whether each may be chance."""
    lost, error = costs['points_lost'], costs['standard_error']
    if lost > costs['limit']:
        yield (
            f'int8 loses {lost:.2f} points of {score} on the validation split '
            f'(standard error {error:.2f}), more than '
            f'--int8-limit {costs["limit"]:g}',
            lost <= ONE_SIDED * error,
        )
    by_class = sorted(
        costs.get('recall', {}).items(),
        key=lambda item: (item[1]['p'], -item[1]['points_lost']),
    )
    for name, one in by_class:  # the least likely to be chance first
        if one['points_lost'] > costs['recall_limit']:
            yield (
                f'int8 loses {one["points_lost"]:.2f} points of the recall of '
                f'{name} on the validation split (of {one["images"]} images '
                f'{one["turned_wrong"]} turned wrong and '
                f'{one["turned_right"]} right), more than '
                f'--int8-recall-limit {costs["recall_limit"]:g}',
                one['p'] > CHANCE,
            )
