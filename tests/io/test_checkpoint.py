# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Checkpoints of anybody: read without running code, found, or refused."""

import errno
import json
import os
import pickle
import random
import shlex
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.io import runner_patches
from hkd_mm.io.checkpoints import (
    check_tensors,
    find_damage,
    fitting_state,
    load_weights,
    safe_load,
    student_state_dict,
)

NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
STATE = NET.state_dict()
ONE = torch.ones(2)


def refusal(path) -> str:
    """The one line on a file that is not read."""
    with pytest.raises(UserError) as caught:
        safe_load(path)
    text = str(caught.value)
    assert path.name in text and '\n' not in text
    return text


class Malicious:
    """Pickles to a call of ``os.mkdir``."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    'write', [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))]
)
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch, write):
    trap, path = tmp_path / 'trap', tmp_path / 'evil.pth'
    write(dict(state_dict=dict(w=Malicious(trap))), path)
    assert 'could run code' in refusal(path)
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    runner_patches.install()
    with pytest.raises(UserError, match='evil.pth'):  # mmengine's own way
        load_checkpoint(nn.Linear(1, 1), str(path))
    assert not trap.exists()


def test_mmengine_loads_weights_and_leaves_model_zoos_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    runner_patches.install()
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'a.pth')
    load_checkpoint(target, str(tmp_path / 'a.pth'))
    assert torch.equal(source.weight, target.weight)
    for address in (
        'torchvision://resnet18',
        'open-mmlab://x',
        'mmcls://x',
        's3://a/b',
    ):
        with pytest.raises(UserError, match='download it'):
            CheckpointLoader.load_checkpoint(address)


@pytest.mark.parametrize('kind', ['module', 'in a dict', 'beside', 'script'])
def test_the_advice_on_a_whole_network_works_when_typed(in_tmp, tmp_path, kind):
    path, net = tmp_path / 'it is $HOME.pth', nn.Linear(3, 2)
    if kind == 'script':
        torch.jit.save(torch.jit.script(net), path)
    else:
        beside = dict(state_dict=net.state_dict(), extra=net)
        stored = dict(module=net, beside=beside).get(kind, dict(model=net, epoch=3))
        torch.save(stored, path)
    words = shlex.split(refusal(path).split('once with ')[1])
    assert words[:2] == ['python', '-c'] and words[3:5] == ['and', 'use']
    if kind == 'module':
        subprocess.run([sys.executable, *words[1:3]], check=True)
    else:  # the same words without the seconds that torch takes to import
        exec(words[2], {})
    found = safe_load(tmp_path / 'it is $HOME_weights.pth')['state_dict']
    assert torch.equal(found['weight'], net.weight)


def test_what_mmengine_stores_is_read(tmp_path):
    history = HistoryBuffer()
    history.update(1.5)
    stored = dict(
        state_dict=dict(w=ONE),
        meta=dict(epoch=3, seed=np.int64(1), value=np.float64(0.5)),
        message_hub=dict(log_scalars=dict(loss=history)),
    )
    torch.save(stored, tmp_path / 'epoch_3.pth')
    loaded = safe_load(tmp_path / 'epoch_3.pth')
    assert loaded['meta']['epoch'] == 3
    assert loaded['message_hub']['log_scalars']['loss'].current() == 1.5


@pytest.mark.parametrize('layout', ['bare', 'model', 'state_dict', 'old', 'big-endian'])
def test_common_layouts_come_back_under_one_name(tmp_path, layout):
    path, weights = tmp_path / 'a.pth', dict(w=torch.arange(3.0))
    stored = weights if layout == 'bare' else {layout: weights}
    stored = dict(state_dict=weights) if layout in ('old', 'big-endian') else stored
    torch.save(stored, path, _use_new_zipfile_serialization=layout != 'old')
    if layout == 'big-endian':
        rewrite(path, {'/byteorder': b'big', '/data/0': struct.pack('>3f', 0, 1, 2)})
    assert torch.equal(safe_load(path)['state_dict']['w'], weights['w'])


def rewrite(path, parts: dict[str, bytes], compress: int = zipfile.ZIP_STORED) -> None:
    """Exchange files in torch's archive."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, 'w', compress) as archive:
        for name, data in content.items():
            for end, other in parts.items():
                data = other if name.endswith(end) else data
            archive.writestr(name, data)


def test_safetensors_are_read_and_damaged_ones_named(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_file(dict(w=ONE), path, dict(hkd_mm=json.dumps(dict(epoch=2))))
    whole = path.read_bytes()
    loaded = safe_load(path)
    assert loaded['state_dict']['w'].sum() == 2 and loaded['meta'] == dict(epoch=2)
    for data in (b'1234', b'', whole[:-3], whole[:20], b'\xff' * 8 + whole[8:]):
        path.write_bytes(data)
        assert 'damaged' in refusal(path)
    for meta, word in (('[' * 5000, 'damaged'), ('[1]', 'meta'), ('{', 'damaged')):
        save_file(dict(w=ONE), path, dict(hkd_mm=meta))
        assert word in refusal(path)
    save_file(dict(w=ONE * float('nan')), path)
    assert 'w holds NaN' in refusal(path)


@pytest.mark.parametrize(
    'start, words',
    [
        ('', 'damaged'),
        ('version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
        ('\n<!DOCTYPE html><html>Sign in', 'web page'),
        ('cat', 'damaged or no checkpoint'),
        ('Global settings: weights_only', 'damaged or no checkpoint'),
        ('PK\x03\x04 and no more', 'damaged'),
    ],
)
def test_what_is_no_checkpoint_gets_no_advice_to_run_it(tmp_path, start, words):
    path = tmp_path / 'network.pth'
    path.write_text(start)
    assert words in refusal(path) and 'weights_only=False' not in refusal(path)


def test_a_disk_that_fails_is_no_damage(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=STATE), path)

    def fail(*_, **__):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(torch, 'load', fail)
    assert 'cannot be read: ' in refusal(path)
    with pytest.raises(UserError, match='Input/output error'):
        find_damage(path)  # else an older checkpoint would be taken


def test_a_missing_file_is_named(tmp_path):
    assert 'nowhere.pth does not exist' in refusal(tmp_path / 'nowhere.pth')


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
        assert 'damaged' in refusal(path)
    for _ in range(25):
        path.write_bytes(data[: rng.randrange(len(data) - 1)])
        assert 'damaged' in refusal(path)


def test_archives_that_claim_more_than_they_hold_are_refused(tmp_path):
    bomb = tmp_path / 'bomb.pth'
    torch.save(dict(w=torch.zeros(1_000_000)), bomb)
    rewrite(bomb, {}, zipfile.ZIP_DEFLATED)
    assert 'would become 4000' in refusal(bomb)
    for number in (2**40, 2**62, -1):
        path = tmp_path / 'claim.pth'
        torch.save(dict(w=torch.zeros(3)), path)
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith('data.pkl'))
            pickled = archive.read(name)
        claim = b'\x8a\x08' + number.to_bytes(8, 'little', signed=True)
        rewrite(path, {'data.pkl': pickled.replace(b'K\x03', claim)})
        assert 'damaged' in refusal(path) or 'claims' in refusal(path)


def nested(depth: int) -> dict:
    found: dict = dict(w=ONE)
    for _ in range(depth):
        found = dict(a=found)
    return found


def doubled(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    'stored, words',
    [
        ([ONE], 'no weights'),
        (ONE, 'no weights'),
        ({}, 'no weights'),
        (dict(state_dict=[ONE]), 'state_dict is no dict'),
        (dict(state_dict=None), 'state_dict is no dict'),
        (dict(state_dict={'w': ONE, 1: ONE}), 'numbers for names'),
        ({'w': ONE, 1: ONE}, 'numbers for names'),
        (dict(state_dict=dict(w=ONE), meta=[1]), 'meta is no dict'),
        (nested(300), 'nested too deeply'),
        (dict(w=ONE, meta=doubled(30)), 'nested too deeply'),
        (dict(w=ONE.to_sparse()), 'w is sparse'),
        (dict(w=torch.quantize_per_tensor(ONE, 0.1, 0, torch.quint8)), 'quantised'),
        (dict(w=torch.empty(3, device='meta')), 'w has a shape and no values'),
        (dict(w=torch.complex(ONE, ONE * float('nan'))), 'w holds NaN'),
        (dict(w=torch.full((2,), float('nan')).expand(10**7, 2)), 'w holds NaN'),
        (dict(w=(ONE * float('nan')).to(torch.float8_e5m2)), 'w holds NaN'),
        (dict(w=(ONE * float('inf')).half()), 'w holds NaN or infinity'),
        (
            dict(state_dict=dict(w=ONE), optimizer=dict(state={0: dict(m=ONE / 0)})),
            'optimizer.state.0.m holds NaN or infinity',
        ),
    ],
)
def test_what_is_no_weights_is_named(tmp_path, stored, words):
    torch.save(stored, tmp_path / 'x.pth')
    assert words in refusal(tmp_path / 'x.pth')


def test_a_dict_that_holds_itself_is_refused(tmp_path):
    stored = dict(w=ONE)
    stored['me'] = stored
    torch.save(stored, tmp_path / 'x.pth')
    assert 'nested too deeply' in refusal(tmp_path / 'x.pth')


def test_values_of_all_types_are_read(tmp_path):
    kept = dict(
        half=ONE.half(),
        brain=ONE.bfloat16(),
        eight=ONE.to(torch.float8_e4m3fn),
        count=torch.tensor(3),
        none=torch.empty(0, 4),
        flag=torch.tensor([True]),
        repeated=ONE.expand(5, 2),
        turned=torch.randn(3, 4).T,
        part=torch.randn(9)[3:5],
    )
    torch.save(kept, tmp_path / 'x.pth')
    found = safe_load(tmp_path / 'x.pth')['state_dict']
    check_tensors(found, 'x.pth')
    assert all(torch.equal(found[k].float(), v.float()) for k, v in kept.items())


PREFIXES = (
    *('', 'module.', '_orig_mod.', 'module._orig_mod.', 'model.', 'student.'),
    *('ema_model.', 'teacher.', 'model.module.', 'net.backbone.model.'),
)


@pytest.mark.parametrize('container', ['', 'state_dict', 'net', 'model_ema', 'a.model'])
@pytest.mark.parametrize('prefix', PREFIXES)
def test_weights_are_found_under_wrappers(container, prefix):
    stored = {prefix + key: value for key, value in STATE.items()}
    for name in filter(None, reversed(container.split('.'))):
        stored = {name: stored, 'epoch': 3}
    state, note = fitting_state(stored, STATE)
    assert state.keys() == STATE.keys()
    assert all(state[key] is STATE[key] for key in STATE)
    assert repr(container)[1:-1] in note and prefix in note


def test_a_network_is_told_from_what_lies_beside_it():
    def under(prefix, value):
        return {prefix + key: torch.full_like(STATE[key], value) for key in STATE}

    criterion = {'criterion.weight': ONE}
    for stored in (
        {**under('ema_model.', 1), **under('model.', 2), **criterion},
        {**under('teacher.', 1), **under('student.', 2)},
        dict(ema=under('', 1), something=under('module.', 2)),
        dict(state_dict_ema=under('', 1), state_dict=under('', 2)),
    ):
        state, _ = fitting_state(stored, STATE)
        assert state.keys() == STATE.keys()
        assert all((value == 2).all() for value in state.values())


def test_a_bare_backbone_gets_the_prefix_of_ours():
    names = [f'backbone.{key}' for key in STATE]
    state, note = fitting_state(STATE, names)
    assert list(state) == names and "with prefix 'backbone.'" in note


def test_weights_of_another_network_are_not_taken():
    more = {'more': STATE['0.bias']}
    assert fitting_state({**STATE, **more}, STATE) is None
    under = {f'model.{key}': value for key, value in {**STATE, **more}.items()}
    assert fitting_state(under, STATE) is None
    assert fitting_state({}, STATE) is None
    assert fitting_state({'state_dict': 'text'}, STATE) is None


def test_the_student_is_taken_out_of_a_distillation_run():
    run = dict(state_dict={'architecture.a': 1, 'distiller.b': 2})
    assert dict(student_state_dict(run)) == {'a': 1}
    assert dict(student_state_dict(dict(state_dict=dict(a=1)))) == {'a': 1}


def test_weights_of_another_network_or_class_count_are_refused(tmp_path, caplog):
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
    state = {**network.state_dict(), '1.bias': torch.zeros(3, dtype=torch.complex64)}
    torch.save(state, path)
    with pytest.raises(UserError, match='does not fit the teacher.*complex'):
        load_weights(twin, path, 'teacher')
