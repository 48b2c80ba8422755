# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A file of weights names a network, and can name nothing else."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from safetensors.torch import save_file

from hkd_mm.engine.student_export import student_config
from hkd_mm.engine.student_loading import (
    checked_config,
    closed_registries,
    load_student,
)
from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
LOSS = dict(type='CrossEntropyLoss', loss_weight=1.0)
HEAD = dict(type='LinearClsHead', num_classes=3, in_channels=64, loss=LOSS)
RESNET = dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8)
SMALL = dict(
    type='ImageClassifier',
    backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=HEAD,
)


@MODELS.register_module(force=True)
class NetOfAUser(BaseModule):
    """Of a package that was imported before."""


def write(path: Path, meta: object, state: dict | None = None) -> Path:
    state = state or {'w': torch.zeros(1)}
    if path.suffix == '.pth':
        torch.save(dict(state_dict=state, meta=meta), path)
    else:
        save_file(state, path, dict(hkd_mm=json.dumps(meta)))
    return path


def touch(path: Path) -> dict:
    return dict(type='subprocess.check_call', args=['touch', str(path)])


HOSTILE = dict(
    whole=touch,
    backbone=lambda p: {**SMALL, 'backbone': touch(p)},
    layer=lambda p: {**SMALL, 'backbone': dict(RESNET, conv_cfg=touch(p))},
    norm=lambda p: {**SMALL, 'backbone': dict(RESNET, norm_cfg=touch(p))},
    listed=lambda p: {**SMALL, 'parts': [[touch(p)]]},
    statistics=lambda p: {**SMALL, 'data_preprocessor': touch(p)},
    scope=lambda p: {
        **SMALL,
        'backbone': dict(
            type='check_call', _scope_='subprocess', args=touch(p)['args']
        ),
    },
)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('kind', HOSTILE)
def test_no_file_can_run_code(tmp_path, kind, suffix):
    proof = tmp_path / 'ran'
    meta = dict(student=HOSTILE[kind](proof), classes=['a', 'b', 'c'])
    path = write(tmp_path / f'student{suffix}', meta)
    with pytest.raises(UserError, match='not loaded') as told:
        load_student(path)
    assert not proof.exists() and '\n' not in str(told.value)


def test_neither_can_statistics_beside_the_network(tmp_path):
    proof = tmp_path / 'ran'
    meta = dict(student=SMALL, data_preprocessor=touch(proof))
    with pytest.raises(UserError, match='not loaded'):
        load_student(write(tmp_path / 'student.safetensors', meta))
    assert not proof.exists()


@pytest.mark.parametrize(
    'config',
    [
        dict(type='HuggingFaceClassifier', model_name='owner/name'),
        dict(type='hkd_mm.TimmClassifier', model_name='hf-hub:owner/name'),
        dict(type='TIMMBackbone', model_name='local-dir:/tmp/x'),
        dict(type='hkd_mm.SMPSegmentor', encoder_name='tu-hf-hub:o/n'),
        dict(type='ImageToImageRetriever', prototype='some.pkl'),
        dict(type='mmrazor.sub_model', cfg='some.py'),
        dict(type='mmrazor.SingleTeacherDistill', teacher='some.py'),
        dict(type='mmpretrain.get_model', model='resnet18_8xb32_in1k'),
        dict(type='hkd_mm.FrozenTeacherDistill', teacher_ckpt='some.pth'),
        dict(type='OFA'),
        dict(type='torch.hub.load', repo_or_dir='owner/name'),
        dict(type=['ResNet']),
        dict(type=None),
    ],
    ids=lambda config: str(config['type']),
)
def test_what_fetches_or_is_no_plain_network_is_refused(config):
    with pytest.raises(UserError, match='not loaded'):
        checked_config(config, 'student.pth')
    with pytest.raises(UserError, match='not loaded'):
        checked_config({**SMALL, 'backbone': config}, 'student.pth')


def test_a_config_must_be_one():
    deep: dict = dict(a=1)
    for _ in range(500):
        deep = dict(a=deep)
    for config in (deep, ['x'], 'resnet18', {**SMALL, 'deep': deep}):
        with pytest.raises(UserError, match='not loaded'):
            checked_config(config, 'student.pth')


def test_start_weights_are_left_out():
    backbone = dict(
        type='TIMMBackbone',
        model_name='resnet18',
        pretrained='some.pth',
        checkpoint_path='some.pth',
        init_cfg=[dict(type='Pretrained', checkpoint='http://x')],
    )
    found = checked_config({**SMALL, 'backbone': backbone}, 'student.pth')
    assert found['backbone'] == dict(
        type='TIMMBackbone', model_name='resnet18', pretrained=False
    )


def test_no_registry_imports_what_it_does_not_have():
    assert MODELS.get('collections.OrderedDict') is not None
    with closed_registries(), pytest.raises(RuntimeError, match='Failed'):
        MODELS.get('collections.OrderedDict')
    assert MODELS.get('collections.OrderedDict') is not None


def test_a_network_that_cannot_be_built_is_told_in_one_line(tmp_path):
    meta = dict(student={**SMALL, 'backbone': dict(RESNET, depth=17)})
    with pytest.raises(UserError, match='cannot be built here') as told:
        load_student(write(tmp_path / 'student.pth', meta))
    assert '\n' not in str(told.value)


NETS = dict(
    small=SMALL,
    timm=dict(type='hkd_mm.TimmClassifier', model_name='mobilenetv2_050'),
    timm_of_mmpretrain=dict(type='TimmClassifier', model_name='resnet10t'),
    mmpretrain={
        **SMALL,
        'backbone': dict(RESNET, norm_cfg=dict(type='BN')),
        'train_cfg': dict(augments=[dict(type='Mixup', alpha=0.8)]),
    },
    mobilenet=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='MobileNetV2',
            widen_factor=0.25,
            act_cfg=dict(type='ReLU6'),
            init_cfg=dict(type='Pretrained', checkpoint='no/such.pth'),
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(HEAD, in_channels=1280),
    ),
    sim_kd=dict(type='hkd_mm.SimKDClassifier', student=SMALL, teacher=SMALL),
    segmentor=dict(type='hkd_mm.SMPSegmentor', encoder_name='resnet18'),
    of_a_user={**SMALL, 'backbone': dict(type='hkd_mm.NetOfAUser')},
)


@pytest.mark.parametrize('name', NETS)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_networks_load_from_both_files(tmp_path, name, suffix):
    init_default_scope('mmpretrain')
    if name == 'segmentor':
        pytest.importorskip('segmentation_models_pytorch')
    network = MODELS.build(student_config(NETS[name]))
    meta = dict(
        student=NETS[name],
        data_preprocessor=dict(mean=[1.0] * 3, std=[2.0] * 3, to_rgb=True),
    )
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    if name == 'segmentor':
        meta.pop('data_preprocessor')  # it has a type of its own
    path = write(tmp_path / f'student{suffix}', meta, state)
    found, _ = load_student(path)
    assert not found.training
    same = found.state_dict()
    assert all(torch.equal(same[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    'path',
    [
        *CONFIGS.glob('_base_/models/*.py'),
        *CONFIGS.glob('segmentation/*.py'),
        *CONFIGS.glob('zoo/*/*_ham10000_64.py'),
        CONFIGS / 'hybrid_wrn50_mbv2.py',
        CONFIGS / 'demo/resnet18_demo.py',
    ],
    ids=lambda path: path.stem,
)
def test_the_networks_of_our_configs_are_taken(path):
    model = Config.fromfile(path, import_custom_modules=False).get('model')
    if model and 'type' in model:
        config = student_config(model)
        found = checked_config(config, path)
        assert found['type'] == config['type']
