# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Grad-CAM of a network, and how much two maps have in common."""

from contextlib import ExitStack

import numpy as np
import torch
from torch import nn


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sum of minima of two heat maps (B, H, W) >= 0 over that of maxima.

    (B,) in [0, 1], 1 for equal maps; NaN where both are zero.
    """
    common = np.minimum(one, other).sum((1, 2))
    either = np.maximum(one, other).sum((1, 2))
    return np.where(either > 0, common / np.where(either > 0, either, 1), np.nan)


def heat_maps(
    network: nn.Module, images: torch.Tensor, labels: np.ndarray
) -> np.ndarray:
    """Grad-CAM (Selvaraju et al., ICCV 2017) at the last layer that has places.

    Of normalised images (B, 3, H, W) float32 and labels (B,) int, maps (B, H, W)
    float32 in [0, 1]; the maximum of each is 1.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layer = last_layer(network, images[:1])
    parts = []
    with GradCAM(model=network, target_layers=[layer]) as cam:
        for start in range(0, len(images), 16):
            part = slice(start, start + 16)
            targets = [ClassifierOutputTarget(int(label)) for label in labels[part]]
            parts.append(cam(images[part], targets))
    return np.concatenate(parts)


def last_layer(network: nn.Module, image: torch.Tensor) -> nn.Module:
    """The last layer, as the network runs, whose output still has places."""
    found: list[nn.Module] = []

    def note(module: nn.Module, given, output) -> None:
        if isinstance(output, torch.Tensor) and output.dim() == 4:
            if output.shape[2] * output.shape[3] > 1:
                found.append(module)

    with ExitStack() as hooks, torch.no_grad():
        for module in network.modules():
            if not list(module.children()):
                hooks.enter_context(module.register_forward_hook(note))
        network(image)
    return found[-1]
