# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SMPSegmentor as a model of mmengine, and what listens to it."""

import sys

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from safetensors.torch import save_file
from tiny import forget_runs

from hkd_mm.errors import UserError
from hkd_mm.models.networks.complexity import complexity
from hkd_mm.models.recorders.network_recorders import (
    FeatureRecorder,
    GTLabelsRecorder,
    LastMapRecorder,
    LogitsRecorder,
    PooledRecorder,
    StageMapsRecorder,
)
from hkd_mm.structures.mask_samples import MaskPredictions, MaskSamples

smp = pytest.importorskip('segmentation_models_pytorch')


def build(**kwargs):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(dict(type='hkd_mm.SMPSegmentor', **kwargs))


def batch(classes=2, channels=1, side=64):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, channels, side, side, generator=generator)
    masks = torch.randint(0, classes, (2, side, side), generator=generator)
    return images, MaskSamples(masks.to(torch.uint8), torch.tensor([5, 3]))


def test_without_the_library_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'segmentation_models_pytorch', None)
    with pytest.raises(UserError, match='pip install') as error:
        build()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'encoder, millions', [('resnet152', 67.15), ('resnet18', 14.32)]
)
def test_size_of_the_networks_of_the_study(encoder, millions):
    counted = complexity(build(encoder_name=encoder), 64)
    assert counted['parameters'] / 1e6 == pytest.approx(millions, abs=0.005)
    assert counted['gmacs'] > 0


@pytest.mark.parametrize('classes, channels', [(1, 1), (3, 1), (1, 3), (2, 4)])
def test_three_modes(classes, channels):
    network = build(num_classes=classes, in_channels=channels).eval()
    images, samples = batch(max(classes, 2), channels)
    with torch.no_grad():
        logits = network(images, samples)
        (predicted,) = network(images, samples, mode='predict')
        losses = network(images, samples, mode='loss')
    assert logits.shape == (2, classes, 64, 64)
    torch.testing.assert_close(network.model(images), logits)
    assert isinstance(predicted, MaskPredictions)
    probabilities = predicted['batch_probabilities']
    if classes == 1:
        torch.testing.assert_close(probabilities, logits.sigmoid())
    else:
        torch.testing.assert_close(probabilities, logits.softmax(1))
    assert predicted['batch_masks'] is samples.gt_masks
    expected = network.loss_module(logits, samples.gt_labels)
    assert losses == expected and set(losses) == {'loss_bce', 'loss_dice'}
    for mode in ('loss', 'predict'):
        with pytest.raises(UserError, match='data_samples'):
            network(images, mode=mode)
    with pytest.raises(UserError, match='mode'):
        network(images, samples, mode='train')


def test_another_loss():
    loss = dict(type='hkd_mm.DiceBCELoss', alpha=0.0, loss_weight=2.0)
    network, usual = build(loss=loss), build()
    images, samples = batch()
    found = network(images, samples, mode='loss')
    assert found['loss_bce'] == 0
    torch.testing.assert_close(
        found['loss_dice'],
        2 * usual(images, samples, mode='loss')['loss_dice'],
    )


@pytest.mark.parametrize(
    'kwargs, said',
    [
        (dict(arch='Unnet'), 'did you mean Unet'),
        (dict(encoder_name='resnet19'), 'did you mean resnet'),
        (dict(encoder_name='tu-resnet19'), 'did you mean tu-resnet'),
        (dict(num_classes=0), 'num_classes'),
        (dict(encoder_weights='imagenet'), 'pretrained=True'),
        (dict(activation='sigmoid'), 'logits'),
        (dict(aux_params=dict(classes=2)), 'second output'),
        (dict(classes=2), 'num_classes'),
        (dict(decoder_width=3), 'takes no .decoder_width'),
        (dict(encoder_depth=9), 'cannot be built'),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(kwargs, said):
    with pytest.raises(UserError, match=said) as error:
        build(**kwargs)
    assert '\n' not in str(error.value)


def test_a_size_that_the_network_cannot_take_is_told():
    images, _ = batch(side=70)
    assert build()(images).shape[-1] == 70
    with pytest.raises(UserError, match='input_size=64'):
        build(arch='FPN')(images)


@pytest.mark.parametrize(
    ('kwargs', 'side'),
    [
        (dict(arch='DPT', encoder_name='tu-vit_tiny_patch16_224'), 256),
        (dict(arch='PAN', encoder_name='resnet18'), 64),
    ],
)
def test_a_size_that_fails_within_the_network_is_told(kwargs, side):
    network = build(**kwargs).eval()
    with pytest.raises(UserError, match=f'take images of {side}') as error:
        network(torch.zeros(1, 1, side, side))
    said = str(error.value)
    assert 'set another input_size' in said and '\n' not in said
    assert kwargs['arch'] in said and kwargs['encoder_name'] in said


def test_a_failure_of_a_size_that_went_well_is_no_matter_of_the_size():
    network = build().eval()
    images = torch.zeros(1, 1, 64, 64)
    network(images)
    network.model.decoder.forward = lambda maps: maps[0] @ maps[1]
    with pytest.raises(RuntimeError):
        network(images)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Weights lie where a download would put them; nothing is fetched."""
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    forget_runs()  # an earlier one has closed the log file
    (tmp_path / 'checkpoints').mkdir()
    return tmp_path / 'checkpoints'


@pytest.mark.parametrize('channels', [1, 3])
def test_imagenet_weights_are_read_by_init_weights(hub, channels):
    source = smp.encoders.get_encoder('resnet18', weights=None)
    save_file(source.state_dict(), hub / 'smp-resnet18.imagenet.safetensors')
    network = build(pretrained=True, in_channels=channels)
    before = network.model.segmentation_head[0].weight.clone()
    own = network.model.encoder
    assert not torch.equal(own.conv1.weight.sum(1), source.conv1.weight.sum(1))
    network.init_weights()
    torch.testing.assert_close(own.conv1.weight.sum(1), source.conv1.weight.sum(1))
    assert torch.equal(own.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert torch.equal(network.model.segmentation_head[0].weight, before)


def test_imagenet_weights_of_timm(hub):
    import timm

    source = timm.create_model('resnet18')
    save_file(source.state_dict(), hub / 'resnet18.a1_in1k.safetensors')
    network = build(encoder_name='tu-resnet18', pretrained=True)
    network.init_weights()
    own = network.model.encoder.model
    torch.testing.assert_close(
        own.conv1.weight, source.conv1.weight.sum(1, keepdim=True)
    )
    assert torch.equal(own.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_weights_of_another_network_are_refused(hub):
    source = smp.encoders.get_encoder('resnet34', weights=None)
    save_file(source.state_dict(), hub / 'smp-resnet18.imagenet.safetensors')
    with pytest.raises(UserError, match='replace or remove the file'):
        build(pretrained=True).init_weights()


def recorded(recorder, network, images):
    recorder.initialize(network)
    with recorder, torch.no_grad():
        network(images, mode='tensor')
    return recorder.get_record_data()


@pytest.mark.parametrize('arch', ['Unet', 'DeepLabV3Plus'])
def test_recorders_find_their_place(arch):
    network = build(arch=arch).eval()
    images, _ = batch()
    with torch.no_grad():
        stages = network.model.encoder(images)[1:]
        logits = network(images)
    assert torch.equal(recorded(LogitsRecorder(), network, images), logits)
    for stage in (-1, -3, 0):
        found = recorded(FeatureRecorder(stage), network, images)
        assert torch.equal(found, stages[stage])
    assert torch.equal(recorded(LastMapRecorder(), network, images), stages[-1])
    found = recorded(StageMapsRecorder(), network, images)
    assert len(found) == 4
    assert all(map(torch.equal, found, stages[-4:]))
    if arch == 'Unet':
        assert [64 // x.shape[-1] for x in found] == [4, 8, 16, 32]


def test_masks_are_recorded_as_labels():
    network, recorder = build(), GTLabelsRecorder()
    recorder.initialize(network)
    images, samples = batch()
    with recorder, torch.no_grad():
        network(images, samples, mode='tensor')
    found = recorder.get_record_data()
    assert found.dtype == torch.int64
    assert torch.equal(found, samples.gt_masks.long())


def test_what_a_segmentor_has_not_is_told():
    network = build(encoder_depth=3, decoder_channels=(16, 16, 16))
    images, _ = batch()
    with pytest.raises(UserError, match='3 stages'):
        recorded(StageMapsRecorder(), network, images)
    with pytest.raises(UserError, match='stage=4.*3 stages'):
        recorded(FeatureRecorder(4), network, images)
    with pytest.raises(UserError, match='hkd_mm.Pooled'):
        PooledRecorder().initialize(network)
