# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Laws that every registered loss obeys; a new one is found by itself."""

import inspect
import keyword
import warnings

import pytest
import torch
from mmengine.registry import MODELS as ROOT

from hkd_mm.errors import UserError
from hkd_mm.models import losses
from hkd_mm.models.algorithms.wiring import part_name
from hkd_mm.models.losses.distill_loss import DistillLoss, input_names
from hkd_mm.registry import MODELS

assert losses and ROOT
LOSSES = sorted(
    {
        kind
        for kind in MODELS.module_dict.values()
        if inspect.isclass(kind) and issubclass(kind, DistillLoss)
    },
    key=lambda kind: kind.__name__,
)


def every_loss_that(holds):
    return pytest.mark.parametrize(
        'kind',
        [kind for kind in LOSSES if holds(kind)],
        ids=lambda kind: kind.__name__,
    )


every_loss = every_loss_that(lambda kind: True)
takes_labels = every_loss_that(lambda kind: 'gt_labels' in input_names(kind))
takes_logits = every_loss_that(
    lambda kind: {'preds_S', 'preds_T'} & set(input_names(kind))
)
FEATURES = ('s_feature', 't_feature')
SHAPES = dict(
    map=[(8, 4, 4)],
    last_map=[(8, 4, 4)],
    vector=[(12,)],
    maps=[(4, 8, 8), (6, 4, 4), (8, 2, 2)],
)
PIXELS = (3, 4)  # of the masks


def inputs_of(kind, n=6, c=5, seed=0, equal=False, scale=2.0, wider=0):
    """One batch for a loss; ``wider`` adds channels to the teacher's."""
    generator = torch.Generator().manual_seed(seed)
    images, n = n, n * kind.views

    def normal(*shape):
        return torch.randn(*shape, generator=generator) * scale

    places = PIXELS if kind.dense else ()
    labels = torch.randint(0, max(c, 2), (images, *places), generator=generator)
    found = dict(
        preds_S=normal(n, c, *places),
        preds_T=normal(n, c, *places),
        gt_labels=torch.cat([labels] * kind.views),
    )
    if kind.each_teacher:
        found['preds_T'] = normal(n, 3, c)
    if kind.features:
        for word, more in zip(FEATURES, (0, wider)):
            found[word] = [
                normal(n, shape[0] + more, *shape[1:])
                for shape in SHAPES[kind.features]
            ]
    if equal:
        found['preds_S'] = found['preds_T'].clone()
        if kind.each_teacher:
            found['preds_S'] = found['preds_T'][:, 0].clone()
            found['preds_T'] = found['preds_S'][:, None].repeat(1, 3, 1)
        if kind.features and not wider:
            found['s_feature'] = [x.clone() for x in found['t_feature']]
    for word in FEATURES:
        if word in found and kind.features != 'maps':
            found[word] = found[word][0]
    return {word: found[word] for word in input_names(kind)}


def leaves(value):
    return value if isinstance(value, list) else [value]


def mapped(inputs, change):
    """The same batch with each floating-point tensor changed."""
    return {
        word: [change(x) for x in value]
        if isinstance(value, list)
        else change(value)
        if value.is_floating_point()
        else value
        for word, value in inputs.items()
    }


def rows(inputs, order):
    return {
        word: [x[order] for x in value] if isinstance(value, list) else value[order]
        for word, value in inputs.items()
    }


def make(kind, inputs, **kwargs):
    """A loss with repeatable parameters, built for the batch."""
    torch.manual_seed(3)
    loss = kind(**kwargs)
    if hasattr(loss, 'attach'):
        networks = (_Net(inputs, letter) for letter in 'ST')
        loss.attach(*networks)
    if hasattr(loss, 'build'):
        shapes = (
            [tuple(x.shape) for x in value]
            if isinstance(value, list)
            else tuple(value.shape)
            for value in (inputs[w] for w in FEATURES if w in inputs)
        )
        loss.build(*shapes)
    return loss


class _Net(torch.nn.Module):
    """What ``attach`` looks at in a network: its last layer."""

    def __init__(self, inputs, letter):
        super().__init__()
        feature = inputs.get(f'{letter.lower()}_feature')
        width = 7 if feature is None else leaves(feature)[-1].shape[1]
        preds = inputs.get(f'preds_{letter}')
        classes = 5 if preds is None else preds.shape[1]
        self.head = torch.nn.Module()
        self.head.fc = torch.nn.Linear(width, classes)
        self.backbone = torch.nn.Identity()

    def reuse_last_layer(self, layer):
        """What a student of SimKD has."""


def total(loss, inputs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.manual_seed(5)  # of losses that draw masks
        value = loss(**inputs)
    names = [part_name(name) for name in value] if isinstance(value, dict) else []
    assert not any(map(keyword.iskeyword, names))  # a config dict(class=...) is none
    parts = list(value.values()) if isinstance(value, dict) else [value]
    for part in parts:
        assert part.shape == () and part.dtype == torch.float32
    return sum(parts)


def value_and_gradients(loss, inputs):
    """The value, and a gradient for each student input."""
    inputs = mapped(inputs, lambda x: x.clone().requires_grad_())
    value = total(loss, inputs)
    value.backward()
    mine = [
        x.grad
        for word in ('preds_S', 's_feature')
        for x in leaves(inputs.get(word, []))
    ]
    teachers = [
        x.grad
        for word in ('preds_T', 't_feature')
        for x in leaves(inputs.get(word, []))
    ]
    assert all(g is None or not g.any() for g in teachers), (
        'a gradient reached the teacher'
    )
    return value.detach(), [g for g in mine if g is not None]


@every_loss
def test_its_facts_are_written_down(kind):
    assert kind.family in ('response', 'feature', 'relation', 'self', 'online')
    assert len(kind.source) > 10 and kind.__doc__
    assert kind.features in (None, *SHAPES)
    words = set(input_names(kind))
    assert words <= {'preds_S', 'preds_T', 'gt_labels', *FEATURES}
    assert bool(kind.features) == bool(words & set(FEATURES))
    made = inspect.signature(kind).parameters
    assert 'loss_weight' in made
    assert kind.over_batch == ('gather' in made)


@every_loss
def test_its_defaults_are_recommended(kind):
    loss = kind()
    for word, (low, high) in kind.recommended_range.items():
        value = getattr(loss, word, None)
        assert value is None or low <= value <= high, word


@every_loss
@pytest.mark.parametrize('equal', [False, True])
@pytest.mark.parametrize('scale', [2.0, 1e4, 1e-4])
def test_value_and_gradients_are_finite(kind, equal, scale):
    inputs = inputs_of(kind, equal=equal, scale=scale)
    value, gradients = value_and_gradients(make(kind, inputs), inputs)
    assert value.isfinite()
    assert gradients and all(g.isfinite().all() for g in gradients)


@every_loss
def test_it_trains_the_student(kind):
    inputs = inputs_of(kind)
    _, gradients = value_and_gradients(make(kind, inputs), inputs)
    assert any(g.abs().max() > 1e-8 for g in gradients)


@every_loss
def test_the_weight_is_a_factor(kind):
    inputs = inputs_of(kind)
    one, zero, three = (
        total(make(kind, inputs, loss_weight=weight), inputs)
        for weight in (1.0, 0.0, 3.0)
    )
    assert zero == 0
    torch.testing.assert_close(three, 3 * one)
    with pytest.raises(UserError, match='loss_weight'):
        kind(loss_weight=-1.0)


@every_loss_that(lambda kind: not kind.over_batch)
def test_a_batch_twice_is_the_batch(kind):
    inputs = inputs_of(kind)
    loss = make(kind, inputs)
    n = len(next(iter(leaves(next(iter(inputs.values()))))))
    twice = rows(inputs, torch.arange(n).repeat(2))
    torch.testing.assert_close(total(loss, twice), total(loss, inputs))


@every_loss
def test_the_order_in_the_batch_says_nothing(kind):
    inputs = inputs_of(kind)
    loss = make(kind, inputs)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    order = torch.cat([order + 6 * view for view in range(kind.views)])
    torch.testing.assert_close(
        total(loss, rows(inputs, order)),
        total(loss, inputs),
        rtol=1e-4,
        atol=1e-6,
    )


@takes_logits
@pytest.mark.parametrize('classes', [*range(2, 10), 1000])
def test_any_number_of_classes(kind, classes):
    inputs = inputs_of(kind, c=classes)
    value, gradients = value_and_gradients(make(kind, inputs), inputs)
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@every_loss_that(lambda kind: kind.dense)
def test_one_class_and_its_background(kind):
    inputs = inputs_of(kind, c=1)
    value, gradients = value_and_gradients(make(kind, inputs), inputs)
    assert value > 0
    assert all(g.isfinite().all() and g.any() for g in gradients)
    # a score for the class alone is the difference of two
    two = {
        word: torch.cat([torch.zeros_like(x), x], 1) if x.dim() == 4 else x
        for word, x in inputs.items()
    }
    torch.testing.assert_close(total(make(kind, two), two), value)


@every_loss_that(lambda kind: 'preds_S' in input_names(kind))
def test_masks_and_whole_images_need_losses_of_their_own(kind):
    inputs = inputs_of(kind)
    loss, logits = make(kind, inputs), inputs['preds_S']
    if kind.dense:
        wrong, said = logits.mean((2, 3)), 'hkd_mm.SMPSegmentor'
    else:
        wrong, said = logits[..., None, None].expand(-1, -1, 2, 2), 'masks'
    with pytest.raises(UserError, match=said):
        total(loss, inputs | dict(preds_S=wrong))


@every_loss
def test_two_classes_are_warned_about_where_they_lose_something(kind):
    inputs = inputs_of(kind, c=2)
    loss = make(kind, inputs)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        loss(**inputs)
        loss(**inputs)
    said = [str(w.message) for w in said if '2 classes' in str(w.message)]
    assert len(said) == bool(kind.two_classes)


@every_loss
def test_a_batch_of_one(kind):
    inputs = inputs_of(kind, n=1)
    value, gradients = value_and_gradients(make(kind, inputs), inputs)
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@every_loss
def test_bfloat16_means_the_same(kind):
    inputs = mapped(inputs_of(kind), lambda x: x.bfloat16().float())
    loss = make(kind, inputs)
    half = mapped(inputs, lambda x: x.bfloat16())
    torch.testing.assert_close(
        total(loss, half), total(loss, inputs), rtol=2e-2, atol=1e-4
    )
    _, gradients = value_and_gradients(loss, half)
    assert all(g.isfinite().all() for g in gradients)


@every_loss
def test_autocast_changes_little(kind):
    inputs = inputs_of(kind)
    loss = make(kind, inputs)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = total(loss, inputs)
    torch.testing.assert_close(mixed, total(loss, inputs), rtol=3e-2, atol=1e-3)


@every_loss_that(
    lambda kind: kind.dense or kind.features in ('map', 'last_map', 'maps')
)
def test_memory_order_says_nothing(kind):
    inputs = inputs_of(kind)
    loss = make(kind, inputs)
    last = mapped(
        inputs,
        lambda x: (
            x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        ),
    )
    torch.testing.assert_close(
        total(loss, last), total(loss, inputs), rtol=1e-4, atol=1e-6
    )


@every_loss_that(lambda kind: kind.features)
def test_unlike_features(kind):
    inputs = inputs_of(kind, wider=3)
    if kind.aligned:
        good = inputs_of(kind)
        with pytest.raises(UserError, match='put a connector'):
            total(make(kind, good), inputs)
    else:
        value, _ = value_and_gradients(make(kind, inputs), inputs)
        assert value.isfinite()


@takes_labels
def test_a_label_out_of_range_is_refused(kind):
    inputs = inputs_of(kind)
    loss = make(kind, inputs)
    for wrong in (5, -1):
        labels = inputs['gt_labels'].clone()
        labels[0] = wrong
        with pytest.raises((IndexError, RuntimeError)):
            total(loss, inputs | dict(gt_labels=labels))


@takes_labels
def test_targets_of_mixed_images(kind):
    inputs = inputs_of(kind)
    loss = make(kind, inputs)
    one_hot = torch.nn.functional.one_hot(inputs['gt_labels'], 5).float()
    mixed = inputs | dict(gt_labels=one_hot)
    if kind.soft_labels:
        torch.testing.assert_close(total(loss, mixed), total(loss, inputs))
    else:
        with pytest.raises(UserError, match='mixup'):
            total(loss, mixed)


@every_loss_that(lambda kind: kind.minimum_at_teacher)
def test_nothing_pulls_at_a_student_that_is_the_teacher(kind):
    inputs = inputs_of(kind, equal=True)
    loss = make(kind, inputs)
    value, gradients = value_and_gradients(loss, inputs)
    _, elsewhere = value_and_gradients(loss, inputs_of(kind, seed=1))
    size = max(g.abs().max() for g in elsewhere)
    assert all(g.abs().max() <= 1e-4 * size + 1e-7 for g in gradients)
    for seed in range(20):
        torch.manual_seed(seed)
        near = {
            word: [x + 0.05 * torch.randn_like(x) for x in value]
            if isinstance(value, list)
            else value + 0.05 * torch.randn_like(value)
            if word in ('preds_S', 's_feature')
            else value
            for word, value in inputs.items()
        }
        near |= {k: v for k, v in inputs.items() if k == 't_feature'}
        assert total(loss, near) >= value - 1e-6
