# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""On what a run was made: versions, machine, commit."""

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch
from typing_extensions import TypedDict

from hkd_mm.errors import UserError
from hkd_mm.io.files import read_json
from hkd_mm.io.schema import plain, validate
from hkd_mm.version import __version__

_PACKAGES = (
    'torch torchvision timm numpy scikit-learn onnxruntime onedl-mmengine mmengine '
    'onedl-mmcv mmcv mmcv-lite onedl-mmpretrain mmpretrain mmrazor'
).split()


def collect_environment() -> dict:
    """Describe the running process and its machine, for JSON."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return dict(
        hkd_mm=__version__,
        commit=_commit(),
        python=platform.python_version(),
        packages={
            name: found[0].version
            for name in _PACKAGES
            if (found := list(metadata.distributions(name=name)))
        },
        platform=platform.platform(),
        cpu=_cpu_name(),
        cpu_cores=os.cpu_count(),
        memory_gib=_memory_gib(),
        gpus=gpus,
        cuda=torch.version.cuda if gpus else None,
        cudnn=torch.backends.cudnn.version() if gpus else None,
        threads=torch.get_num_threads(),
        command=sys.argv,
        started=time.strftime('%Y-%m-%dT%H:%M:%S%z'),
    )


def _commit() -> str | None:
    """Commit of the checkout that holds this package, ``+`` if changed."""
    folder = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str:
        return subprocess.run(
            ['git', '-C', str(folder), *args],
            check=True,
            timeout=10,
            capture_output=True,
            text=True,
        ).stdout.strip()

    try:  # an environment inside some other repository is not a checkout
        git('ls-files', '--error-unmatch', 'version.py')
        changed = git('status', '--porcelain', '-uno', '--', '.')
        return git('rev-parse', 'HEAD') + ('+' if changed else '')
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_name() -> str:
    linux = Path('/proc/cpuinfo')
    lines = linux.read_text().splitlines() if linux.is_file() else []
    names = [line.split(':', 1)[1] for line in lines if line.startswith('model name')]
    return names[0].strip() if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (ValueError, OSError, AttributeError):
        return None
    return round(pages / 2**30, 1)


class Environment(TypedDict, total=False):
    """What is shown of :func:`collect_environment`."""

    hkd_mm: str
    python: str
    packages: dict[str, str]
    cpu: str | None
    gpus: list[str]
    command: list[str]


def environment_of(folder: Path) -> Environment:
    """``environment.json`` of a run; empty where there is none.

    Raises:
        UserError: it is damaged, or something else.
    """
    path, remedy = folder / 'environment.json', '; move it away: cards say "unknown"'
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: {error}{remedy}') from None
    # paths may be of any bytes
    return validate(Environment, plain(found, 'replace'), str(path), remedy)


def command_of(environment: dict) -> str:
    """What the run was started with, without the folders of its machine."""
    words = without_places(environment.get('command') or [])
    return shlex.join(['python', *words]) if words else 'unknown'


def without_places(words: Sequence[object]) -> list[str]:
    """Words of a command line; of absolute paths what others know, too."""
    parts = (str(word).rpartition('=') for word in words)
    return [f'{key}{equals}{_short(value)}' for key, equals, value in parts]


def _short(path: str) -> str:
    if not path.startswith('/'):
        return path
    parts = Path(path).parts
    for root in ('tools', 'configs'):
        if root in parts:
            return '/'.join(parts[parts.index(root) :])
    return f'.../{Path(path).name}'


def versions_of(environment: dict) -> str:
    """Packages and machine of a run, in one line."""
    if not environment:
        return 'unknown'
    shown = {key: environment.get(key) for key in ('hkd_mm', 'python')}
    shown.update(environment.get('packages') or {})
    text = ', '.join(f'{key} {value}' for key, value in shown.items() if value)
    where = environment.get('gpus') or [environment.get('cpu')]
    return f'{text}; on {", ".join(str(one) for one in where)}'
