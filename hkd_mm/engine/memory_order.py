# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Memory order of optimizer states."""

import torch


def match_memory_order(optimizer: torch.optim.Optimizer) -> None:
    """Give each momentum the memory order of its weight, in place.

    A checkpoint that was written in another order brings them along, and
    torch's fused optimizers on CPUs then mix up the elements.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if (
                torch.is_tensor(value)
                and value.shape == parameter.shape
                and value.stride() != parameter.stride()
            ):
                state[name] = torch.empty_like(
                    parameter, dtype=value.dtype
                ).copy_(value)
