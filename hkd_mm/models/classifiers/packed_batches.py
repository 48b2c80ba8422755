# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Losses and predictions of whole batches, without one object an image."""

from collections.abc import Sequence

from mmpretrain.models.heads import ClsHead
from torch import Tensor

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
        """Losses of one batch.

        Args:
            inputs: (B, 3, H, W).
            data_samples: packed, or B samples.
            kwargs: of the loss module, where upstream has them.
        """
        loss_module = _plain_loss(self)
        if loss_module is None or not isinstance(data_samples, PackedSamples):
            return super().loss(inputs, data_samples, **kwargs)
        # not through __call__: recorders have seen this batch already
        logits = self.forward(inputs, mode='tensor')
        return dict(loss=loss_module(logits, data_samples.targets, **kwargs))

    def predict(
        self, inputs: Tensor, data_samples: Sequence | None = None, **kwargs
    ) -> list:
        """Probabilities of one batch.

        Args:
            inputs: (B, 3, H, W).
            data_samples: packed, or B samples, or None.
            kwargs: of upstream.

        Returns:
            One :class:`PackedPredictions`, or B samples.
        """
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
