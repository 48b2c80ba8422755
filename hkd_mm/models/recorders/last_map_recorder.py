# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The feature map that a classifier pools for its last layer."""

from mmpretrain.models.necks import GlobalAveragePooling
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from hkd_mm.registry import TASK_UTILS

from .network_recorders import FeatureRecorder


@TASK_UTILS.register_module()
class LastMapRecorder(FeatureRecorder):
    """The last feature map (N, C, H, W), whose mean the last layer is given.

    ``hkd_mm.LastMap`` in a config. It is not that of ``hkd_mm.Feature``
    where a layer follows the last stage, as in MobileNetV2 and EfficientNet.
    A net without a module for global pooling has its last stage recorded.
    """

    def __init__(self) -> None:
        super().__init__(stage=-1)
        self._before_pooling = False

    def find(self, model: nn.Module) -> str:
        pools = [
            name
            for name, module in model.named_modules()
            if isinstance(module, (SelectAdaptivePool2d, GlobalAveragePooling))
        ]
        self._before_pooling = bool(pools)
        return pools[-1] if pools else super().find(model)

    def forward_hook(
        self, module: nn.Module, inputs: tuple, outputs: Tensor
    ) -> None:
        """Keep what is pooled."""
        if not self._before_pooling:
            super().forward_hook(module, inputs, outputs)
        elif self.recording:
            self.data_buffer.append(inputs[0])
