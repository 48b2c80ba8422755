# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""mmengine's own way of loading cannot run code any more."""

import pickle

import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint

from hkd_mm.errors import UserError
from hkd_mm.io import runner_patches


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    runner_patches.install()


@pytest.mark.parametrize(
    'writer',
    [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))],
)
def test_pickle_that_runs_code_is_refused(writer, tmp_path):
    path = tmp_path / 'bomb.pth'
    writer(dict(state_dict=dict(w=Bomb(tmp_path / 'exploded'))), path)
    with pytest.raises(UserError, match='bomb.pth'):
        load_checkpoint(torch.nn.Linear(1, 1), str(path))
    assert not (tmp_path / 'exploded').exists()


def test_weights_are_loaded(tmp_path):
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'a.pth')
    load_checkpoint(target, str(tmp_path / 'a.pth'))
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize(
    'address',
    ['torchvision://resnet18', 'open-mmlab://x', 'mmcls://x', 's3://a/b.pth'],
)
def test_model_zoo_addresses_are_refused(address):
    with pytest.raises(UserError, match='download it'):
        CheckpointLoader.load_checkpoint(address)
