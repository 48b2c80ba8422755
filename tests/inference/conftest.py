# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An exported folder with a tiny net, made without torch."""

from pathlib import Path

import numpy as np
import pytest
from exported import export_tiny


@pytest.fixture
def exported(tmp_path) -> Path:
    """Takes 8 x 6 pixels, 3 classes, temperature 2, sure from 0.6."""
    return export_tiny(tmp_path / 'export')


@pytest.fixture
def noise():
    """``noise(seed, height, width)`` is uint8 RGB."""

    def make(seed: int = 0, height: int = 12, width: int = 12) -> np.ndarray:
        rng = np.random.default_rng(seed)
        base = rng.integers(0, 206, 3)
        pixels = rng.integers(0, 50, (height, width, 3))
        return (base + pixels).astype(np.uint8)

    return make
