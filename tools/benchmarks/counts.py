# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Operators, host reads and cache bytes: what does not depend on the machine.

Trains every set-up with a real runner and its hooks, and counts in each
iteration the ATen operators of loading, preprocessing and the rest, and the
host reads (see ``_counter.py``), at log points and between them. ``stock`` is
mmrazor.SingleTeacherDistill on MMPretrain's pipeline with MMEngine's hooks.
Then the operators that preprocess a batch of 128 without augmentation, and
the bytes of a sample and view in the teacher cache of the four variants.

Small images give the same counts: operators do not see sizes. Large ones
are augmented a few at a time on a CPU, which a GPU does not do.

Example:
    python tools/benchmarks/counts.py --out counts.json
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from _common import (
    ROOT,
    SETUPS,
    add_data_root,
    compose,
    feature_shape,
    machine,
    make_parser,
    photographs,
    recipe,
    save_teacher,
    show,
    to_stock_hooks,
    write,
)

# Variant -> whether its loss looks at the feature map.
VARIANTS = dict(kd=False, kd_hard=False, kd_align=True, hybrid=True)
_MARKS = 1 + 4  # a byte that says it is there, and a CRC-32
_FLOAT32, _FLOAT16 = 4, 2


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, batch=32, size=32)
    add_data_root(parser)
    parser.add_argument('--iterations', type=int, default=60)
    parser.add_argument('--interval', type=int, default=50, help='of the log')
    parser.add_argument('--setups', nargs='+', default=SETUPS, choices=SETUPS)
    return parser.parse_args(argv)


def run(args: argparse.Namespace, setup: str, data: Path) -> list[dict]:
    """Train a set-up; its row, and that of the epoch that fills a cache."""
    from _counter import CountHook, preprocess
    from mmengine.runner import Runner

    epochs = 1 + (setup == 'cached')
    cfg = compose(args, setup, data, max_epochs=epochs)
    if cfg.model.get('teacher'):
        cfg.model.teacher_ckpt = str(data.parent / 'teacher.pth')
        classes = cfg.model.teacher.num_classes
        save_teacher(cfg.model.teacher_ckpt, args.teacher, classes)
    if setup.startswith('stock'):
        to_stock_hooks(cfg)
    cfg.default_hooks.logger.interval = args.interval
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = None
    cfg.log_level = 'WARNING'
    cfg.work_dir, cfg.experiment_name = setup.replace(' ', '_'), setup
    runner = Runner.from_cfg(cfg)
    hook = CountHook()
    runner.register_hook(hook)
    runner.train()
    plain = preprocess(
        runner.model.data_preprocessor, next(iter(runner.train_dataloader))
    )
    names = [setup] if epochs == 1 else ['cached, filling', setup]
    return [
        summary(
            name,
            [row for row in hook.rows if row['epoch'] == epoch],
            args.interval,
            plain,
        )
        for epoch, name in enumerate(names)
    ]


def summary(name: str, rows: list[dict], interval: int, plain: int) -> dict[str, Any]:
    """Medians over the iterations; the first makes momenta, so it is out."""
    at = [row for row in rows if row['iteration'] % interval == 0 or row is rows[-1]]
    between = [row for row in rows[1:] if row not in at]

    def operators(phase: str) -> float:
        return median(row['operators'].get(phase, 0) for row in between)

    def reads(chosen: list[dict]) -> dict[str, float]:
        total = sum((row['reads'] for row in chosen), Counter())
        return {
            f'{name} at {where}': round(count / len(chosen), 3)
            for (name, where), count in total.most_common()
        }

    return dict(
        setup=name,
        iterations=len(rows),
        loading=operators('loading'),
        preprocessing_without_augmentation=plain,
        preprocessing=operators('preprocessing'),
        step=operators('step'),
        host_reads_between=reads(between),
        host_reads_at_log_points=reads(at),
    )


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
                    _MARKS + _FLOAT32 * classes + (_FLOAT16 * features if looks else 0)
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


def main(argv=None) -> None:
    """Count, print, write."""
    args = parse_args(argv)
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    from _counter import normalise_128

    place = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            count = -(-args.iterations * args.batch * 10 // 8)
            data = photographs(args.data_root, Path(folder), count)
            rows = [row for s in args.setups for row in run(args, s, data)]
            few = photographs(args.data_root, Path(folder) / 'few', 20)
            cache = cache_bytes(args, few)
        finally:
            os.chdir(place)
    report = dict(
        command=' '.join(sys.argv),
        **machine(),
        iterations=rows,
        preprocessing_128=normalise_128(args.size),
        cache_bytes=cache,
    )
    print_report(report)
    write(report, args.out)


def print_report(report: dict[str, Any]) -> None:
    """All of it as tables."""
    kinds = ('between', 'at_log_points')
    counts = dict(
        setup='set-up',
        loading='loading',
        preprocessing_without_augmentation='preprocessing, plain',
        preprocessing='augmented',
        step='rest',
    )
    show(
        'ATen operators and host reads an iteration',
        [*counts.values(), 'reads between log points', 'reads at log points'],
        [
            [row[key] for key in counts]
            + [sum(row[f'host_reads_{kind}'].values()) for kind in kinds]
            for row in report['iterations']
        ],
    )
    for kind in kinds:
        show(
            f'Host reads {kind.replace("_", " ")}, an iteration',
            ('where', 'reads'),
            [
                (f'{row["setup"]}: {where}', count)
                for row in report['iterations']
                for where, count in row[f'host_reads_{kind}'].items()
            ],
        )
    show(
        'ATen operators to normalise 128 images',
        ('', 'operators'),
        report['preprocessing_128'].items(),
    )
    show(
        'Teacher cache, bytes a sample and view',
        ('variant', 'measured', 'predicted'),
        [row.values() for row in report['cache_bytes']],
    )


if __name__ == '__main__':
    main()
