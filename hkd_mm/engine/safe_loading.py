# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Checkpoint loaders that cannot run code.

``hkd_mm.runner_patches`` puts them in the place of MMEngine's, so that
``load_from``, ``resume`` and the ``Pretrained`` of an ``init_cfg`` are safe,
whoever calls them in this process.
"""

import os
from typing import Any, NoReturn
from urllib.error import URLError

import torch
from mmengine.dist import barrier, is_main_process

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
