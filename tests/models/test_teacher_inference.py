# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Cheaper teachers that say the same."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from test_frozen_teacher_distill import RESNET8, config, timm_network
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.teacher_precision import fold_batch_norms


def trained_looking(network):
    """Give every BatchNorm statistics that matter."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return network.eval()


def build(cfg):
    init_default_scope('mmpretrain')
    return MODELS.build(cfg)


@pytest.mark.parametrize(
    'network, folded',
    [
        (timm_network('resnet18'), 20),
        (timm_network('mobilenetv2_050'), 52),  # BatchNorm with activation
        (RESNET8, 9),
    ],
)
def test_folding_changes_nothing_but_rounding(network, folded):
    model = trained_looking(build(network))
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        before = model(images, mode='tensor')
        assert fold_batch_norms(model, 32) == folded
        after = model(images, mode='tensor')
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_a_convolution_that_is_used_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images, mode):
            out = self.conv(images)
            return self.norm(out) + 3 * out

    network = trained_looking(Twice())
    with pytest.raises(UserError, match='fold_bn changes'):
        fold_batch_norms(network, 8)


def test_modules_with_listeners_are_left_alone():
    network = trained_looking(build(timm_network('resnet18')))
    network.model.bn1.register_forward_hook(lambda *_: None)
    assert fold_batch_norms(network, 32) == 19


def losses(**options):
    torch.manual_seed(0)
    model = build(config(**options))
    model.train()
    samples = [DataSample().set_gt_label(i % 5) for i in range(4)]
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return model, model.loss(images, samples)


def test_a_distillation_with_a_folded_teacher_has_the_same_losses():
    _, plain = losses()
    model, folded = losses(teacher_inference=dict(fold_bn=True))
    assert plain.keys() == folded.keys()
    for name in plain:
        torch.testing.assert_close(folded[name], plain[name], rtol=1e-4, atol=1e-6)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.teacher.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.student.modules())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_a_bf16_teacher_hands_on_float32_near_the_same():
    _, plain = losses()
    model, half = losses(teacher_inference=dict(dtype='bfloat16'))
    for name, recorder in model.distiller.teacher_recorders.recorders.items():
        assert recorder.data_buffer[0].dtype == torch.float32, name
    for name in plain:
        torch.testing.assert_close(half[name], plain[name], rtol=0.05, atol=1e-3)
    assert any(half[name] != plain[name] for name in plain)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UserError, match='teacher_inference.dtype'):
        build(config(teacher_inference=dict(dtype='int8')))
