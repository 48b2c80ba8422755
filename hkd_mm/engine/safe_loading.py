# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""mmengine's own checkpoint loader, made unable to run code.

Upstream loads with ``weights_only=True`` and, when that fails, once more with
``weights_only=False``: an untrusted file then runs its code. Its loaders are
registered by prefix and may be replaced; :func:`install` does so for all of
them, so that ``load_from``, ``resume`` and the ``Pretrained`` of an
``init_cfg`` are safe, whoever calls them in this process.
"""

import os
from typing import Any, NoReturn
from urllib.error import URLError

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.runner import CheckpointLoader

from hkd_mm.errors import UserError

from .checkpoint import safe_load


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


def install() -> None:
    """Put the safe loaders in the place of mmengine's, for this process."""
    for prefix in list(CheckpointLoader._schemes):
        loader = {
            '': load_from_file,
            'http://': load_from_http,
            'https://': load_from_http,
        }.get(prefix, load_from_elsewhere)
        CheckpointLoader.register_scheme(prefix, loader, force=True)
