# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Cheaper forwards of a frozen network, and its own input statistics."""

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._pytree import tree_map_only

from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.wiring import channels_of
from hkd_mm.models.arguments import Arguments


class InputConversion:
    """Turn images normalised for one network into images for another.

    ``(x * std_s + mean_s - mean_t) / std_t``; nothing is computed where both agree. The
    channel order follows too where one network takes RGB and the other BGR.

    The teacher's statistics are those of its config, else those that its
    checkpoint remembers of its training; a teacher that names none takes the
    student's images as they are.

    Args:
        student, teacher: data preprocessors of the networks.
        remembered: ``data_preprocessor`` of the checkpoint's ``meta``, a dict
            with ``mean``, ``std`` and ``to_rgb``; may be empty.

    Raises:
        UserError: the networks see the images through unlike windows.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        remembered: dict[str, Any] | None = None,
    ) -> None:
        if not hasattr(teacher, 'mean'):
            known = remembered or {}
            teacher = student
            if known.get('mean') and known.get('std'):
                teacher = SimpleNamespace(**known)
                teacher.mean, teacher.std = (
                    torch.tensor(known[name], dtype=torch.float32)
                    for name in ('mean', 'std')
                )
        if hasattr(student, 'window') and hasattr(teacher, 'window'):
            mine, other = (
                x.window and tuple(map(float, x.window)) for x in (student, teacher)
            )
            if mine != other:
                raise UserError(
                    f'the teacher was trained with the window {other} (centre, width) '
                    f'and data_preprocessor.window is {mine}; set it to the same, or '
                    'train the teacher with it'
                )
        mean_s, std_s = _statistics(student)
        mean_t, std_t = _statistics(teacher)
        # whether the network takes RGB; the loader delivers BGR
        mine, other = (bool(getattr(x, 'to_rgb', False)) for x in (student, teacher))
        self.flip = mine != other
        if self.flip:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.scale = (std_s / std_t).view(1, -1, 1, 1)
        self.shift = ((mean_s - mean_t) / std_t).view(1, -1, 1, 1)
        same = (self.scale == 1).all() and (self.shift == 0).all()
        self.identity = not self.flip and bool(same)

    @property
    def key(self) -> tuple:
        """What decides about the converted images."""
        return (self.scale.flatten().tolist(), self.shift.flatten().tolist(), self.flip)

    def __call__(self, images: Tensor) -> Tensor:
        """Convert a batch (N, C, H, W) of normalised images."""
        if self.identity:
            return images
        if self.flip:
            images = images.flip(1)
        scale = self.scale.to(images)
        return torch.addcmul(self.shift.to(images), images, scale)


def _statistics(preprocessor: nn.Module | SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Mean and std (C,) in the order of the channels that the network sees."""
    if not hasattr(preprocessor, 'mean'):
        return torch.zeros(1), torch.ones(1)
    both = preprocessor.mean, preprocessor.std
    return tuple(x.detach().cpu().flatten() for x in both)


_TOLERANCE = 1e-3  # of folding, relative to the largest output


class TeacherInference(Arguments):
    """How the frozen teacher of a distillation is run."""

    in_config = 'model.teacher_inference.'
    # put each BatchNorm into the convolution before it. Outputs differ by
    # floating-point rounding
    fold_bn: bool = False
    # autocast of the teacher alone: ``bfloat16``, ``float16``, or None for that of the
    # run (float32 where a cache keeps the outputs, which runs with and without
    # ``--amp`` then share). Records are delivered in float32
    dtype: Literal['bfloat16', 'float16'] | None = None

    def context(
        self, device: torch.device, cached: bool = False
    ) -> AbstractContextManager:
        """Context to run the teacher in; ``cached``: its outputs are kept."""
        if self.dtype is not None:
            return torch.autocast(device.type, getattr(torch, self.dtype))
        if cached:
            return torch.autocast(device.type, enabled=False)
        return nullcontext()

    def cast_records(self, recorders, images: int, count: int) -> None:
        """Turn records to float32; those of the first ``count`` images."""

        def cast(record: Tensor) -> Tensor:
            if self.dtype is not None and record.is_floating_point():
                record = record.float()
            repeated = record.shape[:1] == (images,)
            return record[:count] if repeated else record

        if self.dtype is not None or images > count:
            for recorder in recorders.recorders.values():
                buffer = [*recorder._data_buffer]
                recorder._data_buffer = tree_map_only(Tensor, cast, buffer)


def fold_batch_norms(network: nn.Module, input_size: int) -> int:
    """Fold BatchNorm into the convolutions of a network, in place; return how many.

    A pair is a convolution whose output, in one forward, is what the
    BatchNorm is given. Modules that a recorder listens to are left as they are.

    Raises:
        UserError: the outputs differ by more than 1e-3 of the largest.
    """
    parameter = next(network.parameters())
    images = torch.randn(
        (2, channels_of(network), input_size, input_size),
        generator=torch.Generator().manual_seed(0),
    ).to(parameter)
    with torch.no_grad():
        pairs = _pairs(network, images)
        before = network(images, mode='tensor')
        for conv, name in pairs:
            norm = network.get_submodule(name)
            moments = norm.running_mean, norm.running_var, norm.eps
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, *moments, norm.weight, norm.bias
            )
            conv.requires_grad_(norm.weight.requires_grad)
            network.set_submodule(name, _remainder(norm))
        after = network(images, mode='tensor')
    difference = (after - before).abs().max() / before.abs().max()
    if not difference <= _TOLERANCE:
        raise UserError(
            f'model.teacher_inference.fold_bn changes what this teacher says '
            f'by {float(difference):.2g} of its largest score; leave it out'
        )
    return len(pairs)


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Convolutions and the names of the BatchNorms that follow them."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # keeps outputs alive
    pairs, handles = [], []

    def remember(conv: nn.Conv2d, _: tuple, output: Tensor) -> None:
        made[id(output)] = conv, output

    def match(name: str):
        def hook(_: nn.Module, inputs: tuple) -> None:
            if id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][0], name))

        return hook

    for name, module in network.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            continue  # a recorder listens
        # of timm's convolutions others change their weights on the way
        if type(module) is nn.Conv2d or type(module).__name__ == 'Conv2dSame':
            handles.append(module.register_forward_hook(remember))
        elif _remainder(module) is not None:
            handles.append(module.register_forward_pre_hook(match(name)))
    network(images, mode='tensor')
    for handle in handles:
        handle.remove()
    return pairs


def _remainder(norm: nn.Module) -> nn.Module | None:
    """What a BatchNorm does besides normalising; None: not one to fold."""
    foldable = isinstance(norm, nn.BatchNorm2d) and norm.affine
    if foldable and norm.running_mean is not None:
        if type(norm) is nn.BatchNorm2d:
            return nn.Identity()
        if type(norm).__name__ == 'BatchNormAct2d':  # timm
            return nn.Sequential(norm.drop, norm.act)
    return None
