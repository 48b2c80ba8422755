# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Small CT slices with discs for nodules."""

import numpy as np
import pytest
from PIL import Image


def _slice(seed, side=40):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 65536, (side, side)).astype(np.uint16)


def _disc(seed, side=40, value=65535):
    y, x = np.mgrid[:side, :side]
    inside = (y - 12 - seed % 7) ** 2 + (x - 20) ** 2 < 64
    return (inside * value).astype(np.uint16)


@pytest.fixture
def save():
    def write(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def ct_root(tmp_path, save, write_table, monkeypatch):
    """Five patients of six slices, the last of each without a nodule."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('hkd_mm.io.progress.default_workers', lambda: 1)
    root, rows = tmp_path / 'ct', []
    for patient in range(5):
        for number in range(6):
            seed, clean = 10 * patient + number, number == 5
            image = f'{patient}_NI_{number}'
            mask = '' if clean else f'{patient}_MA_{number}'
            save(root / 'Image' / f'P{patient}' / f'{image}.png', _slice(seed))
            if not clean:
                save(root / 'Mask' / f'P{patient}' / f'{mask}.png', _disc(seed))
            rows.append(
                dict(
                    patient_id=patient,
                    original_image=image,
                    mask_image=mask,
                    malignancy=3,
                    is_clean=str(clean).upper(),
                )
            )
    write_table(root / 'split_dataset.csv', rows)
    return root


@pytest.fixture
def rewrite(write_table):
    """Change the table of a root: a function of its rows."""
    import csv

    def change(root, function):
        path = root / 'split_dataset.csv'
        with open(path, newline='') as stream:
            rows = list(csv.DictReader(stream))
        return write_table(path, [function(row) for row in rows])

    return change


@pytest.fixture
def dataset():
    from hkd_mm.registry import DATASETS

    def build(root, kind='LIDCNodule', split='all', **kwargs):
        return DATASETS.build(
            dict(
                type=f'hkd_mm.{kind}',
                data_root=str(root),
                split=split,
                **kwargs,
            )
        )

    return build


@pytest.fixture
def packed_masks():
    from hkd_mm.registry import DATASETS

    def build(inner, **kwargs):
        config = dict(type='hkd_mm.PackedMasks', dataset=inner, size=40)
        return DATASETS.build(dict(config, **kwargs))

    return build
