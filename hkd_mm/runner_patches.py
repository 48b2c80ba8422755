# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Two changes of MMEngine's ``Runner`` that hold wherever hkd_mm is imported.

A config of this package imports it (``custom_imports``), so that
``Runner.from_cfg(Config.fromfile(CONFIG))`` trains as ``tools/train.py``
does. Neither needs more than MMEngine until it is used.
"""

from typing import Any


def install() -> None:
    """Load checkpoints safely, and build models in the order they ask for."""
    from mmengine.runner import CheckpointLoader, Runner

    # Upstream loads with weights_only=True and, when that fails, once more
    # with weights_only=False: an untrusted file then runs its code.
    for prefix in list(CheckpointLoader._schemes):
        CheckpointLoader.register_scheme(
            prefix, _safe_loader(prefix), force=True
        )
    if not hasattr(Runner, 'build_plain_model'):
        Runner.build_plain_model = Runner.build_model
        Runner.build_model = build_model


def _safe_loader(prefix: str):
    def load(filename: str, map_location: Any = None, **kwargs) -> dict:
        from hkd_mm.engine import safe_loading

        return safe_loading.load(prefix, filename)

    return load


def build_model(runner, model):
    """Build the model of a runner, in channels_last if its config says so.

    The weights of all networks, teacher included, are stored in
    channels_last. A convolution with such weights delivers channels_last
    outputs whatever its input is, so the whole network follows. Results
    differ from the default order only by floating-point rounding. Depthwise
    networks such as MobileNetV2 gain most on a CPU.

    A hook comes too late: distributed training lays out its gradients when
    the model is wrapped, and afterwards mixes up their elements.

    Args:
        runner: any runner of MMEngine; ``channels_last`` of its config is
            read.
        model: a module or its config, as of ``Runner.build_model``.
    """
    import torch

    model = runner.build_plain_model(model)
    if runner.cfg.get('channels_last'):
        model.to(memory_format=torch.channels_last)
    return model
