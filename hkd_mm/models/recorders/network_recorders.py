# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Recorders that find their module in any classifier; MMRazor's need its name."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from mmpretrain.models.necks import GlobalAveragePooling
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.models.task_modules.recorder.module_outputs_recorder import (
    ModuleOutputsRecorder,
)
from pydantic import Field
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Arguments
from hkd_mm.registry import TASK_UTILS

Stage = Annotated[int, Field(ge=-1000, le=1000)]


class AutoSourceRecorder(Arguments, ModuleOutputsRecorder):
    """Module outputs whose module is found when the network is known."""

    def __post_init__(self) -> None:
        super().__post_init__('')

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        self._source = self.find(model)
        super().prepare_from_model(model)

    @abstractmethod
    def find(self, model: nn.Module) -> str:
        """Name of the module whose outputs are recorded."""


class HookRecorder(Arguments, BaseRecorder):
    """Whatever a hook keeps while ``recording`` is set."""

    recording = False

    def __post_init__(self) -> None:
        super().__post_init__('')

    def __enter__(self) -> None:
        super().__enter__()
        self.recording = True

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self.recording = False


@TASK_UTILS.register_module()
class LogitsRecorder(AutoSourceRecorder):
    """The class scores (N, C) of a classifier, (N, C, h, w) of a segmentor.

    ``hkd_mm.Logits`` in a config; before softmax.
    """

    def find(self, model: nn.Module) -> str:
        return 'head' if hasattr(model, 'backbone') else 'model'


@TASK_UTILS.register_module()
class TeacherScoresRecorder(AutoSourceRecorder):
    """The class scores (N, K, C) of each of K teachers, before they are fused.

    ``hkd_mm.TeacherScores`` in a config of :class:`hkd_mm.MultiTeacherDistill`.
    """

    def find(self, model: nn.Module) -> str:
        if not hasattr(model, 'networks'):
            raise UserError(
                'recorder hkd_mm.TeacherScores needs several teachers; take '
                "model.type='hkd_mm.MultiTeacherDistill', or a loss for one teacher"
            )
        return 'model'

    def forward_hook(self, module: nn.Module, inputs: tuple, outputs: Any) -> None:
        if self.recording:
            self.data_buffer.append(torch.stack(inputs[0], dim=1))


class StageRecorder(AutoSourceRecorder):
    """The feature map at the end of a stage."""

    stage = -1
    _prefix: ClassVar[int | None] = None

    def find(self, model: nn.Module) -> str:
        self._segmentor = is_segmentor(model)
        if not is_timm(model):
            return model.encoder if self._segmentor else 'backbone'
        names = [item['module'] for item in model.model.feature_info]
        self._check(len(names), ', '.join(names))
        self._prefix = prefix_tokens(model.model)
        return f'model.{_end_of_stage(model.model, names, self.stage)}'

    def _check(self, count: int, names: str) -> None:
        check_stages(f'Feature: stage={self.stage}', [self.stage], count, names)

    def forward_hook(self, module: nn.Module, inputs: tuple, outputs: Any) -> None:
        if self._segmentor and self.recording:
            outputs = outputs[1:]  # without the image
            self._check(len(outputs), 'encoder_depth')
            outputs = outputs[self.stage]
        super().forward_hook(module, inputs, map_of_tokens(outputs, self._prefix))

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> Any:
        """One map; ``data_idx`` picks among several where a stage has them."""
        record = super().get_record_data(record_idx, data_idx)
        if isinstance(record, Tensor):
            return record
        self._check(len(record), 'out_indices')
        return record[self.stage]


@TASK_UTILS.register_module()
class FeatureRecorder(StageRecorder):
    """The feature map (N, C, H, W) at the end of one stage.

    ``hkd_mm.Feature`` in a config. Stages are timm's (``feature_info``; of a ViT its
    blocks, whose patch tokens make the map), the backbone's ``out_indices``, or those
    of a segmentor's encoder, of which the last four are 1/4, 1/8, 1/16 and 1/32 of the
    image.
    """

    stage: Stage = -1  # index of the stage; negative counts from the last one


@TASK_UTILS.register_module()
class LastMapRecorder(StageRecorder):
    """The last feature map (N, C, H, W), whose mean the last layer is given.

    ``hkd_mm.LastMap`` in a config. It is not that of ``hkd_mm.Feature``
    where a layer follows the last stage, as in MobileNetV2 and EfficientNet.
    """

    def find(self, model: nn.Module) -> str:
        pools = [
            name
            for name, module in model.named_modules()
            if isinstance(module, (SelectAdaptivePool2d, GlobalAveragePooling))
        ]
        self._before_pooling = bool(pools)
        return pools[-1] if pools else super().find(model)

    def forward_hook(self, module: nn.Module, inputs: tuple, outputs: Tensor) -> None:
        if not self._before_pooling:
            super().forward_hook(module, inputs, outputs)
        elif self.recording:
            self.data_buffer.append(inputs[0])


@TASK_UTILS.register_module()
class PooledRecorder(AutoSourceRecorder):
    """The pooled features (N, C) that the last layer makes scores of.

    ``hkd_mm.Pooled`` in a config.
    """

    def find(self, model: nn.Module) -> str:
        last = classifier_layer(model)
        for name, module in model.named_modules():
            if module is last:
                return name
        raise UserError(
            f'recorder hkd_mm.Pooled: no last layer found in '
            f'{type(model).__name__}; record it with mmrazor.ModuleInputs'
        )

    def forward_hook(self, module: nn.Module, inputs: tuple, outputs: Tensor) -> None:
        if self.recording:
            self.data_buffer.append(inputs[0])


@TASK_UTILS.register_module()
class GTLabelsRecorder(HookRecorder):
    """The labels (N,) int64 of the batch that the network is given.

    Targets (N, C) float32 where mixup or cutmix has mixed the images.
    ``hkd_mm.GTLabels`` in a config, on the student's side.
    """

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        model.register_forward_pre_hook(self._record, with_kwargs=True)

    def _record(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if self.recording:
            samples = args[1] if len(args) > 1 else kwargs['data_samples']
            self._data_buffer.append(labels_of(samples))


@TASK_UTILS.register_module()
class StageMapsRecorder(HookRecorder):
    """The feature maps at the end of several stages, as one list.

    ``hkd_mm.StageMaps`` in a config.
    """

    # indices of the stages, from shallow to deep; negative ones count from the last.
    # The last four are 1/4, 1/8, 1/16 and 1/32 of the image in the networks of this zoo
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (-4, -3, -2, -1)

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        if not is_timm(model):
            segmentor = is_segmentor(model)
            module = model.get_submodule(model.encoder if segmentor else 'backbone')
            module.register_forward_hook(partial(self._keep_all, segmentor))
            return
        names = [item['module'] for item in model.model.feature_info]
        self._check(len(names), ', '.join(names))
        prefix = prefix_tokens(model.model)
        for position, stage in enumerate(self.stages):
            end = _end_of_stage(model.model, names, stage)
            model.model.get_submodule(end).register_forward_hook(
                lambda _, __, output, at=position: self._keep(
                    at, map_of_tokens(output, prefix)
                )
            )

    def _check(self, count: int, names: str) -> None:
        name = f'StageMaps: stages={self.stages}'
        check_stages(name, self.stages, count, names)

    def _keep(self, position: int, output: Tensor) -> None:
        if self.recording:
            self._data_buffer.append((position, output))

    def _keep_all(self, segmentor: bool, _, __, outputs: Sequence[Tensor]) -> None:
        if self.recording:
            maps = outputs[1:] if segmentor else outputs  # not the image
            self._check(len(maps), 'encoder_depth' if segmentor else 'out_indices')
            for position, stage in enumerate(self.stages):
                self._keep(position, maps[stage])

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        if exc_type is None:
            maps = dict(self._data_buffer)
            assert len(maps) == len(self.stages)
            self._data_buffer = [[maps[i] for i in range(len(maps))]]


def prefix_tokens(network: nn.Module) -> int | None:
    """Class and register tokens before a timm ViT's patches; None: it has maps."""
    return getattr(network, 'num_prefix_tokens', None)


def map_of_tokens(tokens: Tensor, prefix: int | None) -> Tensor:
    """Patch tokens (N, prefix + h h, C) of square images as a map (N, C, h, h).

    Of a network that has maps (``prefix`` None) what is given.
    """
    if prefix is None:
        return tokens
    patches = tokens[:, prefix:]
    side = math.isqrt(patches.size(1))
    assert side * side == patches.size(1), 'images are square'
    return patches.transpose(1, 2).unflatten(2, (side, side))


def _end_of_stage(network: nn.Module, names: list[str], stage: int) -> str:
    """Module at the end of a stage; the last tokens of a ViT are normalised."""
    last = stage in (-1, len(names) - 1) and prefix_tokens(network) is not None
    if last and not isinstance(network.norm, nn.Identity):
        return 'norm'
    return names[stage]


def check_stages(recorder: str, stages: Sequence[int], count: int, names: str) -> None:
    """Refuse stages that a network has not."""
    if any(not -count <= stage < count for stage in stages):
        raise UserError(
            f'recorder hkd_mm.{recorder}, but the network has {count} stages '
            f'({names}); name others, such as -1 for the last'
        )


def labels_of(samples) -> Tensor:
    """Labels (N,) int64, or targets (N, C) float32 of mixed images."""
    labels = getattr(samples, 'gt_labels', None)
    if labels is not None:
        return labels if samples.gt_scores is None else samples.gt_scores
    if 'gt_score' in samples[0]:
        return torch.stack([sample.gt_score for sample in samples])
    return torch.cat([sample.gt_label for sample in samples])


def is_timm(model: nn.Module) -> bool:
    """Whether a classifier wraps a network of timm; else it has a backbone."""
    return not hasattr(model, 'backbone') and not is_segmentor(model)


def is_segmentor(model: nn.Module) -> bool:
    """Whether a network gives a class to every pixel."""
    return getattr(model, 'dense', None) is True


def classifier_layer(model: nn.Module) -> nn.Module | None:
    """What makes class scores of the pooled features; None if unknown."""
    if is_segmentor(model):
        return None
    if is_timm(model):
        return model.model.get_classifier()
    return getattr(model.head, 'fc', None)


def last_layer(network: nn.Module, user: object) -> nn.Linear:
    """The linear layer at the end of a classifier, which is not to be registered again.

    Raises:
        UserError: the network ends in something else.
    """
    found = classifier_layer(network)
    if isinstance(found, nn.Linear):
        return found
    raise UserError(
        f'{type(user).__name__} needs networks that end in one linear layer, but one '
        f'ends in {type(found).__name__}; take another network or another loss'
    )


def check_channels(layer: nn.Linear, feature: Tensor, user: object) -> None:
    """Refuse a feature (N, C, ...) that a last layer does not take."""
    if layer.in_features != feature.size(1):
        raise UserError(
            f'{type(user).__name__}: a last layer takes {layer.in_features} channels, '
            f'but the feature has {feature.size(1)}; record what that layer is given, '
            'with hkd_mm.LastMap (maps) or hkd_mm.Pooled (vectors)'
        )
