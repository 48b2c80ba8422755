# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The small ResNets of He et al. for 32 x 32 images."""

from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from hkd_mm.registry import MODELS


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """ResNet with 6n + 2 layers: three stages of n blocks, 16-32-64 wide.

    ``arXiv:1512.03385``, section 4.2, with 1 x 1 projections where the shape
    changes. mmpretrain's ``ResNet_CIFAR`` has the stem, but only the four wide
    stages of the ImageNet nets. ResNet-8 is the paper's smallest student:
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
