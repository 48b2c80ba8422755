# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What torch and the exported graphs answer to the same images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from hkd_mm.inference.manifest_fields import InputSpec

from .samples import normalised

BATCH = 64


def batches(
    images: np.ndarray, spec: InputSpec, size: int = BATCH
) -> Iterator[np.ndarray]:
    """Normalised parts of (N, 3, H, W) uint8."""
    for start in range(0, len(images), size):
        yield normalised(images[start : start + size], spec)


@torch.no_grad()
def of_torch(
    net: nn.Module, images: np.ndarray, spec: InputSpec
) -> np.ndarray:
    """Logits (N, C) of the net that was trained."""
    parts = [
        net(torch.from_numpy(part)).numpy() for part in batches(images, spec)
    ]
    return np.concatenate(parts)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """A graph on the CPU, with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )


def of_graph(path: Path, images: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Logits (N, C) of a graph that takes tensors."""
    session = session_of(path)
    parts = [
        session.run(['logits'], dict(images=part))[0]
        for part in batches(images, spec)
    ]
    return np.concatenate(parts)


def of_photographs(path: Path, photographs: list[str]) -> np.ndarray:
    """Probabilities (N, C) of a graph that takes photographs.

    Args:
        path: of the graph.
        photographs: their files; each is given at its own size.
    """
    from hkd_mm.datasets.load_skin_image import read_image

    session = session_of(path)
    parts = []
    for photograph in photographs:
        rgb = np.ascontiguousarray(read_image(photograph)[None, ..., ::-1])
        parts.append(session.run(['probabilities'], dict(images=rgb))[0])
    return np.concatenate(parts)


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """``softmax(logits / temperature)`` in float64, (N, C)."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)
