# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MGDHFLoss against equations (1)-(5) of DSP-KD, written out in float64."""

import numpy as np
import pytest
import torch
from naive_maps import bilinear, conv, gelu, pool, resize, values

from hkd_mm.errors import UserError
from hkd_mm.models.connectors.mgd_connectors import HFMaskConnector
from hkd_mm.models.losses.stage_losses import MGDHFLoss

SIZES = (8, 4, 2)


def naive_attention(maps, fusion):
    fused = None
    for feature in maps[::-1]:
        own = np.abs(feature).mean(1, keepdims=True)
        for i in range(len(own)):
            own[i] /= own[i].mean()
        if fused is not None:
            own = fusion * own + (1 - fusion) * bilinear(fused, *own.shape[2:])
        fused = own
    fused = pool(fused, *maps[-1].shape[2:])
    for i in range(len(fused)):
        low, high = fused[i].min(), fused[i].max()
        fused[i] = (fused[i] - low) / (high - low)
    return fused


def naive(s, t, own, alpha, beta, phi, fusion):
    last = s[-1], t[-1]
    aligned = conv(
        resize(last[0], *last[1].shape[2:]),
        own['mask.align.project.weight'],
        own['mask.align.project.bias'],
    )
    x = aligned * (naive_attention(t, fusion) < phi)
    x = conv(x, own['mask.generate.0.weight'], own['mask.generate.0.bias'])
    x = gelu(x)
    x = conv(x, own['mask.generate.2.weight'], own['mask.generate.2.bias'])
    return tuple(
        factor * np.mean((mine - last[1]) ** 2)
        for factor, mine in ((alpha, x), (beta, aligned))
    )


def batch(channels=(2, 3, 4), sizes=SIZES, n=2, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, c, side, side)) for c, side in zip(channels, sizes)]


def tensors(maps):
    return [torch.tensor(x, dtype=torch.float32) for x in maps]


def made(s, t, **kwargs):
    torch.manual_seed(0)
    loss = MGDHFLoss(**kwargs)
    loss.build([x.shape for x in s], [x.shape for x in t])
    return loss


@pytest.mark.parametrize(
    'alpha, beta, phi, fusion, weight, sizes',
    [
        (1.756, 1.756, 0.5, 0.5, 1.0, SIZES),
        (0.1, 2.0, 0.3, 0.8, 3.0, SIZES),
        (1.0, 1.0, 0.9, 0.0, 1.0, (16, 8, 4)),
    ],
)
def test_parts_equal_the_paper(alpha, beta, phi, fusion, weight, sizes):
    s, t = batch(sizes=sizes), batch((3, 3, 5), seed=1)
    loss = made(
        s, t, alpha=alpha, beta=beta, phi=phi, fusion=fusion,
        loss_weight=weight,
    )  # fmt: skip
    found = loss(tensors(s), tensors(t))
    expected = naive(s, t, values(loss), alpha, beta, phi, fusion)
    for key, value in zip(('loss_generated', 'loss_aligned'), expected, strict=True):
        assert found[key].item() == pytest.approx(weight * value, rel=1e-5)


def test_the_attention_by_hand():
    # deepest level, mean |.| over channels: 3 and 1, over their mean: 1.5 and
    # 0.5; the upper level is 1 everywhere, so half of both makes 1.25 and
    # 0.75, stretched to 1 and 0
    deep = torch.tensor([[[[4.0, 0.0]], [[-2.0, 2.0]]]])
    upper = torch.ones(1, 3, 1, 2)
    found = HFMaskConnector(fusion=0.5).attention([upper, deep])
    torch.testing.assert_close(found, torch.tensor([[[[1.0, 0.0]]]]))


def test_places_of_high_attention_are_masked():
    loss = made(batch(), batch(), phi=0.5)
    seen = []
    loss.mask.generate.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    t = tensors(batch(seed=3))
    loss(tensors(batch()), t)
    high = loss.mask.attention(t) >= 0.5
    assert high.any() and not high.all()
    gone = (seen[0] == 0).all(1, keepdim=True)
    assert torch.equal(gone, high)


def test_even_attention_masks_nothing():
    found = HFMaskConnector().attention([torch.ones(2, 3, 4, 4)] * 2)
    assert not found.any() and found.isfinite().all()


def test_it_is_no_connector_of_a_distiller():
    with pytest.raises(UserError, match='MGDHFLoss'):
        HFMaskConnector()(torch.ones(2, 3, 4, 4))


def test_beta_0_leaves_the_part_out():
    s, t = batch(), batch(seed=1)
    assert set(made(s, t, beta=0)(tensors(s), tensors(t))) == {'loss_generated'}


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(alpha=0),
        dict(beta=-1),
        dict(phi=0),
        dict(phi=1.1),
        dict(fusion=-0.1),
        dict(activation='tanh'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        MGDHFLoss(**kwargs)
