# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Parameters and multiply-accumulates of a network."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def complexity(model: nn.Module, input_size: int | tuple[int, int]) -> dict:
    """Count parameters and multiply-accumulates of one image.

    Counted are convolutions, linear layers, matrix products and attention, one MAC for
    each multiplication with its addition; normalisation, activations and pooling are
    left out (below 1 % of a convolutional network). FLOPs are twice this, though papers
    mostly print MACs under that name, the Hybrid KD paper as well: its table 4 (11.45
    for WRN-50-2, 11.60 for ResNet-152, 0.39 for EfficientNet-B0) holds MACs at 224 x
    224 with normalisation and activations; ours are 11.40, 11.51 and 0.39.

    Args:
        model: takes (N, C, H, W) alone, on any device, ``meta`` included
            (nothing is computed then). Its train / eval state is kept.
        input_size: height and width of the image, or their common value.

    Returns:
        ``parameters``: trainable or not, an int; ``gmacs``: a float, in 1e9.
    """
    size = (input_size,) * 2 if isinstance(input_size, int) else input_size
    parameters = list(model.parameters())
    like = parameters[0] if parameters else torch.zeros(())
    image = like.new_zeros((1, getattr(model, 'in_channels', 3), *size))
    states = {module: module.training for module in model.modules()}
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    for module, training in states.items():
        module.training = training
    count = sum(p.numel() for p in parameters)
    return dict(parameters=count, gmacs=counter.get_total_flops() / 2e9)
