# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated slices: as asked for, told apart by their grade."""

import csv

import numpy as np
import pytest
from _demo_slices import GRADES, draw_slice, make_demo_slices
from PIL import Image

from hkd_mm.errors import UserError

SMALL = dict(patients=10, slices=4, size=32, workers=1)


def pixels_of(root):
    return {
        path.relative_to(root).as_posix(): np.asarray(Image.open(path))
        for path in sorted(root.glob('*/*/*.png'))
    }


def test_the_set_is_whole_and_read(tmp_path):
    from hkd_mm.datasets.masks.mask_dataset import LIDCNodule

    root = tmp_path / 'ct'
    done = make_demo_slices(str(root), 'easy', **SMALL)
    assert done == dict(counts=dict(train=20, val=8, test=12), clean=10, new=True)
    found = pixels_of(root)
    assert len(found) == 40 + 30
    image = found['Image/PATIENT_0001/DEMO_0001_00.png']
    assert image.shape == (32, 32) and image.dtype.kind in 'ui'
    sets = [LIDCNodule(str(root), split) for split in done['counts']]
    assert [len(one) for one in sets] == [20, 8, 12]
    patients = [
        {one.get_data_info(i)['patient_id'] for i in range(len(one))} for one in sets
    ]
    assert not set.intersection(*patients)
    assert sum(one.class_counts()[0] for one in sets) == 10
    with open(root / 'split_dataset.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row['is_clean'] == 'FALSE':
            path = f'Mask/{row["patient_id"]}/{row["mask_image"]}.png'
            assert found[path].any()


def test_a_seed_gives_the_same_and_another_other_slices(tmp_path):
    names = ('a', 'b', 'c')
    for name, seed in zip(names, (0, 0, 1)):
        make_demo_slices(str(tmp_path / name), 'hard', seed=seed, **SMALL)
    a, b, c = (pixels_of(tmp_path / name) for name in names)
    assert a.keys() == b.keys() == c.keys()
    assert all((a[name] == b[name]).all() for name in a)
    assert any((a[name] != c[name]).any() for name in a)
    again = make_demo_slices(str(tmp_path / 'a'), 'hard', seed=0, **SMALL)
    assert not again['new']


def test_other_folders_are_not_written_over(tmp_path):
    make_demo_slices(str(tmp_path / 'a'), 'hard', **SMALL)
    with pytest.raises(UserError, match='holds other demo images'):
        make_demo_slices(str(tmp_path / 'a'), 'easy', **SMALL)
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/x').touch()
    with pytest.raises(UserError, match='is not empty'):
        make_demo_slices(str(tmp_path / 'b'), 'easy', **SMALL)


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (dict(grade='hopeless'), "'easy', 'medium' or 'hard'"),
        (dict(patients=9), 'patients: .* greater than or equal to 10'),
        (dict(slices=1), 'slices: .* greater than or equal to 2'),
        (dict(size=31), 'size: .* greater than or equal to 32'),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, words, told):
    with pytest.raises(UserError, match=told):
        make_demo_slices(str(tmp_path / 'x'), **words)
    assert not (tmp_path / 'x').exists()


def test_harder_nodules_are_smaller_and_fainter():
    """Mean area of the mask, and how far it stands out of the noise."""
    areas, clear = [], []
    for grade in GRADES.values():
        area, ratio = [], []
        for seed in range(40):
            image, mask = draw_slice(
                grade, 64, np.random.default_rng([seed, 1]),
                np.random.default_rng([seed, 2]), 0.0,
            )  # fmt: skip
            values = image.astype(float)
            around = values[24:40, 18:26].std()  # a part of a lung
            area.append(mask.sum())
            ratio.append((values[mask].mean() - 174) / around)
        areas.append(np.mean(area))
        clear.append(np.median(ratio))
    assert areas[0] > areas[1] > areas[2] > 5
    assert clear[0] > clear[1] > clear[2]


def test_the_command_says_what_it_made(tmp_path, tool, capsys):
    argv = ['--out', str(tmp_path / 'ct'), '--patients', '10', '--slices']
    argv += ['2', '--size', '32', '--grade', 'medium', '--workers', '1']
    assert tool('data/make_demo_slices')(argv) == 0
    assert tool('data/make_demo_slices')(argv) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith('wrote 20 medium slices')
    assert second == first.replace('wrote', 'found')
