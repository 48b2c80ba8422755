# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Bytes that a sample takes in the teacher cache of the four variants."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from _common import ROOT, feature_shape, recipe, save_teacher

# Variant -> whether its loss looks at the feature map.
VARIANTS = dict(kd=False, kd_hard=False, kd_align=True, hybrid=True)
_MARKS = 1 + 4  # a byte that says it is there, and a CRC-32
_FLOAT32, _FLOAT16 = 4, 2


def cache_bytes(args: argparse.Namespace, data: Path) -> list[dict[str, Any]]:
    """Write a cache of each variant and weigh it.

    Args:
        args: with ``teacher``, ``student`` and ``size``.
        data: class folders, a few images.
    """
    from hkd_mm.training.fill_teacher_cache import build_teacher_cache

    classes = len(list(data.iterdir()))
    teacher = Path('teacher.pth').resolve()
    save_teacher(teacher, args.teacher, classes)
    features = math.prod(feature_shape(args.teacher, args.size))
    rows = []
    for variant, looks in VARIANTS.items():
        _, options = recipe(args, 'cached', data)
        options['model.teacher_cache.dir'] = f'caches/{variant}'
        options['model.teacher_ckpt'] = str(teacher)
        built = build_teacher_cache(
            str(ROOT / f'configs/{variant}_wrn50_mbv2.py'), options
        )
        rows.append(
            dict(
                variant=variant,
                measured=weigh(Path(built['folder'])),
                predicted=float(
                    _MARKS
                    + _FLOAT32 * classes
                    + (_FLOAT16 * features if looks else 0)
                ),
            )
        )
    return rows


def weigh(folder: Path) -> float:
    """Bytes of values, checksums and marks, by entries (view, row)."""
    header = json.loads((folder / 'header.json').read_text())
    size = sum(
        path.stat().st_size
        for path in folder.iterdir()
        if path.suffix in ('.bin', '.u8', '.u32')
    )
    return size / (header['num_views'] * header['num_rows'])
