# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Any net of segmentation-models-pytorch as a model of mmengine."""

from typing import Any, ClassVar

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS
from hkd_mm.structures.mask_samples import MaskPredictions, MaskSamples

from .encoder_weights import load_imagenet
from .smp_building import accepted, build_net

_LOSS = dict(type='hkd_mm.DiceBCELoss')


@MODELS.register_module()
class SMPSegmentor(BaseModel):
    """A net of segmentation-models-pytorch, which is its ``model``.

    It speaks as mmpretrain's classifiers do, so that the same distiller, the
    same recorders and the same tools take it. ``init_weights`` reads the
    encoder's ImageNet weights; building never fetches anything.

    Args:
        arch: the decoder, such as ``Unet``, ``FPN`` or ``DeepLabV3Plus``.
        encoder_name: ``resnet18`` and others of the library; ``tu-NAME`` for
            nets of timm.
        in_channels: of the images; the first layer of published weights is
            adapted.
        num_classes: logits a pixel: 1 for one class against the background,
            else the number of classes with the background, which is first.
        pretrained: start training from the encoder's ImageNet weights.
        loss: of ``mode='loss'``; takes logits and masks.
        data_preprocessor: config or module.
        init_cfg: of mmengine's ``BaseModule``.
        kwargs: passed on to the net's class, such as ``encoder_depth``.

    Raises:
        UserError: the library is missing, it has no such net, or an argument
            would make the net something else than it says.
    """

    dense: ClassVar[bool] = True  # the answer is a class for every pixel
    encoder: ClassVar[str] = 'model.encoder'  # gives the image, then stages

    def __init__(
        self,
        arch: str = 'Unet',
        encoder_name: str = 'resnet18',
        in_channels: int = 1,
        num_classes: int = 1,
        pretrained: bool = False,
        loss: dict | nn.Module | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.in_channels, self.num_classes = in_channels, num_classes
        self._net = dict(
            accepted(kwargs),
            arch=arch,
            encoder_name=encoder_name,
            in_channels=in_channels,
            classes=num_classes,
        )
        self.model = build_net(**self._net)
        self.model.is_init = True  # by its constructor, not by mmengine
        loss = dict(_LOSS) if loss is None else loss
        self.loss_module = (
            MODELS.build(loss) if isinstance(loss, dict) else loss
        )
        self._pretrained = pretrained
        self._taken: set[tuple[int, int]] = set()  # sizes of images

    def init_weights(self) -> None:
        """Read the encoder's ImageNet weights, once; the rest stays random.

        Raises:
            UserError: the weights can neither be found nor fetched.
        """
        if self._pretrained and not self.is_init:
            load_imagenet(self.model.encoder, **self._net)
        super().init_weights()

    def forward(
        self,
        inputs: Tensor,
        data_samples: MaskSamples | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """As of every model of mmengine.

        Args:
            inputs: (N, C, h, w) float32, normalised.
            data_samples: of the batch; not needed in mode ``tensor``.
            mode: ``tensor``, ``loss`` or ``predict``.

        Returns:
            Logits (N, num_classes, h, w); name -> scalar; or a list of one
            :class:`MaskPredictions`.

        Raises:
            UserError: the net cannot take images of this size.
        """
        logits = self._logits(inputs)
        if mode == 'tensor':
            return logits
        if data_samples is None:
            raise UserError(
                f'SMPSegmentor: mode={mode!r} needs data_samples with masks; '
                "mode='tensor' does not"
            )
        if mode == 'predict':
            return [MaskPredictions(logits, data_samples)]
        if mode != 'loss':
            raise UserError(
                f'SMPSegmentor: mode={mode!r} must be tensor, loss or predict'
            )
        losses = self.loss_module(logits, data_samples.gt_labels)
        return losses if isinstance(losses, dict) else dict(loss=losses)

    def _logits(self, inputs: Tensor) -> Tensor:
        """What the net says; of a size of images it may know nothing."""
        size = tuple(inputs.shape[-2:])
        self._check_size(*size)
        if torch.compiler.is_compiling() or size in self._taken:
            return self.model(inputs)
        try:
            logits = self.model(inputs)
        except (AssertionError, RuntimeError) as error:
            if _is_no_size(error) or inputs.shape[1] != self.in_channels:
                raise
            reason = (str(error).splitlines() or [''])[0].rstrip('.')
            raise UserError(
                f'SMPSegmentor: {type(self.model).__name__} with '
                f'{self._net["encoder_name"]} does not take images of '
                f'{size[0]} x {size[1]} ({reason}); set another input_size, '
                'or take another encoder_name or arch'
            ) from error
        self._taken.add(size)
        return logits

    def _check_size(self, height: int, width: int) -> None:
        if not self.model.requires_divisible_input_shape:
            return
        stride = self.model.encoder.output_stride
        if height % stride or width % stride:
            fitting = max(round(height / stride), 1) * stride
            raise UserError(
                f'SMPSegmentor: {type(self.model).__name__} takes images '
                f'whose sides {stride} divides, not {height} x {width}; set '
                f'input_size={fitting}, or take arch="Unet"'
            )


def _is_no_size(error: Exception) -> bool:
    """Of the memory, the device or the type, whatever the size."""
    words = ('cuda', 'cudnn', 'memory', 'device', 'type')
    return any(word in str(error).lower() for word in words)
