# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A batch that a net takes, before there is any data."""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hkd_mm.structures.mask_samples import MaskSamples

from ..recorders.network_recorders import is_segmentor


def channels_of(net: nn.Module) -> int:
    """Channels of the images that a net takes: what it says, else 3."""
    return getattr(net, 'in_channels', 3)


def blank_batch(net: nn.Module, input_size: int) -> tuple[Tensor, Sequence]:
    """One black image for a net, with label 0 or an empty mask.

    Args:
        net: a classifier or a segmentor.
        input_size: side of the square image in pixels.

    Returns:
        Images (1, C, h, h) and data samples, on the device of the net.
    """
    parameter = next(net.parameters())
    side = input_size, input_size
    images = parameter.new_zeros((1, channels_of(net), *side))
    device = parameter.device
    if is_segmentor(net):
        masks = torch.zeros((1, *side), dtype=torch.uint8, device=device)
        index = torch.zeros(1, dtype=torch.int64, device=device)
        return images, MaskSamples(masks, index)
    return images, [DataSample().set_gt_label(0).to(device)]
