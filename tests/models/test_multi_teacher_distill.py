# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Several teachers: their fusion, and the contract each is held to."""

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

import hkd_mm  # noqa: F401
from hkd_mm.config.compose import load_config
from hkd_mm.config.networks import config_root
from hkd_mm.engine.hooks.teacher_hooks import ClassFusionHook
from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.multi_teacher_distill import ScoreFusion
from hkd_mm.training.stages import check_teachers

NORM = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    to_rgb=True,
)
RESNET8 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
)
RECALL = [[0.9, 0.0, 0.5, 0.0, 1.0], [0.3, 0.7, 0.5, 0.0, 0.0]]


def timm_network(name='mobilenetv2_050', **kwargs):
    return dict(
        type='hkd_mm.TimmClassifier',
        model_name=name,
        **dict(dict(num_classes=5), **kwargs),
    )


def build(teachers=None, losses=None, seed=0, distiller=None, **kwargs):
    init_default_scope('mmpretrain')
    torch.manual_seed(seed)
    return MODELS.build(
        copy.deepcopy(
            dict(
                dict(
                    type='hkd_mm.MultiTeacherDistill',
                    input_size=32,
                    data_preprocessor=NORM,
                    architecture=RESNET8,
                    teachers=teachers or [timm_network(), RESNET8],
                    distiller=dict(
                        type='mmrazor.ConfigurableDistiller',
                        distill_losses=losses
                        or dict(loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0)),
                        **(distiller or {}),
                    ),
                ),
                **kwargs,
            )
        )
    )


def batch(n=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 32, 32, generator=generator)
    return images, [DataSample().set_gt_label(i % 5) for i in range(n)]


def softmax(scores):
    e = np.exp(scores - scores.max())
    return e / e.sum()


def fused_by_hand(kind, scores, labels, tau, weights=RECALL):
    """(K, N, C) float64 and labels (N,) to probabilities, image by image."""
    count, images, classes = scores.shape
    out = np.zeros((images, classes))
    for i in range(images):
        errors = [-np.log(softmax(z[i])[labels[i]]) for z in scores]
        for k in range(count):
            share = np.full(classes, 1 / count)
            if kind == 'confidence':
                others = sum(np.exp(e) for e in errors)
                share[:] = (1 - np.exp(errors[k]) / others) / (count - 1)
            if kind == 'class':
                for c in range(classes):
                    total = sum(row[c] for row in weights)
                    if total:
                        share[c] = weights[k][c] / total
            out[i] += share * softmax(scores[k, i] / tau)
        out[i] /= out[i].sum()
    return out


@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize(
    'kind, count', [('average', 3), ('confidence', 2), ('confidence', 3),
                    ('class', 2)]
)  # fmt: skip
def test_fusion_is_the_formula(kind, count, tau):
    rng = np.random.default_rng(count)
    scores = 3 * rng.standard_normal((count, 6, 5))
    labels = rng.integers(0, 5, 6)
    weights = RECALL if kind == 'class' else None
    fusion = ScoreFusion(kind, count, tau, weights)
    found = fusion([torch.tensor(z) for z in scores], torch.tensor(labels))
    expected = fused_by_hand(kind, scores, labels, tau)
    assert found.dtype == torch.float32
    np.testing.assert_allclose((found / tau).softmax(1), expected, rtol=1e-5, atol=1e-7)
    if tau == 1:  # log-probabilities as they are
        np.testing.assert_allclose(found.exp(), expected, rtol=1e-5, atol=1e-7)


def test_confidence_by_hand():
    # Two classes, label 0. Teacher 1 gives it 3/4, teacher 2 gives it 1/4:
    # exp(L) = 4/3 and 4, shares of the sum 1/4 and 3/4, so the weights are
    # 3/4 and 1/4, and p_0 = 3/4 * 3/4 + 1/4 * 1/4 = 10/16.
    say = [torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 3.0]]).log()]
    found = ScoreFusion('confidence', 2)(say, torch.tensor([0])).exp()
    torch.testing.assert_close(found, torch.tensor([[0.625, 0.375]]))
    mixed = ScoreFusion('confidence', 2)(say, torch.tensor([[0.5, 0.5]])).exp()
    torch.testing.assert_close(mixed, torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize('kind', ['average', 'confidence', 'class'])
def test_extreme_scores_stay_numbers(kind):
    fusion = ScoreFusion(kind, 2, 1.0, RECALL if kind == 'class' else None)
    for size in (1e4, 1e-4):
        say = [size * torch.eye(5), -size * torch.eye(5)]
        found = fusion(say, torch.arange(5))
        assert found.isfinite().all()
        torch.testing.assert_close(found.exp().sum(1), torch.ones(5))


def test_labels_out_of_range_are_refused():
    say = [torch.zeros(2, 5), torch.zeros(2, 5)]
    with pytest.raises(IndexError):
        ScoreFusion('confidence', 2)(say, torch.tensor([0, 5]))


@pytest.mark.parametrize('fusion', ['average', 'confidence', 'class'])
def test_loss_is_that_of_the_fused_teachers(fusion):
    given = dict(class_weights=RECALL) if fusion == 'class' else {}
    model = build(fusion=fusion, fusion_tau=4.0, **given).eval()
    images, samples = batch()
    loss = model(images, samples, mode='loss')['distill.loss_kd'].item()
    with torch.no_grad():
        own = model.student(images, mode='tensor').double().numpy()
        said = np.stack(
            [
                network(images, mode='tensor').double().numpy()
                for network in model.teacher.networks
            ]
        )
    target = fused_by_hand(fusion, said, [0, 1, 2, 3], 4.0)
    kl = [(p * (np.log(p) - np.log(softmax(z / 4)))).sum() for p, z in zip(target, own)]
    assert loss == pytest.approx(16 * np.mean(kl), rel=1e-4)


def test_a_loss_may_have_the_scores_of_each_teacher():
    loss = dict(type='hkd_mm.EBKDLoss', tau=4.0)
    model = build(losses=dict(loss_kd=loss), teacher_cache={}).eval()
    images, samples = batch()
    found = model(images, samples, mode='loss')['distill.loss_kd']
    each = torch.stack(model.teacher.scores(images), dim=1)
    expected = MODELS.build(loss)(model.student(images, mode='tensor'), each)
    torch.testing.assert_close(found, expected)
    assert model.uncacheable() is None and model.exact_records() == {'teacher_scores'}
    # one tensor an image, which a cache keeps as it is
    (stored,) = model.teacher_records(images).values()
    assert torch.equal(stored, each)


def test_one_teacher_has_no_others():
    config = dict(
        type='hkd_mm.FrozenTeacherDistill',
        data_preprocessor=NORM,
        architecture=RESNET8,
        teacher=RESNET8,
        distiller=dict(
            type='mmrazor.ConfigurableDistiller',
            distill_losses=dict(loss_kd=dict(type='hkd_mm.EBKDLoss')),
        ),
    )
    init_default_scope('mmpretrain')
    with pytest.raises(UserError, match='needs several teachers'):
        MODELS.build(copy.deepcopy(config))


def test_every_teacher_is_frozen_and_in_no_checkpoint():
    shaky = timm_network(drop_rate=0.5, drop_path_rate=0.5)
    model = build([shaky, RESNET8, timm_network('resnet18')]).train()
    assert not any(m.training for m in model.teacher.modules())
    before = copy.deepcopy(model.teacher.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        total, _ = model.parse_losses(model(*batch(), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert all(key.startswith('architecture.') for key in model.state_dict())
    teachers = {id(p) for p in model.teacher.parameters()}
    assert not teachers & {id(p) for p in model.parameters()}
    model.to(torch.float64)
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}


def test_each_teacher_has_its_weights_and_its_statistics(tmp_path):
    init_default_scope('mmpretrain')
    own = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], to_rgb=True)
    networks = [
        MODELS.build(timm_network()),
        MODELS.build(copy.deepcopy(RESNET8)),
    ]
    for network, meta in zip(networks, ({}, dict(data_preprocessor=own))):
        torch.save(
            dict(state_dict=network.state_dict(), meta=meta),
            tmp_path / f'{type(network).__name__}.pth',
        )
    model = build(
        [
            timm_network(ckpt=str(tmp_path / 'TimmClassifier.pth')),
            dict(RESNET8, ckpt=str(tmp_path / 'ImageClassifier.pth')),
        ]
    )
    for network, loaded in zip(networks, model.teacher.networks, strict=True):
        for key, value in loaded.state_dict().items():
            assert torch.equal(value, network.state_dict()[key]), key
    raw = torch.randint(0, 256, (2, 3, 32, 32)).float()
    mean, std = (torch.tensor(own[k]).view(3, 1, 1) for k in ('mean', 'std'))
    found = model.teacher.scores((raw - 127.5) / 127.5)
    views = (raw - 127.5) / 127.5, (raw - mean) / std
    for network, view, said in zip(networks, views, found, strict=True):
        torch.testing.assert_close(
            said, network.eval()(view, mode='tensor'), rtol=1e-3, atol=1e-4
        )
    with pytest.raises(UserError, match='another network than the model.teachers'):
        build([RESNET8, dict(RESNET8, ckpt=str(tmp_path / 'TimmClassifier.pth'))])
    with pytest.raises(UserError, match='does not exist'):
        build([RESNET8, dict(RESNET8, ckpt=str(tmp_path / 'none.pth'))])


def test_predictions_and_resumed_training_are_the_students():
    model = build().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total, _ = model.parse_losses(model(*batch(), mode='loss'))
    total.backward()
    optimizer.step()
    again = build()
    again.load_state_dict(model.state_dict(), strict=True)
    images, samples = batch()
    for one in (model, again):
        one.train()
    first, second = (
        one(images, samples, mode='loss')['distill.loss_kd'] for one in (model, again)
    )
    assert first == second != total
    model.eval()
    assert torch.equal(
        model(images, mode='tensor'), model.student(images, mode='tensor')
    )


def test_folded_teachers_say_the_same():
    plain, folded = (
        build(teacher_inference=dict(fold_bn=fold)) for fold in (False, True)
    )
    images, _ = batch()
    torch.testing.assert_close(
        folded.teacher(images), plain.teacher(images), rtol=1e-3, atol=1e-4
    )
    assert not any(
        isinstance(m, torch.nn.BatchNorm2d) for m in folded.teacher.modules()
    )


def test_a_feature_is_that_of_one_teacher():
    hint = dict(type='hkd_mm.FitNetLoss')
    with pytest.raises(UserError, match="source='networks.0.model.layer4'"):
        build(losses=dict(loss_hint=hint))
    words = dict(
        s_feature=dict(recorder='feature', from_student=True, connector='loss_hint'),
        t_feature=dict(recorder='one', from_student=False),
    )
    model = build(
        [RESNET8, timm_network('resnet18')],
        losses=dict(loss_hint=hint),
        distiller=dict(
            connectors=dict(loss_hint=dict(type='hkd_mm.FeatureAlignConnector')),
            teacher_recorders=dict(
                one=dict(
                    type='mmrazor.ModuleOutputs',
                    source='networks.1.model.layer4',
                )
            ),
            loss_forward_mappings=dict(loss_hint=words),
        ),
    )
    loss = model(*batch(), mode='loss')['distill.loss_hint']
    assert loss > 0
    assert model.distiller.get_record('one', False).shape[1] == 512


class Images:
    """A data set of six images and a runner that reads it."""

    LABELS = (0, 0, 1, 1, 2, 3)

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randint(
            0, 256, (6, 3, 32, 32), generator=generator, dtype=torch.uint8
        )

    def __len__(self):
        return len(self.LABELS)

    def __getitem__(self, index):
        sample = DataSample().set_gt_label(self.LABELS[index])
        return dict(inputs=self.images[index], data_samples=sample)

    def runner(self, model):
        from mmengine.dataset import default_collate

        def collate(batch):
            return dict(
                inputs=default_collate([item['inputs'] for item in batch]),
                data_samples=[item['data_samples'] for item in batch],
            )

        said = []
        return SimpleNamespace(
            model=model,
            val_loop=SimpleNamespace(
                dataloader=SimpleNamespace(dataset=self, collate_fn=collate)
            ),
            logger=SimpleNamespace(info=said.append),
            said=said,
        )


def test_measured_weights_are_the_recalls():
    model = build(fusion='class')
    assert model.teacher.model.wants_class_weights
    with pytest.warns(UserWarning, match='counts all teachers alike'):
        model(*batch(), mode='loss')
    data = Images()
    runner = data.runner(model)
    ClassFusionHook().before_train(runner)
    assert not model.teacher.model.wants_class_weights
    images = (data.images.flip(1).float() - 127.5) / 127.5
    for network, row in zip(
        model.teacher.networks, model.teacher.model.class_weights, strict=True
    ):
        with torch.no_grad():
            guess = network(images, mode='tensor').argmax(1).tolist()
        for c in range(5):
            hits = [g == c for g, y in zip(guess, data.LABELS) if y == c]
            expected = sum(hits) / len(hits) if hits else 0
            assert row[c].item() == pytest.approx(expected)
    assert len(runner.said) == 2
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert model(*batch(), mode='loss')['distill.loss_kd'] > 0
    assert 'teacher' not in ''.join(model.state_dict())


@pytest.mark.parametrize('given', [dict(), dict(fusion='class', class_weights=RECALL)])
def test_nothing_is_measured_where_nothing_is_wanted(given):
    model = build(**given)
    before = copy.deepcopy(model.teacher.model.state_dict())
    runner = Images().runner(model)
    ClassFusionHook().before_train(runner)
    assert runner.said == []
    assert model.teacher.model.state_dict().keys() == before.keys()
    ClassFusionHook().before_train(SimpleNamespace(model=torch.nn.ReLU()))


@pytest.mark.parametrize(
    'change, said',
    [
        (dict(teachers=[RESNET8]), 'model.teachers has 1'),
        (dict(fusion='sum'), 'model.fusion: Input should be'),
        (dict(fusion_tau=0), 'fusion_tau: Input should be greater'),
        (dict(class_weights=RECALL), 'are for fusion="class"'),
        (dict(fusion='class', class_weights=RECALL[:1]), 'must be 2 lists'),
        (dict(fusion='class', class_weights=[[1.0], [-1.0]]), 'must be 2'),
        (dict(fusion='class', class_weights=[[1.0], [1.0]]), 'know 5'),
        (dict(teacher=RESNET8), 'must be None'),
        (dict(teacher_ckpt='x.pth'), 'must be None'),
        (
            dict(teachers=[RESNET8, timm_network(num_classes=7)]),
            'different numbers of classes: 5, 7',
        ),
    ],
)
def test_what_makes_no_sense_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        build(**change)(*batch(), mode='loss')


@pytest.mark.parametrize('fusion', ['average', 'confidence'])
def test_no_cache_keeps_a_fusion_that_looks_at_labels(fusion):
    reason = build(fusion=fusion, teacher_cache={}).uncacheable()
    assert (reason is None) == (fusion == 'average')
    assert reason is None or 'label' in reason


def test_a_teacher_without_a_checkpoint_is_told_how_to_get_one(tmp_path):
    path = config_root() / 'zoo/multi_average/multi_average_wrn50_mbv2_skin.py'
    cfg = load_config(path, read_data=False)
    summary = SimpleNamespace(classes=tuple('abcdef'), split_hash=None)
    with pytest.raises(UserError, match=r'teachers\.0 .*wrn50_skin\.py'):
        check_teachers(cfg, summary)
    torch.save(dict(state_dict=dict(x=torch.ones(1))), tmp_path / 'a b.pth')
    cfg = load_config(
        path, [f'model.teachers.0.ckpt={tmp_path}/a b.pth'], read_data=False
    )
    said = (
        r'teachers\.1 \(resnet152\) has no ckpt: .*resnet152_skin\.py, then '
        r'set --cfg-options model\.teachers\.1\.ckpt=work_dirs/'
    )
    with pytest.raises(UserError, match=said):
        check_teachers(cfg, summary)
    cfg.model.teachers[1].ckpt = f'{tmp_path}/a b.pth'
    check_teachers(cfg, summary)
    check_teachers(Config(dict(model=dict(type='x'))), summary)
    cfg = load_config(path, ['pair=demo'], read_data=False)
    cfg.model.teachers[0].ckpt = f'{tmp_path}/a b.pth'
    with pytest.raises(UserError, match='train it alone on the same data'):
        check_teachers(cfg, summary)


def test_knobs_leave_the_teachers_alone():
    path = config_root() / 'zoo/multi_average/multi_average_wrn50_mbv2_skin.py'
    cfg = load_config(path, ['pretrained=True', 'classes=[A,B,C]'], read_data=False)
    assert cfg.model.architecture.pretrained is True
    for network in cfg.model.teachers:
        assert network.pretrained is False and network.num_classes == 3
