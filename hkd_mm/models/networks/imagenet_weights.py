# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find or fetch published ImageNet weights, failing within seconds."""

import re
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import torch
from mmengine.logging import MMLogger

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load

_TIMEOUT = 5  # seconds until a silent server counts as unreachable


def weights_place(name: str) -> Path:
    """Path in the folder of torch hub where a weight file is looked for."""
    return Path(torch.hub.get_dir()) / 'checkpoints' / name


def fetch_weights(url: str, name: str) -> Path:
    """Path of a complete weight file, downloaded at most once.

    timm's own download tries each of two files six times, 50 s in all, before
    it gives up with a traceback; mmengine's has no time limit.

    Args:
        url: where the file is published.
        name: its name in :func:`weights_place`; a hash at its end, as in
            ``network-5bf4721e.pth``, is checked.

    Raises:
        UserError: the server cannot be reached, or sends something else.
    """
    path = weights_place(name)
    if path.is_file():
        return path
    MMLogger.get_current_instance().info(f'fetching {url} to {path}')
    digest = re.search(r'-([a-f0-9]{8,})\.', name)
    try:
        # torch.hub sets no time limit on the connection: ask first.
        urlopen(Request(url, method='HEAD'), timeout=_TIMEOUT).close()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digest and digest.group(1))
    except (
        URLError,
        HTTPException,
        ConnectionError,
        TimeoutError,
        RuntimeError,
    ) as error:
        raise UserError(
            f'cannot fetch ImageNet weights ({error}): download {url} to {path}, or '
            'start from scratch with --cfg-options pretrained=False'
        ) from error
    return path


def hub_weights(repo: str, name: str, revision: str | None = None) -> Path:
    """Path of ``model.safetensors`` of a Hugging Face repository.

    A file called ``name`` in torch hub's folder comes first, then the cache
    of huggingface_hub, then the network.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    file = 'model.safetensors'
    cached = try_to_load_from_cache(repo, file, revision=revision)
    if isinstance(cached, str) and not weights_place(name).is_file():
        return Path(cached)
    return fetch_weights(hf_hub_url(repo, file, revision=revision), name)


def load_backbone(backbone: torch.nn.Module, path: Path, name: str) -> None:
    """Load the backbone's part of a classifier that mmpretrain publishes."""
    prefix = 'backbone.'
    state = {
        key.removeprefix(prefix): value
        for key, value in safe_load(path)['state_dict'].items()
        if key.startswith(prefix)
    }
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f'{path} does not hold weights of {name}; replace or remove the file'
        ) from error
