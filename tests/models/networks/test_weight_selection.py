# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Start weights out of a larger network of the family."""

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from safetensors.torch import save_file

from hkd_mm.config.networks import network_config
from hkd_mm.errors import UserError
from hkd_mm.models.networks.weight_selection import evenly, select_weights
from hkd_mm.registry import MODELS

LARGER = 'mobilenetv2_100'


@pytest.mark.parametrize(
    'sizes, indices',
    [
        ((10, 10), [*range(10)]),
        ((20, 5), [0, 4, 8, 12, 16]),
        ((10, 7), [0, 2, 3, 4, 6, 8, 9]),
        ((16, 6), [0, 3, 6, 9, 12, 15]),
        ((7, 1), [0]),
    ],
)
def test_indices(sizes, indices):
    assert evenly(*sizes).tolist() == indices


def test_a_network_gives_itself_and_keeps_the_classifier():
    torch.manual_seed(0)
    larger = timm.create_model(LARGER, num_classes=3)
    own = timm.create_model(LARGER, num_classes=3)
    found = select_weights(own, larger.state_dict(), LARGER)
    assert found.keys() == own.state_dict().keys()
    for key, value in found.items():
        fresh = key.startswith('classifier') or 'running_' in key or value.dim() == 0
        source = own if fresh else larger
        assert torch.equal(value, source.state_dict()[key]), key


def test_every_layer_takes_the_same_channels():
    larger = timm.create_model(LARGER).state_dict()
    student = timm.create_model('mobilenetv2_050', num_classes=3)
    found = select_weights(student, larger, LARGER)
    wide, narrow = (
        larger['blocks.1.0.conv_pw.weight'],
        found['blocks.1.0.conv_pw.weight'],
    )
    rows, columns = evenly(96, 48), evenly(16, 8)
    assert torch.equal(narrow, wide[rows][:, columns])
    depthwise = 'blocks.1.0.conv_dw.weight'
    assert torch.equal(found[depthwise], larger[depthwise][rows])
    assert torch.equal(
        found['blocks.1.0.bn1.bias'], larger['blocks.1.0.bn1.bias'][rows]
    )


@pytest.mark.parametrize(
    'own, other, why',
    [
        ('mobilenetv2_100', 'mobilenetv2_050', 'take a larger network'),
        ('mobilenetv2_050', 'resnet18', 'has no conv_stem.weight'),
    ],
)
def test_others_are_refused(own, other, why):
    larger = timm.create_model(other).state_dict()
    with pytest.raises(UserError, match=rf"select_from='{other}'.*{why}"):
        select_weights(timm.create_model(own), larger, other)


def test_the_student_of_the_lite_family(tmp_path, monkeypatch):
    """Under a million parameters, and trained from Lite0's weights where told so."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    larger = timm.create_model('tf_efficientnet_lite0').state_dict()
    (tmp_path / 'hub/checkpoints').mkdir(parents=True)
    save_file(
        larger, tmp_path / 'hub/checkpoints/tf_efficientnet_lite0.in1k.safetensors'
    )
    init_default_scope('mmpretrain')
    student = MODELS.build(network_config('effnet_lite0_w045', 7))
    assert sum(p.numel() for p in student.parameters()) == 880_295
    before = student.model.conv_stem.weight.clone()
    student.init_weights()
    after = student.model.conv_stem.weight
    assert torch.equal(after, larger['conv_stem.weight']) and not after.equal(before)
    scores = student.eval()(torch.randn(2, 3, 64, 64), mode='tensor')
    assert scores.shape == (2, 7) and scores.isfinite().all()
    scratch = MODELS.build(network_config('effnet_lite0_w045', 7, pretrained=False))
    scratch.init_weights()
    assert not torch.equal(scratch.model.conv_stem.weight, after)
