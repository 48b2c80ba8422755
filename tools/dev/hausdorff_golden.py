# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Make the golden values that our distances of masks are held against.

Run once, in an environment of its own with ``monai``, not in that of hkd_mm:
    python tools/dev/hausdorff_golden.py tests/evaluation/data/hausdorff.json
"""

import argparse
import json
from importlib.metadata import version

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

SIDES = (28, 36)


def main() -> None:
    """Compare blobs, rings and masks at the border of the image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out')
    args = parser.parse_args()
    random = np.random.default_rng(0)
    cases = [
        _case(_mask(random), _mask(random), spacing)
        for spacing in ((1.0, 1.0), (0.7, 0.7), (0.5, 1.25))
        for _ in range(4)
    ]
    made_with = f'monai {version("monai")}'
    with open(args.out, 'w') as stream:
        json.dump(dict(made_with=made_with, cases=cases), stream)
        stream.write('\n')


def _mask(random: np.random.Generator) -> np.ndarray:
    """A few discs, some of them with a hole, some cut by the border."""
    y, x = np.mgrid[: SIDES[0], : SIDES[1]]
    mask = np.zeros(SIDES, bool)
    for _ in range(random.integers(1, 4)):
        top, left = random.uniform(0, SIDES[0]), random.uniform(0, SIDES[1])
        radius = random.uniform(2, 9)
        distance = np.hypot(y - top, x - left)
        mask |= (distance < radius) & (distance >= random.choice([0, 2]))
    return mask


def _case(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float]
) -> dict:
    first, second = (
        torch.from_numpy(mask)[None, None].float() for mask in (predicted, truth)
    )
    found = compute_hausdorff_distance(
        first, second, include_background=True, percentile=95, spacing=spacing
    )
    return dict(
        predicted=np.flatnonzero(predicted).tolist(),
        truth=np.flatnonzero(truth).tolist(),
        shape=SIDES,
        spacing=spacing,
        hd95=float(found),
    )


if __name__ == '__main__':
    main()
