# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What every method of configs/zoo costs, against the student alone.

A training step (forward, loss, backward, optimizer) on images that lie in
memory, each method in turn with the student alone, ratios within a round,
medians. ``online`` runs the teacher in the step, ``cached`` has its answer at
hand, as the teacher cache would give it. ``MB`` is what autograd keeps for
the backward pass (the same on any machine), over the student alone's.
ResNet-18 -> MobileNetV2 x0.5 at 64 x 64 by default.

Example:
    python tools/benchmarks/zoo.py --rounds 3 --out docs/results/zoo/costs.json
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from _common import ROOT, machine, show, write

ALONE = 'student alone'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--pair', default='resnet18_mbv2_ham10000_64')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--steps', type=int, default=2, help='a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--methods', nargs='+', help='folders; default: all')
    parser.add_argument('--out', type=Path, help='a JSON file')
    return parser.parse_args()


class Step:
    """One training step of a model, again and again on the same batch."""

    def __init__(self, cfg, batch: int) -> None:
        import torch
        from mmengine.optim import build_optim_wrapper
        from mmengine.registry import MODELS

        from hkd_mm.structures.packed_samples import PackedSamples

        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
        preprocessor['type'] = 'mmpretrain.ClsDataPreprocessor'
        cfg.model.data_preprocessor = preprocessor
        torch.manual_seed(0)
        self.model = MODELS.build(cfg.model).to(device)
        self.model.to(memory_format=torch.channels_last)
        self.model.train()
        self.optimizer = build_optim_wrapper(self.model, cfg.optim_wrapper)
        size, classes = cfg.get('input_size', 64), len(cfg.classes)
        self.images = torch.randn(batch, 3, size, size, device=device)
        rows = torch.arange(batch, device=device)
        self.samples = PackedSamples(rows % classes, rows)

    def __call__(self) -> None:
        """Forward, backward, optimizer."""
        import torch

        losses = self.model(self.images, self.samples, mode='loss')
        total, _ = self.model.parse_losses(losses)
        self.optimizer.update_params(total)
        if self.images.is_cuda:
            torch.cuda.synchronize()

    def kept_bytes(self) -> int:
        """What autograd keeps of one forward, every storage once."""
        import torch

        kept: dict[int, int] = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            self.model(self.images, self.samples, mode='loss')
        return sum(kept.values())

    @contextmanager
    def cached(self):
        """Without the teacher's forward: its last answer stays."""
        self.model._run_teacher = lambda *args: None
        try:
            yield
        finally:
            del self.model._run_teacher


def step_of(path: Path, args: argparse.Namespace) -> Step:
    """The step of a config of the zoo, or of the student alone."""
    from hkd_mm.config.compose import load_config

    cfg = load_config(path, dict(pair=args.pair), read_data=False)
    cfg.model.pop('teacher_ckpt', None)
    return Step(cfg, args.batch)


def alone(step: Step) -> Step:
    """The student of a distillation by itself, with its own head's loss."""
    import copy

    found = copy.copy(step)
    found.model = step.model.student
    return found


def seconds(run: Callable[[], None], steps: int) -> float:
    """Of so many calls."""
    begun = time.perf_counter()
    for _ in range(steps):
        run()
    return time.perf_counter() - begun


def measure(step: Step, reference: Step, args: argparse.Namespace) -> dict:
    """Ratios of one method to the student alone."""
    has_teacher = getattr(step.model, 'teacher', None) is not None
    online, cached = [], []
    for turn in range(args.rounds + 1):  # the first is a warm-up
        base = seconds(reference, args.steps)
        spent = seconds(step, args.steps)
        if has_teacher:
            with step.cached():
                quick = seconds(step, args.steps)
        if turn:
            online.append(spent / base)
            if has_teacher:
                cached.append(quick / base)
    extra = step.kept_bytes() - reference.kept_bytes()
    trained = sum(p.numel() for p in step.model.parameters())
    deployed = sum(p.numel() for p in reference.model.parameters())
    return dict(
        online=statistics.median(online),
        cached=statistics.median(cached) if cached else None,
        megabytes=extra / 1e6,
        extra_parameters=(trained - deployed) / 1e6,
    )


def main() -> None:
    """Measure every method and print the table."""
    args = parse_args()
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    from mmengine.registry import init_default_scope

    from hkd_mm.engine.memory import keep_freed_memory

    keep_freed_memory()
    init_default_scope('mmpretrain')
    folders = sorted((ROOT / 'configs/zoo').iterdir())
    names = args.methods or [folder.name for folder in folders]
    rows = {}
    kd = ROOT / 'configs/zoo/kd'
    reference = alone(step_of(next(kd.glob('*.py')), args))
    for name in names:
        path = next((ROOT / 'configs/zoo' / name).glob('*.py'))
        rows[name] = measure(step_of(path, args), reference, args)
        print(name, rows[name], flush=True)
    report = dict(
        command=' '.join(['python', *sys.argv]), machine=machine(), rows=rows
    )
    show(
        'step time and memory over the student alone',
        ('method', 'online', 'cached', 'MB', 'parameters / M'),
        ((name, *row.values()) for name, row in rows.items()),
    )
    write(report, args.out)


if __name__ == '__main__':
    main()
