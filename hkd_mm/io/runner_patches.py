# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Two patches of MMEngine's ``Runner``, active wherever hkd_mm is imported.

A config of this package imports it (``custom_imports``), so that
``Runner.from_cfg(Config.fromfile(CONFIG))`` trains as ``tools/train.py`` does.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from hkd_mm import compat

_RUNNER = 'mmengine.runner'


def install() -> None:
    """Change MMEngine's ``Runner`` now, or as soon as it is imported.

    Importing it here would load torch, which reading a config does not need.
    """
    if _RUNNER in sys.modules:
        _change()
    else:
        compat.around_import(_RUNNER, _execute)


def _execute(module: ModuleType, run: Callable[[], None]) -> None:
    run()
    _change()


def _change() -> None:
    """Load checkpoints safely, and build models in the order they ask for."""
    from mmengine.runner import CheckpointLoader, Runner

    # Upstream loads with weights_only=True and, when that fails, once more
    # with weights_only=False: an untrusted file then runs its code.
    for prefix in list(CheckpointLoader._schemes):
        CheckpointLoader.register_scheme(prefix, _safe_loader(prefix), force=True)
    if not hasattr(Runner, 'build_plain_model'):
        Runner.build_plain_model = Runner.build_model
        Runner.build_model = build_model


def _safe_loader(prefix: str):
    def load(filename: str, map_location: Any = None, **kwargs) -> dict:
        from hkd_mm.io import checkpoints

        return checkpoints.load(prefix, filename)

    return load


def build_model(runner, model):
    """``Runner.build_model``, in channels_last if the config says so.

    The weights of all networks, teacher included, are stored in channels_last. A
    convolution with such weights delivers channels_last outputs whatever its input is,
    so the whole network follows. Results differ from the default order only by
    floating-point rounding. Depthwise networks such as MobileNetV2 gain most on a CPU.

    A hook comes too late: distributed training lays out its gradients when
    the model is wrapped, and afterwards mixes up their elements.
    """
    import torch

    model = runner.build_plain_model(model)
    if runner.cfg.get('channels_last'):
        model.to(memory_format=torch.channels_last)
    return model
