# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Upstream backbones with a switch for ImageNet weights, and CIFAR ResNets."""

from pathlib import Path
from typing import ClassVar

from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones import ShuffleNetV1 as _ShuffleNetV1
from mmpretrain.models.backbones import ShuffleNetV2 as _ShuffleNetV2
from mmpretrain.models.backbones.resnet import BasicBlock

from hkd_mm.errors import UserError
from hkd_mm.models.networks.imagenet_weights import fetch_weights, load_backbone
from hkd_mm.registry import MODELS


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """ResNet with 6n + 2 layers: three stages of n blocks, 16-32-64 wide.

    ``arXiv:1512.03385``, section 4.2, with 1 x 1 projections where the shape
    changes. mmpretrain's ``ResNet_CIFAR`` has the four wide stages of the ImageNet
    networks. ResNet-8 has 77,782 parameters with 6 classes.

    Args:
        depth: 8, 14, 20, 32, 44 or 56.
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
    """Mixin in front of a backbone that mmpretrain publishes weights of."""

    version: ClassVar[int]
    _pretrained = False

    def init_weights(self) -> None:
        first = not self.is_init
        super().init_weights()
        if self._pretrained and first:
            name = f'ShuffleNetV{self.version} x1.0'
            load_backbone(self, published_weights(self.version), name)


@MODELS.register_module()
class ShuffleNetV1(_Published, _ShuffleNetV1):
    """mmpretrain's ``ShuffleNetV1`` with ``pretrained``, as timm's networks.

    Args:
        groups: 1, 2, 3, 4 or 8, of the grouped 1x1 convolutions.
        widen_factor: on the number of channels.
        pretrained: start training from mmpretrain's ImageNet weights, which
            exist for ``groups=3`` and ``widen_factor=1.0`` alone.
    """

    version = 1

    def __init__(
        self,
        groups: int = 3,
        widen_factor: float = 1.0,
        pretrained: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(groups, widen_factor, **kwargs)
        if pretrained and (groups, widen_factor) != (3, 1.0):
            raise UserError(
                'ShuffleNetV1: ImageNet weights exist for groups=3 and '
                f'widen_factor=1.0, not {groups} and {widen_factor}; set '
                'pretrained=False'
            )
        self._pretrained = pretrained


@MODELS.register_module()
class ShuffleNetV2(_Published, _ShuffleNetV2):
    """mmpretrain's ``ShuffleNetV2`` with ``pretrained``, as timm's networks.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0, on the number of channels.
        pretrained: start training from mmpretrain's ImageNet weights, which
            exist for ``widen_factor=1.0`` alone.
    """

    version = 2

    def __init__(
        self, widen_factor: float = 1.0, pretrained: bool = False, **kwargs
    ) -> None:
        super().__init__(widen_factor, **kwargs)
        if pretrained and widen_factor != 1.0:
            raise UserError(
                'ShuffleNetV2: ImageNet weights exist for widen_factor=1.0, '
                f'not {widen_factor}; set pretrained=False'
            )
        self._pretrained = pretrained


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
