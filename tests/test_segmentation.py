# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Segmentation through the same tools: train, resume, test, draw."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from tiny_slices import make_slices

from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.registry import MODELS
from hkd_mm.structures.mask_samples import MaskSamples

pytest.importorskip('segmentation_models_pytorch')
CONFIGS = Path(__file__).parents[1] / 'configs/segmentation'
KD = CONFIGS / 'kd_unet-r152_unet-r18_lidc.py'
DISTILLED = sorted(CONFIGS.glob('*_unet-r152_unet-r18_lidc.py'))
UNET = CONFIGS / 'unet-r18_lidc.py'
# of 0.4 M parameters, of which many checkpoints are quick
TINY = dict(encoder_name='tu-resnet10t', encoder_depth=3, decoder_channels=(32, 16, 8))
REAL = Path(__file__).parents[2] / 'shared/data/lidc_mini'


@pytest.fixture(scope='module')
def slices(tmp_path_factory):
    """Ten slices of each of four patients, with a bright disc or nothing."""
    return make_slices(tmp_path_factory.mktemp('ct'))


@pytest.fixture
def tiny_pair(in_tmp) -> dict[str, str]:
    """Configs of a tiny U-Net, and of one that is taught by it."""
    model = dict(alone=TINY, kd=dict(architecture=TINY, teacher=TINY))
    for name, base in dict(alone=UNET, kd=KD).items():
        text = f'_base_ = {str(base)!r}\nmodel = {model[name]!r}\n'
        Path(f'{name}.py').write_text(text + "teacher_config = 'alone.py'\n")
    return dict(alone='alone.py', kd='kd.py')


def words(root, *more):
    options = [f'data_root={root}', 'input_size=32', 'batch_size=5', *more]
    return ['--cfg-options', *options]


def test_a_pair_trains_resumes_and_is_tested(
    slices, tiny_pair, quick_runner, tool, capfd
):
    # one look at it: teacher, then two epochs; broken off and gone on with
    more = words(slices, 'max_epochs=2')
    assert tool('train')([tiny_pair['kd'], '--work-dir', 'kd', *more]) == 0
    report = json.loads(Path('kd/metrics.json').read_text())
    assert report['epochs'] == 2 and 'dice' in report['best']
    said = capfd.readouterr().out
    assert 'Teacher check: Dice' in said and 'WINDOW' not in said
    log = ''.join(path.read_text() for path in Path('kd').rglob('*.log'))
    assert 'distill.loss_kd' in log and 'distill.loss_dice' in log
    state = torch.load('kd/epoch_2.pth', weights_only=False)['state_dict']
    assert not any('teacher' in name for name in state)

    whole = torch.load('kd/epoch_2.pth', weights_only=False)['state_dict']
    Path('kd/epoch_2.pth').unlink()
    Path('kd/run_state.json').unlink()
    for path in Path('kd').glob('best_dice_epoch_2.pth'):
        path.unlink()
    resumed = [tiny_pair['kd'], '--work-dir', 'kd', '--resume', *more]
    assert tool('train')(resumed) == 0
    again = torch.load('kd/epoch_2.pth', weights_only=False)['state_dict']
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name

    tested = [tiny_pair['kd'], 'kd/student.pth', '--show-dir', 'shown']
    tested += ['--out', 'test.json', '--out', 'slices.csv']
    window = words(slices, 'data_preprocessor.window=[424,1500]')
    assert tool('test')([*tested, *window]) == 2
    told = 'data_preprocessor.window None (this test: [424,1500])'
    assert told in capfd.readouterr().err
    assert not Path('test.json').exists()
    assert tool('test')([*tested, *words(slices, 'mask_threshold=0.4')]) == 0
    figures = json.loads(Path('test.json').read_text())
    assert {'dice', 'iou', 'hd95', 'patient_dice'} <= figures.keys()
    with open('slices.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {row['patient'] for row in rows} == {'3'}
    mean = np.mean([float(row['dice']) for row in rows])
    assert mean == pytest.approx(figures['dice'])
    assert len(list(Path('shown').glob('*.png'))) == 10
    said = capfd.readouterr().out
    assert '│ dice' in said
    assert '0.4 on in this test and from 0.5 on in the run' in said


@pytest.mark.parametrize('config', DISTILLED, ids=lambda path: path.stem)
def test_every_method_takes_a_step(config):
    init_default_scope('mmpretrain')
    options = ['model.teacher.encoder_name=resnet18', 'input_size=64']
    cfg = load_config(config, options, read_data=False).model
    cfg.teacher_cache = None  # a single step has no hooks
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    masks = torch.randint(0, 2, (2, 64, 64), dtype=torch.uint8)
    samples = MaskSamples(masks, torch.arange(2))
    assert sum(p.numel() for p in model.architecture.parameters()) == 14_321_937
    losses = model(torch.randn(2, 1, 64, 64), samples, mode='loss')
    assert len(losses) >= 3  # BCE, Dice and the method's own
    assert all(value.isfinite() for value in losses.values())
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize('config', DISTILLED, ids=lambda path: path.stem)
def test_no_shipped_weight_or_temperature_is_unusual(config):
    from hkd_mm.engine.hooks.distill_hooks import _settings

    cfg = compose_config(config).model
    cfg.teacher_cache = None  # no run, no cache
    model = MODELS.build(cfg)
    assert list(_settings(model)) == []


def test_attention_weighs_what_its_paper_says():
    config = CONFIGS / 'at_unet-r152_unet-r18_lidc.py'
    losses = compose_config(config).model.distiller.distill_losses
    loss = MODELS.build(losses.loss_at)
    assert (loss.beta, loss.loss_weight) == (1000, 1)


@pytest.mark.nightly
@pytest.mark.skipif(not REAL.is_dir(), reason='the slices are not here')
def test_the_shipped_pair_trains_on_real_slices(in_tmp, quick_runner, tool):
    options = ['--cfg-options', f'data_root={REAL}', 'max_epochs=1']
    options += ['input_size=64']
    assert tool('train')([str(KD), '--work-dir', 'kd', *options]) == 0
    report = json.loads(Path('kd/metrics.json').read_text())
    assert report['teacher']['parameters'] == 67_150_609


def test_a_last_batch_of_one_slice_is_left_out(
    slices, tiny_pair, quick_runner, tool, capfd
):
    # 20 slices: two batches of 19 and 1
    more = words(slices, 'batch_size=19', 'max_epochs=1')
    more += ['data_preprocessor.window=[424,1500]']
    assert tool('train')([tiny_pair['alone'], '--work-dir', 'run', *more]) == 0
    said = capfd.readouterr().out
    assert 'single image, which BatchNorm cannot train' in said
    assert said.count('THE WINDOW DOES NOT FIT') == 1


def test_stores_of_masks_are_packed_ahead(slices, in_tmp, tool, capsys):
    argv = [str(UNET), *words(slices)]
    assert tool('data/pack')(argv) == 0
    assert '40 images of 32 x 32' in capsys.readouterr().out


def test_a_segmentor_is_timed_by_its_config(tiny_pair, tool):
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(package)
    argv = [tiny_pair['alone'], '--runtimes', 'onnx']
    argv += ['--batch', '1', '--threads', '1', '--rounds', '1']
    argv += ['--seconds', '0', '--out', 'latency.json']
    assert tool('latency')(argv) == 0
    rows = json.loads(Path('latency.json').read_text())['rows']
    assert [row['runtime'] for row in rows] == ['onnx']
    assert rows[0]['median_ms'] > 0 and rows[0]['size'] == [256, 256]


@pytest.mark.nightly
def test_the_study_prints_its_table(slices, in_tmp, tool, capfd):
    study = CONFIGS.parent / 'studies/s3_unet.py'
    argv = [str(study), '--size', 'small', '--rows', 'alone', 'kd']
    argv += ['--seeds', '1', '--jobs', '1', '--work-dir', 'w']
    argv += ['--data-root', str(slices), '--cfg-options', 'max_epochs=1']
    assert tool('compare')(argv) == 0
    table, _, caption = Path('w/table.md').read_text().partition('\n\n')
    header, _, teacher, alone, kd = table.splitlines()
    for name in ('Dice', 'parameters / M', 'GFLOPs', 'ms an image'):
        assert f'| {name} |' in header
    assert '14.322' in alone and ', p ' not in kd
    assert 'All images are of one patient, so there' in caption
    assert '10 images of 1 patient,' in capfd.readouterr().out
