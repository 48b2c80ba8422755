# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read checkpoints without running code from them; find intact ones.

``hkd_mm.io.runner_patches`` replaces MMEngine's loaders by :func:`load`, so
that ``load_from``, ``resume`` and the ``Pretrained`` of an ``init_cfg`` are
safe in the whole process.
"""

import json
import logging
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn

from hkd_mm.errors import UserError

_STUDENT = 'architecture.'
_HEADER = 'hkd_mm'  # key of the meta in a .safetensors file
_MOST_BRACKETS = 2000  # in it; json bears no deep nesting, ours have dozens
_STATISTICS = ('min', 'max', 'current', 'mean')  # of a HistoryBuffer
_SHOWN = 3  # names shown of a long list of keys
_MAGIC = (b'PK', b'\x80')  # torch's archive, the pickle before it
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    NotImplementedError,
    ValueError,
)
# Where programs put the weights in their files, the likeliest first.
CONTAINERS = (
    'state_dict',
    'model',
    'model_state_dict',
    'net',
    'network',
    'params',
    'weights',
    'state_dict_ema',
    'model_ema',
    'ema',
)
# What wrappers put in front of every name.
_PREFIXES = ('module.', '_orig_mod.', 'model.', 'net.', 'network.')
_ADDED = ('model.', 'backbone.', 'backbone.model.')


def safe_load(path: str | os.PathLike) -> dict[str, Any]:
    """Read a ``.pth`` or ``.safetensors`` file to the CPU, weights only.

    Returns:
        The stored dict; a bare state dict comes back under ``state_dict``. A
        ``.safetensors`` file has its ``meta`` as JSON in its header, under ``hkd_mm``.

    Raises:
        UserError: the file is missing, damaged, holds no weights, or would
            have to run code to be read.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(
            f'checkpoint {path} does not exist; give the path of '
            'a .pth or .safetensors file'
        )
    if path.endswith('.safetensors'):
        loaded = _load_safetensors(path)
        check_tensors(loaded['state_dict'], path)
        return loaded
    _check_magic(path)
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_allowed()):
            loaded = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if 'weights_only' not in str(error) and 'GLOBAL' not in str(error):
            raise _damaged(path) from error
        raise UserError(
            f'checkpoint {path} holds more than weights and was not opened, '
            'because reading it could run code; if you trust its author, '
            'convert it once: python -c "import torch; torch.save('
            "torch.load('IN.pth', weights_only=False)['state_dict'], "
            "'OUT.pth')\" and use OUT.pth"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise _damaged(path) from error
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(
            f'checkpoint {path} holds no weights; a dict with "state_dict" is expected'
        )
    if 'state_dict' not in loaded:
        inner = loaded.get('model')
        loaded = dict(state_dict=inner if isinstance(inner, dict) else loaded)
    if isinstance(loaded['state_dict'], dict):
        check_tensors(loaded['state_dict'], path)
    return loaded


def load(prefix: str, filename: str) -> dict[str, Any]:
    """Read a checkpoint for MMEngine, safely.

    Args:
        prefix: of MMEngine's loaders, such as ``''`` or ``https://``; others
            than these are model zoos, whose loaders may run code.
        filename: a path (``~`` is expanded) or an address with that prefix,
            which is downloaded once into torch's folder.

    Raises:
        UserError: it cannot be fetched, or not read without running code.
    """
    if prefix == '':
        return safe_load(os.path.expanduser(filename))
    if prefix not in ('http://', 'https://'):
        raise UserError(
            f'checkpoint {filename}: download it and give the path of the '
            'file, so that it can be read safely'
        )
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(filename.split('?')[0]))
    if is_main_process() and not os.path.isfile(path):
        os.makedirs(folder, exist_ok=True)
        try:
            torch.hub.download_url_to_file(filename, path, progress=False)
        except (URLError, ConnectionError, TimeoutError) as error:
            raise UserError(
                f'cannot fetch {filename} ({error}); download it to {path}'
            ) from error
    barrier()
    return safe_load(path)


def classes_of(meta: dict[str, Any]) -> tuple[str, ...] | None:
    """Class names of the ``meta`` of a checkpoint, None if it has none.

    They are in ``dataset_meta`` of a run's checkpoint (mmengine), and at the
    top of a ``student.pth``.
    """
    known = (meta.get('dataset_meta') or {}).get('classes')
    known = meta.get('classes') if known is None else known
    return None if known is None else tuple(known)


def student_state_dict(checkpoint: dict[str, Any]) -> 'OrderedDict':
    """Weights of the plain classifier in a checkpoint of any run.

    A distillation run has its student under ``architecture.``.

    Returns:
        Name -> tensor, as the plain mmpretrain classifier names them.
    """
    state = checkpoint['state_dict']
    student = OrderedDict(
        (key[len(_STUDENT) :], value)
        for key, value in state.items()
        if key.startswith(_STUDENT)
    )
    return student or OrderedDict(state)


def load_weights(
    model: nn.Module, path: str | os.PathLike, role: str
) -> dict[str, Any]:
    """Load a plain classifier's weights strictly from a safe checkpoint.

    The checkpoint is of the classifier or of a distillation run with this
    student; ``role`` (teacher, student) is for messages.

    Returns:
        The ``meta`` dict of the checkpoint, empty where it has none.

    Raises:
        UserError: the file cannot be read safely, or does not match the model
            or its number of classes.
    """
    checkpoint = safe_load(path)
    state = student_state_dict(checkpoint)
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    if missing or unknown:
        found = fitting_state(checkpoint['state_dict'], own)
        if found is not None:
            state, note = found
            check_tensors(state, str(path))
            missing = unknown = []
            print_log(f'{path}: the weights {note}', logger='current')
    if missing or unknown:
        raise UserError(
            f'checkpoint {path} is of another network than the {role}: '
            f'{len(missing)} weights missing {missing[:_SHOWN]}, '
            f'{len(unknown)} unknown {unknown[:_SHOWN]}; give the checkpoint '
            f'of this {role}, or set the {role} of the config to its network'
        )
    wrong = [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        key = wrong[0]
        counts = len(own[key]), len(state[key])
        hint = (
            f'it was trained for {counts[1]} classes and the config has {counts[0]}'
            if len(wrong) <= 2
            else f'{len(wrong)} weights differ in shape'
        )
        raise UserError(
            f'checkpoint {path} does not fit the {role}: {hint} '
            f'({key}: {tuple(state[key].shape)} in the file, '
            f'{tuple(own[key].shape)} in the network); give a checkpoint of '
            'the same network and classes'
        )
    model.load_state_dict(state)
    return checkpoint.get('meta') or {}


def check_tensors(state: Mapping[str, Any], path: str) -> None:
    """Refuse weights that are not there or are no numbers.

    Raises:
        UserError: a tensor is on the ``meta`` device, or holds NaN or infinity.
    """
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue
        if tensor.is_meta:
            raise UserError(
                f'checkpoint {path}: {name} has a shape and no values (device '
                'meta); save it again with its values'
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f'checkpoint {path}: {name} holds NaN or infinity, so its '
                'training has diverged; give an earlier checkpoint'
            )


def fitting_state(
    stored: Mapping[str, Any], names: Collection[str]
) -> tuple[dict[str, Tensor], str] | None:
    """Find the weights of a network in a dict of another program.

    Args:
        stored: contents of a file: weights by name, or dicts of them.
        names: what the network calls its weights.

    Returns:
        Name -> tensor, and which dict and prefix they were found under;
        None where nothing has exactly these names.
    """
    wanted = set(names)
    for container, state in _dicts(stored):
        for note, renamed in _renamed(state):
            if renamed.keys() == wanted:
                found = [f'under {container!r}'] if container else []
                return renamed, ', '.join([*found, *note])
    return None


def _dicts(stored: Mapping[str, Any]) -> Iterator[tuple[str, dict]]:
    for name in ('', *CONTAINERS):
        inner = stored.get(name) if name else stored
        if isinstance(inner, Mapping):
            yield (
                name,
                {k: v for k, v in inner.items() if isinstance(v, Tensor)},
            )


def _renamed(state: dict[str, Tensor]) -> Iterator[tuple[list[str], dict]]:
    """A state dict without the prefixes of wrappers, one after the other."""
    note: list[str] = []
    while state:
        yield note, state
        for added in _ADDED:
            yield (
                [*note, f'with prefix {added!r}'],
                {added + key: value for key, value in state.items()},
            )
        prefix = next(
            (p for p in _PREFIXES if all(k.startswith(p) for k in state)), None
        )
        if prefix is None:
            return
        note = [*note, f'without prefix {prefix!r}']
        state = {key[len(prefix) :]: value for key, value in state.items()}


def find_damage(path: str | Path) -> str | None:
    """Check a ``.pth`` file by the safe loader.

    Returns:
        The damage in a few words, or None.
    """
    path = Path(path)
    if not path.is_file():
        return 'it does not exist'
    if path.stat().st_size == 0:
        return 'it is empty'
    try:
        safe_load(path)
    except UserError as error:
        return str(error)
    return None


def latest_intact_checkpoint(work_dir: str | Path) -> str | None:
    """Find the checkpoint to resume a run from, None without an intact one.

    It is the one that ``last_checkpoint`` names, if it is intact, else the newest older
    ``epoch_*.pth`` (``iter_*.pth``) that is; where nothing is named, the newest intact
    one. Each skipped file is logged as a warning. The folder may have been moved since.
    """
    folder = Path(work_dir)
    saved = {path: _step(path) for path in folder.glob('*.pth')}
    candidates = sorted(
        (path for path, step in saved.items() if step is not None),
        key=lambda path: saved[path],
        reverse=True,
    )
    named = _named_last(folder)
    if named is not None:
        step = _step(named)
        older = [
            path
            for path in candidates
            if path.name != named.name and (step is None or saved[path] < step)
        ]
        candidates = [named, *older]
    for path in candidates:
        damage = find_damage(path)
        if damage is None:
            return str(path)
        _warn(
            f'CHECKPOINT {path} IS NOT USED: {damage}. Falling back to the one before.'
        )
    if candidates:
        _warn(
            f'NO INTACT CHECKPOINT IS LEFT IN {folder}: training starts from '
            'the beginning.'
        )
    return None


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)


def _step(path: Path) -> tuple[int, int] | None:
    """(kind, number) of an epoch or iteration checkpoint; else None."""
    match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
    return match and (match[1] == 'epoch', int(match[2]))


def _named_last(folder: Path) -> Path | None:
    """The file that ``last_checkpoint`` names, if possible in this folder."""
    pointer = folder / 'last_checkpoint'
    if not pointer.is_file():
        return None
    text = pointer.read_text(errors='replace').strip('\0 \n')
    if not text:  # killed while mmengine wrote it
        return None
    beside = folder / Path(text).name
    return beside if beside.is_file() else Path(text)


def _allowed() -> list:
    """Types in mmengine's own checkpoints beside tensors."""
    from mmengine.logging.history_buffer import HistoryBuffer

    def statistic(owner: type, name: str):
        # the only use a checkpoint has for getattr; anything else could
        # reach code
        if owner is HistoryBuffer and name in _STATISTICS:
            return getattr(owner, name)
        raise pickle.UnpicklingError(f'GLOBAL getattr of {name}')

    # numpy 1.26 has a _core as well, but an empty one
    core = np.core if np.__version__.startswith('1.') else np._core
    dtypes = ('uint32', 'int64', 'float32', 'float64')
    return [
        (statistic, 'builtins.getattr'),
        HistoryBuffer,
        np.ndarray,
        np.dtype,
        core.multiarray._reconstruct,
        core.multiarray.scalar,
        *{type(np.dtype(name)) for name in dtypes},
    ]


def _load_safetensors(path: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, 'pt') as file:
            header = file.metadata() or {}
        loaded = dict(state_dict=load_file(path))
        text = header.get(_HEADER, '{}')
        if text.count('[') + text.count('{') > _MOST_BRACKETS:
            raise ValueError('nested too deeply')
        meta = json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error
    if isinstance(meta, dict) and meta:
        loaded['meta'] = meta
    return loaded


def _check_archive(path: str) -> None:
    """Compare the checksums of torch's archive with its contents.

    torch does not: a flipped bit in a weight would go unnoticed.
    """
    with open(path, 'rb') as file:
        if file.read(2) != b'PK':
            return
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except _ARCHIVE_ERRORS as error:
        raise _damaged(path) from error
    if part is not None:
        raise UserError(
            f'checkpoint {path} is damaged: the checksum of its part {part} '
            'is wrong; copy it again or give another one'
        )


def _check_magic(path: str) -> None:
    """Refuse files that are no checkpoint at all."""
    try:
        with open(path, 'rb') as file:
            start = file.read(512)
    except OSError as error:
        raise _damaged(path) from error
    if start.startswith(b'version https://git-lfs'):
        raise UserError(
            f'checkpoint {path} is a Git LFS pointer, not the '
            'file itself; fetch it with: git lfs pull'
        )
    if start.lstrip().lower().startswith((b'<!doctype html', b'<html')):
        raise UserError(
            f'checkpoint {path} is a web page, not a checkpoint; '
            'download the file behind the link'
        )
    if not start.startswith(_MAGIC):
        raise _damaged(path)


def _damaged(path: str) -> UserError:
    return UserError(
        f'checkpoint {path} is damaged or no checkpoint at all '
        f'({os.path.getsize(path)} bytes); copy it again or give '
        'another one'
    )
