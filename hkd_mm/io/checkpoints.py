# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read checkpoints without ever running code that hides in them.

``hkd_mm.io.runner_patches`` puts them in the place of MMEngine's, so that
``load_from``, ``resume`` and the ``Pretrained`` of an ``init_cfg`` are safe,
whoever calls them in this process.
"""

import json
import os
import pickle
from collections import OrderedDict
from typing import Any, NoReturn
from urllib.error import URLError

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from torch import nn

from hkd_mm.errors import UserError

_STUDENT = 'architecture.'
_HEADER = 'hkd_mm'  # key of the meta in a .safetensors file
_STATISTICS = ('min', 'max', 'current', 'mean')  # of a HistoryBuffer
_SHOWN = 3  # names shown of a long list of keys
# torch's archive, the pickle before it
_MAGIC = (b'PK', b'\x80')


def _allowed() -> list:
    """What mmengine's own checkpoints hold beside tensors."""
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


def safe_load(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint to the CPU with ``weights_only=True``.

    Args:
        path: a ``.pth`` file of mmengine or torch, or a ``.safetensors`` file.

    Returns:
        The stored dict; a bare state dict comes back under ``state_dict``. A
        ``.safetensors`` file has its ``meta`` as JSON in its header, under
        ``hkd_mm``.

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
        return _load_safetensors(path)
    _check_magic(path)
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
            f'checkpoint {path} holds no weights; a dict with '
            '"state_dict" is expected'
        )
    if 'state_dict' not in loaded:
        inner = loaded.get('model')
        loaded = dict(state_dict=inner if isinstance(inner, dict) else loaded)
    return loaded


def classes_of(meta: dict[str, Any]) -> tuple[str, ...] | None:
    """The classes that a checkpoint of ours was trained for, in order.

    Args:
        meta: of a run's checkpoint (mmengine's ``dataset_meta.classes``) or
            of a ``student.pth`` (``classes``).

    Returns:
        Their names, None where the checkpoint does not say.
    """
    known = (meta.get('dataset_meta') or {}).get('classes')
    known = meta.get('classes') if known is None else known
    return None if known is None else tuple(known)


def student_state_dict(checkpoint: dict[str, Any]) -> 'OrderedDict':
    """The plain classifier's weights out of any checkpoint of ours.

    Args:
        checkpoint: what :func:`safe_load` returned, of a distillation run
            (student under ``architecture.``) or of a plain classifier.

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

    Args:
        model: the network that takes the weights.
        path: checkpoint of the classifier itself or of a distillation run
            whose student is this classifier.
        role: what the network is to the user ('teacher', 'student'), for the
            message.

    Returns:
        The ``meta`` dict of the checkpoint, empty where it has none.

    Raises:
        UserError: the file cannot be read safely, or belongs to another
            network or another number of classes.
    """
    checkpoint = safe_load(path)
    state = student_state_dict(checkpoint)
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
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
            f'it was trained for {counts[1]} classes and the config has '
            f'{counts[0]}'
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


def _load_safetensors(path: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, 'pt') as file:
            header = file.metadata() or {}
        loaded = dict(state_dict=load_file(path))
        meta = json.loads(header.get(_HEADER, '{}'))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error
    if isinstance(meta, dict) and meta:
        loaded['meta'] = meta
    return loaded


def _check_magic(path: str) -> None:
    """Tell what is no checkpoint at all from one that hides code."""
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


def load_from_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a local checkpoint to the CPU, safely.

    Args:
        filename: path; ``~`` is expanded.
        map_location: not used: whoever takes the weights copies them to its
            own device.

    Raises:
        UserError: as :func:`safe_load`.
    """
    del map_location
    return safe_load(os.path.expanduser(filename))


def load_from_http(
    filename: str, map_location: Any = None, **kwargs
) -> dict[str, Any]:
    """Download a checkpoint once into torch's folder and read it safely.

    Args:
        filename: its ``http://`` or ``https://`` address.
        map_location: as in :func:`load_from_file`.
        kwargs: of mmengine's loader; not used.

    Raises:
        UserError: it cannot be fetched or read.
    """
    del map_location, kwargs
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


def load_from_elsewhere(filename: str, map_location: Any = None) -> NoReturn:
    """Refuse the addresses of model zoos, whose loaders may run code.

    Raises:
        UserError: always.
    """
    del map_location
    raise UserError(
        f'checkpoint {filename}: download it and give the path '
        'of the file, so that it can be read safely'
    )


def load(prefix: str, filename: str) -> dict[str, Any]:
    """Read a checkpoint safely.

    Args:
        prefix: of MMEngine's loaders, such as ``''`` or ``https://``.
        filename: a path or an address with that prefix.

    Raises:
        UserError: it cannot be read without running code.
    """
    loader = {
        '': load_from_file,
        'http://': load_from_http,
        'https://': load_from_http,
    }.get(prefix, load_from_elsewhere)
    return loader(filename)
