# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""mmpretrain's classifier of backbone, neck and head."""

from mmpretrain.models.classifiers import ImageClassifier as _ImageClassifier

from hkd_mm.registry import MODELS

from .packed_batches import PackedBatches


@MODELS.register_module()
class ImageClassifier(PackedBatches, _ImageClassifier):
    """``mmpretrain.ImageClassifier`` that takes packed batches whole.

    Arguments, weights and everything else are upstream's.
    """
