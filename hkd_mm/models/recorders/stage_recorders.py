# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Recorders of what several stages deliver, and of the last vector."""

from collections.abc import Sequence

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.registry import TASK_UTILS

from .network_recorders import (
    AutoSourceRecorder,
    classifier_layer,
    is_segmentor,
    is_timm,
    stages_of,
)


@TASK_UTILS.register_module()
class PooledRecorder(AutoSourceRecorder):
    """The pooled features (N, C) that the last layer makes scores of.

    ``hkd_mm.Pooled`` in a config.
    """

    def __init__(self) -> None:
        super().__init__(source='')

    def find(self, model: nn.Module) -> str:
        last = classifier_layer(model)
        for name, module in model.named_modules():
            if module is last:
                return name
        raise UserError(
            f'recorder hkd_mm.Pooled: no last layer found in '
            f'{type(model).__name__}; record it with mmrazor.ModuleInputs'
        )

    def forward_hook(
        self, module: nn.Module, inputs: tuple, outputs: Tensor
    ) -> None:
        """Keep what the last layer is given."""
        if self.recording:
            self.data_buffer.append(inputs[0])


@TASK_UTILS.register_module()
class StageMapsRecorder(BaseRecorder):
    """The feature maps at the end of several stages, as one list.

    ``hkd_mm.StageMaps`` in a config.

    Args:
        stages: indices of the stages, from shallow to deep; negative ones
            count from the last. The last four are 1/4, 1/8, 1/16 and 1/32 of
            the image in the nets of this zoo.
    """

    def __init__(self, stages: Sequence[int] = (-4, -3, -2, -1)) -> None:
        super().__init__(source='')
        self.stages = tuple(stages)
        self._recording = False

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Listen to the modules that end the stages.

        Raises:
            UserError: the net has fewer stages.
        """
        assert model is not None
        if is_segmentor(model):
            encoder = model.get_submodule(model.encoder)
            encoder.register_forward_hook(self._keep_stages)
            return
        if not is_timm(model):
            model.backbone.register_forward_hook(self._keep_outputs)
            return
        names = [item['module'] for item in model.model.feature_info]
        self._check(len(names), ', '.join(names))
        for place, stage in enumerate(self.stages):
            module = model.model.get_submodule(names[stage])
            module.register_forward_hook(
                lambda _, __, output, place=place: self._keep(place, output)
            )

    def _check(self, count: int, said: str) -> None:
        if any(not -count <= stage < count for stage in self.stages):
            raise UserError(
                f'recorder hkd_mm.StageMaps: stages={self.stages}, but the '
                f'net has {count} stages: {said}; set fewer, such as '
                'stages=(-2, -1)'
            )

    def _keep(self, place: int, output: Tensor) -> None:
        if self._recording:
            self._data_buffer.append((place, output))

    def _keep_outputs(
        self, module: nn.Module, inputs: tuple, outputs: tuple
    ) -> None:
        """All of a backbone of mmpretrain, which returns a tuple."""
        if not self._recording:
            return
        self._check(len(outputs), f'out_indices={module.out_indices}')
        for place, stage in enumerate(self.stages):
            self._keep(place, outputs[stage])

    def _keep_stages(
        self, module: nn.Module, inputs: tuple, outputs: list[Tensor]
    ) -> None:
        """Some of an encoder, which returns the image before them."""
        if not self._recording:
            return
        maps = stages_of(outputs, self.stages, 'StageMaps', 'stages')
        for place, output in enumerate(maps):
            self._keep(place, output)

    def __enter__(self) -> None:
        super().__enter__()
        self._recording = True

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self._recording = False
        if exc_type is None:
            maps = dict(self._data_buffer)
            assert len(maps) == len(self.stages)
            self._data_buffer = [
                [maps[place] for place in range(len(self.stages))]
            ]
