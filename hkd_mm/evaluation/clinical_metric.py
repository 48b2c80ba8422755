# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The metric of every run: accuracy, balance, discrimination, calibration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import (
    answers_one_class,
    classification_scores,
)
from hkd_mm.evaluation.stored_metric import StoredMetric
from hkd_mm.registry import METRICS


@METRICS.register_module()
class ClinicalMetric(StoredMetric):
    """Metrics of a single-label classifier that clinicians ask for.

    Those of :func:`classification_scores`: over all samples and, as ``<class>/f1``,
    for each class. A model that predicts one class for every sample is warned of, once
    until it predicts others again. Names carry no prefix unless one is set.

    After an evaluation ``last`` holds, on rank 0, ``scores`` (N, C) float32,
    ``labels`` (N,) int64, ``sample_ids`` and ``confusion``, true class by row.
    """

    _one_class = False  # at the last evaluation
    _reported: frozenset[str] = frozenset()  # classes without an AUROC

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep one batch: a ``PackedPredictions``, or a dict a sample.

        That has ``pred_score`` (C,) probabilities, ``gt_label`` one int64, and
        ``sample_id`` if the pipeline packs it.
        """
        if data_samples and 'batch_scores' in data_samples[0]:
            for batch in data_samples:
                self.process_batch(
                    batch['batch_scores'],
                    batch['batch_labels'],
                    index=batch['batch_index'],
                )
            return
        if data_samples:
            for key in ('pred_score', 'gt_label'):
                if key not in data_samples[0]:
                    raise UserError(
                        f'ClinicalMetric found no {key} in the predictions: '
                        'it needs a classifier and a labelled data set'
                    )
            self.process_batch(
                torch.stack([s['pred_score'] for s in data_samples]),
                torch.cat([s['gt_label'].reshape(-1) for s in data_samples]),
                [s.get('sample_id') for s in data_samples],
            )

    def process_batch(
        self,
        scores: torch.Tensor,
        labels: torch.Tensor,
        sample_ids: Sequence[str | None] | None = None,
        index: torch.Tensor | None = None,
    ) -> None:
        """Keep one batch given as whole tensors; does not wait for a device.

        Scores are (N, C) probabilities on any device, labels (N,) int64, and so is
        ``index``, rows in the packed store, instead of ``sample_ids``.
        """
        if len(labels) != len(scores):
            raise UserError(
                f'ClinicalMetric got {len(labels)} labels for '
                f'{len(scores)} samples: one label each is needed'
            )
        names = list(sample_ids or [None] * len(scores))
        if index is not None:
            names = index.detach()
        self.results.append((scores.detach(), labels.detach(), names))

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect from all ranks, drop samples that pad them, compute."""
        batches, self.results = self.results, []
        if batches:  # ranks exchange samples, so that padding can be cut off
            scores = torch.cat([b[0] for b in batches]).float().cpu().numpy()
            labels = torch.cat([b[1] for b in batches]).cpu().tolist()
            names = []
            for *_, part in batches:
                if torch.is_tensor(part):  # rows of the packed store
                    part = self.sample_names(part)
                names += part
            self.results = list(zip(scores, labels, names))
        return super().evaluate(size)

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results:
            raise UserError(
                'ClinicalMetric has nothing to evaluate: the data '
                'set of this loop is empty'
            )
        scores = np.stack([r[0] for r in results]).astype(np.float32)
        labels = np.array([r[1] for r in results], dtype=np.int64)
        names = [r[2] for r in results]
        classes = self.class_names(scores.shape[1])
        _check(scores, labels, names)
        metrics, confusion = classification_scores(scores, labels, classes)
        self.last = dict(
            scores=scores, labels=labels, sample_ids=names, confusion=confusion
        )
        self._report_left_out(metrics, classes, len(labels))
        self._warn_of_one_class(metrics, classes)
        return metrics

    def _report_left_out(self, metrics: dict, classes: list[str], total: int) -> None:
        """Log once each class whose AUROC is undefined here."""
        for name in classes:
            if f'{name}/auroc' in metrics or name in self._reported:
                continue
            self._reported |= {name}
            kind = 'positives' if not metrics[f'{name}/support'] else 'negatives'
            MMLogger.get_current_instance().info(
                f'class {name} has no {kind} among the {total} evaluated samples: its '
                'AUROC is undefined and left out of the macro average'
            )

    def _warn_of_one_class(self, metrics: dict, classes: Sequence[str]) -> None:
        """Warn of a collapsed model when it begins, not at every epoch."""
        before, self._one_class = self._one_class, answers_one_class(metrics)
        if before or not self._one_class:
            return
        counts = self.last['confusion'].sum(0)
        present = int((self.last['confusion'].sum(1) > 0).sum())
        MMLogger.get_current_instance().warning(
            f'ONE CLASS ONLY: the model predicts {classes[counts.argmax()]} '
            f'for all {counts.sum()} samples, which are of {present} classes; '
            'if this lasts, lower optim_wrapper.optimizer.lr, warm up longer, '
            'or start from pretrained weights'
        )


def _check(scores: np.ndarray, labels: np.ndarray, names: list) -> None:
    """Refuse what would silently turn into wrong numbers."""
    bad = ~np.isfinite(scores).all(1)
    if bad.any():
        first = names[int(bad.argmax())] or f'number {int(bad.argmax())}'
        raise UserError(
            f'scores of {int(bad.sum())} of {len(scores)} samples are NaN or '
            f'infinite (first: sample {first}): the network has diverged; '
            'lower optim_wrapper.optimizer.lr or clip gradients'
        )
    wrong = (labels < 0) | (labels >= scores.shape[1])
    if wrong.any():
        first = int(wrong.argmax())
        raise UserError(
            f'sample {names[first] or f"number {first}"} has label {labels[first]}, '
            f'but the network gives {scores.shape[1]} scores: num_classes of the head '
            'must equal the classes of the data set'
        )
    # bfloat16 softmax is off by a few 1e-3
    if scores.min() < 0 or np.abs(scores.sum(1) - 1).max() > 0.02:
        raise UserError(
            'pred_score holds no probabilities (rows do not sum to 1), so '
            'calibration cannot be measured: the head must apply a softmax'
        )
