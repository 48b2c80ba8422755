# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ImageNet weights: read where asked, kept, and never waited for."""

import hashlib
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError

import huggingface_hub
import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from mmpretrain.models.classifiers import TimmClassifier as Upstream

from hkd_mm.config.networks import network_config
from hkd_mm.errors import UserError
from hkd_mm.models.networks import imagenet_weights
from hkd_mm.models.networks.imagenet_weights import (
    fetch_weights,
    weights_place,
)
from hkd_mm.registry import MODELS

SHUFFLENETS = dict(
    shufflenetv1='shufflenet_v1_batch1024_imagenet_20200804-5d6cec73.pth',
    shufflenetv2='shufflenet_v2_batch1024_imagenet_20200812-5bf4721e.pth',
)
TINY = 'test_resnet'  # timm's smallest ResNet, 0.5 M parameters


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    """Empty caches, and a server that nobody can reach."""
    init_default_scope('mmpretrain')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(
        huggingface_hub, 'try_to_load_from_cache', lambda *_, **__: None
    )

    def unreachable(request, timeout):
        assert timeout <= 10
        raise URLError('Name or service not known')

    monkeypatch.setattr(imagenet_weights, 'urlopen', unreachable)


def stored(path, network, **more) -> dict:
    """Write weights as their publishers do, and give them back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {**network.state_dict(), **more}
    if path.suffix == '.safetensors':
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(dict(meta=dict(), state_dict=state), path)
    return state


def timm_network(file=None, **kwargs):
    overlay = dict(file=str(file)) if file else None
    return MODELS.build(
        dict(
            type='hkd_mm.TimmClassifier',
            num_classes=6,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            **kwargs,
        )
    )


def assert_loaded(network, state):
    """Everything but the classifier layer, which has six classes, is read."""
    for key, value in network.state_dict().items():
        if not key.startswith(('fc.', 'classifier.')):
            assert torch.equal(value, state[key]), key
        else:
            assert len(value) == 6


def test_file_at_the_told_place_is_read_when_training_starts():
    place = weights_place('mobilenetv2_050.lamb_in1k.safetensors')
    with pytest.raises(UserError, match='pretrained=False') as told:
        MODELS.build(network_config('mbv2')).init_weights()
    assert f'to {place}' in str(told.value) and '\n' not in str(told.value)
    state = stored(place, timm.create_model('mobilenetv2_050'))
    network = MODELS.build(network_config('mbv2'))
    assert not torch.equal(network.model.conv_stem.weight, state['conv_stem.weight'])
    network.init_weights()
    assert_loaded(network, state)


def test_weights_survive_mmengine_where_upstream_loses_them(tmp_path):
    file = tmp_path / 'w.safetensors'
    state = stored(file, timm.create_model(TINY))
    theirs = Upstream(
        TINY,
        pretrained=True,
        num_classes=6,
        pretrained_cfg_overlay=dict(file=str(file)),
    )
    assert torch.equal(theirs.model.conv1[0].weight, state['conv1.0.weight'])
    theirs.init_weights()  # the Runner's first deed
    assert not torch.equal(theirs.model.conv1[0].weight, state['conv1.0.weight'])
    ours = timm_network(file, model_name=TINY)
    ours.init_weights()
    assert_loaded(ours, state)


def test_second_call_does_not_undo_training(tmp_path):
    file = tmp_path / 'w.pth'
    stored(file, timm.create_model(TINY))
    network = timm_network(file, model_name=TINY)
    network.init_weights()
    with torch.no_grad():
        network.model.conv1[0].weight.fill_(1.0)
    network.init_weights()
    assert (network.model.conv1[0].weight == 1.0).all()


def test_student_in_a_distiller_is_loaded_and_its_teacher_not(tmp_path):
    file = tmp_path / 'w.pth'
    state = stored(file, timm.create_model(TINY))
    student = dict(
        type='hkd_mm.TimmClassifier',
        model_name=TINY,
        num_classes=6,
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(file)),
    )
    preds = [dict(recorder='logits', from_student=own) for own in (True, False)]
    model = MODELS.build(
        dict(
            type='hkd_mm.FrozenTeacherDistill',
            architecture=student,
            teacher={**student, 'pretrained': False},
            input_size=32,
            distiller=dict(
                type='mmrazor.ConfigurableDistiller',
                student_recorders=dict(logits=dict(type='hkd_mm.Logits')),
                teacher_recorders=dict(logits=dict(type='hkd_mm.Logits')),
                distill_losses=dict(loss_kd=dict(type='mmrazor.L2Loss')),
                loss_forward_mappings=dict(
                    loss_kd=dict(s_feature=preds[0], t_feature=preds[1])
                ),
            ),
        )
    )
    model.init_weights()
    assert_loaded(model.architecture, state)
    assert not torch.equal(model.teacher.model.conv1[0].weight, state['conv1.0.weight'])


def test_huggingface_cache_is_used(tmp_path, monkeypatch):
    file = tmp_path / 'snapshot' / 'model.safetensors'
    state = stored(file, timm.create_model('mobilenetv2_050'))
    monkeypatch.setattr(
        huggingface_hub,
        'try_to_load_from_cache',
        lambda repo, name, **_: (
            str(file) if repo == 'timm/mobilenetv2_050.lamb_in1k' else None
        ),
    )
    network = MODELS.build(network_config('mbv2'))
    network.init_weights()
    assert_loaded(network, state)


@pytest.mark.parametrize('content', ['other network', 'no network', 'damaged'])
def test_wrong_file_is_refused(tmp_path, content):
    file = tmp_path / 'w.safetensors'
    if content == 'damaged':
        file.write_bytes(b'<html>not found</html>')
    else:
        stored(
            file,
            timm.create_model('resnet10t')
            if content == 'other network'
            else torch.nn.Linear(2, 2),
        )
    with pytest.raises(UserError, match=str(file)):
        timm_network(file, model_name=TINY).init_weights()


@pytest.mark.parametrize('name, file', SHUFFLENETS.items())
def test_shufflenet_takes_mmpretrains_file(name, file):
    network = MODELS.build(network_config(name))
    with pytest.raises(UserError, match=file):
        network.init_weights()
    other = MODELS.build(network_config(name, 1000, pretrained=False))
    state = stored(weights_place(file), other)
    network = MODELS.build(network_config(name))
    network.init_weights()
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, state[f'backbone.{key}']), key
    stored(weights_place(file), torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match='does not hold'):
        MODELS.build(network_config(name)).init_weights()


@pytest.mark.parametrize('name', ['mbv2', 'shufflenetv1', 'shufflenetv2', 'resnet8'])
def test_from_scratch_nothing_is_fetched(name):
    network = MODELS.build(network_config(name, pretrained=False))
    network.init_weights()
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize(
    'network',
    [
        dict(type='hkd_mm.ShuffleNetV1', groups=2),
        dict(type='hkd_mm.ShuffleNetV1', widen_factor=0.5),
        dict(type='hkd_mm.ShuffleNetV2', widen_factor=0.5),
    ],
)
def test_sizes_without_published_weights_are_refused(network):
    MODELS.build(network)
    with pytest.raises(UserError, match='set pretrained=False'):
        MODELS.build(dict(network, pretrained=True))


def test_misspelt_network_is_named():
    with pytest.raises(UserError, match='mobilenetv2_050'):
        timm_network(model_name='mobilenet_v2_050')


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder served on this machine: (folder, address)."""
    from urllib.request import urlopen

    monkeypatch.setattr(imagenet_weights, 'urlopen', urlopen)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_fetch_downloads_once_and_checks_the_hash(server):
    folder, address = server
    good = f'network-{hashlib.sha256(b"weights").hexdigest()[:8]}.pth'
    for name in (good, 'network-00000000.pth'):
        (folder / name).write_bytes(b'weights')
    path = fetch_weights(f'{address}/{good}', good)
    assert path.read_bytes() == b'weights'
    (folder / good).unlink()
    assert fetch_weights(f'{address}/{good}', good) == path
    for name in ('network-00000000.pth', 'missing.pth'):
        with pytest.raises(UserError, match='pretrained=False'):
            fetch_weights(f'{address}/{name}', name)
        assert list(path.parent.iterdir()) == [path]


def test_closed_port_fails_fast(server):
    start = time.monotonic()
    with pytest.raises(UserError, match='refused'):
        fetch_weights('http://127.0.0.1:9/net.pth', 'network.pth')
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ('name', 'wide'),
    [
        ('mobilenetv2_050', True),
        ('resnet18', False),
        ('vit_tiny_patch16_224', False),
    ],
)
def test_the_first_scores_of_a_network_do_not_depend_on_its_classes(name, wide):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=4).get_classifier().weight
    config = dict(type='hkd_mm.TimmClassifier', model_name=name, num_classes=4)
    ours = MODELS.build(config).model.get_classifier().weight
    calm = 2 * (3 * ours.shape[1]) ** -0.5
    assert (theirs.std() > calm) == wide
    assert ours.std() < calm
    if not wide:
        spread = theirs.std().item()
        assert ours.std().item() == pytest.approx(spread, rel=0.1)
