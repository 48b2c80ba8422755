# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Weights in channels_last, and the momenta that belong to them."""

import pytest
import torch
from torch import nn

from hkd_mm.engine.memory import match_memory_order


def resumed(fused, match, before, after):
    """A weight after a resume from one memory order into another."""
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3).to(memory_format=before)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, fused=fused)
    images = torch.randn(2, 3, 8, 8)

    def step():
        optimizer.zero_grad()
        network(images).square().sum().backward()
        optimizer.step()

    step()
    state = optimizer.state_dict()
    network = network.to(memory_format=after)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, fused=fused)
    optimizer.load_state_dict(state)
    if match:
        match_memory_order(optimizer)
        for parameter, kept in optimizer.state.items():
            assert kept['momentum_buffer'].stride() == parameter.stride()
    step()
    return network.weight.detach()


@pytest.mark.parametrize(
    'before, after',
    [
        (torch.contiguous_format, torch.channels_last),
        (torch.channels_last, torch.contiguous_format),
    ],
)
def test_a_momentum_of_another_order_is_not_mixed_up(before, after):
    right = resumed(False, False, before, after)
    torch.testing.assert_close(resumed(True, True, before, after), right)
