# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Random numbers that are a pure function of what they are for.

A number depends on (seed, view, sample, operation, position) and on nothing
else: not on the batch a sample stands in, workers, processes or device.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17), on
int64 tensors, whose arithmetic wraps in torch on every device.
"""

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX = (-4658895280553007687, -7723592293110705685)  # 0xBF58…, 0x94D0…
_SHIFTS = (30, 27, 31)
_MANTISSA = 24  # bits of a float32 in [0, 1)


def _unsigned_shift(value: Tensor, bits: int) -> Tensor:
    """``value >> bits`` with zeros from the left, which int64 lacks."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def mix64(value: Tensor) -> Tensor:
    """The SplitMix64 finaliser: int64 -> int64, a bijection."""
    value = (value ^ _unsigned_shift(value, _SHIFTS[0])) * _MIX[0]
    value = (value ^ _unsigned_shift(value, _SHIFTS[1])) * _MIX[1]
    return value ^ _unsigned_shift(value, _SHIFTS[2])


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _bits(seed: int, view: int, index: Tensor, draws: Mapping[str, int]) -> Tensor:
    """(B, sum of draws), operation by operation."""
    names = [
        _signed(seed * 0x9E3779B97F4A7C15 + zlib.crc32(name.encode()))
        for name, count in draws.items()
        for _ in range(count)
    ]
    positions = [_signed((i + 1) * _GAMMA) for n in draws.values() for i in range(n)]
    key = torch.tensor(names, dtype=torch.int64, device=index.device)
    key = mix64(mix64(key) + _signed((view + 1) * _GAMMA))
    key = mix64(key ^ mix64((index + 1) * _GAMMA)[:, None])
    return mix64(key + key.new_tensor(positions))


def uniform_by_name(
    seed: int, view: int, index: Tensor, draws: Mapping[str, int]
) -> dict[str, Tensor]:
    """Uniform numbers in [0, 1), multiples of 2^-24, for several operations.

    Args:
        index: stable ids of the samples (B,), int64, any device.
        draws: operation -> numbers of each sample; two operations draw
            independent numbers.

    Returns:
        Operation -> float32 (B, draws), equal on every device.
    """
    random = _unsigned_shift(_bits(seed, view, index, draws), 64 - _MANTISSA)
    numbers = random.float() * 2.0**-_MANTISSA
    return dict(zip(draws, numbers.split(list(draws.values()), dim=1)))
