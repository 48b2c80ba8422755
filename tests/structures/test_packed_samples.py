# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Packed batches through classifiers, recorders and the metric."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmpretrain.evaluation import Accuracy
from mmpretrain.structures import DataSample

from hkd_mm.errors import UserError
from hkd_mm.evaluation.clinical_metric import ClinicalMetric
from hkd_mm.models.recorders.network_recorders import GTLabelsRecorder
from hkd_mm.registry import MODELS
from hkd_mm.structures.packed_samples import PackedPredictions, PackedSamples

LABELS = torch.tensor([2, 0, 1, 2])


def samples(**kwargs):
    return PackedSamples(LABELS, torch.tensor([7, 3, 9, 0]), 4, **kwargs)


def plain(scores=None):
    made = [DataSample().set_gt_label(int(label)) for label in LABELS]
    for sample, score in zip(made, () if scores is None else scores):
        sample.set_gt_score(score)
    return made


@pytest.fixture(params=['timm', 'mmpretrain', 'stock'])
def network(request):
    torch.manual_seed(0)
    head = dict(
        type='LinearClsHead',
        num_classes=3,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0, 0.5]),
    )
    prefix = 'hkd_mm' if request.param == 'mmpretrain' else 'mmpretrain'
    config = dict(
        type=f'{prefix}.ImageClassifier',
        backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
        neck=dict(type='GlobalAveragePooling'),
        head=head,
    )
    if request.param == 'timm':
        config = dict(
            type='hkd_mm.TimmClassifier',
            model_name='mobilenetv2_050',
            num_classes=3,
            loss=head['loss'],
        )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build(config).eval()
    network.packed = request.param != 'stock'
    return network


def count_samples(monkeypatch):
    made, real = [], PackedSamples.__getitem__
    monkeypatch.setattr(
        PackedSamples,
        '__getitem__',
        lambda self, i: made.append(i) or real(self, i),
    )
    return made


def test_is_a_sequence_of_data_samples():
    batch = samples()
    assert len(batch) == 4 and batch[1].gt_label.tolist() == [0]
    assert [int(s.gt_label) for s in batch] == LABELS.tolist()
    assert [int(s.index) for s in batch[1:3]] == [3, 9]
    assert batch[0].view == 4 and 'gt_score' not in batch[0]
    batch[2].set_pred_label(1)
    assert int(list(batch)[2].pred_label) == 1
    assert torch.equal(batch.to('cpu').index, batch.index)
    scores = torch.eye(3)[LABELS]
    assert samples(gt_scores=scores)[:2][1].gt_score.tolist() == [1, 0, 0]


@pytest.mark.parametrize('mixed', [False, True])
def test_losses_equal_those_of_data_samples(network, mixed, monkeypatch):
    images = torch.randn(4, 3, 32, 32)
    scores = torch.rand(4, 3).softmax(1) if mixed else None
    expected = network.loss(images, plain(scores))
    made = count_samples(monkeypatch)
    found = network.loss(images, samples(gt_scores=scores))
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found['loss'], expected['loss'])
    assert bool(made) != network.packed


def test_predictions_equal_those_of_data_samples(network, monkeypatch):
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = network(images, plain(), mode='predict')
        made = count_samples(monkeypatch)
        found = network(images, samples(), mode='predict')
    scores = torch.stack([s.pred_score for s in expected])
    if not network.packed:  # upstream's own class still works
        again = torch.stack([s.pred_score for s in found])
        assert torch.equal(again, scores)
        return
    (batch,) = found
    assert torch.equal(batch['batch_scores'], scores)
    assert torch.equal(batch['batch_labels'], LABELS)
    assert batch['batch_index'].tolist() == [7, 3, 9, 0] and not made


def test_recorder_takes_the_labels_whole(monkeypatch):
    made, network = count_samples(monkeypatch), torch.nn.Module()
    network.forward = lambda images, data_samples: None
    recorder = GTLabelsRecorder()
    recorder.initialize(network)
    batch = samples()
    with recorder:
        network(None, batch)
    assert recorder.get_record_data() is batch.gt_labels and not made


def test_metric_equals_that_of_data_samples(packed_folder):
    torch.manual_seed(0)
    logits = torch.randn(12, 3)
    labels, rows = torch.arange(12) % 3, torch.arange(12).flip(0)
    by_sample, by_batch = (
        Evaluator(ClinicalMetric()),
        Evaluator(ClinicalMetric()),
    )
    by_batch.dataset_meta = dict(packed_store=packed_folder)
    for part in torch.arange(12).split(5):
        by_batch.process(
            [PackedPredictions(logits[part], PackedSamples(labels[part], rows[part]))]
        )
        by_sample.process(
            [
                DataSample(metainfo=dict(sample_id=f'id{int(rows[i])}'))
                .set_pred_score(logits[i].softmax(0))
                .set_gt_label(labels[i])
                for i in part
            ]
        )
    # a padded last batch is cut off as in the stock way
    assert by_batch.evaluate(11) == by_sample.evaluate(11)
    one, two = by_batch.metrics[0].last, by_sample.metrics[0].last
    assert one['sample_ids'] == two['sample_ids'] != [None] * 11
    assert (one['scores'] == two['scores']).all()


@pytest.fixture
def packed_folder(tmp_path):
    ids = [f'"id{row}"' for row in range(12)]
    (tmp_path / 'rows.json').write_text(f'{{"ids": [{",".join(ids)}]}}')
    return str(tmp_path)


def test_a_metric_of_single_samples_is_told():
    evaluator = Evaluator(Accuracy())
    predictions = PackedPredictions(torch.randn(4, 3), samples())
    with pytest.raises(UserError, match='ClinicalMetric'):
        evaluator.process([predictions])
