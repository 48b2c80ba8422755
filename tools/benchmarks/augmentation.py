# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images a second of augmentation on one core: batched and stock pipeline.

Both start from images in memory, uint8 and of the right size, and end with a
normalised float32 batch; nothing is decoded or resized. The two take turns,
the CPU time counts (so that other programs disturb little), and medians and
their ratio are printed and written down.

Example:
    python tools/benchmarks/augmentation.py --out augmentation.json
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from _common import write

FLIP = dict(type='RandomFlip', prob=0.5, direction='horizontal')
JITTER = dict(
    type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05
)
ROTATE = dict(
    type='Rotate',
    magnitude_range=(0, 10),
    magnitude_std='inf',
    prob=1.0,
    interpolation='bilinear',
)
ERASE = dict(type='RandomErasing', erase_prob=0.25, mode='const')
POLICY = [
    dict(type=name, **arguments)
    for name, arguments in dict(
        AutoContrast={},
        Equalize={},
        Rotate=dict(magnitude_range=(0, 30)),
        Solarize=dict(magnitude_range=(256, 0)),
        ColorTransform=dict(magnitude_range=(0, 0.9)),
        Posterize=dict(magnitude_range=(8, 4)),
        Contrast=dict(magnitude_range=(0, 0.9)),
        Brightness=dict(magnitude_range=(0, 0.9)),
        Sharpness=dict(magnitude_range=(0, 0.9)),
        Shear=dict(magnitude_range=(0, 0.3), direction='horizontal'),
        Translate=dict(magnitude_range=(0, 0.45), direction='horizontal'),
    ).items()
]


def only(**arguments) -> dict:
    """A jitter of some of its parts, batched."""
    return dict(type='hkd_mm.ColorJitter', **arguments)


# Name -> (stock steps, batched steps).
CASES = {
    'normalise only': ([], []),
    'Hybrid KD: flip, jitter, rotate 10': (
        [FLIP, JITTER, ROTATE],
        [
            dict(type='hkd_mm.HorizontalFlip'),
            dict(JITTER, type='hkd_mm.ColorJitter'),
            dict(type='hkd_mm.Rotate', degrees=10),
        ],
    ),
    'horizontal flip': ([FLIP], [dict(type='hkd_mm.HorizontalFlip')]),
    'quarter turns': (None, [dict(type='hkd_mm.Rotate90')]),
    'rotate 10': ([ROTATE], [dict(type='hkd_mm.Rotate', degrees=10)]),
    'random resized crop': (
        [
            dict(
                type='RandomResizedCrop', scale=None, crop_ratio_range=(0.7, 1)
            )
        ],
        [dict(type='hkd_mm.RandomResizedCrop')],
    ),
    'brightness': (
        [dict(type='ColorJitter', brightness=0.3)],
        [only(brightness=0.3)],
    ),
    'contrast': (
        [dict(type='ColorJitter', contrast=0.3)],
        [only(contrast=0.3)],
    ),
    'saturation': (
        [dict(type='ColorJitter', saturation=0.3)],
        [only(saturation=0.3)],
    ),
    'hue': ([dict(type='ColorJitter', hue=0.05)], [only(hue=0.05)]),
    'RandAugment, 2 operations': (
        [
            dict(
                type='RandAugment',
                policies=POLICY,
                num_policies=2,
                magnitude_level=3,
            )
        ],
        [dict(type='hkd_mm.RandAugment', count=(2, 2))],
    ),
    'random erasing': ([ERASE], [dict(type='hkd_mm.RandomErasing')]),
    'mixup': ('Mixup', [dict(type='hkd_mm.Mixup', alpha=0.8)]),
    'cutmix': ('CutMix', [dict(type='hkd_mm.CutMix')]),
}


def stock(steps: list | str, images, size: int) -> Callable[[], None]:
    """mmpretrain: one image at a time, collated, normalised."""
    from mmengine.dataset import default_collate
    from mmpretrain.registry import MODELS, TRANSFORMS

    mixing = steps if isinstance(steps, str) else None
    steps = [] if mixing else steps
    chain = [
        TRANSFORMS.build(dict(step, scale=size) if 'scale' in step else step)
        for step in [*steps, dict(type='PackInputs')]
    ]
    normalise = MODELS.build(
        dict(
            type='ClsDataPreprocessor',
            mean=[127.5] * 3,
            std=[127.5] * 3,
            to_rgb=True,
            num_classes=7,
            batch_augments=dict(augments=[dict(type=mixing, alpha=0.8)])
            if mixing
            else None,
        )
    )
    arrays = list(images.numpy())

    def run() -> None:
        packed = []
        for i, array in enumerate(arrays):
            results = dict(img=array, gt_label=i % 7, img_shape=array.shape)
            for step in chain:
                results = step(results)
            packed.append(results)
        normalise(default_collate(packed), training=True)

    return run


def batched(steps: list, images) -> Callable[[], None]:
    """hkd_mm: the batch at once."""
    import torch

    from hkd_mm.models.preprocessors.packed_preprocessor import (
        PackedPreprocessor,
    )

    preprocessor = PackedPreprocessor(augment=steps, num_classes=7)
    index = torch.arange(len(images))
    data = dict(inputs=images, labels=index % 7, index=index)

    def run() -> None:
        preprocessor.set_epoch(preprocessor.view + 1)
        preprocessor(data, training=True)

    return run


def compare(
    runs: list[Callable[[], None] | None], number: int, repeats: int
) -> list[float | None]:
    """Median images a second of each run; they take turns."""
    rates: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 1):  # the first only warms up
        for run, found in zip(runs, rates):
            if run is None:
                continue
            start = time.process_time()
            run()
            if repeat:
                found.append(number / (time.process_time() - start))
    return [statistics.median(found) if found else None for found in rates]


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--size', type=int, default=116)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--only', help='cases whose name holds this')
    parser.add_argument('--out', type=Path, help='a JSON file')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    import cv2
    import torch

    from hkd_mm.engine.memory import keep_freed_memory

    keep_freed_memory()  # as in training
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.manual_seed(0)
    images = torch.randint(
        0, 256, (args.batch, args.size, args.size, 3), dtype=torch.uint8
    )
    rows = []
    print(
        f'{"images/s on one core":30}{"stock":>10}{"batched":>10}{"ratio":>8}'
    )
    for name, (before, after) in CASES.items():
        if args.only and args.only not in name:
            continue
        slow, fast = compare(
            [
                None if before is None else stock(before, images, args.size),
                batched(after, images),
            ],
            args.batch,
            args.repeats,
        )
        ratio = fast / slow if slow else None
        rows.append(dict(case=name, stock=slow, batched=fast, ratio=ratio))
        print(
            f'{name:30}{slow or float("nan"):10.0f}{fast:10.0f}'
            f'{ratio or float("nan"):8.1f}',
            flush=True,
        )
    settings = dict(size=args.size, batch=args.batch, repeats=args.repeats)
    write(dict(**settings, torch=torch.__version__, cases=rows), args.out)


if __name__ == '__main__':
    main()
