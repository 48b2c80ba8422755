# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CPU time and page faults of a training step, freed memory kept or not.

Alternates the two settings in fresh processes on one core each and prints
medians and the ratio.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys

import _common  # noqa: F401  before torch: its threads wait passively


def step_costs(net: str, batch: int, size: int, steps: int) -> dict:
    """CPU seconds and page faults a training step, in this process."""
    import timm
    import torch

    torch.set_num_threads(1)
    model = timm.create_model(net, num_classes=7).train()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(batch, 3, size, size)

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    step(), step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(steps):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ) / steps
    return dict(
        seconds=seconds, faults=(after.ru_minflt - before.ru_minflt) / steps
    )


def main() -> None:
    """Run both settings in turn, or one of them in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--net', default='mobilenetv2_050')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--steps', type=int, default=8)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--child', choices=['kept', 'returned'])
    args = parser.parse_args()
    if args.child:
        if args.child == 'kept':
            from hkd_mm.engine.memory import keep_freed_memory

            assert keep_freed_memory(), 'no glibc here: nothing to compare'
        print(
            json.dumps(step_costs(args.net, args.batch, args.size, args.steps))
        )
        return
    found: dict[str, list[dict]] = dict(returned=[], kept=[])
    for _ in range(args.repeats):
        for name, results in found.items():
            output = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], '--child', name],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            results.append(json.loads(output.splitlines()[-1]))
    medians = {
        name: {
            key: statistics.median(r[key] for r in results)
            for key in results[0]
        }
        for name, results in found.items()
    }
    ratio = medians['kept']['seconds'] / medians['returned']['seconds']
    print(
        json.dumps(dict(net=args.net, medians=medians, ratio=ratio), indent=1)
    )


if __name__ == '__main__':
    main()
