# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with all that colour arithmetic can stumble over."""

import pytest
import torch


@pytest.fixture
def photos():
    """uint8 (6, 40, 40, 3): smooth, noisy, grey, black, white, two-valued."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing='ij')
    smooth = torch.stack([x * 6, y * 6, 255 - 3 * (x + y)], -1)
    noise = torch.randint(0, 256, (40, 40, 3), generator=generator)
    grey = noise[..., :1].expand(-1, -1, 3)
    two = torch.where((x + y)[..., None] % 7 < 3, 30, 220).expand(-1, -1, 3)
    black, white = torch.zeros_like(noise), torch.full_like(noise, 255)
    return torch.stack([smooth, noise, grey, black, white, two]).to(
        torch.uint8
    )


@pytest.fixture
def planar(photos):
    """The same as float32 (6, 3, 40, 40) in [0, 255]."""
    return photos.permute(0, 3, 1, 2).float().contiguous()
