# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A segmentor through the export, and back through ``Segmentor``."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import WITHOUT_TRAINING, export_tiny
from PIL import Image
from tiny_slices import SIDE, make_slice_run

from hkd_mm.apis import Segmentor, SkinClassifier
from hkd_mm.errors import UserError
from hkd_mm.export import export_tasks as exporter_module
from hkd_mm.export.checks import Differences, same_probabilities
from hkd_mm.export.export_run import export
from hkd_mm.export.options import ExportOptions
from hkd_mm.export.publish import publish
from hkd_mm.export.samples import read_slices
from hkd_mm.inference.manifest import SegmentorManifest, read_manifest
from hkd_mm.inference.run_folder import read_run
from hkd_mm.io.images import prepare_stored

pytest.importorskip('segmentation_models_pytorch')


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
    """A small U-Net that finds bright discs; its export lies in it."""
    place = make_slice_run(tmp_path_factory.mktemp('seg'))
    export(
        place,
        None,
        ExportOptions(with_preprocessing=True, calibration_images=9),
    )
    return place


def slice_of(run: Path, name: str) -> tuple[Path, np.ndarray]:
    """An image, and its mask as 0 and 1."""
    path = run.parent / 'ct/Image' / name
    mask = Image.open(run.parent / 'ct/Mask' / name)
    return path, (np.asarray(mask) > 0).astype(np.uint8)


def test_the_manifest_says_how_slices_are_read(run) -> None:
    manifest = read_manifest(run / 'export')
    assert isinstance(manifest, SegmentorManifest)
    assert list(manifest.files) == ['fp32', 'int8', 'fp32_image', 'int8_image']
    spec = manifest.input
    assert (spec.colour, spec.bits, spec.size) == ('grey', 16, (32, 32))
    assert spec.window == (32000.0, 64000.0)
    assert manifest.classes == ('background', 'nodule')
    assert manifest.threshold == 0.5 and manifest.calibration_images == 9
    measured = manifest.checks['measured']
    assert measured['fp32']['dice'] > 0.8  # the network has learnt the discs
    assert manifest.metrics['val'] == measured['fp32']
    assert manifest.metrics['test'] == dict(dice=0.25, hd95=3.5)
    card = (run / 'export/README.md').read_text()
    assert f'| Dice | {measured["fp32"]["dice"]:.4f} | 0.2500 |' in card
    assert 'import Segmentor' in card and 'Confident answers' not in card


def test_slices_are_fed_as_in_validation(run) -> None:
    import torch
    from mmengine.registry import init_default_scope

    from hkd_mm.registry import MODELS

    source = read_run(run)
    init_default_scope('mmpretrain')
    val = read_slices(source, 'val')
    ready = MODELS.build(source.cfg.data_preprocessor)(
        val._dataset.__getitems__(range(len(val)))
    )
    fed = np.concatenate([images for images, _ in val.pairs(4)])
    np.testing.assert_allclose(ready['inputs'].numpy(), fed, atol=1e-6)
    assert torch.equal(
        ready['data_samples'].gt_masks,
        torch.from_numpy(np.concatenate([m for _, m in val.pairs(3)])),
    )
    for place, path in enumerate(val.values('img_path')):
        found, size = prepare_stored(path, source.spec)
        np.testing.assert_array_equal(found, fed[place])
        assert size == (SIDE, SIDE)


def test_masks_have_the_size_of_the_image(run) -> None:
    segmentor = Segmentor(run / 'export', threads=1)
    path, truth = slice_of(run, '3/p3_4.png')
    found = segmentor(path)
    assert found.mask.dtype == np.uint8 and found.mask.shape == (SIDE, SIDE)
    both = (found.mask & truth).sum()
    assert 2 * both / (found.mask.sum() + truth.sum()) > 0.8
    assert found.shares == {'nodule': found.mask.mean()}
    assert str(found) == f'nodule {found.mask.mean():.2%}'
    probabilities = segmentor.probabilities(path)
    assert probabilities.shape == (1, SIDE, SIDE)
    np.testing.assert_array_equal(probabilities[0] >= 0.5, found.mask)


def test_all_backends_and_sources_agree(run, tmp_path) -> None:
    path, _ = slice_of(run, '3/p3_4.png')
    pixels = np.asarray(Image.open(path)).astype(np.uint16)
    folder = publish(run, tmp_path / 'packed', report=lambda line: None)
    assert 'image-segmentation' in (folder / 'README.md').read_text()
    networks = [
        Segmentor.from_pretrained(folder, 'onnx'),
        Segmentor(folder, 'torch', device='cpu'),
        Segmentor(run / 'student.pth', device='cpu'),
    ]
    first, *others = [network.probabilities(path) for network in networks]
    for other in others:
        np.testing.assert_allclose(first, other, atol=1e-4)
    sources = [path, str(path), path.read_bytes(), pixels, Image.open(path)]
    masks = [found.mask for found in networks[0](sources)]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])
    found = networks[0](path.parent)
    assert len(found) == 10 and str(found[0]) == 'nothing marked'
    int8 = Segmentor(folder, precision='int8')(path)
    assert (int8.mask == masks[0]).mean() > 0.98


def test_the_graph_takes_slices_as_they_are(run) -> None:
    import onnxruntime

    graph = run / 'export/student_image.onnx'
    session = onnxruntime.InferenceSession(str(graph))
    given = session.get_inputs()[0]
    assert given.type == 'tensor(uint16)' and given.shape[3] == 1
    path, truth = slice_of(run, '3/p3_7.png')
    image = np.asarray(Image.open(path)).astype(np.uint16)
    found = session.run(None, dict(images=image[None, ..., None]))[0]
    assert found.shape == (1, 1, 32, 32)
    assert abs((found >= 0.5).mean() - truth.mean()) < 0.02


def test_int8_that_loses_dice_is_refused(run, tool, monkeypatch, capsys) -> None:
    def ruin(fp32, out, batches, weight_bits) -> None:
        list(batches)
        model = onnx.load(fp32)
        model.graph.node[-1].output[0] = 'right'
        model.graph.node.append(onnx.helper.make_node('Neg', ['right'], ['logits']))
        onnx.save(model, out)

    before = (run / 'export/manifest.json').read_bytes()
    monkeypatch.setattr(exporter_module.onnx_writer, 'quantise', ruin)
    assert tool('export')([str(run), '--calibration-images', '3']) == 2
    told = capsys.readouterr()
    assert 'points of Dice on the validation split' in told.err
    assert 'sensitivity' in told.out
    assert (run / 'export/manifest.json').read_bytes() == before


def test_an_int8_that_marks_nothing_is_told(run, tool, monkeypatch, capsys) -> None:
    """Then its precision is undefined."""

    def silence(fp32, out, batches, weight_bits) -> None:
        list(batches)
        model = onnx.load(fp32)
        model.graph.node[-1].output[0] = 'right'
        low = onnx.numpy_helper.from_array(np.float32(1e3), 'low')
        model.graph.initializer.append(low)
        model.graph.node.append(
            onnx.helper.make_node('Sub', ['right', 'low'], ['logits'])
        )
        onnx.save(model, out)

    monkeypatch.setattr(exporter_module.onnx_writer, 'quantise', silence)
    assert tool('export')([str(run), '--calibration-images', '3']) == 2
    told = capsys.readouterr()
    assert 'points of Dice' in told.err and 'Traceback' not in told.err
    assert [line for line in told.out.splitlines()
            if 'precision' in line and line.count('-') >= 2]  # fmt: skip


def test_masks_come_one_after_another(run) -> None:
    segmentor = Segmentor(run / 'export', batch_size=2)
    path, _ = slice_of(run, '3/p3_4.png')
    found = segmentor.stream([*[path] * 4, 'lost.png'])
    first = next(found)
    assert (next(found).mask == first.mask).all()
    assert first != next(found) and hash(first)
    next(found)
    with pytest.raises(UserError, match='lost.png'):
        next(found)


def test_a_network_is_given_to_what_takes_it(run, tmp_path) -> None:
    with pytest.raises(UserError, match=r'which hkd_mm\.apis\.Segmentor take'):
        SkinClassifier(run / 'export')
    with pytest.raises(UserError, match=r'which hkd_mm\.apis\.Segmentor take'):
        SkinClassifier(run)
    with pytest.raises(UserError, match='SkinClassifier takes'):
        Segmentor(export_tiny(tmp_path / 'classifier'))


_ALONE = f"""{WITHOUT_TRAINING}
from hkd_mm.apis import Segmentor
folder, image = sys.argv[1:]
print(Segmentor(folder)(image))
"""


def test_neither_torch_nor_openmmlab_is_needed(run) -> None:
    path, _ = slice_of(run, '3/p3_4.png')
    ran = subprocess.run(
        [sys.executable, '-c', _ALONE, run / 'export', path],
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2])),
        capture_output=True,
        text=True,
        check=True,
    )
    found = Segmentor(run / 'export')(path)
    assert ran.stdout == f'{found}\n' and 'nodule' in ran.stdout


def test_images_of_another_depth_are_refused(run, tmp_path) -> None:
    segmentor = Segmentor(run / 'export')
    Image.new('L', (8, 8)).save(tmp_path / 'cast.png')
    for wrong, told in (
        (tmp_path / 'cast.png', 'has 8 bits a channel'),
        (np.zeros((8, 8), np.uint8), 'arrays must be uint16'),
        (np.zeros((2, 8, 8), np.uint16), 'arrays must be uint16'),
        (tmp_path / 'lost.png', 'lost.png cannot be read'),
        (b'no image', 'cannot be read'),
        (7, 'an array is wanted'),
    ):
        with pytest.raises(UserError, match=told):
            segmentor(wrong)
    small = Segmentor(run / 'export', max_pixels=10)
    with pytest.raises(UserError, match='more than the 10 allowed'):
        small(np.zeros((8, 8), np.uint16))


def test_other_preparations_are_refused(run) -> None:
    for key, value, told in (
        ('interpolation', 'bilinear', "interpolation='bilinear'"),
        ('margin', '1.5', 'margin=1.5'),
    ):
        with pytest.raises(UserError, match=told):
            read_run(run, [f'val_dataloader.dataset.{key}={value}'])
    inner = 'val_dataloader.dataset.dataset'
    with pytest.raises(UserError, match='3 channels and the network takes 1'):
        read_run(run, [f'{inner}.channels=3', f'{inner}.bits=8'])
    with pytest.raises(UserError, match='needs hkd_mm.SegmentationMetric'):
        _ = read_run(run, ['val_evaluator=[]']).pixel_threshold


def test_the_threshold_is_that_of_validation(run, tmp_path) -> None:
    place = tmp_path / 'marked'
    shutil.copytree(run, place, ignore=shutil.ignore_patterns('export'))
    config = place / 'unet-r18_lidc.py'
    old = 'threshold=0.5'
    text = config.read_text()
    assert old in text
    text = text.replace('mask_threshold = 0.5', 'mask_threshold = 0.25')
    config.write_text(text.replace(old, 'threshold=0.25'))
    assert export(place, None, ExportOptions(int8=False)).threshold == 0.25
    data = json.loads((place / 'export/manifest.json').read_text())
    assert data['task'] == 'segmentation' and data['threshold'] == 0.25


def test_the_export_is_timed(run, tool) -> None:
    argv = [str(run), '--batch', '1', '--threads', '1', '--rounds', '1']
    argv += ['--seconds', '0', '--runtimes', 'eager', 'onnx', 'int8']
    argv += ['--out', str(run.parent / 'latency.json')]
    assert tool('latency')(argv) == 0
    rows = json.loads((run.parent / 'latency.json').read_text())['rows']
    assert [row['runtime'] for row in rows] == ['eager', 'onnx', 'int8']
    assert all(row['median_ms'] > 0 for row in rows)


def test_differences_are_of_all_batches() -> None:
    apart = Differences()
    apart.add(np.float32([[1, -4]]), np.float32([[1, -2]]))
    apart.add(np.float32([[3, 3]]), np.float32([[3, 4]]))
    assert (apart.most, apart.scaled) == (2, 0.5)
    apart.add(np.float32([[[0.1]], [[9]]]), np.float32([[[0.9]], [[9]]]))
    assert apart.scaled == pytest.approx(0.8)  # of the image itself
    apart = Differences()
    apart.add(np.float32([[1, -4]]), np.float32([[1, -2]]))
    apart.add(np.float32([[3, 3]]), np.float32([[3, 4]]))
    assert apart.rms == pytest.approx(np.sqrt(5 / 4))
    apart.add_answers(np.array([0, 1]), np.array([0, 0]))
    assert apart.same_answers == 0.5
    apart.add(np.float32([[np.nan]]), np.float32([[1]]))
    apart.add(np.float32([[1]]), np.float32([[1]]))
    assert np.isnan(apart.most) and np.isnan(apart.scaled)


def test_int8_pixels_may_differ_here_and_there() -> None:
    one = np.zeros((1, 1, 10, 10))
    other = one.copy()
    other[..., 0, 0] = 0.15  # a mean of 0.0015
    assert same_probabilities('x', one, other, int8=True)['limit'] == 2e-3
    with pytest.raises(UserError, match='not that of the training'):
        same_probabilities('x', one, 2 * other, int8=True)
    with pytest.raises(UserError, match='not that of the training'):
        same_probabilities('x', one, other)
