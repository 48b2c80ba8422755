# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Validation images/s in a distillation: packed student, stock pipeline.

Ours validates the student alone, from packed images and one tensor a batch.
``stock`` reads the photographs through MMPretrain's pipeline, ``stock, both
nets`` is MMRazor's ``SingleTeacherDistillValLoop``, which measures the frozen
teacher again every time. The same images, nets, batch and metric; set-ups
take turns, medians over the rounds, ratios within a round.

Example:
    python tools/benchmarks/validation.py --images 640 --rounds 3
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _common import (
    add_data_root,
    compose,
    machine,
    make_parser,
    photographs,
    save_teacher,
    show,
    write,
)

BOTH = 'stock, both nets'
SETUPS = ('packed', 'stock', BOTH)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_data_root(parser)
    parser.add_argument('--images', type=int, default=640)
    parser.add_argument('--rounds', type=int, default=3)
    return parser.parse_args()


def validation_of(
    args: argparse.Namespace, name: str, data: Path
) -> tuple[Callable[[], None], int]:
    """A function that validates once, and on how many images."""
    from mmengine.runner import Runner

    setup = 'online' if name == 'packed' else 'stock'
    cfg = compose(args, setup, data, split_ratios=[0.1, 0.8, 0.1])
    cfg.work_dir = str(data.parent / name.replace(', ', '_'))
    cfg.experiment_name = name
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.log_level = 'WARNING'
    cfg.default_hooks = dict.fromkeys(  # only the loop
        ('runtime_info', 'timer', 'sampler_seed', 'logger')
        + ('param_scheduler', 'checkpoint')
    )
    cfg.custom_hooks = []
    if name == BOTH:
        cfg.model.teacher_ckpt = 'teacher.pth'
        cfg.val_cfg = dict(type='mmrazor.SingleTeacherDistillValLoop')
        cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    runner = Runner.from_cfg(cfg)
    runner.call_hook('before_run')
    loop = runner.val_loop
    if name == BOTH:
        assert loop.teacher is runner.model.teacher
    return loop.run, len(loop.dataloader.dataset)


def main() -> None:
    """Time the set-ups in turn and print the table."""
    args = parse_args()
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    from hkd_mm.engine.memory import keep_freed_memory

    keep_freed_memory()
    place = Path.cwd()
    rates: dict[str, list[float]] = {name: [] for name in SETUPS}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        data = photographs(
            args.data_root, Path(folder), round(args.images / 0.8)
        )
        save_teacher('teacher.pth', args.teacher, 2)
        runs = {name: validation_of(args, name, data) for name in SETUPS}
        for turn in range(args.rounds + 1):  # the first is a warm-up
            for name, (run, images) in runs.items():
                begun = time.perf_counter()
                run()
                if turn:
                    seconds = time.perf_counter() - begun
                    rates[name].append(images / seconds)
        os.chdir(place)
    report = dict(
        command=' '.join(sys.argv),
        machine=machine(),
        images_per_second={k: statistics.median(v) for k, v in rates.items()},
        ratios={
            f'packed / {slow}': statistics.median(
                a / b
                for a, b in zip(rates['packed'], rates[slow], strict=True)
            )
            for slow in SETUPS[1:]
        },
    )
    for title in ('images_per_second', 'ratios'):
        show(title.replace('_', ' '), ('', 'median'), report[title].items())
    write(report, args.out)


if __name__ == '__main__':
    main()
