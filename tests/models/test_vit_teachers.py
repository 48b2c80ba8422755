# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Vision transformers of timm as teachers: tokens as maps, probes, other sizes."""

import pytest
import torch
from mmengine.registry import init_default_scope

from hkd_mm.config.networks import network_config
from hkd_mm.errors import UserError
from hkd_mm.models.recorders.guarded_recorders import GuardedRecorders
from hkd_mm.registry import MODELS

# as DINOv2 (class token) and as DINOv3 (class and register tokens)
KINDS = [('vit_tiny_patch16_224', 1), ('vit_small_patch16_dinov3', 5)]
SMALL = dict(depth=3, embed_dim=48, num_heads=3, img_size=64)


def vit(name, **kwargs):
    init_default_scope('mmpretrain')
    config = dict(type='hkd_mm.TimmClassifier', model_name=name, num_classes=4)
    return MODELS.build(dict(config, **SMALL, **kwargs))


@pytest.mark.parametrize('name, prefix', KINDS)
def test_patch_tokens_are_maps(name, prefix):
    network = vit(name).eval()
    kinds = dict(
        logits=dict(type='hkd_mm.Logits'),
        feature=dict(type='hkd_mm.Feature'),
        first=dict(type='hkd_mm.Feature', stage=0),
        last=dict(type='hkd_mm.LastMap'),
        pooled=dict(type='hkd_mm.Pooled'),
        maps=dict(type='hkd_mm.StageMaps', stages=(-2, -1)),
    )
    recorders = GuardedRecorders(kinds, 'teacher')
    recorders.initialize(network)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), recorders:
        network(images, mode='tensor')
    found = {n: recorders.get_recorder(n).get_record_data() for n in kinds}
    tokens = network.model.forward_features(images)[:, prefix:]
    assert tokens.shape == (2, 16, 48)
    for key in ('feature', 'last'):
        assert found[key].shape == (2, 48, 4, 4)
        torch.testing.assert_close(found[key].flatten(2), tokens.transpose(1, 2))
    assert found['first'].shape == found['maps'][0].shape == (2, 48, 4, 4)
    assert torch.equal(found['maps'][1], found['feature'])
    assert found['pooled'].shape == (2, 48) and found['logits'].shape == (2, 4)


def test_a_probe_trains_its_last_layer():
    probe = vit('vit_tiny_patch16_224', frozen=True, drop_rate=0.5)
    probe.train()
    assert not probe.model.training and probe.training
    trained = [n for n, p in probe.named_parameters() if p.requires_grad]
    assert trained == ['model.head.weight', 'model.head.bias']


def test_a_hybrid_distillation_from_a_vit(tmp_path):
    """Feature maps meet through the connector that finds their shapes."""
    teacher = dict(type='hkd_mm.TimmClassifier', model_name=KINDS[0][0], num_classes=4)
    student = network_config('mbv2', 4, pretrained=False)
    teacher_file = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=vit(KINDS[0][0]).state_dict()), teacher_file)
    model = MODELS.build(
        dict(
            type='hkd_mm.FrozenTeacherDistill',
            architecture=student,
            teacher=dict(teacher, **SMALL),
            teacher_ckpt=str(teacher_file),
            input_size=64,
            distiller=dict(
                type='mmrazor.ConfigurableDistiller',
                distill_losses=dict(loss_hybrid=dict(type='hkd_mm.HybridKDLoss')),
            ),
        )
    )
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(i) for i in range(4)]
    losses = model(torch.randn(4, 3, 64, 64), samples, mode='loss')
    assert {name.rpartition('_')[2] for name in losses} == {'kd', 'ce', 'align'}
    assert all(value.isfinite() for value in losses.values())


def test_another_size_than_it_takes_is_one_line():
    with pytest.raises(UserError, match=r'vit_tiny.*height.*set input_size'):
        vit('vit_tiny_patch16_224')(torch.randn(1, 3, 48, 48), mode='tensor')


def test_panderm_is_read_from_a_file_of_its_authors(tmp_path):
    """Names of its tensors are those of timm's BEiT with absolute positions."""
    init_default_scope('mmpretrain')
    config = network_config('panderm_base', 3)
    small = dict(depth=1, embed_dim=48, num_heads=3)
    network = MODELS.build(dict(config, **small, pretrained=False))
    state = {k: torch.full_like(v, 0.5) for k, v in network.model.state_dict().items()}
    file = tmp_path / 'panderm.pth'
    torch.save({k: v for k, v in state.items() if not k.startswith('head')}, file)
    overlay = dict(file=str(file))
    read = MODELS.build(dict(config, **small, pretrained_cfg_overlay=overlay))
    read.init_weights()
    assert {'blocks.0.attn.q_bias', 'blocks.0.gamma_1', 'pos_embed'} < state.keys()
    for key, value in read.model.state_dict().items():
        if not key.startswith('head'):
            assert torch.equal(value, state[key]), key
