# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Seconds of one training with threads that sleep and with threads that spin.

``passive`` is what every tool sets (``OMP_WAIT_POLICY=PASSIVE``), ``default``
what the OpenMP runtime does by itself: an idle thread spins for a while before
it sleeps. ``tools/train.py`` runs in a process of its own, on the machine as
it is and beside processes that keep a core busy each. The policies take turns;
medians count, ratios are taken within a round.

Example:
    python tools/benchmarks/threads.py --rounds 3 --out threads.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from _common import add_data_root, make_parser, photographs, show, write
from _launch import call, train

# The runtime refuses an empty word, says so, and does what it does without.
POLICIES = {'passive': 'PASSIVE', 'default': ''}
_SPIN = 'while True: pass'


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_data_root(parser)
    parser.add_argument('--setup', default='student', help='see _common.py')
    parser.add_argument('--images', type=int, default=320)
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--busy', type=int, nargs='+', default=[0, 1], help='busy processes'
    )
    parser.add_argument('--threads', type=int, help='of torch (default: as it chooses)')
    return parser.parse_args(argv)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep ``count`` cores busy with a Python loop each."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, '-S', '-c', _SPIN])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def losses(folder: Path) -> list[float]:
    """Every loss that a training logged, in order."""
    (log,) = folder.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [row['loss'] for row in rows if 'loss' in row]


def once(
    args: argparse.Namespace, data: Path, folder: Path, name: str, policy: str
) -> dict[str, Any]:
    """Train under a policy.

    Returns:
        ``seconds`` of its epochs, ``losses``, and ``load``, the processes
        that wanted a core in the minute before.
    """
    os.environ['OMP_WAIT_POLICY'] = POLICIES[policy]
    load = os.getloadavg()[0]
    options = {
        'max_epochs': args.epochs,
        'default_hooks.logger.interval': 1,
        'randomness.seed': 0,
    }
    found = train(
        args,
        args.setup,
        data,
        folder,
        name,
        options,
        flags=('--no-validate',),
        threads=args.threads,
    )
    return dict(
        seconds=sum(epoch['seconds'] for epoch in found['epochs']),
        losses=losses(folder / name),
        load=load,
        machine=found['machine'],
    )


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    rows, runs = [], {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        data = photographs(args.data_root, folder, args.images)
        teacher = str(folder / 'teacher.pth')
        call('_common', 'save_teacher', teacher, args.teacher, '2')
        once(args, data, folder, 'first', 'passive')  # packs the images
        for count in args.busy:
            found: dict[str, list[dict]] = {name: [] for name in POLICIES}
            for turn in range(args.rounds):
                for policy, results in found.items():
                    name = f'{policy}_{count}_{turn}'
                    with busy(count):
                        results.append(once(args, data, folder, name, policy))
            runs[count] = found
            rows.append(_row(count, found))
    show(
        f'{args.setup}: {args.images} images, {args.epochs} epochs, medians '
        f'of {args.rounds}',
        [key.replace('_', ' ') for key in rows[0]],
        [row.values() for row in rows],
    )
    machine = found['passive'][0]['machine']
    for found in runs.values():
        for result in sum(found.values(), []):
            del result['machine']
    report = dict(command=' '.join(sys.argv), machine=machine, rows=rows)
    write(dict(**report, runs=runs), args.out)


def _row(count: int, found: dict[str, list[dict]]) -> dict[str, Any]:
    pairs = list(zip(found['passive'], found['default']))
    every = [run['losses'] for runs in found.values() for run in runs]
    return dict(
        busy_processes=count,
        passive_s=median(run['seconds'] for run in found['passive']),
        default_s=median(run['seconds'] for run in found['default']),
        default_over_passive=median(
            other['seconds'] / own['seconds'] for own, other in pairs
        ),
        losses_are_equal=all(one == every[0] for one in every),
        load_before=median(run['load'] for run in found['passive']),
    )


if __name__ == '__main__':
    main()
