# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Upstream backbones with a switch for ImageNet weights, and CIFAR ResNets."""

from pathlib import Path
from typing import ClassVar

from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones import ShuffleNetV1 as _ShuffleNetV1
from mmpretrain.models.backbones import ShuffleNetV2 as _ShuffleNetV2
from mmpretrain.models.backbones.resnet import BasicBlock

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.models.networks.imagenet_weights import fetch_weights
from hkd_mm.registry import MODELS


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """ResNet with 6n + 2 layers: three stages of n blocks, 16-32-64 wide.

    ``arXiv:1512.03385``, section 4.2, with 1 x 1 projections where the shape
    changes. mmpretrain's ``ResNet_CIFAR`` has the four wide stages of the ImageNet
    networks. ``depth`` is 8, 14, 20, 32, 44 or 56; ResNet-8 has 77,782 parameters with
    6 classes.
    """

    arch_settings = {6 * n + 2: (BasicBlock, (n, n, n)) for n in (1, 2, 3, 5, 7, 9)}

    def __init__(self, depth: int = 8, **kwargs) -> None:
        settings = dict(
            stem_channels=16,
            base_channels=16,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
            zero_init_residual=False,
        )
        super().__init__(depth, **{**settings, **kwargs})


class _Published:
    """A backbone that starts from mmpretrain's ImageNet weights if ``pretrained``."""

    version: ClassVar[int]

    def __init__(self, *, pretrained: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self._pretrained = pretrained
        for key, value in dict(groups=3, widen_factor=1.0).items():
            if pretrained and kwargs.get(key, value) != value:
                raise UserError(
                    f'{type(self).__name__}: ImageNet weights exist for {key}={value}, '
                    f'not {kwargs[key]}; set pretrained=False'
                )

    def init_weights(self) -> None:
        first = not self.is_init
        super().init_weights()
        if not (self._pretrained and first):
            return
        path, prefix = published_weights(self.version), 'backbone.'
        state = {
            key.removeprefix(prefix): value
            for key, value in safe_load(path)['state_dict'].items()
            if key.startswith(prefix)
        }
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f'{path} does not hold weights of ShuffleNetV{self.version} x1.0; '
                'replace or remove the file'
            ) from error


@MODELS.register_module()
class ShuffleNetV1(_Published, _ShuffleNetV1):
    """mmpretrain's ``ShuffleNetV1`` with ``pretrained``, as timm's networks.

    Weights exist for ``groups=3`` and ``widen_factor=1.0`` alone.
    """

    version = 1


@MODELS.register_module()
class ShuffleNetV2(_Published, _ShuffleNetV2):
    """mmpretrain's ``ShuffleNetV2`` with ``pretrained``, as timm's networks.

    Weights exist for ``widen_factor=1.0`` alone.
    """

    version = 2


# Of mmpretrain's configs/shufflenet_v*/metafile.yml: 68.13 and 69.55 % top-1.
_URL = 'https://download.openmmlab.com/mmclassification/v0/shufflenet_v'
_FILES = {
    1: '1/shufflenet_v1_batch1024_imagenet_20200804-5d6cec73.pth',
    2: '2/shufflenet_v2_batch1024_imagenet_20200812-5bf4721e.pth',
}


def published_weights(version: int) -> Path:
    """Find or fetch mmpretrain's ImageNet weights of a ShuffleNet."""
    url = _URL + _FILES[version]
    return fetch_weights(url, url.rpartition('/')[2])
