# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Classifiers of mmpretrain that take packed batches as they are."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from mmengine.model import BaseModule
from mmpretrain.models.classifiers import ImageClassifier as _ImageClassifier
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name
from hkd_mm.models.arguments import Count, checked
from hkd_mm.models.connectors.feature_align_connector import conv_norm_relu
from hkd_mm.models.recorders.network_recorders import last_layer
from hkd_mm.registry import MODELS
from hkd_mm.structures.packed_samples import PackedPredictions, PackedSamples


class PackedBatches:
    """Mixin in front of a classifier of mmpretrain.

    With :class:`PackedSamples` it computes upstream's loss from the tensors
    and predicts one :class:`PackedPredictions` a batch; with a list of
    ``DataSample`` upstream's methods run.
    """

    def loss(
        self, inputs: Tensor, data_samples: Sequence, **kwargs
    ) -> dict[str, Tensor]:
        """Losses of images (B, 3, H, W); ``kwargs`` are of the loss module."""
        loss_module = _plain_loss(self)
        if loss_module is None or not isinstance(data_samples, PackedSamples):
            return super().loss(inputs, data_samples, **kwargs)
        # not through __call__: recorders have seen this batch already
        logits = self.forward(inputs, mode='tensor')
        return dict(loss=loss_module(logits, data_samples.targets, **kwargs))

    def predict(
        self, inputs: Tensor, data_samples: Sequence | None = None, **kwargs
    ) -> list:
        """One :class:`PackedPredictions` of a packed batch, else B samples."""
        if not isinstance(data_samples, PackedSamples):
            return super().predict(inputs, data_samples, **kwargs)
        logits = self.forward(inputs, mode='tensor')
        return [PackedPredictions(logits, data_samples)]


def _plain_loss(model):
    """The loss module, where nothing else is done with the targets."""
    head = getattr(model, 'head', None)
    if head is None:  # TimmClassifier
        return getattr(model, 'loss_module', None)
    plain = (
        isinstance(head, ClsHead)
        and type(head)._get_loss is ClsHead._get_loss
        and type(head).loss is ClsHead.loss
        and not head.cal_acc
    )
    return head.loss_module if plain else None


@MODELS.register_module()
class ImageClassifier(PackedBatches, _ImageClassifier):
    """``mmpretrain.ImageClassifier`` that takes packed batches whole.

    ``train_cfg`` holds augmentations of the stock data preprocessor only.
    """

    def __init__(
        self,
        *args,
        data_preprocessor: dict | nn.Module | None = None,
        train_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        # Upstream hands every config an argument that only its own take.
        if type_name(data_preprocessor) == 'PackedPreprocessor':
            if train_cfg:
                raise UserError(
                    'model.train_cfg has no effect on packed images; name '
                    'hkd_mm.Mixup in data_preprocessor.augment'
                )
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(
            *args, data_preprocessor=data_preprocessor, train_cfg=train_cfg, **kwargs
        )


@MODELS.register_module()
class SimKDClassifier(ImageClassifier):
    """Student trunk, projector and the teacher's frozen last layer.

    Chen et al., arXiv 2203.14001 (SimKD), section 3.2. The projector is
    convolution 1x1, 3x3, 1x1, each with BatchNorm and ReLU, ``reduction``
    times narrower inside than the teacher's map. It is validated, saved and deployed;
    the student's own last layer is left out. :class:`SimKDLoss` trains it and hands
    over the teacher's layer.

    Args:
        student: config of a classifier.
        teacher: config of the teacher, for the size of its last layer; the
            teacher itself is not kept.
        reduction: of the projector's width, >= 1.

    Raises:
        UserError: ``reduction`` is out of its range, or the teacher does not
            end in one linear layer.
    """

    def __init__(
        self, student: dict, teacher: dict, reduction: int = 2, **kwargs
    ) -> None:
        checked(Count, 'reduction', reduction, 'SimKDClassifier')
        layer = last_layer(MODELS.build(teacher), self)
        super().__init__(
            backbone=_ProjectedTrunk(student, layer.in_features, reduction),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=layer.out_features,
                in_channels=layer.in_features,
                init_cfg=None,  # init_weights would undo reuse_last_layer
            ),
            **kwargs,
        )
        self.head.fc.requires_grad_(False)

    def reuse_last_layer(self, layer: nn.Linear) -> None:
        """Copy the trained last layer of the teacher."""
        own = self.head.fc
        if layer.weight.shape != own.weight.shape:
            raise UserError(
                f'SimKDClassifier was built for a last layer of '
                f'{tuple(own.weight.shape)}, the teacher has '
                f'{tuple(layer.weight.shape)}; set model.architecture.teacher '
                'to the teacher of the run'
            )
        with torch.no_grad():
            own.weight.copy_(layer.weight)
            own.bias.zero_()
            if layer.bias is not None:
                own.bias.copy_(layer.bias)


class _ProjectedTrunk(BaseModule):
    def __init__(self, student: dict, channels: int, reduction: int) -> None:
        super().__init__()
        student = deepcopy(student)
        self.is_timm = 'backbone' not in student
        if self.is_timm:
            student['num_classes'] = 0  # no last layer
            self.trunk = MODELS.build(student)
            own = self.trunk.model.num_features
        else:
            self.trunk = MODELS.build(student['backbone'])
            own = student['head']['in_channels']
        width = max(channels // reduction, 1)
        self.project = nn.Sequential(
            *conv_norm_relu(own, width, 1),
            *conv_norm_relu(width, width, 3),
            *conv_norm_relu(width, channels, 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """From images (N, 3, H, W) to one map, as a backbone delivers it."""
        if self.is_timm:
            feature = self.trunk.model.forward_features(images)
        else:
            feature = self.trunk(images)[-1]
        if feature.dim() != 4:
            raise UserError(
                'SimKDClassifier projects maps (N, C, H, W), but the student '
                f'makes {tuple(feature.shape)}; take a convolutional student'
            )
        return (self.project(feature),)
