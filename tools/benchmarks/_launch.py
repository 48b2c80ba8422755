# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Run ``tools/train.py`` in a process of its own, timed and weighed.

Nothing here imports torch: a process starts out with the peak memory of the
one it came from.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import ROOT, recipe

_CONFIG = """
_base_ = {base!r}
custom_imports = dict(
    imports=['hkd_mm', '_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='BenchmarkProbe', out={out!r})]
"""


class Failed(RuntimeError):
    """A measured command ended with an error; says which."""


def measure(
    command: list[str], folder: Path, log: Path, threads: int | None = None
) -> dict[str, Any]:
    """Run a command.

    Args:
        command: its first word is a path.
        folder: to work in.
        log: gets what the command prints.
        threads: of torch; None: as it chooses.

    Returns:
        ``begun`` (time of the clock), ``seconds``, ``bytes`` (largest resident memory
        of the command or of a process it waited for) and ``tree_bytes`` (the most that
        the command and its children had together).

    Raises:
        Failed: it did.
    """
    report = log.with_suffix('.usage.json')
    paths = [str(ROOT), str(Path(__file__).parent)]
    environment = {
        **os.environ,
        'HF_HUB_OFFLINE': '1',
        'PYTHONPATH': os.pathsep.join(
            [*paths, *filter(None, [os.environ.get('PYTHONPATH')])]
        ),
    }
    if threads is not None:
        environment['OMP_NUM_THREADS'] = str(threads)
    with log.open('w') as file:
        subprocess.run(
            [
                *(
                    sys.executable,
                    '-S',
                    str(ROOT / 'tools/benchmarks/_measure.py'),
                ),
                *(str(report), *command),
            ],
            check=True,
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=file,
        )
    found = json.loads(report.read_text())
    if found.pop('status'):
        raise Failed(f'{" ".join(command)}\n{log.read_text()[-3000:]}')
    return found


def train(
    args: argparse.Namespace,
    setup: str,
    data: Path,
    folder: Path,
    name: str,
    options: dict[str, Any],
    flags: tuple[str, ...] = (),
    threads: int | None = None,
) -> dict[str, Any]:
    """Train one set-up with ``tools/train.py``.

    Args:
        args: of ``_common.make_parser``.
        setup: one of ``_common.SETUPS``, or ``online bf16``.
        data: class folders.
        folder: to work in; holds ``teacher.pth``.
        name: of the work dir and the files of the measurement.
        options: more ``--cfg-options``.
        flags: of ``tools/train.py``.
        threads: of torch; None: as it chooses.

    Returns:
        What :func:`measure` and the probe found.
    """
    probe, log = folder / f'{name}.json', folder / f'{name}.log'
    probe.unlink(missing_ok=True)
    config, found = recipe(args, setup, data)
    if 'student' not in setup:
        found['model.teacher_ckpt'] = str(folder / 'teacher.pth')
    if setup == 'stock':
        config, found = folder / 'stock.py', {}
        _dump(args, data, folder, config)
    path = folder / f'{name}_config.py'
    path.write_text(_CONFIG.format(base=str(config), out=str(probe)))
    words = [f'{k}={_word(v)}' for k, v in {**found, **options}.items()]
    command = [sys.executable, '-W', 'ignore']
    command += [str(ROOT / 'tools/train.py'), str(path), *flags]
    command += ['--work-dir', str(folder / name), '--cfg-options', *words]
    usage = measure(command, folder, log, threads)
    return {**usage, **json.loads(probe.read_text())}


def call(module: str, function: str, *arguments: str) -> None:
    """Call a function of a module beside this, where torch may be imported."""
    subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            f'import sys, {module}; {module}.{function}(*sys.argv[1:])',
            *arguments,
        ],
        check=True,
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        },
    )


def _dump(args: argparse.Namespace, data: Path, folder: Path, path: Path) -> None:
    """The config of MMRazor's distillation, as a file."""
    if not path.exists():
        names = ('teacher', 'student', 'size', 'batch', 'method')
        values = {name: getattr(args, name) for name in names}
        call(
            '_common',
            'dump_stock',
            json.dumps(values),
            str(data),
            str(path),
            str(folder / 'teacher.pth'),
        )


def _word(value: Any) -> str:
    return str(value).replace(' ', '')
