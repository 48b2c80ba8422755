# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A small data root and packed data sets of it."""

import shutil

import pytest

from hkd_mm.registry import DATASETS

CLASSES = ['Acne', 'Benign', 'Eczema']


@pytest.fixture
def root(tiny_data, tmp_path, monkeypatch):
    """A copy of the tiny data, 36 images; works in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    # in this process, where a test can look on
    monkeypatch.setattr('hkd_mm.apis.parallel.default_workers', lambda: 1)
    return shutil.copytree(tiny_data, tmp_path / 'data')


@pytest.fixture
def packed(root):
    """Build a packed data set of one split of ``root``."""

    def build(split='all', data_root=root, **kwargs):
        inner = dict(
            type='hkd_mm.SkinDisease',
            data_root=str(data_root),
            split=split,
            classes=CLASSES,
            split_ratios=(0.5, 0.25, 0.25),
        )
        return DATASETS.build(
            dict(
                dict(type='hkd_mm.PackedDataset', dataset=inner, size=16),
                **kwargs,
            )
        )

    return build
