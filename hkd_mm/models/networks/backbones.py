# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Upstream backbones with a switch for ImageNet weights, and CIFAR ResNets."""

from pathlib import Path

from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones import ShuffleNetV1 as _ShuffleNetV1
from mmpretrain.models.backbones import ShuffleNetV2 as _ShuffleNetV2
from mmpretrain.models.backbones.resnet import BasicBlock

from hkd_mm.errors import UserError
from hkd_mm.models.networks.imagenet_weights import (
    fetch_weights,
    load_backbone,
)
from hkd_mm.registry import MODELS


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """ResNet with 6n + 2 layers: three stages of n blocks, 16-32-64 wide.

    ``arXiv:1512.03385``, section 4.2, with 1 x 1 projections where the shape
    changes. mmpretrain's ``ResNet_CIFAR`` has the stem, but only the four wide
    stages of the ImageNet networks. ResNet-8 is the paper's smallest student:
    77,782 parameters with 6 classes.

    Args:
        depth: 8, 14, 20, 32, 44 or 56.
        kwargs: passed on to mmpretrain's ``ResNet``.
    """

    arch_settings = {
        6 * n + 2: (BasicBlock, (n, n, n)) for n in (1, 2, 3, 5, 7, 9)
    }

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


# Published in mmpretrain's configs/shufflenet_v1/metafile.yml, 68.13 % top-1.
_URL_V1 = (
    'https://download.openmmlab.com/mmclassification/v0/shufflenet_v1/'
    'shufflenet_v1_batch1024_imagenet_20200804-5d6cec73.pth'
)


@MODELS.register_module()
class ShuffleNetV1(_ShuffleNetV1):
    """mmpretrain's ``ShuffleNetV1`` with ``pretrained``, as timm's networks
    have.

    ``init_weights`` is changed as in ``hkd_mm.ShuffleNetV2``.

    Args:
        groups: 1, 2, 3, 4 or 8, of the grouped 1x1 convolutions.
        widen_factor: on the number of channels.
        pretrained: start training from mmpretrain's ImageNet weights, which
            exist for ``groups=3`` and ``widen_factor=1.0`` alone.
        kwargs: passed on to mmpretrain's class.
    """

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

    def init_weights(self) -> None:
        """Initialise, then read the ImageNet weights where asked.

        Raises:
            UserError: the weights can neither be found nor fetched, or are
                those of another network.
        """
        first = not self.is_init
        super().init_weights()
        if self._pretrained and first:
            load_backbone(self, published_weights(1), 'ShuffleNetV1 x1.0')


def published_weights(version: int) -> Path:
    """Find or fetch mmpretrain's ImageNet weights of a ShuffleNet.

    Args:
        version: 1 or 2.

    Raises:
        UserError: they cannot be fetched.
    """
    url = {1: _URL_V1, 2: _URL_V2}[version]
    return fetch_weights(url, url.rpartition('/')[2])


# Published in mmpretrain's configs/shufflenet_v2/metafile.yml, 69.55 % top-1.
_URL_V2 = (
    'https://download.openmmlab.com/mmclassification/v0/shufflenet_v2/'
    'shufflenet_v2_batch1024_imagenet_20200812-5bf4721e.pth'
)


@MODELS.register_module()
class ShuffleNetV2(_ShuffleNetV2):
    """mmpretrain's ``ShuffleNetV2`` with ``pretrained``, as timm's networks
    have.

    ``init_weights`` is changed: it ends by reading mmpretrain's weights the
    way ``hkd_mm.TimmClassifier`` does (safely, with one line on failure).

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0, on the number of channels.
        pretrained: start training from mmpretrain's ImageNet weights, which
            exist for ``widen_factor=1.0`` alone.
        kwargs: passed on to mmpretrain's class.
    """

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

    def init_weights(self) -> None:
        """Initialise, then read the ImageNet weights where asked.

        Raises:
            UserError: the weights can neither be found nor fetched, or are
                those of another network.
        """
        first = not self.is_init
        super().init_weights()
        if self._pretrained and first:
            load_backbone(self, published_weights(2), 'ShuffleNetV2 x1.0')
