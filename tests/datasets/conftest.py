# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Data roots that the tests of the data sets share."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _work_in_tmp(tmp_path, monkeypatch):
    """Split files go to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write_image():
    """Write a small photograph that differs from all others."""

    def write(path, seed: int = 0, size: int = 12) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def write_table():
    """Write rows of equal keys as a CSV file."""

    def write(path, rows: list[dict]) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'w', newline='') as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write
