# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Published ImageNet weights of an encoder."""

from pathlib import Path

from torch import nn

from hkd_mm.engine.checkpoint import safe_load
from hkd_mm.errors import UserError

from ..backbones.imagenet_weights import fetch_weights, weights_place
from ..backbones.timm_classifier import published_weights
from .smp_building import build_net, library


def load_imagenet(
    encoder: nn.Module, encoder_name: str, in_channels: int, **kwargs
) -> None:
    """Read the weights into an encoder, in place.

    Those of three channels are adapted as the library does: the first layer
    is summed over them for one channel and repeated for more.

    Args:
        encoder: of a net that was built with the other arguments.
        encoder_name: of segmentation-models-pytorch.
        in_channels: of the images.
        kwargs: the other arguments of the net.

    Raises:
        UserError: there are no weights, they can neither be found nor
            fetched, or they are those of another net.
    """
    timm = encoder_name.startswith('tu-')
    path = (published_weights if timm else _published)(
        encoder_name.removeprefix('tu-')
    )
    try:
        if timm:
            source = _timm_encoder(
                path, encoder_name, in_channels=in_channels, **kwargs
            )
        else:
            net = build_net(encoder_name=encoder_name, in_channels=3, **kwargs)
            source = net.encoder
            source.load_state_dict(safe_load(path)['state_dict'])
            source.set_in_channels(in_channels, pretrained=True)
    except (RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f'{path} does not hold weights of {encoder_name} ({reason}); '
            'replace or remove the file'
        ) from error
    encoder.load_state_dict(source.state_dict())


def _timm_encoder(path: Path, name: str, **kwargs) -> nn.Module:
    """Timm adapts the first layer itself, while it builds the net."""
    state = safe_load(path)['state_dict']
    smp = library()
    return smp.create_model(
        encoder_name=name,
        encoder_weights=True,
        pretrained_cfg_overlay=dict(state_dict=state),
        **kwargs,
    ).encoder


def _published(name: str) -> Path:
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    known = library().encoders.encoders[name]['pretrained_settings']
    if 'imagenet' not in known:
        raise UserError(
            f'no ImageNet weights of {name} are published; start from '
            'scratch with --cfg-options pretrained=False'
        )
    place = known['imagenet']
    repo, revision = place['repo_id'], place['revision']
    stored = f'smp-{name}.imagenet.safetensors'
    cached = try_to_load_from_cache(
        repo, 'model.safetensors', revision=revision
    )
    if isinstance(cached, str) and not weights_place(stored).is_file():
        return Path(cached)
    url = hf_hub_url(repo, 'model.safetensors', revision=revision)
    return fetch_weights(url, stored)
