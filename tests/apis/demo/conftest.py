# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A finished run of a tiny net that has learnt its classes."""

from pathlib import Path

import pytest
from tiny_run import make_tiny_run

for _package in ('onnx', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(_package)


@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory) -> Path:
    """Its work dir, see ``make_tiny_run``; do not write there."""
    return make_tiny_run(tmp_path_factory.mktemp('demo'))
