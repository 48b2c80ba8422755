# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ShuffleNetV1 with a switch for its ImageNet weights."""

from pathlib import Path

from mmpretrain.models.backbones import ShuffleNetV1 as _ShuffleNetV1

from hkd_mm.errors import UserError
from hkd_mm.models.backbones.imagenet_weights import (
    fetch_weights,
    load_backbone,
)
from hkd_mm.registry import MODELS

# Published in mmpretrain's configs/shufflenet_v1/metafile.yml, 68.13 % top-1.
_URL = (
    'https://download.openmmlab.com/mmclassification/v0/shufflenet_v1/'
    'shufflenet_v1_batch1024_imagenet_20200804-5d6cec73.pth'
)


@MODELS.register_module()
class ShuffleNetV1(_ShuffleNetV1):
    """mmpretrain's ``ShuffleNetV1`` with ``pretrained``, as timm's nets have.

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
                those of another net.
        """
        first = not self.is_init
        super().init_weights()
        if self._pretrained and first:
            load_backbone(self, published_weights(), 'ShuffleNetV1 x1.0')


def published_weights() -> Path:
    """ImageNet weights of mmpretrain, fetched unless they lie here.

    Raises:
        UserError: they cannot be fetched.
    """
    return fetch_weights(_URL, _URL.rpartition('/')[2])
