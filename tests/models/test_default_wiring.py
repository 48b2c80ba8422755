# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A distiller config that names only its losses is completed."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from hkd_mm.config.compose import load_config
from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.wiring import fill_wiring
from hkd_mm.training.stages import check_distiller

S = dict(from_student=True)
T = dict(from_student=False)


def test_what_is_left_out_follows_from_the_losses():
    said = fill_wiring(
        ConfigDict(distill_losses=dict(loss_a=dict(type='hkd_mm.HybridKDLoss')))
    )
    assert said['loss_forward_mappings']['loss_a'] == dict(
        preds_S=dict(recorder='logits', **S),
        preds_T=dict(recorder='logits', **T),
        gt_labels=dict(recorder='labels', **S),
        s_feature=dict(recorder='feature', connector='loss_a', **S),
        t_feature=dict(recorder='feature', **T),
    )
    assert said['connectors'] == dict(loss_a=dict(type='hkd_mm.FeatureAlignConnector'))
    assert list(said['student_recorders']) == ['logits', 'labels', 'feature']
    assert list(said['teacher_recorders']) == ['logits', 'feature']


def test_what_the_config_says_is_kept():
    given = dict(
        student_recorders=dict(
            logits=dict(type='mmrazor.ModuleOutputs', source='fc'),
            feature=dict(type='hkd_mm.Feature', stage=-2),
        ),
        connectors=dict(
            loss_a=dict(type='mmrazor.Translator'),
            loss_a_teacher=dict(type='mmrazor.Paraphraser'),
        ),
        distill_losses=dict(
            loss_a=dict(type='hkd_mm.HybridKDLoss'),
            loss_b=dict(type='hkd_mm.KLLoss'),
        ),
        loss_forward_mappings=dict(loss_b=dict(preds_S=dict(recorder='logits', **S))),
    )
    said = fill_wiring(given)
    assert said['connectors'] == given['connectors']
    assert said['student_recorders']['logits']['source'] == 'fc'
    assert said['student_recorders']['feature']['stage'] == -2
    mapping = said['loss_forward_mappings']
    assert mapping['loss_b'] == given['loss_forward_mappings']['loss_b']
    assert mapping['loss_a']['s_feature']['connector'] == 'loss_a'
    assert mapping['loss_a']['t_feature']['connector'] == 'loss_a_teacher'
    assert 'loss_a' not in given['loss_forward_mappings']


def test_a_recorder_that_nobody_asks_is_dropped():
    said = fill_wiring(
        dict(
            teacher_recorders=dict(
                feature=dict(type='hkd_mm.Feature'),
                logits=dict(type='hkd_mm.Logits'),
            ),
            distill_losses=dict(loss_kd=dict(type='hkd_mm.KLLoss')),
        )
    )
    assert list(said['teacher_recorders']) == ['logits']
    assert 'connectors' not in said


def test_an_unknown_word_or_recorder_is_named():
    with pytest.raises(UserError, match=r'loss_l2\.s_feature'):
        fill_wiring(dict(distill_losses=dict(loss_l2=dict(type='mmrazor.L2Loss'))))
    with pytest.raises(UserError, match="student_recorders has no 'neck'"):
        fill_wiring(
            dict(
                distill_losses=dict(loss_kd=dict(type='hkd_mm.KLLoss')),
                loss_forward_mappings=dict(
                    loss_kd=dict(preds_S=dict(recorder='neck', **S))
                ),
            )
        )


def test_a_recorder_of_mmrazor_without_its_scope_is_named():
    init_default_scope('mmpretrain')
    with pytest.raises(
        UserError, match="student_recorders.x: .* 'mmrazor.ModuleOutputs'"
    ):
        fill_wiring(
            dict(
                distill_losses=dict(loss_kd=dict(type='hkd_mm.KLLoss')),
                student_recorders=dict(x=dict(type='ModuleOutputs', source='model')),
            )
        )


def test_none_takes_an_inherited_loss_out():
    said = fill_wiring(
        dict(
            distill_losses=dict(loss_ce=None, loss_kd=dict(type='hkd_mm.KLLoss')),
            loss_forward_mappings=dict(
                loss_ce=dict(gt_labels=dict(recorder='labels', **S))
            ),
        )
    )
    assert list(said['distill_losses']) == ['loss_kd']
    assert list(said['loss_forward_mappings']) == ['loss_kd']
    assert list(said['student_recorders']) == ['logits']


def test_a_loss_without_a_type_is_named():
    with pytest.raises(UserError, match='loss_kd has no type'):
        fill_wiring(dict(distill_losses=dict(loss_kd=dict(tau=2.0))))


OTHER_LOSS = """_base_ = 'tiny_kd.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_hybrid=None, loss_kd=dict(type='hkd_mm.KLLoss'))))
"""


def test_none_in_a_derived_config_takes_the_loss_out_of_the_network(
    tiny_configs,
):
    path = tiny_configs['kd'].with_name('other_loss.py')
    path.write_text(OTHER_LOSS)
    init_default_scope('mmpretrain')
    cfg = load_config(path)
    check_distiller(cfg)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    samples = [DataSample().set_gt_label(i) for i in range(3)]
    losses = model.train()(torch.randn(3, 3, 16, 16), samples, mode='loss')
    assert set(losses) == {'distill.loss_kd'}
    distiller = model.distiller
    assert not list(distiller.parameters())  # nor the loss's connector
    assert list(distiller.student_recorders.recorders) == ['logits']
    assert list(distiller.teacher_recorders.recorders) == ['logits']


def test_without_any_loss_nothing_is_trained_and_this_is_said(tiny_configs):
    init_default_scope('mmpretrain')
    none = ['model.distiller.distill_losses.loss_hybrid=None']
    cfg = load_config(tiny_configs['kd'], none)
    network = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    for build in (lambda: check_distiller(cfg), lambda: MODELS.build(network)):
        with pytest.raises(UserError, match='nothing would be trained'):
            build()
    # unless the student has a loss of its own
    cfg = load_config(tiny_configs['kd'], [*none, 'model.calculate_student_loss=True'])
    check_distiller(cfg)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    samples = [DataSample().set_gt_label(i) for i in range(3)]
    losses = model.train()(torch.randn(3, 3, 16, 16), samples, mode='loss')
    assert set(losses) == {'student.loss'}
