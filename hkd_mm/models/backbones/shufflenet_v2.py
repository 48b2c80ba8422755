# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ShuffleNetV2 with a switch for its ImageNet weights."""

from pathlib import Path

from mmpretrain.models.backbones import ShuffleNetV2 as _ShuffleNetV2

from hkd_mm.errors import UserError
from hkd_mm.models.backbones.imagenet_weights import (
    fetch_weights,
    load_backbone,
)
from hkd_mm.registry import MODELS

# Published in mmpretrain's configs/shufflenet_v2/metafile.yml, 69.55 % top-1.
_URL = (
    'https://download.openmmlab.com/mmclassification/v0/shufflenet_v2/'
    'shufflenet_v2_batch1024_imagenet_20200812-5bf4721e.pth'
)


@MODELS.register_module()
class ShuffleNetV2(_ShuffleNetV2):
    """mmpretrain's ``ShuffleNetV2`` with ``pretrained``, as timm's nets have.

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
                those of another net.
        """
        first = not self.is_init
        super().init_weights()
        if self._pretrained and first:
            load_backbone(self, published_weights(), 'ShuffleNetV2 x1.0')


def published_weights() -> Path:
    """ImageNet weights of mmpretrain, fetched unless they lie here.

    Raises:
        UserError: they cannot be fetched.
    """
    return fetch_weights(_URL, _URL.rpartition('/')[2])
