# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What torch and the exported graphs answer to the same images."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn


@torch.no_grad()
def of_torch(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """Logits of the net that was trained.

    Args:
        net: of :func:`.net_graph.plain_net`.
        images: (N, C, H, W) float32.
    """
    return net(torch.from_numpy(images)).numpy()


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """A graph on the CPU, with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )


def graph_of(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A graph that takes tensors, as a function to its logits."""
    session = session_of(path)
    return lambda images: session.run(['logits'], dict(images=images))[0]


def of_images(path: Path, images: Iterable[np.ndarray]) -> np.ndarray:
    """Probabilities of a graph that takes images.

    Args:
        path: of the graph.
        images: (H, W, C) each, of whole numbers; every one of its own size.

    Returns:
        One row an image.
    """
    session = session_of(path)
    parts = [
        session.run(['probabilities'], dict(images=image[None]))[0]
        for image in images
    ]
    return np.concatenate(parts)


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """``softmax(logits / temperature)`` in float64, (N, C)."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)
