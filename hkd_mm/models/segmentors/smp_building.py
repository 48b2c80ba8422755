# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Building nets of segmentation-models-pytorch, which may be missing."""

import difflib
import inspect
from types import ModuleType

from torch import nn

from hkd_mm.errors import UserError

_REFUSED = dict(
    encoder_weights='pretrained=True reads the ImageNet weights',
    classes='num_classes says how many',
    activation='losses and metrics need logits',
    aux_params='a second output has no place here',
)


def library() -> ModuleType:
    """The library, imported when the first segmentor is built.

    Raises:
        UserError: it is not installed.
    """
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise UserError(
            'SMPSegmentor needs segmentation-models-pytorch '
            f'({error}); install it with: pip install '
            '"segmentation-models-pytorch>=0.5"'
        ) from error
    return segmentation_models_pytorch


def accepted(kwargs: dict) -> dict:
    """Arguments of a net's class without those that we set.

    Raises:
        UserError: one of these has a value.
    """
    for name, reason in _REFUSED.items():
        if kwargs.get(name) is not None:
            raise UserError(f'SMPSegmentor: leave {name} out; {reason}')
    return {k: v for k, v in kwargs.items() if k not in _REFUSED}


def build_net(
    arch: str, encoder_name: str, in_channels: int, classes: int, **kwargs
) -> nn.Module:
    """A net with random weights.

    Args:
        arch: name of the net's class.
        encoder_name: of its encoder.
        in_channels: of the images, >= 1.
        classes: logits a pixel, >= 1.
        kwargs: passed on to the class.

    Raises:
        UserError: there is no such net, or an argument is not taken.
    """
    _check_net(arch, encoder_name, kwargs)
    sizes = dict(in_channels=in_channels, num_classes=classes)
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f'SMPSegmentor: {name}={value!r} must be >= 1')
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


def _check_net(arch: str, encoder_name: str, kwargs: dict) -> None:
    archs = library().MODEL_ARCHITECTURES_MAPPING
    kind = archs.get(str(arch).lower())
    if kind is None:
        _unknown('arch', arch, [x.__name__ for x in archs.values()])
    _check_encoder(encoder_name)
    unknown = kwargs.keys() - inspect.signature(kind.__init__).parameters
    if unknown and not encoder_name.startswith('tu-'):
        # others than timm's encoders would be given it and say nothing
        raise UserError(
            f'SMPSegmentor: {kind.__name__} takes no {sorted(unknown)[0]!r}; '
            'leave it out'
        )


def _check_encoder(name: str) -> None:
    if str(name).startswith('tu-'):
        import timm

        known, own = timm.list_models(), name[3:].split('.')[0]
        if own not in known:
            _unknown('encoder_name', name, [f'tu-{x}' for x in known])
    elif name not in (known := library().encoders.get_encoder_names()):
        _unknown('encoder_name', name, known)


def _unknown(key: str, value: object, known: list[str]) -> None:
    close = difflib.get_close_matches(str(value), known, n=3)
    hint = f'did you mean {", ".join(close)}? ' if close else ''
    some = ', '.join(known[:20])
    raise UserError(
        f'SMPSegmentor: {key}={value!r} is unknown to '
        f'segmentation-models-pytorch; {hint}there are {some}'
        + (' and others' if len(known) > 20 else '')
    )
