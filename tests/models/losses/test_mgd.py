# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MGDLoss and MGDConnector against the paper, written out in float64."""

import numpy as np
import pytest
import torch
from naive_maps import conv, gelu, resize, values

from hkd_mm.errors import UserError
from hkd_mm.models.connectors.mgd_connectors import MGDConnector
from hkd_mm.models.losses.stage_losses import MGDLoss


def naive(s, t, alpha):
    """As the paper, a sum over the map."""
    total = 0.0
    for place in np.ndindex(s.shape):
        total += (s[place] - t[place]) ** 2
    return alpha * total / len(s)


def tensor(x):
    return torch.tensor(x, dtype=torch.float32)


def connector(student, teacher, **kwargs):
    torch.manual_seed(0)
    made = MGDConnector(**kwargs)
    made.build(student, teacher)
    return made


@pytest.mark.parametrize('alpha', [7e-5, 1.2e-3, 1])
def test_the_loss_equals_the_paper(alpha):
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 4, 3, 2))
    loss = MGDLoss(loss_weight=alpha * 4 * 3 * 2)  # C H W
    found = loss(tensor(s), tensor(t)).item()
    assert found == pytest.approx(naive(s, t, alpha), rel=1e-5)


def test_a_case_by_hand():
    # differences 1, 2 in image 1 and 0, 3 in image 2: (1 + 4 + 9) / 4
    s = torch.tensor([[1.0, 2.0], [0.0, 3.0]]).view(2, 2, 1, 1)
    found = MGDLoss(loss_weight=0.1)(s, torch.zeros_like(s))
    assert found.item() == pytest.approx(0.35)


@pytest.mark.parametrize('activation', ['relu', 'gelu'])
@pytest.mark.parametrize('size', [(3, 3), (4, 6), (2, 2)])
def test_without_a_mask_the_connector_equals_the_paper(activation, size):
    made = connector((1, 2, *size), (1, 4, 3, 3), ratio=0.0, activation=activation)
    s = np.random.default_rng(1).normal(size=(2, 2, *size))
    own = values(made)
    x = conv(resize(s, 3, 3), own['align.project.weight'], own['align.project.bias'])
    x = conv(x, own['generate.0.weight'], own['generate.0.bias'])
    x = gelu(x) if activation == 'gelu' else np.maximum(x, 0)
    x = conv(x, own['generate.2.weight'], own['generate.2.bias'])
    found = made(tensor(s)).detach().numpy()
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-6)


def masked(made, s):
    """What the generation block is given, and what it would be given."""
    seen = []
    made.generate.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    made(s)
    return seen[0], made.align(s)


def test_whole_channels_are_masked_each_image_its_own():
    # the connector of mmrazor masks places, as the paper does for detection
    made = connector((1, 3, 4, 4), (1, 64, 4, 4), ratio=0.25)
    given, aligned = masked(made, torch.randn(40, 3, 4, 4))
    gone = (given == 0).flatten(2)
    assert torch.equal(gone.any(2), gone.all(2))
    channels = gone.all(2)
    assert torch.equal(given[~channels], aligned[~channels])
    # 2560 draws of 0.25: the share is within four deviations, 0.034
    assert channels.float().mean().item() == pytest.approx(0.25, abs=0.034)
    assert not torch.equal(channels[0], channels[1])


def test_the_mask_follows_the_seed():
    made = connector((1, 3, 4, 4), (1, 8, 4, 4), ratio=0.5)
    s = torch.randn(2, 3, 4, 4)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(made(s))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_places_are_masked_in_all_channels():
    made = connector((1, 3, 8, 8), (1, 4, 8, 8), ratio=0.65, mask='places')
    given, aligned = masked(made, torch.randn(50, 3, 8, 8))
    kept = given != 0
    assert torch.equal(given[kept], aligned[kept])
    assert torch.equal(kept.all(1), kept.any(1))  # whole places
    share = kept.float().mean().item()
    assert share == pytest.approx(0.35, abs=0.03)  # 3200 draws


def test_nothing_is_masked_in_eval_mode():
    made = connector((1, 3, 4, 4), (1, 8, 4, 4), ratio=0.9).eval()
    given, aligned = masked(made, torch.randn(2, 3, 4, 4))
    assert torch.equal(given, aligned)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(ratio=1.0),
        dict(ratio=-0.1),
        dict(activation='tanh'),
        dict(mask='pixels'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        MGDConnector(**kwargs)


def test_shapes_are_checked():
    with pytest.raises(UserError, match='maps'):
        MGDConnector().build((1, 3), (1, 4, 2, 2))
