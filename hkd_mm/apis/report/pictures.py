# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Photographs in a page: what nets see, as small JPEG data URIs."""

import base64
import io

import numpy as np
import torch
from PIL import Image

from .runs import Material, Method
from .sources import listing

_SIDE = 128  # pixels at most


def data_uri(image: np.ndarray, side: int = _SIDE) -> str:
    """A small JPEG.

    Args:
        image: (H, W, 3) uint8, RGB.
        side: pixels of its longer side at most.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, 'JPEG', quality=80)
    coded = base64.b64encode(stream.getvalue()).decode()
    return f'data:image/jpeg;base64,{coded}'


def inputs_of(
    material: Material, method: Method, sample_ids: list[str]
) -> torch.Tensor | None:
    """Test images as a net's pipeline makes them.

    Args:
        material: whose data.
        method: whose pipeline.
        sample_ids: B names.

    Returns:
        (B, 3, H, W) uint8, BGR; None where the data is not here.
    """
    dataset = listing(material, 'test', method)
    if dataset is None:
        return None
    places = {
        dataset.get_data_info(index)['sample_id']: index
        for index in range(len(dataset))
    }
    if not places.keys() >= set(sample_ids):
        return None
    return torch.stack([dataset[places[s]]['inputs'] for s in sample_ids])


def as_rgb(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) BGR as (H, W, 3) RGB, uint8."""
    rgb = image.flip(0).permute(1, 2, 0)
    return np.ascontiguousarray(rgb.to(torch.uint8).numpy())


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A heat map on a photograph.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) in [0, 1].

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib import colormaps

    colours = 255 * colormaps['inferno'](heat)[..., :3]
    return (0.5 * image + 0.5 * colours).round().astype(np.uint8)
