# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Start weights for a small network, chosen from a larger one of its family."""

import torch
from timm.models import efficientnet, register_model
from torch import Tensor, nn

from hkd_mm.errors import UserError


@register_model
def efficientnet_lite0_w045(pretrained: bool = False, **kwargs) -> nn.Module:
    """EfficientNet-Lite0 at width 0.45: 0.88 M parameters with seven classes.

    Tan and Le, ICML 2019, section 3.2 (width), without squeeze-and-excitation and with
    ReLU6; built by timm, stem and last layer at full width as in all Lite networks, and
    with symmetric padding, which needs no layers of its own in an export.

    Raises:
        UserError: ``pretrained``, for timm has no weights of it; ``select_from`` of
            ``hkd_mm.TimmClassifier`` gives some.
    """
    if pretrained:
        raise UserError(
            'timm publishes no weights of efficientnet_lite0_w045; give '
            "select_from='tf_efficientnet_lite0'"
        )
    return efficientnet._gen_efficientnet_lite(
        'tf_efficientnet_lite0', channel_multiplier=0.45, bn_eps=1e-3, **kwargs
    )


def select_weights(
    network: nn.Module, larger: dict[str, Tensor], name: str
) -> dict[str, Tensor]:
    """A state dict for a network out of a wider or deeper one's.

    Weight selection (Xu et al., ICLR 2024, section 3): layers of equal names, so the
    first ones of each stage; of each dimension evenly spaced elements, in all layers
    the same ones, so that what was summed or multiplied still is. The classifier stays
    as it is. Statistics of BatchNorm are those of the wider network's inputs, far too
    large for this one's: they start anew.

    Raises:
        UserError: a layer is missing there, or smaller in a dimension.
    """
    layer = network.get_classifier()
    kept = {id(p) for p in layer.parameters()}
    own = network.state_dict(keep_vars=True)
    found = {}
    for key, value in own.items():
        if id(value) in kept or 'running_' in key or value.dim() == 0:
            found[key] = value
            continue
        source = larger.get(key)
        if source is None or source.dim() != value.dim():
            raise UserError(f'select_from={name!r} has no {key}; take its own family')
        for dim, size in enumerate(value.shape):
            if source.size(dim) < size or dim > 1 and source.size(dim) != size:
                raise UserError(
                    f'select_from={name!r}: {key} is {tuple(source.shape)} there and '
                    f'{tuple(value.shape)} here; take a larger network of its family'
                )
            source = source.index_select(dim, evenly(source.size(dim), size))
        found[key] = source
    return found


def evenly(larger: int, smaller: int) -> Tensor:
    """Indices (smaller,) int64 in [0, larger), the first and evenly spaced.

    Steps where the sizes divide, else the rounded points from the first to the last.
    """
    if larger % smaller == 0:
        return torch.arange(0, larger, larger // smaller)
    return torch.linspace(0, larger - 1, smaller).round().long()
