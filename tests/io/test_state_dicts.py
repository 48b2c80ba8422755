# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Weights are found where programs put them, and damage is seen."""

import random

import pytest
import torch
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import check_tensors, fitting_state, safe_load

NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
STATE = NET.state_dict()


@pytest.mark.parametrize('container', ['', 'state_dict', 'net', 'model_ema'])
@pytest.mark.parametrize(
    'prefix', ['', 'module.', '_orig_mod.', 'module._orig_mod.', 'model.']
)
def test_weights_are_found_under_wrappers(container, prefix):
    stored = {prefix + key: value for key, value in STATE.items()}
    stored = {container: stored, 'epoch': 3} if container else stored
    state, note = fitting_state(stored, STATE)
    assert state.keys() == STATE.keys()
    assert all(state[key] is STATE[key] for key in STATE)
    assert repr(container)[1:-1] in note
    assert all(part + '.' in note for part in prefix.split('.')[:-1])


def test_a_bare_backbone_gets_the_prefix_of_ours():
    names = [f'backbone.{key}' for key in STATE]
    state, note = fitting_state(STATE, names)
    assert list(state) == names and "with prefix 'backbone.'" in note


def test_weights_of_another_network_are_not_taken():
    assert fitting_state({**STATE, 'more': STATE['0.bias']}, STATE) is None
    assert fitting_state({}, STATE) is None
    assert fitting_state({'state_dict': 'text'}, STATE) is None


def test_every_flipped_bit_is_seen(tmp_path):
    path = tmp_path / 'w.pth'
    torch.save(dict(state_dict=STATE), path)
    safe_load(path)
    data = path.read_bytes()
    weight = STATE['0.weight'].numpy().tobytes()
    begin = data.index(weight)
    rng = random.Random(0)
    for _ in range(25):
        broken = bytearray(data)
        broken[begin + rng.randrange(len(weight))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(UserError, match='damaged'):
            safe_load(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match='damaged'):
        safe_load(path)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_no_number_is_named(value):
    state = {key: tensor.clone() for key, tensor in STATE.items()}
    check_tensors(state, 'x.pth')
    state['2.bias'][1] = value
    with pytest.raises(UserError, match=r'x\.pth: 2\.bias holds NaN'):
        check_tensors(state, 'x.pth')


def test_weights_without_values_are_named():
    state = dict(STATE, more=torch.empty(3, device='meta'))
    with pytest.raises(UserError, match='more has a shape and no values'):
        check_tensors(state, 'x.pth')
