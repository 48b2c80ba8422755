# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Each lever of training speed on its own, against plain eager float32.

The teacher's forward and the student's whole step (forward, backward, SGD),
with random images, each lever in turn, in one process; medians over the
rounds of ratios within a round. Compilation is timed after its warm-up.

Example:
    python tools/benchmarks/levers.py --rounds 5 --no-compile
"""

import argparse
import copy
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from _common import write


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--teacher', default='wide_resnet50_2')
    parser.add_argument('--student', default='mobilenetv2_050')
    parser.add_argument('--size', type=int, default=116)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--steps', type=int, default=1, help='a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--device', default='auto')
    parser.add_argument(
        '--no-compile',
        action='store_true',
        help='leave torch.compile out (minutes on a CPU)',
    )
    parser.add_argument('--out', type=Path, help='JSON file')
    return parser.parse_args()


class Levers:
    """The set-ups of both tables: name -> one step."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch
        from mmengine.registry import init_default_scope

        import hkd_mm  # noqa: F401

        init_default_scope('mmpretrain')
        self.args = args
        self.device = torch.device(
            args.device
            if args.device != 'auto'
            else 'cuda'
            if torch.cuda.is_available()
            else 'cpu'
        )
        torch.manual_seed(0)
        self.images = torch.randn(
            args.batch, 3, args.size, args.size, device=self.device
        )
        self.labels = torch.randint(7, (args.batch,), device=self.device)

    def net(self, name: str, channels_last: bool = True):
        import torch
        from mmengine.registry import MODELS

        torch.manual_seed(0)
        net = MODELS.build(
            dict(
                type='hkd_mm.TimmClassifier',
                model_name=name,
                num_classes=7,
                pretrained=False,
            )
        ).to(self.device)
        return (
            net.to(memory_format=torch.channels_last)
            if (channels_last)
            else net
        )

    def bf16(self):
        import torch

        return torch.autocast(self.device.type, torch.bfloat16)

    def compiled(self, net):
        from hkd_mm.engine.hooks.training_hooks import compile_net

        # in a distillation a recorder listens here
        stage = net.model.feature_info[-1]['module']
        net.model.get_submodule(stage).register_forward_hook(lambda *_: None)
        compile_net(net)
        return net

    def teacher(self) -> dict[str, Callable[[], None]]:
        """Forwards of a frozen teacher."""
        import torch

        from hkd_mm.models.algorithms.teacher_inference import fold_batch_norms

        def forward(net, inference=torch.no_grad, autocast=nullcontext):
            def run() -> None:
                with inference(), autocast():
                    net(self.images, mode='tensor')

            return run

        name = self.args.teacher
        net = self.net(name).eval()
        folded = self.net(name).eval()
        fold_batch_norms(folded, self.args.size)
        found = {
            'plain': forward(self.net(name, channels_last=False).eval()),
            'channels_last': forward(net),
            '+ inference mode': forward(net, torch.inference_mode),
            '+ folded BatchNorm': forward(folded),
            '+ bf16': forward(net, autocast=self.bf16),
            '+ folded BatchNorm, bf16': forward(folded, autocast=self.bf16),
        }
        if not self.args.no_compile:
            found['+ compiled'] = forward(self.compiled(copy.deepcopy(net)))
            found['+ all three'] = forward(
                self.compiled(copy.deepcopy(folded)), autocast=self.bf16
            )
        return found

    def student(self) -> dict[str, Callable[[], None]]:
        """Whole training steps of the student alone."""
        import torch

        def step(net, autocast=nullcontext, **sgd):
            sgd.setdefault('foreach', False)
            optimizer = torch.optim.SGD(
                net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, **sgd
            )

            def run() -> None:
                with autocast():
                    scores = net(self.images, mode='tensor')
                    loss = torch.nn.functional.cross_entropy(
                        scores, self.labels
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            return run

        def net(**kwargs):
            return self.net(self.args.student, **kwargs).train()

        found = {
            'plain': step(net(channels_last=False)),
            'channels_last': step(net()),
            '+ foreach SGD': step(net(), foreach=True),
            '+ fused SGD': step(net(), foreach=None, fused=True),
            '+ bf16': step(net(), autocast=self.bf16),
        }
        if not self.args.no_compile:
            found['+ compiled'] = step(self.compiled(net()))
            found['+ all three'] = step(
                self.compiled(net()), self.bf16, foreach=None, fused=True
            )
        return found

    def measure(self, steps: dict[str, Callable[[], None]]) -> dict:
        """Median seconds, and ratios to plain within a round."""
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(self.args.rounds + 2):  # two warm up
            for name, step in steps.items():
                begun = time.perf_counter()
                for _ in range(self.args.steps):
                    step()
                self._wait()
                if turn > 1:
                    seconds[name].append(
                        (time.perf_counter() - begun) / self.args.steps
                    )
        return {
            name: dict(
                seconds=statistics.median(taken),
                ratio=statistics.median(
                    mine / plain
                    for mine, plain in zip(
                        taken, seconds['plain'], strict=True
                    )
                ),
            )
            for name, taken in seconds.items()
        }

    def _wait(self) -> None:
        import torch

        if self.device.type == 'cuda':
            torch.cuda.synchronize()


def main() -> None:
    """Measure both tables."""
    args = parse_args()
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    import torch

    from hkd_mm.engine.memory import keep_freed_memory

    keep_freed_memory()
    levers = Levers(args)
    report = dict(
        command=' '.join(sys.argv),
        device=str(levers.device),
        threads=torch.get_num_threads(),
        teacher=levers.measure(levers.teacher()),
        student=levers.measure(levers.student()),
    )
    show(report)
    write(report, args.out)


def show(report: dict) -> None:
    """Print both tables."""
    from rich.console import Console
    from rich.table import Table

    for name, title in (
        ('teacher', "the teacher's forward"),
        ('student', "the student's step"),
    ):
        table = Table(title=title)
        for column in ('', 'ms', 'of plain'):
            table.add_column(column, justify='right' if column else 'left')
        for lever, found in report[name].items():
            table.add_row(
                lever,
                f'{1000 * found["seconds"]:.1f}',
                f'{found["ratio"]:.2f}',
            )
        Console().print(table)


if __name__ == '__main__':
    main()
