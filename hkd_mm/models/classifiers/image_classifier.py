# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""mmpretrain's classifier of backbone, neck and head."""

from mmpretrain.models.classifiers import ImageClassifier as _ImageClassifier
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

from .packed_batches import PackedBatches


@MODELS.register_module()
class ImageClassifier(PackedBatches, _ImageClassifier):
    """``mmpretrain.ImageClassifier`` that takes packed batches whole.

    Arguments, weights and everything else are upstream's; ``train_cfg`` holds
    augmentations of the stock data preprocessor only.
    """

    def __init__(
        self,
        *args,
        data_preprocessor: dict | nn.Module | None = None,
        train_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        # Upstream hands every config an argument that only its own take.
        if isinstance(data_preprocessor, dict) and str(
            data_preprocessor.get('type')
        ).endswith('PackedPreprocessor'):
            if train_cfg:
                raise UserError(
                    'model.train_cfg has no effect on packed images; name '
                    'hkd_mm.Mixup in data_preprocessor.augment'
                )
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(
            *args,
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            **kwargs,
        )
