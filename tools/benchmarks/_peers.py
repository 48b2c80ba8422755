# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Our training against timm's distillation task and torchdistill.

Every set-up is a command of its own that a user would run, all on the same
images, networks, batch, threads and losses (KD and the hard label), in turn.
The first epoch warms up (and fills the teacher cache), those after it count.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from _common import ROOT, photographs, show, write
from _launch import Failed, call, measure, train

# Packages of the registry that are measured, as pip is given them.
PINS = ('timm==1.0.31', 'torchdistill==1.1.5')
PEERS = ('timm', 'timm bf16', 'torchdistill')
SETUPS = (*PEERS, 'stock', 'online', 'online bf16', 'cached')
AIMS = {'cached': 5.0, 'online bf16': 1.5}
# Set-ups that the aims are for; ratios to the other peers are shown as well.
AIMED_AT = ('timm', 'torchdistill', 'stock')
METHOD = 'kd_hard_wrn50_mbv2'
DEFAULT_FOLDER = Path('work_dirs/benchmarks/peers_env')
# A cached epoch is short; more of them make its time as sure as the others'.
TIMED_EPOCHS = {'cached': 8}
MEBIBYTE = 2**20


def peers_environment(folder: Path) -> Path:
    """Make the environment of the peers, unless it is there already.

    What the running interpreter has installed is seen there too, so that
    torch is the same build and is not downloaded again; pip adds the pinned
    packages and what they miss.

    Args:
        folder: of the environment; made if need be.

    Returns:
        Its interpreter.

    Raises:
        Failed: the folder holds something else, or pip ended with an error.
    """
    python = folder / 'bin/python'
    note = folder / 'peers.json'
    shared = sysconfig.get_path('purelib')
    wanted = dict(pins=list(PINS), python=sys.version, shared=shared)
    if note.is_file() and json.loads(note.read_text()) == wanted:
        return python
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / 'pyvenv.cfg').is_file():
            raise Failed(
                f'{folder} is no virtual environment; name another one with --peers-env'
            )
        note.unlink(missing_ok=True)
    print(f'The peers are installed in {folder}: {", ".join(PINS)}')
    _run([sys.executable, '-m', 'venv', str(folder)])
    words = [
        '-I',
        '-c',
        'import sysconfig; print(sysconfig.get_path("purelib"))',
    ]
    place = Path(_run([str(python), *words]).strip())
    (place / 'benchmarks_shared.pth').write_text(shared + '\n')
    _run([str(python), '-m', 'pip', 'install', *PINS])
    note.write_text(json.dumps(wanted))
    return python


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = '\n'.join(done.stderr.strip().splitlines()[-5:])
        raise Failed(f'{" ".join(command)}\n{tail}')
    return done.stdout


class Comparison:
    """All set-ups in one folder.

    Args:
        args: of the command line.
        folder: empty.
        python: interpreter of the peers.
    """

    def __init__(self, args: argparse.Namespace, folder: Path, python: Path) -> None:
        self.args, self.folder, self.python = args, folder, python
        self.data = photographs(
            args.data_root,
            folder,
            args.steps * args.batch,
            validation=2,
        )
        call(
            '_common',
            'save_teacher',
            str(folder / 'teacher.pth'),
            args.teacher,
            '2',
        )
        self.runs: dict[str, list[dict]] = {name: [] for name in args.setups}
        self.failed: dict[str, str] = {}

    def once(self, setup: str) -> dict[str, Any]:
        """Run a set-up."""
        epochs = 1 + TIMED_EPOCHS.get(setup, 1)
        if setup in PEERS:
            return self._peer(setup, epochs)
        options: dict[str, Any] = dict(max_epochs=epochs)
        if setup == 'stock':  # the others load packed images themselves
            options['train_dataloader.num_workers'] = self.args.workers
        return train(
            self.args,
            setup,
            self.data,
            self.folder,
            setup.replace(' ', '_'),
            options,
            flags=('--no-validate',),
            threads=self.args.threads,
        )

    def _peer(self, setup: str, epochs: int) -> dict[str, Any]:
        name = setup.replace(' ', '_')
        probe = self.folder / f'{name}.json'
        probe.unlink(missing_ok=True)
        words = dict(data=self.data / 'train', epochs=epochs, out=probe)
        for key in ('teacher', 'student', 'size', 'batch', 'workers'):
            words[key] = getattr(self.args, key)
        command = [str(self.python), '-W', 'ignore']
        command += [str(ROOT / 'tools/benchmarks/_peer_training.py'), setup]
        for key, value in words.items():
            command += [f'--{key}', str(value)]
        usage = measure(
            command,
            self.folder,
            self.folder / f'{name}.log',
            self.args.threads,
        )
        return {**usage, **json.loads(probe.read_text())}

    def round(self) -> None:
        """Run every set-up once; a peer that fails is left out from then."""
        for setup in list(self.runs):
            try:
                found = self.once(setup)
            except Failed as error:
                if setup not in PEERS:
                    raise
                self.failed[setup] = str(error)
                del self.runs[setup]
                continue
            self.runs[setup].append(found)
            print(f'{setup}: {rate(found):.1f} images/s', flush=True)


def rate(run: dict[str, Any], per: str = 'seconds') -> float | None:
    """Images/s of the epochs after the first.

    Args:
        run: what a probe found.
        per: ``cpu_seconds`` for images a second of one core, workers
            included; None where the probe could not tell.
    """
    timed = run['epochs'][1:]
    if any(epoch[per] is None for epoch in timed):
        return None
    images = sum(epoch['images'] for epoch in timed)
    return images / sum(epoch[per] for epoch in timed)


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """Median, least and greatest; None if there is none."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return dict(median=median(found), min=min(found), max=max(found))


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Rates, memory, and ratios of rates within a round.

    Args:
        runs: set-up -> what :func:`_launch.measure` and a probe found, one
            dict a round.

    Returns:
        ``rows`` and ``ratios``, one dict a line of their tables.
    """
    rows = []
    for name, found in runs.items():
        gpu = [run['gpu_bytes'] for run in found if 'gpu_bytes' in run]
        rows.append(
            dict(
                setup=name,
                images_per_second=spread(map(rate, found)),
                images_per_core_second=spread(
                    rate(run, 'cpu_seconds') for run in found
                ),
                memory_mib=max(run['tree_bytes'] for run in found) / MEBIBYTE,
                gpu_mib=max(gpu) / MEBIBYTE if gpu else None,
            )
        )
    theirs = [name for name in runs if name in (*PEERS, 'stock')]
    ours = [name for name in runs if name not in theirs]
    ratios = []
    for against, mine in itertools.product(theirs, ours):
        pairs = list(zip(runs[mine], runs[against], strict=True))
        aim = AIMS.get(mine) if against in AIMED_AT else None
        found = spread(rate(a) / rate(b) for a, b in pairs)
        ratios.append(
            dict(
                ours=mine,
                against=against,
                aim=aim,
                reached=None if aim is None else found['median'] >= aim,
                images_per_second=found,
                images_per_core_second=spread(
                    _ratio(*(rate(run, 'cpu_seconds') for run in pair))
                    for pair in pairs
                ),
            )
        )
    return dict(rows=rows, ratios=ratios)


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def _text(found: dict[str, float] | None) -> str | None:
    """``median (least-greatest)`` for a table."""
    if found is None:
        return None
    return '{median:.3g} ({min:.3g}-{max:.3g})'.format(**found)


def compare(args: argparse.Namespace) -> None:
    """Measure, print, write.

    Args:
        args: of ``training.py --peers``.
    """
    try:
        python = peers_environment(args.peers_env.resolve())
    except Failed as error:
        sys.exit(f'The peers cannot be installed: {error}')
    with tempfile.TemporaryDirectory() as place:
        comparison = Comparison(args, Path(place).resolve(), python)
        loads = [os.getloadavg()[0]]
        for number in range(args.rounds):
            print(f'Round {number + 1} of {args.rounds}')
            comparison.round()
            loads.append(os.getloadavg()[0])
            runs = comparison.runs
            report = dict(
                command=' '.join(sys.argv),
                pins=PINS,
                machine=next((one['machine'] for one, *_ in runs.values()), None),
                load_averages=loads,
                failed=comparison.failed,
                **summary(runs),
                runs=runs,
            )
            write(report, args.out)  # what there is, should it be stopped
    columns = ('images/s', 'images/s of a core')
    keys = ('images_per_second', 'images_per_core_second')
    show(
        f'{args.teacher} -> {args.student}, {args.size} x {args.size}, batch '
        f'{args.batch}, {args.steps} steps a round, {args.rounds} rounds',
        ('set-up', *columns, 'peak MiB', 'GPU MiB'),
        [
            [
                row['setup'],
                *(_text(row[key]) for key in keys),
                round(row['memory_mib']),
                row['gpu_mib'],
            ]
            for row in report['rows']
        ],
    )
    show(
        'ratios within a round',
        ('ours / theirs', *columns, 'aim'),
        [
            [
                f'{row["ours"]} / {row["against"]}',
                *(_text(row[key]) for key in keys),
                row['aim'],
            ]
            for row in report['ratios']
        ],
    )
    for setup, error in comparison.failed.items():
        print(f'{setup} failed: {error}')
