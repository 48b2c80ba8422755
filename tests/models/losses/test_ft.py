# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""FTLoss against its definitions, written out in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.losses.hint_losses import FTLoss


def naive_conv(x, layer):
    """Stride 1, zeros around it, output of the same size."""
    weight = layer.weight.detach().double().numpy()
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    n, _, height, width = x.shape
    reach = weight.shape[2] // 2
    around = [(0, 0), (0, 0), (reach, reach), (reach, reach)]
    padded = np.pad(x, around)
    out = np.zeros((n, weight.shape[0], height, width))
    for i, o, y, z in np.ndindex(*out.shape):
        window = padded[i, :, y : y + 2 * reach + 1, z : z + 2 * reach + 1]
        out[i, o, y, z] = (window * weight[o]).sum()
        if layer.bias is not None:
            out[i, o, y, z] += layer.bias[o].item()
    return out


def naive_stack(x, layers):
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            mean = x.mean((0, 2, 3), keepdims=True)
            x = (x - mean) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
        elif isinstance(layer, nn.LeakyReLU):
            x = np.where(x > 0, x, 0.1 * x)
        else:
            x = naive_conv(x, layer)
    return x


def naive(loss, s, t):
    factors = naive_stack(t, loss.paraphraser.encoder)
    again = naive_stack(factors, loss.paraphraser.decoder)
    mine = naive_stack(s, loss.translator)
    differences = []
    errors = [((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(again, t)]
    for a, b in zip(mine, factors):
        a, b = (v.ravel() / np.sqrt((v**2).sum()) for v in (a, b))
        differences += np.abs(a - b).tolist()
    return (
        loss.beta * sum(differences) / len(differences),
        loss.alpha * sum(errors) / len(errors),
    )


def built(s=(1, 3, 4, 4), t=(1, 6, 4, 4), **kwargs):
    torch.manual_seed(0)
    loss = FTLoss(**kwargs)
    loss.build(s, t)
    return loss


def maps(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def tensors(*arrays):
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),
        dict(kernel_size=1, rate=0.2, beta=3.0),
        dict(alpha=0.1, rate=1.0),
    ],
)
def test_both_parts_equal_the_paper(kwargs):
    s, t = maps((2, 3, 4, 4), (2, 6, 4, 4))
    loss = built(**kwargs)
    expected = naive(loss, s, t)
    found = loss(*tensors(s, t))
    assert list(found) == ['loss_transfer', 'loss_paraphraser']
    for value, number in zip(found.values(), expected, strict=True):
        assert value.item() == pytest.approx(number, rel=1e-5)


def test_a_case_by_hand():
    # one pixel, one channel, all weights 1: the factor of t = 2 is 2, its
    # length one 1; a translator that answers -3 (in place of a BatchNorm,
    # which gives 0 for one value) becomes -1: |1 + 1| = 2, times 500;
    # the decoder gives 2 again: 0
    loss = built((1, 1, 1, 1), (1, 1, 1, 1), kernel_size=1, rate=1.0)
    with torch.no_grad():
        for name, parameter in loss.paraphraser.named_parameters():
            parameter.fill_(0.0 if name.endswith('bias') else 1.0)
    loss.translator = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(loss.translator.weight, -3.0)
    found = loss(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0))
    assert found['loss_transfer'].item() == pytest.approx(1000.0)
    assert found['loss_paraphraser'].item() == pytest.approx(0.0)


def test_each_part_trains_its_own_network():
    loss = built()
    s, t = tensors(*maps((2, 3, 4, 4), (2, 6, 4, 4)))
    s.requires_grad_()
    t.requires_grad_()
    trained = []
    for part in ('loss_transfer', 'loss_paraphraser'):
        loss.zero_grad()
        s.grad = None
        loss(s, t)[part].backward()
        trained.append(
            {n.split('.')[0] for n, p in loss.named_parameters() if p.grad is not None}
            | ({'s'} if s.grad is not None else set())
            | ({'t'} if t.grad is not None else set())
        )
    assert trained == [{'translator', 's'}, {'paraphraser'}]


def test_every_parameter_is_trained_and_saved():
    loss = built()
    sum(loss(*tensors(*maps((2, 3, 4, 4), (2, 6, 4, 4)))).values()).backward()
    assert all(p.grad is not None for p in loss.parameters())
    assert {n for n, _ in loss.named_parameters()} <= loss.state_dict().keys()


def test_the_paraphraser_learns_to_rebuild():
    loss = built()
    s, t = tensors(*maps((4, 3, 4, 4), (4, 6, 4, 4)))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    before = loss(s, t)['loss_paraphraser'].item()
    for _ in range(100):
        optimizer.zero_grad()
        sum(loss(s, t).values()).backward()
        optimizer.step()
    assert loss(s, t)['loss_paraphraser'].item() < 0.7 * before


@pytest.mark.parametrize('scale', [1e-3, 1e3])
def test_the_scale_of_the_teacher_says_nothing(scale):
    loss = built()
    for layer in [*loss.paraphraser.encoder, *loss.paraphraser.decoder]:
        if hasattr(layer, 'bias'):
            nn.init.zeros_(layer.bias)
    s, t = tensors(*maps((2, 3, 4, 4), (2, 6, 4, 4)))
    for one, other in zip(loss(s, t).values(), loss(s, t * scale).values()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=0)


def test_a_dark_image_has_finite_gradients():
    loss = built()
    s = torch.zeros(2, 3, 4, 4, requires_grad=True)
    sum(loss(s, torch.zeros(2, 6, 4, 4)).values()).backward()
    assert s.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_the_factors_are_a_share_of_the_channels():
    loss = built(rate=0.5)
    t = torch.randn(2, 6, 4, 4)
    factors = loss.paraphraser.encoder(t)
    again = loss.paraphraser.decoder(factors)
    assert factors.shape == (2, 3, 4, 4) and again.shape == t.shape
    assert built(rate=0.01).paraphraser.encoder(t).shape[1] == 1


def test_maps_of_unlike_sizes_are_compared():
    loss = built((1, 3, 8, 8), (1, 6, 4, 4))
    found = loss(torch.randn(2, 3, 8, 8), torch.randn(2, 6, 4, 4))
    assert all(value.isfinite() for value in found.values())


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(rate=0.0), 'rate'),
        (dict(rate=1.5), 'rate'),
        (dict(kernel_size=2), 'kernel_size'),
        (dict(alpha=0.0), 'alpha'),
        (dict(beta=-1.0), 'beta'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        FTLoss(**kwargs)
