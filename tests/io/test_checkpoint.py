# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Checkpoints are read without running what hides in them."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import load_weights, safe_load, student_state_dict


class Malicious:
    """Pickles to a call of ``os.mkdir``."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    trap = tmp_path / 'trap'
    torch.save(dict(state_dict=Malicious(trap)), tmp_path / 'evil.pth')
    with pytest.raises(UserError, match='could run code.*convert it once'):
        safe_load(tmp_path / 'evil.pth')
    assert not trap.exists()
    with open(tmp_path / 'bare.pth', 'wb') as file:
        pickle.dump(Malicious(trap), file)
    with pytest.raises(UserError, match='bare.pth'):
        safe_load(tmp_path / 'bare.pth')
    assert not trap.exists()


def test_what_mmengine_stores_is_read(tmp_path):
    history = HistoryBuffer()
    history.update(1.5)
    stored = dict(
        state_dict=dict(w=torch.ones(2)),
        meta=dict(epoch=3, seed=np.int64(1), value=np.float64(0.5)),
        message_hub=dict(log_scalars=dict(loss=history)),
    )
    torch.save(stored, tmp_path / 'epoch_3.pth')
    loaded = safe_load(tmp_path / 'epoch_3.pth')
    assert loaded['meta']['epoch'] == 3
    assert loaded['message_hub']['log_scalars']['loss'].current() == 1.5


@pytest.mark.parametrize('layout', ['bare', 'model', 'state_dict'])
def test_common_layouts_come_back_under_one_name(tmp_path, layout):
    weights = dict(w=torch.arange(3.0))
    stored = weights if layout == 'bare' else {layout: weights}
    torch.save(stored, tmp_path / 'a.pth')
    assert torch.equal(safe_load(tmp_path / 'a.pth')['state_dict']['w'], weights['w'])


def test_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    save_file(dict(w=torch.ones(2)), tmp_path / 'a.safetensors')
    assert safe_load(tmp_path / 'a.safetensors')['state_dict']['w'].sum() == 2


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', None])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / 'last.pth'
    torch.save(dict(state_dict=dict(w=torch.randn(1000))), path)
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(UserError, match='last.pth'):
        safe_load(path)
    (tmp_path / 'a.safetensors').write_bytes(b'1234')
    with pytest.raises(UserError, match='a.safetensors'):
        safe_load(tmp_path / 'a.safetensors')


@pytest.mark.parametrize(
    'start, words',
    [
        ('version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
        ('\n<!DOCTYPE html><html>Sign in', 'web page'),
        ('cat', 'damaged or no checkpoint'),
        ('Global settings: weights_only', 'damaged or no checkpoint'),
    ],
)
def test_what_is_no_checkpoint_gets_no_advice_to_run_it(tmp_path, start, words):
    path = tmp_path / 'network.pth'
    path.write_text(start)
    with pytest.raises(UserError, match=words) as caught:
        safe_load(path)
    assert 'weights_only=False' not in str(caught.value)
    assert '\n' not in str(caught.value)


def test_archives_of_old_torch_are_read(tmp_path):
    torch.save(
        dict(state_dict=dict(w=torch.ones(2))),
        tmp_path / 'old.pth',
        _use_new_zipfile_serialization=False,
    )
    assert safe_load(tmp_path / 'old.pth')['state_dict']['w'].sum() == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match='nowhere.pth does not exist'):
        safe_load(tmp_path / 'nowhere.pth')


def test_the_student_is_taken_out_of_a_distillation_run():
    run = dict(state_dict={'architecture.a': 1, 'distiller.b': 2})
    assert dict(student_state_dict(run)) == {'a': 1}
    assert dict(student_state_dict(dict(state_dict=dict(a=1)))) == {'a': 1}


def test_weights_of_another_network_or_class_count_are_refused(tmp_path):
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    path = tmp_path / 'network.pth'
    torch.save(dict(state_dict=network.state_dict(), meta=dict(epoch=2)), path)
    twin = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    assert load_weights(twin, path, 'teacher') == dict(epoch=2)
    assert torch.equal(twin[1].weight, network[1].weight)
    with pytest.raises(UserError, match='another network than the teacher'):
        load_weights(nn.Sequential(nn.Linear(4, 8)), path, 'teacher')
    with pytest.raises(UserError, match='trained for 3 classes.*has 5'):
        load_weights(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 5)), path, 'student')
