# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Any network of segmentation-models-pytorch as a model of MMEngine."""

import difflib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.lazy import require
from hkd_mm.models.arguments import Count, checked
from hkd_mm.models.networks.imagenet_weights import hub_weights
from hkd_mm.models.networks.timm_classifier import published_weights
from hkd_mm.registry import MODELS
from hkd_mm.structures.mask_samples import MaskPredictions, MaskSamples

_REFUSED = dict(
    encoder_weights='pretrained=True reads the ImageNet weights',
    classes='num_classes says how many',
    activation='losses and metrics need logits',
    aux_params='a second output has no place here',
)


def library() -> ModuleType:
    """The library, imported when the first segmentor is built."""
    package = '"segmentation-models-pytorch>=0.5"'
    return require('segmentation_models_pytorch', 'SMPSegmentor', package)


def build_network(
    arch: str, encoder_name: str, in_channels: int, classes: int, **kwargs
) -> nn.Module:
    """Build a network with random weights; ``classes`` logits a pixel."""
    _check_network(arch, encoder_name, kwargs)
    for name, value in dict(in_channels=in_channels, num_classes=classes).items():
        checked(Count, name, value, 'SMPSegmentor')
    try:
        return library().create_model(
            arch,
            encoder_name,
            encoder_weights=None,
            in_channels=in_channels,
            classes=classes,
            **kwargs,
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f'SMPSegmentor: {arch} with {encoder_name} cannot be built with '
            f'{kwargs}: {error}'
        ) from error


def _check_network(arch: str, encoder_name: str, kwargs: dict) -> None:
    archs = library().MODEL_ARCHITECTURES_MAPPING
    names = [x.__name__ for x in archs.values()]
    _check_known('arch', arch, names, str(arch).lower() in archs)
    if str(encoder_name).startswith('tu-'):
        import timm

        known = [f'tu-{x}' for x in timm.list_models()]
        _check_known('encoder_name', encoder_name.split('.')[0], known)
        return
    known = library().encoders.get_encoder_names()
    _check_known('encoder_name', encoder_name, known)
    kind = archs[arch.lower()]
    unknown = kwargs.keys() - inspect.signature(kind.__init__).parameters
    if unknown:  # only timm's encoders would refuse it
        raise UserError(
            f'SMPSegmentor: {kind.__name__} takes no {sorted(unknown)[0]!r}; '
            'leave it out'
        )


def _check_known(
    key: str, value: object, known: list[str], holds: bool | None = None
) -> None:
    if value in known if holds is None else holds:
        return
    close = difflib.get_close_matches(str(value), known, n=3)
    hint = f'did you mean {", ".join(close)}? ' if close else ''
    more = ' and others' if len(known) > 20 else ''
    raise UserError(
        f'SMPSegmentor: {key}={value!r} is unknown to segmentation-models-pytorch; '
        f'{hint}there are {", ".join(known[:20])}{more}'
    )


def load_imagenet(
    encoder: nn.Module, encoder_name: str, in_channels: int, **kwargs
) -> None:
    """Load the weights of an encoder that was built with these arguments.

    Those of three channels are adapted as the library does: the first layer
    is summed over them for one channel and repeated for more.
    """
    timm = encoder_name.startswith('tu-')
    path = (published_weights if timm else _published)(encoder_name.removeprefix('tu-'))
    try:
        if timm:  # it adapts the first layer itself, while it builds the network
            state = dict(state_dict=safe_load(path)['state_dict'])
            kwargs |= dict(encoder_weights=True, pretrained_cfg_overlay=state)
            kwargs |= dict(encoder_name=encoder_name, in_channels=in_channels)
            source = library().create_model(**kwargs).encoder
        else:
            network = build_network(encoder_name=encoder_name, in_channels=3, **kwargs)
            source = network.encoder
            source.load_state_dict(safe_load(path)['state_dict'])
            source.set_in_channels(in_channels, pretrained=True)
    except (RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f'{path} does not hold weights of {encoder_name} ({reason}); '
            'replace or remove the file'
        ) from error
    encoder.load_state_dict(source.state_dict())


def _published(name: str) -> Path:
    known = library().encoders.encoders[name]['pretrained_settings']
    if 'imagenet' not in known:
        raise UserError(
            f'no ImageNet weights of {name} are published; start from '
            'scratch with --cfg-options pretrained=False'
        )
    found = known['imagenet']
    stored = f'smp-{name}.imagenet.safetensors'
    return hub_weights(found['repo_id'], stored, found['revision'])


_OTHER_CAUSES = ('cuda', 'cudnn', 'memory', 'device', 'type')  # whatever the size


@MODELS.register_module()
class SMPSegmentor(BaseModel):
    """A network of segmentation-models-pytorch, which is its ``model``.

    It has the interface of mmpretrain's classifiers. ``init_weights`` reads the
    encoder's ImageNet weights; building never fetches anything.

    Args:
        arch: the decoder, such as ``Unet``, ``FPN`` or ``DeepLabV3Plus``.
        encoder_name: ``resnet18`` and others of the library; ``tu-NAME`` for
            networks of timm.
        in_channels: of the images; the first layer of published weights is adapted.
        num_classes: logits a pixel: 1 for one class against the background,
            else the number of classes with the background, which is first.
        pretrained: start training from the encoder's ImageNet weights.
        loss: of ``mode='loss'``; takes logits and masks.
        kwargs: of the network's class, such as ``encoder_depth``.

    Raises:
        UserError: the library is missing, it has no such network, or an
            argument would contradict the ones above.
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
        for name, reason in _REFUSED.items():
            if kwargs.pop(name, None) is not None:
                raise UserError(f'SMPSegmentor: leave {name} out; {reason}')
        self._network = dict(
            kwargs,
            arch=arch,
            encoder_name=encoder_name,
            in_channels=in_channels,
            classes=num_classes,
        )
        self.model = build_network(**self._network)
        self.model.is_init = True  # by its constructor, not by mmengine
        loss = loss or dict(type='hkd_mm.DiceBCELoss')
        self.loss_module = MODELS.build(loss) if isinstance(loss, dict) else loss
        self._pretrained = pretrained
        self._taken: set[tuple[int, int]] = set()  # sizes of images

    def init_weights(self) -> None:
        if self._pretrained and not self.is_init:
            load_imagenet(self.model.encoder, **self._network)
        super().init_weights()

    def forward(
        self,
        inputs: Tensor,
        data_samples: MaskSamples | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Logits (N, num_classes, h, w) of normalised images (N, C, h, w).

        In mode ``loss`` name -> scalar, in mode ``predict`` a list of one
        :class:`MaskPredictions`; both need the samples.
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
        """Logits; a size that the network cannot take is named."""
        size = tuple(inputs.shape[-2:])
        if self.model.requires_divisible_input_shape:
            stride = self.model.encoder.output_stride
            if any(side % stride for side in size):
                fitting = max(round(size[0] / stride), 1) * stride
                raise UserError(
                    f'SMPSegmentor: {type(self.model).__name__} takes images whose '
                    f'sides {stride} divides, not {size[0]} x {size[1]}; set '
                    f'input_size={fitting}, or take arch="Unet"'
                )
        if torch.compiler.is_compiling() or size in self._taken:
            return self.model(inputs)
        try:
            logits = self.model(inputs)
        except (AssertionError, RuntimeError) as error:
            other = any(cause in str(error).lower() for cause in _OTHER_CAUSES)
            if other or inputs.shape[1] != self.in_channels:
                raise
            reason = (str(error).splitlines() or [''])[0].rstrip('.')
            raise UserError(
                f'SMPSegmentor: {type(self.model).__name__} with '
                f'{self._network["encoder_name"]} does not take images of '
                f'{size[0]} x {size[1]} ({reason}); set another input_size, '
                'or take another encoder_name or arch'
            ) from error
        self._taken.add(size)
        return logits
