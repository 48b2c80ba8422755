# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read checkpoints without running code from them; find intact ones.

``hkd_mm.io.runner_patches`` replaces MMEngine's loaders by :func:`load`, so
that ``load_from``, ``resume`` and the ``Pretrained`` of an ``init_cfg`` are
safe in the whole process.
"""

import logging
import os
import pickle
import re
import shlex
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.io.files import parse_json, read_bytes

_STUDENT = 'architecture.'
_HEADER = 'hkd_mm'  # key of the meta in a .safetensors file
_STATISTICS = ('min', 'max', 'current', 'mean')  # of a HistoryBuffer
_SHOWN = 3  # names shown of a long list of keys
_MAGIC = (b'PK', b'\x80')  # torch's archive, the pickle before it
_INFLATED = 20  # bytes that a byte of a file may become
_DEEPEST = 50  # dicts and lists within each other; ours have seven
_MOST = 1_000_000  # dicts and lists of a file
# Where programs put the weights in their files, the likeliest first.
CONTAINERS = (
    'state_dict model model_state_dict net network params weights '
    'state_dict_ema model_ema ema'
).split()
# What MMPretrain and timm's wrapper put in front of a network's own names.
_ADDED = ('', 'model.', 'backbone.', 'backbone.model.')
# Of two networks in a file these are the second choice.
_SECOND = re.compile(r'(?<![a-z])(ema|teacher|averaged?|momentum)(?![a-z])')


def safe_load(path: str | os.PathLike) -> dict[str, Any]:
    """Read a ``.pth`` or ``.safetensors`` file to the CPU, weights only.

    Returns:
        The stored dict; a bare state dict comes back as its ``state_dict``. A
        ``.safetensors`` file has its ``meta`` as JSON in its header, under ``hkd_mm``.

    Raises:
        UserError: the file is missing, damaged, holds no weights or such as are no
            finite numbers, or would have to run code to be read.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(
            f'checkpoint {path} does not exist; give the path of '
            'a .pth or .safetensors file'
        )
    try:
        if path.endswith('.safetensors'):
            loaded = _load_safetensors(path)
        else:
            _check_file(path)
            with torch.serialization.safe_globals(_allowed()):
                loaded = torch.load(path, map_location='cpu', weights_only=True)
    except (UserError, ImportError, MemoryError):
        raise
    except Exception as error:  # of readers that are given rubbish, any
        if isinstance(error, OSError) and error.errno:  # of the disk, not the file
            raise UserError(f'checkpoint {path} cannot be read: {error}') from error
        raise _advice(path, error) or _damaged(path) from error
    _check_nesting(loaded, path)
    if not isinstance(loaded, dict) or not loaded:
        raise _no_weights(path)
    if 'state_dict' not in loaded:
        inner = loaded.get('model')
        values = inner.values() if isinstance(inner, dict) else ()
        inside = any(isinstance(value, Tensor) for value in values)
        loaded = {**loaded, 'state_dict': inner} if inside else dict(state_dict=loaded)
    for part, kinds in (('state_dict', Mapping), ('meta', (dict, type(None)))):
        if not isinstance(loaded.get(part), kinds):
            raise _no_weights(path, f': its {part} is no dict')
    if not all(isinstance(name, str) for name in loaded['state_dict']):
        raise _no_weights(path, ': its weights have numbers for names')
    check_tensors(loaded['state_dict'], path)
    check_tensors(dict(_tensors(loaded.get('optimizer'), 'optimizer')), path)
    return loaded


def _no_weights(path: str, why: str = '') -> UserError:
    return UserError(
        f'checkpoint {path} holds no weights{why}; a dict with "state_dict" is expected'
    )


def load(prefix: str, filename: str) -> dict[str, Any]:
    """Read a checkpoint for MMEngine, safely.

    Args:
        prefix: of MMEngine's loaders; others than ``''`` and ``https://`` are model
            zoos, whose loaders may run code.
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
    try:
        if is_main_process() and not os.path.isfile(path):
            os.makedirs(folder, exist_ok=True)
            torch.hub.download_url_to_file(filename, path, progress=False)
    except (OSError, HTTPException) as error:
        raise UserError(
            f'cannot fetch {filename} ({error}); download it to {path}'
        ) from error
    finally:
        barrier()  # also where it failed: the others then miss the file
    return safe_load(path)


def classes_of(meta: dict[str, Any]) -> tuple[str, ...] | None:
    """Class names in the ``meta`` of a run's checkpoint or ``student.pth``, or None."""
    for source in (meta.get('dataset_meta'), meta):
        known = source.get('classes') if isinstance(source, Mapping) else None
        if isinstance(known, (list, tuple)):
            return tuple(map(str, known))
    return None


def check_classes(
    meta: dict[str, Any], classes: Sequence[str] | None, path: str
) -> None:
    """Refuse a checkpoint whose outputs mean other classes than those of the data."""
    known = classes_of(meta)
    if known is not None and classes is not None and known != tuple(classes):
        raise UserError(
            f'checkpoint {path} was trained for the classes '
            f'{", ".join(known)} and the data has {", ".join(classes)}; give '
            'a checkpoint of the same classes in the same order'
        )


def student_state_dict(checkpoint: dict[str, Any]) -> 'OrderedDict':
    """Weights of the plain classifier in a checkpoint of any run, by its own names."""
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
    """Load a plain classifier's weights strictly; return the ``meta`` of the file.

    The checkpoint is of the classifier or of a distillation run with this
    student; ``role`` (teacher, student) is for messages.

    Raises:
        UserError: the file cannot be read safely, or does not match the model
            or its number of classes.
    """
    checkpoint = safe_load(path)
    own = model.state_dict()
    model.load_state_dict(matching_weights(checkpoint, own, str(path), role))
    return checkpoint.get('meta') or {}


def matching_weights(
    checkpoint: dict[str, Any], own: Mapping[str, Tensor], path: str, role: str
) -> dict[str, Tensor]:
    """The weights of a plain network in a checkpoint of whatever program.

    Returned are those with the names and shapes of ``own``, its ``state_dict``.
    """
    state = student_state_dict(checkpoint)
    if state.keys() != own.keys():
        found = fitting_state(checkpoint['state_dict'], own)
        if found is not None:
            state, note = found
            check_tensors(state, path)
            print_log(f'{path}: the weights {note}', logger='current')
    check_match(state, own, path, role)
    return state


def check_match(
    state: Mapping[str, Any],
    own: Mapping[str, Tensor],
    path: str,
    role: str,
    needed: str = '',
) -> None:
    """Compare names and shapes of weights; none that begins ``needed`` may be missing.

    Raises:
        UserError: they are of another network, or of one with other classes.
    """
    missing = [key for key in own if key.startswith(needed) and key not in state]
    unknown = [key for key in state if key not in own]
    if missing or unknown:
        raise UserError(
            f'checkpoint {path} is of another network than the {role}: '
            f'{len(missing)} weights missing {missing[:_SHOWN]}, '
            f'{len(unknown)} unknown {unknown[:_SHOWN]}; give the checkpoint '
            f'of this {role}, or set the {role} of the config to its network'
        )
    wrong = [key for key, value in state.items() if _kind(value) != _kind(own[key])]
    if not wrong:
        return
    key = wrong[-1]
    (mine, _), (theirs, dtype) = _kind(own[key]), _kind(state[key])
    hint = f'{len(wrong)} weights differ'
    if len(wrong) <= 2 and mine and theirs:
        hint = f'it was trained for {theirs[0]} classes and the config has {mine[0]}'
    raise UserError(
        f'checkpoint {path} does not fit the {role}: {hint} ({key}: {theirs} {dtype} '
        f'in the file, {mine} in the network); give a checkpoint of the same network '
        'and classes'
    )


def _kind(value: Any) -> tuple[tuple | None, str]:
    """Shape, and what else decides whether a weight can be taken over."""
    if not isinstance(value, Tensor):
        return None, type(value).__name__
    return tuple(value.shape), 'complex' if value.is_complex() else ''


def check_tensors(state: Mapping[str, Any], path: str) -> None:
    """Refuse a tensor without values, or with more than are stored, NaN or infinity."""
    for name, tensor in state.items():
        fault = _fault(tensor) if isinstance(tensor, Tensor) else None
        if fault:
            raise UserError(f'checkpoint {path}: {name} {fault}')


def _fault(tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return 'has a shape and no values (device meta); save it again with its values'
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return 'is sparse, quantised or nested; save it as a dense tensor of floats'
    # of a dimension that repeats one value, the first
    held = tensor[tuple(slice(None if step else 1) for step in tensor.stride())]
    if held.numel() * held.element_size() > held.untyped_storage().nbytes():
        return 'claims more values than are stored; give an undamaged checkpoint'
    if not (held.is_floating_point() or held.is_complex()):
        return None
    if not torch.isfinite(held.float() if held.element_size() == 1 else held).all():
        return (
            'holds NaN or infinity, so its training has diverged; give an earlier '
            'checkpoint'
        )
    return None


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested dicts and lists, by dotted names."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, (Mapping, list, tuple)):
        keyed = value if isinstance(value, Mapping) else dict(enumerate(value))
        for key, item in keyed.items():
            yield from _tensors(item, f'{name}.{key}')


def fitting_state(
    stored: Mapping[str, Any], names: Iterable[str]
) -> tuple[dict[str, Tensor], str] | None:
    """Find the weights of a network in a dict of another program.

    They may lie in a dict within the dict (``CONTAINERS`` first), under whatever
    prefix (``module.``, ``student.``, ``model._orig_mod.``), beside other tensors such
    as a criterion's. What is called like an average or a teacher is the second choice.
    ``names`` is what the network calls its weights.

    Returns:
        Name -> tensor, and which dict and prefix they were found under;
        None where nothing has exactly these names.
    """
    wanted = list(names)
    candidates = []
    for container, state in _dicts(stored):
        for added in _ADDED:
            if not all(name.startswith(added) for name in wanted):
                continue
            own = {name[len(added) :]: name for name in wanted}
            for prefix in _prefixes(state, own):
                note = [f'under {container!r}'] * bool(container)
                note += [f'without prefix {prefix!r}'] * bool(prefix)
                note += [f'with prefix {added!r}'] * bool(added)
                renamed = {own[name]: state[prefix + name] for name in own}
                candidates.append((renamed, ', '.join(note)))
    return min(candidates, key=lambda it: bool(_SECOND.search(it[1])), default=None)


def _prefixes(state: Mapping[str, Tensor], names: Mapping[str, str]) -> list[str]:
    """What stands before these names, and before nothing else."""
    first = next(iter(names), None)
    if first is None:
        return []
    found = [key.removesuffix(first) for key in state if key.endswith(first)]
    return [
        prefix
        for prefix in sorted(found, key=len)
        if all(prefix + name in state for name in names)
        and sum(key.startswith(prefix) for key in state) == len(names)
    ]


def _dicts(stored: Mapping[str, Any], path: str = '') -> Iterator[tuple[str, dict]]:
    """The tensors of a dict and of those in it, by dotted path."""
    yield path, {k: v for k, v in stored.items() if isinstance(v, Tensor)}
    for name in dict.fromkeys((*CONTAINERS, *map(str, stored))):
        if isinstance(stored.get(name), Mapping) and path.count('.') < _SHOWN:
            yield from _dicts(stored[name], f'{path}.{name}'.strip('.'))


def find_damage(path: str | Path) -> str | None:
    """Damage of a ``.pth`` file in a few words, or None.

    Raises:
        UserError: the disk does not let it be read, which says nothing of the file.
    """
    try:
        safe_load(path)
    except UserError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno:
            raise
        return str(error)
    return None


def latest_intact_checkpoint(work_dir: str | Path) -> str | None:
    """Find the checkpoint to resume a run from, None without an intact one.

    It is the one that ``last_checkpoint`` names, if it is intact, else the newest older
    ``epoch_*.pth`` (``iter_*.pth``) that is; where nothing is named, the newest.
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
    warn = partial(print_log, logger='current', level=logging.WARNING)
    for path in candidates:
        damage = find_damage(path)
        if damage is None:
            return str(path)
        warn(
            f'CHECKPOINT {path} IS NOT USED: {damage}. Falling back to the one before.'
        )
    if candidates:
        warn(f'NO INTACT CHECKPOINT IS LEFT IN {folder}: training starts anew.')
    return None


def _step(path: Path) -> tuple[int, int] | None:
    """(kind, number) of an epoch or iteration checkpoint; else None."""
    match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
    return match and (match[1] == 'epoch', int(match[2]))


def _named_last(folder: Path) -> Path | None:
    """The file that ``last_checkpoint`` names, if possible in this folder."""
    try:
        content = read_bytes(folder / 'last_checkpoint')[:4096]
    except OSError:
        return None
    text = content.decode(errors='replace').strip('\0 \n')
    # killed while mmengine wrote it, or damaged
    if not text.endswith('.pth') or not text.isprintable():
        return None
    beside = folder / Path(text).name
    return beside if os.path.isfile(beside) else Path(text)


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
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, 'pt') as file:
        meta = parse_json((file.metadata() or {}).get(_HEADER, '{}').encode())
    kept = dict(meta=meta) if meta else {}
    return dict(state_dict=load_file(path), **kept)


def _check_file(path: str) -> None:
    """Refuse what is no checkpoint, and damaged archives: torch reads no checksums."""
    with open(path, 'rb') as file:
        start = file.read(512)
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
    if not start.startswith(b'PK'):
        return
    with zipfile.ZipFile(path) as archive:
        claimed = sum(part.file_size for part in archive.infolist())
        if claimed > _INFLATED * os.path.getsize(path):
            raise _damaged(path, f', which would become {claimed}')
        if any(name.endswith('/constants.pkl') for name in archive.namelist()):
            raise RuntimeError('TorchScript')
        part = archive.testzip()
    if part is not None:
        raise UserError(
            f'checkpoint {path} is damaged: the checksum of its part {part} '
            'is wrong; copy it again or give another one'
        )


def _check_nesting(loaded: Any, path: str) -> None:
    """Refuse what would take a reader's stack or hours; cycles as well."""
    depth, count = 0, 0
    level = [loaded] if isinstance(loaded, (Mapping, list, tuple)) else []
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > _DEEPEST or count > _MOST:
            raise _damaged(path, ', nested too deeply')
        inner = (
            item
            for one in level
            for item in (one.values() if isinstance(one, Mapping) else one)
            if isinstance(item, (Mapping, list, tuple))
        )
        level = list(islice(inner, _MOST + 1))


def _damaged(path: str, why: str = '') -> UserError:
    return UserError(
        f'checkpoint {path} is damaged or no checkpoint at all '
        f'({os.path.getsize(path)} bytes{why}); copy it again or give another one'
    )


def _advice(path: str, error: Exception) -> UserError | None:
    """How to convert a file that holds more than weights."""
    text = str(error)
    if 'TorchScript' in text:
        code = f'm = torch.jit.load({path!r}).state_dict()'
    elif isinstance(error, pickle.UnpicklingError) and (
        'weights_only' in text or 'GLOBAL' in text
    ):
        code = (
            f'm = torch.load({path!r}, map_location="cpu", weights_only=False); m = '
            '(m.get("state_dict") or m.get("model") or m) if isinstance(m, dict) else '
            'm; m = m.state_dict() if hasattr(m, "state_dict") else m'
        )
    else:
        return None
    out = f'{os.path.splitext(path)[0]}_weights.pth'
    command = shlex.quote(f'import torch; {code}; torch.save(m, {out!r})')
    return UserError(
        f'checkpoint {path} holds more than weights and was not opened, because '
        'reading it could run code; if you trust its author, convert it once with '
        f'python -c {command} and use {out}'
    )
