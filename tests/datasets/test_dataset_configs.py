# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The data bases of the configs, and that the augmentation is the paper's."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from hkd_mm.config.compose import compose_config
from hkd_mm.registry import DATASETS

pytestmark = pytest.mark.usefixtures('in_tmp')

BASES = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
SIZES = dict(
    skin_disease_116=116, skin_disease_112_d4=112, ham10000_116=116,
    ham10000_64=64, isic2019_116=116, isic2019_224=224, demo_64=64, skin6_512=512,
)  # fmt: skip
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def _load(name='skin_disease_116'):
    return Config.fromfile(BASES / f'{name}.py')


def _stock(name='skin_disease_116'):
    """The base on mmpretrain's pipeline, the parity reference."""
    return compose_config(BASES / f'{name}.py', dict(packed=False))


def _step(kind):
    steps = _stock().train_dataloader.dataset.pipeline
    return TRANSFORMS.build(next(s for s in steps if s['type'] == kind))


def _photo(size=60):
    line = np.linspace(40, 200, size).astype(np.uint8)
    x, y = np.meshgrid(line, line[::-1])
    return np.stack([x // 2, y // 2 + 30, x // 2 + 90], -1)


MASKS = ['lidc_256']  # packed always, images have masks


def test_bases_with_masks_are_whole_and_say_the_same_everywhere():
    cfg = _load(*MASKS)
    for loader, split in zip(LOADERS, ('train', 'val', 'test')):
        packed = cfg[loader].dataset
        assert DATASETS.get(packed.type.split('.')[-1]) is not None
        assert packed.size == cfg.input_size == 256
        assert packed.dataset.split == split
        assert packed.dataset.data_root == cfg.data_root
        assert packed.dataset.type == cfg.dataset_type
        assert cfg[loader].batch_size == cfg.batch_size
    assert not [key for key in cfg if key.startswith('_')]


@pytest.mark.parametrize(
    'name',
    sorted({path.stem for path in BASES.glob('*.py')} - set(MASKS)),
)
def test_each_base_is_whole_and_says_the_same_everywhere(name):
    cfg = _load(name)
    assert cfg.input_size == SIZES[name] and cfg.batch_size == 64
    assert cfg.packed is True
    assert not [key for key in cfg if key.startswith('_')]
    assert cfg.data_preprocessor.type == 'hkd_mm.PackedPreprocessor'
    for loader, split in zip(LOADERS, ('train', 'val', 'test')):
        packed = cfg[loader].dataset
        assert packed.type == 'hkd_mm.PackedDataset'
        assert packed.size == SIZES[name]
        assert packed.interpolation == 'area'
        assert cfg[loader].collate_fn.type == 'hkd_mm.packed_collate'
        data = packed.dataset
        assert data.split == split and data.data_root == cfg.data_root
        assert data.classes == cfg.classes and data.seed == cfg.split_seed
        assert data.split_ratios == cfg.split_ratios
        assert data.type == cfg.dataset_type
        assert DATASETS.get(data.type.split('.')[-1]) is not None
        assert cfg[loader].batch_size == 64
        assert cfg[loader].sampler.shuffle is (split == 'train')


# the quarter turns of skin_disease_112_d4 have no stock counterpart
@pytest.mark.parametrize('name', sorted(SIZES.keys() - {'skin_disease_112_d4'}))
def test_each_base_has_a_stock_pipeline_for_reference(name):
    cfg, packed = _stock(name), _load(name)
    size = (SIZES[name], SIZES[name])
    assert cfg.packed is False
    for loader in LOADERS:
        data = cfg[loader].dataset
        assert {**data, 'pipeline': 0} == {
            **packed[loader].dataset.dataset,
            'pipeline': 0,
        }
        kinds = [step.type for step in data.pipeline]
        assert kinds[0] == 'hkd_mm.LoadSkinImage'
        assert [s.scale for s in data.pipeline if s.type == 'Resize'] == [size]
        assert 'sample_id' in data.pipeline[-1].meta_keys
        random = ['RandomFlip', 'ColorJitter', 'Rotate']
        assert kinds[2:-1] == (random if 'train' in loader else [])
    assert 'augment' not in cfg.data_preprocessor
    for key in ('mean', 'std', 'to_rgb'):
        assert cfg.data_preprocessor[key] == packed.data_preprocessor[key]


def test_flip_is_fair():
    flip = _step('RandomFlip')
    np.random.seed(0)
    image = _photo()
    found = [flip(dict(img=image))['img'] for _ in range(600)]
    share = np.mean([(f == image[:, ::-1]).all() for f in found])
    assert share == pytest.approx(0.5, abs=0.07)
    assert all((f == image).all() or (f == image[:, ::-1]).all() for f in found)


def test_rotation_is_uniform_within_ten_degrees(monkeypatch):
    angles = []
    monkeypatch.setattr(
        'mmcv.imrotate',
        lambda img, angle, **kwargs: angles.append(angle) or img,
    )
    rotate = _step('Rotate')
    np.random.seed(0)
    for _ in range(4000):
        rotate(dict(img=_photo(8)))
    angles = np.array(angles)
    assert len(angles) == 4000 and np.abs(angles).max() <= 10
    shares = np.histogram(angles, 8, (-10, 10))[0] / 4000
    np.testing.assert_allclose(shares, 1 / 8, atol=0.025)


def test_rotation_turns_the_pixels():
    rotate = _step('Rotate')
    rotate.angle, rotate.random_negative_prob = 10, 0
    image = np.full((101, 101, 3), 128, np.uint8)
    image[48:53, 88:93] = 255
    found = rotate(dict(img=image))['img'].astype(int)[..., 0] - 128
    y, x = (np.average(grid, weights=found) - 50 for grid in np.mgrid[:101, :101])
    assert abs(np.degrees(np.arctan2(y, x))) == pytest.approx(10, abs=0.7)


def test_the_corners_that_a_rotation_opens_are_grey():
    rotate = _step('Rotate')
    rotate.angle, rotate.random_negative_prob = 10, 0
    found = rotate(dict(img=np.zeros((101, 101, 3), np.uint8)))['img']
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert found[corner].tolist() == [128, 128, 128]


def test_colour_jitter_has_the_ranges_of_the_paper():
    jitter = _step('ColorJitter')
    for name in ('brightness', 'contrast', 'saturation'):
        assert getattr(jitter, name) == pytest.approx((0.7, 1.3))
    assert jitter.hue == pytest.approx((-0.05, 0.05))


def test_hue_is_shifted_both_ways_by_at_most_a_twentieth():
    jitter = _step('ColorJitter')
    jitter.brightness = jitter.contrast = jitter.saturation = None
    image = np.full((6, 6, 3), (60, 90, 180), np.uint8)

    def hue(pixels):
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV_FULL)[0, 0, 0] / 256

    np.random.seed(0)
    shifts = [hue(jitter(dict(img=image))['img']) - hue(image) for _ in range(300)]
    shifts = (np.array(shifts) + 0.5) % 1 - 0.5
    assert shifts.min() < -0.035 and shifts.max() > 0.035
    assert np.abs(shifts).max() <= 0.058  # a step of 1/256 for rounding
    assert abs(shifts.mean()) < 0.01


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
def test_jitter_goes_both_ways(name):
    jitter = _step('ColorJitter')
    for other in ('brightness', 'contrast', 'saturation', 'hue'):
        if other != name:
            setattr(jitter, other, None)
    image = _photo()

    def measure(pixels):
        pixels = pixels.astype(float)
        return dict(
            brightness=pixels.mean(),
            contrast=pixels.mean(-1).std(),
            saturation=np.ptp(pixels, axis=-1).mean(),
        )[name]

    np.random.seed(0)
    found = [
        measure(jitter(dict(img=image))['img']) / measure(image) for _ in range(200)
    ]
    assert min(found) == pytest.approx(0.7, abs=0.04)
    assert max(found) == pytest.approx(1.3, abs=0.06)
    assert np.mean(found) == pytest.approx(1.0, abs=0.04)


def _dataset(tiny_data, loader):
    cfg = _stock()[loader].dataset
    cfg.update(data_root=str(tiny_data), classes=['Acne', 'Benign', 'Eczema'])
    return DATASETS.build(cfg)


def test_training_images_differ_each_time_and_test_images_do_not(tiny_data):
    train = _dataset(tiny_data, 'train_dataloader')
    np.random.seed(0)
    views = [train[0]['inputs'].numpy() for _ in range(8)]
    assert all(view.shape == (3, 116, 116) for view in views)
    assert len({view.tobytes() for view in views}) == 8
    np.random.seed(0)
    assert (train[0]['inputs'].numpy() == views[0]).all()
    val = _dataset(tiny_data, 'val_dataloader')
    first, again = val[0], val[0]
    assert (first['inputs'] == again['inputs']).all()
    sample = first['data_samples']
    assert sample.sample_id in sample.img_path
    assert sample.gt_label.tolist() == [val.get_data_info(0)['gt_label']]


def test_photographs_of_any_kind_make_one_batch(tmp_path):
    from mmengine.runner import Runner

    root = tmp_path / 'data'
    modes = ['RGB', 'L', 'RGBA', 'P', 'LA', 'CMYK', 'I;16', '1']
    rng = np.random.default_rng(0)
    for index, name in enumerate('AB'):
        (root / name).mkdir(parents=True)
        for i, mode in enumerate(modes):
            size = tuple(int(n) for n in rng.integers(20, 300, 2))
            image = Image.new(mode, size, None if index else 1)
            suffix = 'jpg' if mode in ('CMYK', 'RGB') else 'png'
            exif = Image.Exif()
            exif[0x0112] = i % 8 + 1
            image.save(root / name / f'{i}.{suffix}', exif=exif)
    cfg = copy.deepcopy(_stock().train_dataloader)
    cfg.dataset.update(data_root=str(root), classes=['A', 'B'], split='all')
    cfg.update(batch_size=16, num_workers=0)
    cfg.pop('worker_init_fn')
    batch = next(iter(Runner.build_dataloader(cfg, seed=0)))
    assert batch['inputs'].shape == (16, 3, 116, 116)
    assert str(batch['inputs'].dtype) == 'torch.uint8'


def test_a_damaged_image_is_named_through_a_loader_worker(tmp_path, tiny_data):
    import shutil

    from mmengine.runner import Runner

    from hkd_mm.cli import user_line

    root = shutil.copytree(tiny_data, tmp_path / 'data')
    for path in root.rglob('*.png'):
        path.write_bytes(path.read_bytes()[:60])
    cfg = copy.deepcopy(_stock().val_dataloader)
    cfg.dataset.update(
        data_root=str(root), classes=['Acne', 'Benign', 'Eczema'], split='all'
    )
    cfg.update(num_workers=1)
    cfg.pop('worker_init_fn')
    with pytest.raises(Exception) as caught:
        next(iter(Runner.build_dataloader(cfg, seed=0)))
    line = user_line(caught.value)
    assert line.startswith('image ') and '.png cannot be read' in line
