# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Convolutions in the memory order that hardware likes."""
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from hkd_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep the weights of all nets, teacher included, in channels_last.

    A convolution whose weights are channels_last delivers channels_last
    outputs whatever its input is, so the whole net follows. Results differ
    from the default order only by floating-point rounding. Depthwise
    nets such as MobileNetV2 gain most on a CPU.
    """

    def before_run(self, runner) -> None:
        """Convert before the first forward; weights stay the same numbers."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        model.to(memory_format=torch.channels_last)
