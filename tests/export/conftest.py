# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An export needs packages of its own."""

import pytest

for _package in ('onnx', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(_package)
