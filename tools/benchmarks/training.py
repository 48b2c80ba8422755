# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Training images/s: student alone, KD online, KD cached, stock MMRazor.

All set-ups train the same student from the same photographs with the same batch, in
turn, in one process; medians over the rounds, ratios within a round. ``stock`` is
mmrazor.SingleTeacherDistill on MMPretrain's pipeline with the same three loss terms;
``online bf16`` is ``online`` with ``model.teacher_inference.dtype=bfloat16``. All load
their images in the step itself. WideResNet-50-2 -> MobileNetV2 x0.5 by default.

With ``--peers`` it is ``tools/train.py`` against what a user would pick
instead, each as a command of its own: timm's distillation task, torchdistill
(both installed in an environment of their own the first time) and stock
MMRazor, all with KD and the hard label.

Example:
    python tools/benchmarks/training.py --batch 32 --steps 3 --rounds 5
    python tools/benchmarks/training.py --peers --steps 8 --rounds 5
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _common import (
    SETUPS,
    add_data_root,
    compose,
    make_parser,
    photographs,
    show,
    write,
)
from _peers import DEFAULT_FOLDER as PEERS_FOLDER
from _peers import METHOD as PEERS_METHOD
from _peers import SETUPS as PEER_SETUPS
from _peers import compare

ALL = (*SETUPS, 'online bf16')
RATIOS = (
    ('cached', 'student', 'epoch of KD cached / student alone'),
    ('stock', 'cached', 'stock / KD cached'),
    ('stock', 'online', 'stock / KD online'),
    ('stock', 'online bf16', 'stock / KD online, bf16 teacher'),
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_data_root(parser)
    parser.add_argument('--steps', type=int, default=3, help='a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument(
        '--setups',
        nargs='+',
        help=f'{", ".join(ALL)}; with --peers: {", ".join(PEER_SETUPS)} (default: all)',
    )
    peers = parser.add_argument_group('with --peers')
    peers.add_argument('--peers', action='store_true')
    peers.add_argument(
        '--peers-env',
        type=Path,
        default=PEERS_FOLDER,
        help=f'folder of the environment, made if need be (default: {PEERS_FOLDER})',
    )
    peers.add_argument(
        '--workers', type=int, default=2, help='that load images, theirs'
    )
    peers.add_argument('--threads', type=int, default=os.cpu_count(), help='of torch')
    args = parser.parse_args()
    known = PEER_SETUPS if args.peers else ALL
    args.setups = args.setups or list(known)
    if unknown := sorted(set(args.setups) - set(known)):
        parser.error(f'--setups {unknown[0]}: there are {", ".join(known)}')
    if args.peers:
        args.method = PEERS_METHOD
    return args


def step_of(args: argparse.Namespace, name: str, data: Path) -> Callable[[], None]:
    """A function that loads one batch and trains on it."""
    import torch
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DATASETS, MODELS, init_default_scope
    from mmengine.runner import Runner

    init_default_scope('mmpretrain')
    cfg = compose(args, name, data)
    preprocessor = dict(cfg.data_preprocessor)
    preprocessor.setdefault('type', 'ClsDataPreprocessor')
    model_cfg = dict(cfg.model, data_preprocessor=preprocessor)
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    if name != 'stock':
        model.to(memory_format=torch.channels_last)
    model.train()
    # workers would load for one set-up during the turns of the others
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(
        dict(
            cfg.train_dataloader,
            dataset=DATASETS.build(cfg.train_dataloader.dataset),
        ),
        seed=0,
    )
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    if name == 'cached':
        fill_cache(model, loader.dataset, MMLogger.get_current_instance())
    batches = endless(loader)

    def step() -> None:
        model.train_step(next(batches), optimizer)

    return step


def fill_cache(model, dataset, logger) -> None:
    """Make the one view that the timed epochs read."""
    from hkd_mm.models.teacher_cache import open_teacher_cache
    from hkd_mm.training.fill_teacher_cache import fill_views

    device = next(model.parameters()).device
    open_teacher_cache(model, dataset, logger)
    fill_views(model, dataset, 32, device)
    assert model.teacher_cache.start_view(0, dataset.index, device)


def endless(loader) -> Iterator:
    """Epoch after epoch."""
    while True:
        yield from loader


def main() -> None:
    """Time the set-ups in turn and print the table."""
    args = parse_args()
    if args.peers:
        compare(args)
        return
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    import torch

    from hkd_mm.engine.memory import tune_malloc

    tune_malloc()
    place = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        data = photographs(args.data_root, Path(folder), 320)
        steps = {name: step_of(args, name, data) for name in args.setups}
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(args.rounds + 1):  # the first is a warm-up
            for name, step in steps.items():
                begun = time.perf_counter()
                for _ in range(args.steps):
                    step()
                seconds = time.perf_counter() - begun
                if turn:
                    rates[name].append(args.batch * args.steps / seconds)
        os.chdir(place)
    report = dict(
        command=' '.join(sys.argv),
        threads=torch.get_num_threads(),
        images_per_second={k: statistics.median(v) for k, v in rates.items()},
        ratios={
            said: statistics.median(
                b / a for a, b in zip(rates[slow], rates[fast], strict=True)
            )
            for slow, fast, said in RATIOS
            if slow in rates and fast in rates
        },
    )
    for title in ('images_per_second', 'ratios'):
        show(title.replace('_', ' '), ('', 'median'), report[title].items())
    write(report, args.out)


if __name__ == '__main__':
    main()
