# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with their true and predicted masks."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from hkd_mm.engine.hooks.picture_hooks import MaskPicturesHook, as_rgb, file_name
from hkd_mm.models.preprocessors.packed_mask_preprocessor import PackedMaskPreprocessor
from hkd_mm.structures.mask_samples import MaskPredictions, MaskSamples
from hkd_mm.structures.packed_samples import masks_of

ORANGE = (230, 159, 0)


def squares():
    """Two slices of 28 x 28; the second prediction is moved by two pixels."""
    truth = torch.zeros(2, 28, 28, dtype=torch.uint8)
    truth[:, 8:18, 8:18] = 1
    logits = torch.full((2, 1, 28, 28), -9.0)
    logits[0, 0, 8:18, 8:18] = 9
    logits[1, 0, 8:18, 10:20] = 9
    return truth, logits


def a_runner(dataset, threshold=0.5, **preprocessor):
    return SimpleNamespace(
        test_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)),
        test_evaluator=SimpleNamespace(metrics=[SimpleNamespace(threshold=threshold)]),
        model=SimpleNamespace(data_preprocessor=PackedMaskPreprocessor(**preprocessor)),
    )


def test_pictures_have_the_threshold_window_and_size_of_the_run(tmp_path):
    truth = torch.zeros(1, 28, 28, dtype=torch.uint8)
    truth[:, 8:18, 8:18] = 1
    logits = torch.full((1, 1, 28, 28), -9.0)
    logits[0, 0, 8:18, 8:18] = -1.0  # a probability of 0.27
    found = MaskPredictions(logits, MaskSamples(truth, torch.tensor([0])))
    dataset = SimpleNamespace(store=SimpleNamespace(ids=['a']))
    images = torch.full((1, 56, 56, 1), 500, dtype=torch.uint16)
    images[:, :2] = 60000  # without the window all else would be black
    for threshold, marked in ((0.5, False), (0.2, True)):
        MaskPicturesHook(str(tmp_path)).after_test_iter(
            a_runner(dataset, threshold, window=(500, 1000)),
            0, dict(inputs=images), [found],
        )  # fmt: skip
        with Image.open(tmp_path / 'a.png') as picture:
            pixels = np.asarray(picture)
        panel = pixels[16:-16, 448:]
        assert panel.shape == (224, 224, 3)
        assert (panel == ORANGE).all(-1).any() == marked
        assert abs(int(panel[200, 200, 0]) - 128) <= 1


def test_every_slice_is_drawn_with_both_masks(tmp_path):
    truth, logits = squares()
    found = MaskPredictions(logits, MaskSamples(truth, torch.tensor([1, 0])))
    store = SimpleNamespace(ids=['p2/b', 'p1/a'])
    dataset = SimpleNamespace(store=store)
    runner = a_runner(dataset)
    images = torch.zeros(2, 28, 28, 1, dtype=torch.uint16)
    MaskPicturesHook(str(tmp_path / 'out')).after_test_iter(
        runner, 0, dict(inputs=images), [found]
    )
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['p1+a.png', 'p2+b.png']
    with Image.open(tmp_path / 'out' / 'p1+a.png') as picture:
        pixels = np.asarray(picture)
    panels = [pixels[16:-16, i * 224 : (i + 1) * 224] for i in range(3)]
    marked = [(panel == ORANGE).all(-1) for panel in panels]
    assert not marked[0].any()
    assert (marked[1] == marked[2]).all() and marked[1].any()
    # the outline lies at the edge of the square: pixel 8 of 28, 8 times
    assert np.argwhere(marked[1]).min(0).tolist() == [64, 64]
    with Image.open(tmp_path / 'out' / 'p2+b.png') as picture:
        pixels = np.asarray(picture)
    moved = (pixels[16:-16, 448:] == ORANGE).all(-1)
    assert np.argwhere(moved).min(0).tolist() == [64, 80]


def test_every_sample_has_a_picture_of_its_own(tmp_path):
    ids = ['p/a', 'p_a', 'p+a', 'p%2Fa', 'p a', '_p_a', 'p/a_', 'p%a', 'Ä/1.b']
    assert len({file_name(name) for name in ids}) == len(ids)
    assert file_name('P0/0_NI_0.b-2') == 'P0+0_NI_0.b-2'
    assert not any(set('/ ') & set(file_name(name)) for name in ids)
    truth, logits = squares()
    found = MaskPredictions(logits, MaskSamples(truth, torch.tensor([0, 1])))
    dataset = SimpleNamespace(store=SimpleNamespace(ids=['p/a', 'p_a']))
    MaskPicturesHook(str(tmp_path)).after_test_iter(
        a_runner(dataset),
        0,
        dict(inputs=torch.zeros(2, 28, 28, 1, dtype=torch.uint16)),
        [found],
    )
    assert len(list(tmp_path.glob('*.png'))) == 2


def test_16_bits_are_stretched_and_8_are_left():
    image = np.uint16([[[1000], [2000]], [[3000], [3000]]])
    assert as_rgb(image)[..., 0].tolist() == [[0, 128], [255, 255]]
    assert as_rgb(np.full((2, 2, 1), 7, np.uint16)).max() == 0
    eight = np.uint8([[[1, 2, 3]]])
    assert (as_rgb(eight) == eight).all()


def test_masks_are_of_the_most_probable_class():
    several = torch.tensor([[0.2, 0.5, 0.3]]).view(1, 3, 1, 1)
    assert masks_of(several).tolist() == [[[1]]]
    assert masks_of(torch.tensor([[[[0.5, 0.49]]]])).tolist() == [[[1, 0]]]


def test_every_id_gets_a_file_of_its_own():
    ids = ['a b', 'a_b', 'a/b', 'a+b', 'a%2Bb', '\udcff', '\udcfe', '黒', 'x' * 300]
    ids += ['x' * 301, '長' * 100, '長' * 101]
    names = [file_name(name) for name in ids]
    assert len(set(names)) == len(ids)
    assert max(len(name.encode()) for name in names) < 220
    assert names[2:4] == ['a+b', 'a%2Bb']
