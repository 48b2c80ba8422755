# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Plain students out of distillation checkpoints."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict

from hkd_mm.engine.student_export import export_student, plain, student_config
from hkd_mm.errors import UserError

TOOL = Path(__file__).parents[2] / 'tools/model_converters/extract_student.py'


def write(path, prefix='architecture.', **meta):
    state = {
        f'{prefix}head.weight': torch.randn(3, 4),
        f'{prefix}bn.num_batches_tracked': torch.tensor(7),
        f'{prefix}bn.running_mean': torch.tensor([-0.0, 1.0]),
    }
    if prefix:
        state['distiller.connectors.align.weight'] = torch.randn(2, 2)
    torch.save(
        dict(
            state_dict=state,
            optimizer=dict(big=torch.ones(9)),
            meta=dict(epoch=4, seed=42, **meta),
        ),
        path,
    )
    return state


@pytest.mark.parametrize('prefix', ['architecture.', ''])
def test_only_the_student_is_left(tmp_path, prefix):
    state = write(
        tmp_path / 'kd.pth',
        prefix,
        split_hash='abc',
        dataset_meta=dict(classes=('a', 'b', 'c')),
    )
    meta = export_student(tmp_path / 'kd.pth', tmp_path / 'out.pth')
    found = torch.load(tmp_path / 'out.pth', weights_only=True)
    assert set(found) == {'state_dict', 'meta'}
    assert set(found['state_dict']) == {
        'head.weight',
        'bn.num_batches_tracked',
        'bn.running_mean',
    }
    assert torch.equal(
        found['state_dict']['head.weight'], state[f'{prefix}head.weight']
    )
    assert found['meta'] == meta
    assert meta['classes'] == ['a', 'b', 'c'] and meta['epoch'] == 4
    assert meta['split_hash'] == 'abc' and meta['source'] == 'kd.pth'


def test_the_checkpoint_is_not_overwritten(tmp_path):
    write(tmp_path / 'kd.pth')
    with pytest.raises(UserError, match='another name'):
        export_student(tmp_path / 'kd.pth', tmp_path / '.' / 'kd.pth')


def test_a_faulty_disk_is_noticed(tmp_path, monkeypatch):
    write(tmp_path / 'kd.pth')
    import hkd_mm.engine.student_export as module

    real = module.AtomicBackend.put
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(x=torch.ones(1))), other)
    monkeypatch.setattr(
        module.AtomicBackend,
        'put',
        lambda self, obj, path: real(self, other.read_bytes(), path),
    )
    with pytest.raises(UserError, match='reads back differently'):
        export_student(tmp_path / 'kd.pth', tmp_path / 'out.pth')


def test_student_config_fetches_nothing():
    student = dict(
        type='ImageClassifier',
        backbone=dict(
            type='X', init_cfg=dict(type='Pretrained', checkpoint='http://x')
        ),
        head=dict(type='H', class_weight=np.array([1.0, 2.0])),
    )
    algorithm = ConfigDict(
        type='hkd_mm.FrozenTeacherDistill',
        architecture=student,
        teacher=dict(type='T'),
        data_preprocessor=dict(mean=[1]),
    )
    found = student_config(algorithm)
    assert found == dict(
        type='ImageClassifier',
        backbone=dict(type='X'),
        head=dict(type='H', class_weight=[1.0, 2.0]),
        data_preprocessor=dict(mean=[1]),
    )
    assert type(found['head']) is dict
    # what normalises is the algorithm's, else that of the top level
    algorithm.architecture = dict(student, data_preprocessor=dict(mean=[2]))
    assert student_config(algorithm)['data_preprocessor'] == dict(mean=[1])
    del algorithm['data_preprocessor']
    found = student_config(algorithm, dict(mean=[3]))
    assert found['data_preprocessor'] == dict(mean=[3])
    assert student_config(algorithm)['data_preprocessor'] == dict(mean=[2])
    timm = student_config(dict(type='TimmClassifier', pretrained=True))
    assert timm == dict(type='TimmClassifier', pretrained=False)


def test_plain_turns_configs_into_plain_values():
    config = Config(dict(a=dict(b=(1, 2.5, None)), c=[True, 'x']))
    assert plain(config._cfg_dict) == dict(a=dict(b=(1, 2.5, None)), c=[True, 'x'])
    assert plain(np.float32(0.5)) == 0.5 and plain(Path('x/y')) == 'x/y'


def test_the_command_line(tmp_path, monkeypatch, capsys):
    write(tmp_path / 'kd.pth', dataset_meta=dict(classes=('a', 'b', 'c')))
    tool = runpy.run_path(str(TOOL))

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['tool', *map(str, args)])
        return tool['main'](), capsys.readouterr()

    code, printed = call(tmp_path / 'kd.pth', tmp_path / 'out.pth')
    assert code == 0 and 'epoch 4 (a, b, c)' in printed.out
    code, printed = call(tmp_path / 'no.pth', tmp_path / 'out.pth')
    assert code == 2 and printed.err.startswith('error: ')
    assert printed.err.count('\n') == 1 and 'no.pth' in printed.err


def test_help_needs_no_torch():
    code = (
        'import runpy, sys\n'
        "sys.modules['torch'] = sys.modules['mmengine'] = None\n"
        "sys.argv = ['x', '--help']\n"
        f"runpy.run_path({str(TOOL)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0 and 'checkpoint' in done.stdout
