# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ClinicalMetric against hand-made and naively computed values."""

import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

import hkd_mm.evaluation.clinical_metric as module
from hkd_mm.errors import UserError
from hkd_mm.evaluation.clinical_metric import ClinicalMetric
from hkd_mm.registry import METRICS


def evaluate(scores, labels, classes=None, batch=4, size=None, metric=None):
    """Run the metric on (N, C) scores through mmpretrain's data samples."""
    metric = metric or ClinicalMetric()
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dict(classes=classes) if classes else None
    samples = []
    for index, (row, label) in enumerate(zip(scores, labels)):
        sample = DataSample(metainfo=dict(sample_id=f'id{index}'))
        sample.set_pred_score(torch.as_tensor(row, dtype=torch.float32))
        sample.set_gt_label(int(label))
        samples.append(sample)
    for start in range(0, len(samples), batch):
        evaluator.process(samples[start : start + batch])
    return evaluator.evaluate(len(samples) if size is None else size), metric


def softmax_scores(num, classes, seed=0):
    """Random (num, classes) float32 probabilities and labels, all present."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate(
        [np.arange(classes), rng.integers(0, classes, num - classes)]
    )
    logits = rng.normal(size=(num, classes)) * 1.5
    logits[np.arange(num), labels] += 1
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return scores.astype(np.float32), labels


def naive(scores, labels):
    """Every metric from its definition, with loops and no library."""
    num, classes = scores.shape
    pred = [int(np.argmax(row)) for row in scores]
    out, columns = {}, {}
    for c in range(classes):
        tp = sum(p == c and y == c for p, y in zip(pred, labels))
        fp = sum(p == c and y != c for p, y in zip(pred, labels))
        fn = sum(p != c and y == c for p, y in zip(pred, labels))
        tn = num - tp - fp - fn
        pos = [scores[i, c] for i in range(num) if labels[i] == c]
        neg = [scores[i, c] for i in range(num) if labels[i] != c]
        if not pos:
            continue
        wins = sum((p > n) + 0.5 * (p == n) for p in pos for n in neg)
        columns[c] = dict(
            precision=tp / (tp + fp) if tp + fp else 0.0,
            sensitivity=tp / (tp + fn),
            specificity=tn / (tn + fp) if tn + fp else None,
            f1=2 * tp / (2 * tp + fp + fn),
            auroc=wins / (len(pos) * len(neg)) if neg else None,
            support=tp + fn,
        )
        out.update(
            {f'class_{c}/{k}': v for k, v in columns[c].items() if v is not None}
        )
    for name, key in (
        ('balanced_accuracy', 'sensitivity'),
        ('macro_f1', 'f1'),
        ('macro_precision', 'precision'),
        ('macro_specificity', 'specificity'),
        ('macro_auroc', 'auroc'),
    ):
        values = [v[key] for v in columns.values() if v[key] is not None]
        if values:
            out[name] = sum(values) / len(values)
    out['weighted_f1'] = sum(v['f1'] * v['support'] for v in columns.values()) / num
    out['top1'] = sum(p == y for p, y in zip(pred, labels)) / num
    out['predicted_classes'] = len(set(pred))
    k = min(5, classes)
    out['top5'] = (
        sum(
            int(y) in sorted(range(classes), key=lambda c: -row[c])[:k]
            for row, y in zip(scores, labels)
        )
        / num
    )
    out['ece'] = 0.0
    for b in range(15):
        inside = [i for i in range(num) if b / 15 < scores[i].max() <= (b + 1) / 15]
        if inside:
            accuracy = np.mean([pred[i] == labels[i] for i in inside])
            confidence = np.mean([float(scores[i].max()) for i in inside])
            out['ece'] += len(inside) / num * abs(accuracy - confidence)
    return out


@pytest.mark.parametrize(
    'num, classes', [(60, 2), (97, 3), (150, 6), (130, 7), (200, 9)]
)
def test_equals_naive_definitions(num, classes):
    scores, labels = softmax_scores(num, classes, seed=classes)
    found, _ = evaluate(scores, labels, batch=13)
    wanted = naive(scores, labels)
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=1e-6), key
    assert set(found) == set(wanted)


HAND = dict(
    scores=[
        [0.8, 0.1, 0.1],
        [0.6, 0.3, 0.1],
        [0.3, 0.4, 0.3],
        [0.2, 0.7, 0.1],
        [0.5, 0.2, 0.3],
        [0.1, 0.2, 0.7],
    ],
    labels=[0, 0, 0, 1, 2, 2],
)


def test_six_samples_by_hand():
    # predictions 0 0 1 1 0 2: rows of the matrix [2 1 0] [0 1 0] [1 0 1]
    found, metric = evaluate(**HAND, classes=['a', 'b', 'c'])
    assert metric.last['confusion'].tolist() == [
        [2, 1, 0],
        [0, 1, 0],
        [1, 0, 1],
    ]
    wanted = {
        'top1': 4 / 6,
        'top5': 1.0,
        'balanced_accuracy': (2 / 3 + 1 + 0.5) / 3,
        'a/precision': 2 / 3,
        'b/precision': 1 / 2,
        'c/precision': 1.0,
        'a/specificity': 2 / 3,
        'b/specificity': 4 / 5,
        'c/specificity': 1.0,
        'a/f1': 2 / 3,
        'b/f1': 2 / 3,
        'c/f1': 2 / 3,
        'macro_f1': 2 / 3,
        'weighted_f1': 2 / 3,
        'a/support': 3,
        'b/support': 1,
        'c/support': 2,
        # a: .8 .6 .3 over .2 .5 .1 -> 8 of 9 pairs; b: .7 over all five;
        # c: .3 .7 over .1 .1 .3 .1 -> (3 + .5 + 4) of 8
        'a/auroc': 8 / 9,
        'b/auroc': 1.0,
        'c/auroc': 7.5 / 8,
        # each confidence .8 .6 .4 .7 .5 .7 but the two .7 alone in its bin
        'ece': (0.2 + 0.4 + 0.4 + 0.5 + 0.6) / 6,
    }
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=1e-6), key


def test_last_keeps_scores_ids_and_order():
    _, metric = evaluate(**HAND, batch=4)
    assert metric.last['scores'].dtype == np.float32
    np.testing.assert_allclose(metric.last['scores'], HAND['scores'])
    assert metric.last['labels'].tolist() == HAND['labels']
    assert metric.last['sample_ids'] == [f'id{i}' for i in range(6)]


def test_a_class_absent_from_the_labels():
    scores, labels = softmax_scores(80, 4)
    labels[labels == 2] = 1
    found, _ = evaluate(scores, labels)
    assert found['class_2/support'] == 0
    assert 'class_2/auroc' not in found
    assert 'class_2/sensitivity' not in found
    wanted = naive(scores, labels)
    for key in (
        'balanced_accuracy',
        'macro_f1',
        'macro_auroc',
        'ece',
        'macro_precision',
        'macro_specificity',
        'weighted_f1',
    ):
        assert found[key] == pytest.approx(wanted[key], abs=1e-6), key


def test_left_out_auroc_is_said_once(monkeypatch):
    said = []
    monkeypatch.setattr(module.MMLogger.get_current_instance(), 'info', said.append)
    metric = ClinicalMetric()
    for _ in range(3):
        evaluate([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], [0, 1], metric=metric)
    assert len(said) == 1 and 'class_2' in said[0] and 'positives' in said[0]


def test_one_class_for_all_is_warned_of_once_a_streak(monkeypatch):
    said = []
    logger = SimpleNamespace(
        info=lambda text: said.append((logging.INFO, text)),
        warning=lambda text: said.append((logging.WARNING, text)),
    )
    monkeypatch.setattr(module.MMLogger, 'get_current_instance', lambda: logger)
    names = ['mel', 'bcc', 'nv']
    collapsed, fine = [[0.1, 0.2, 0.7]] * 3, np.eye(3)
    metric = ClinicalMetric()
    found = [
        evaluate(scores, [0, 1, 2], names, metric=metric)[0]
        for scores in (collapsed, collapsed, fine, collapsed)
    ]
    assert [one['predicted_classes'] for one in found] == [1, 1, 3, 1]
    assert len(said) == 2 and said[0] == said[1]
    level, text = said[0]
    assert level == logging.WARNING
    assert text.startswith(
        'ONE CLASS ONLY: the model predicts nv for all 3 samples, which are '
        'of 3 classes'
    )
    # of two classes as well; not where only one is present
    evaluate([[0.9, 0.1]] * 2, [0, 1])
    assert len(said) == 3 and 'class_0 for all 2' in said[2][1]
    evaluate(collapsed, [2, 2, 2], names)
    assert not [text for _, text in said[3:] if 'ONE CLASS' in text]


def test_one_sample():
    found, _ = evaluate([[0.9, 0.1]], [0])
    assert found['top1'] == found['balanced_accuracy'] == 1
    assert found['ece'] == pytest.approx(0.1, abs=1e-6)
    assert 'macro_auroc' not in found and 'class_0/specificity' not in found
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize('classes', [2, 3, 9])
def test_perfect_and_all_wrong(classes):
    labels = np.arange(classes).repeat(2)
    perfect, _ = evaluate(np.eye(classes)[labels], labels)
    for key, value in perfect.items():
        if not key.endswith(('support', 'predicted_classes')):
            assert value == (0 if key == 'ece' else 1), key
    wrong, _ = evaluate(np.eye(classes)[(labels + 1) % classes], labels)
    for key in (
        'top1',
        'balanced_accuracy',
        'macro_f1',
        'weighted_f1',
        'macro_precision',
    ):
        assert wrong[key] == 0, key
    assert wrong['ece'] == 1


def test_a_chance_level_network_is_told_by_balance_not_by_accuracy():
    scores = np.tile([0.9, 0.1], (10, 1))
    found, _ = evaluate(scores, [0] * 9 + [1])
    assert found['top1'] == pytest.approx(0.9)
    assert found['balanced_accuracy'] == pytest.approx(0.5)
    assert found['class_1/precision'] == 0
    assert found['macro_auroc'] == pytest.approx(0.5)
    assert found['ece'] == pytest.approx(0, abs=1e-6)


def test_top5_breaks_ties_like_argmax():
    scores = np.full((7, 7), 1 / 7)
    found, _ = evaluate(scores, np.arange(7))
    assert found['top1'] == pytest.approx(1 / 7)
    assert found['top5'] == pytest.approx(5 / 7)


def test_order_and_batch_size_do_not_matter():
    scores, labels = softmax_scores(50, 5)
    order = np.random.default_rng(1).permutation(50)
    first, _ = evaluate(scores, labels, batch=50)
    second, _ = evaluate(scores[order], labels[order], batch=7)
    assert first == pytest.approx(second, abs=1e-9)


def test_padding_is_dropped():
    scores, labels = softmax_scores(30, 3)
    padded = np.concatenate([scores, scores[:2]])
    found, metric = evaluate(padded, np.concatenate([labels, labels[:2]]), size=30)
    assert found == evaluate(scores, labels)[0]
    assert len(metric.last['labels']) == 30


def test_whole_batches_give_the_same_as_data_samples():
    scores, labels = softmax_scores(30, 3)
    metric = METRICS.build(dict(type='hkd_mm.ClinicalMetric'))
    metric.process_batch(torch.tensor(scores[:20]), torch.tensor(labels[:20]))
    metric.process_batch(torch.tensor(scores[20:]), torch.tensor(labels[20:]))
    assert metric.evaluate(30) == evaluate(scores, labels)[0]
    assert metric.results == []


def test_prefix_and_no_upstream_warning(caplog):
    with caplog.at_level(logging.WARNING):
        metric = ClinicalMetric()
    assert metric.prefix is None and not caplog.records
    found, _ = evaluate(**HAND, metric=ClinicalMetric(prefix='student'))
    assert 'student/balanced_accuracy' in found


@pytest.mark.parametrize(
    'scores, labels, classes, words',
    [
        (
            [[0.5, 0.5], [float('nan'), 0.5]],
            [0, 1],
            None,
            '1 of 2 samples.*id1.*lr',
        ),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 2], None, 'id1 has label 2'),
        (
            [[0.5, 0.5], [0.5, 0.5]],
            [0, 1],
            ['a', 'b', 'c'],
            '2 classes.*has 3',
        ),
        ([[5.0, -1.0], [0.5, 0.5]], [0, 1], None, 'softmax'),
        ([], [], None, 'empty'),
    ],
)
def test_wrong_input_is_refused_in_one_line(scores, labels, classes, words):
    with pytest.raises(UserError, match=words) as error:
        evaluate(scores, labels, classes=classes)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('key', ['pred_score', 'gt_label'])
def test_missing_fields_are_named(key):
    sample = dict(pred_score=torch.tensor([0.5, 0.5]), gt_label=torch.tensor([0]))
    del sample[key]
    with pytest.raises(UserError, match=key):
        ClinicalMetric().process(None, [sample])


def test_names_to_choose_a_checkpoint_by_are_those_of_the_metric():
    from hkd_mm.metric_names import OVERALL

    found, _ = evaluate(*softmax_scores(20, 3))
    overall = {key for key in found if '/' not in key}
    assert overall == {*OVERALL, 'predicted_classes'}
