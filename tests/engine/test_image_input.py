# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Size and resize rule of a data set, packed and by a pipeline."""

from types import SimpleNamespace

import pytest
from mmengine.registry import init_default_scope
from tiny import TINY_CLASSES

from hkd_mm.engine.run_data import image_input, training_input
from hkd_mm.registry import DATASETS

LOAD = dict(type='hkd_mm.LoadSkinImage')
PACK = dict(type='PackInputs')


@pytest.fixture
def stock(packed_root):
    """Build the data set of a pipeline whose middle is given."""
    init_default_scope('mmpretrain')

    def build(*steps):
        return DATASETS.build(
            dict(
                type='hkd_mm.SkinDisease',
                data_root=str(packed_root),
                split='all',
                classes=list(TINY_CLASSES),
                pipeline=[LOAD, *steps, PACK],
            )
        )

    return build


def resize(scale, **more):
    return dict(type='Resize', scale=scale, **more)


def test_packed_and_stock_are_the_same(stock, packed):
    wanted = dict(size=[16, 16], interpolation='area', steps=[])
    assert image_input(stock(resize(16, interpolation='area'))) == wanted
    assert image_input(packed()) == wanted
    bilinear = dict(wanted, interpolation='bilinear')
    assert image_input(stock(resize((16, 16)))) == bilinear
    assert image_input(packed(interpolation='bilinear')) == bilinear
    assert image_input(stock(resize((16, 8))))['size'] == [8, 16]


def test_wrappers_are_looked_through(stock):
    inner = stock(resize(16))
    for kind in ('RepeatDataset', 'ConcatDataset'):
        given = dict(times=2) if kind == 'RepeatDataset' else {}
        given['datasets' if kind == 'ConcatDataset' else 'dataset'] = (
            [inner] if kind == 'ConcatDataset' else inner
        )
        outer = DATASETS.build(dict(type=kind, **given))
        assert image_input(outer) == image_input(inner)


def test_other_steps_are_told(stock):
    edge = dict(type='ResizeEdge', scale=20)
    found = image_input(stock(edge, dict(type='CenterCrop', crop_size=16)))
    assert found['size'] is None and found['interpolation'] is None
    assert [step.split('(')[0] for step in found['steps']] == [
        'ResizeEdge',
        'CenterCrop',
    ]
    assert found != image_input(stock(edge, dict(type='CenterCrop', crop_size=12)))
    kept = image_input(stock(resize(16, keep_ratio=True)))
    assert kept['size'] is None and 'keep_ratio=True' in kept['steps'][0]


def test_a_margin_is_part_of_it_and_the_preprocessor_has_the_last_word(packed):
    wide = packed(margin=1.5)
    assert image_input(wide)['size'] == [24, 24]
    assert image_input(wide)['steps'] == ['margin=1.5']
    crop = SimpleNamespace(input_size=16)
    assert image_input(wide, crop)['size'] == [16, 16]
    assert training_input(wide, crop) == image_input(packed())


def test_augmentation_is_no_part_of_it(stock):
    flipped = stock(resize(16), dict(type='RandomFlip', prob=0.5))
    assert training_input(flipped) == image_input(stock(resize(16)))
    cropped = stock(resize(20), dict(type='RandomCrop', crop_size=16))
    assert training_input(cropped) is None
    assert training_input(stock()) is None


def test_what_is_of_another_kind_tells_nothing():
    assert image_input([1, 2, 3]) is None
    assert training_input(SimpleNamespace(pipeline=[])) is None
