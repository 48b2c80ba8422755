# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Check and finish a distiller once both nets are there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hkd_mm.errors import UserError

from .blank_batch import blank_batch


def check_losses(distiller, own: bool = False) -> None:
    """Refuse what would train nothing, or something else than it says.

    Args:
        distiller: an ``mmrazor.ConfigurableDistiller``.
        own: the student's own loss is added.

    Raises:
        UserError: there is no loss, or one whose name mmengine does not
            count as a loss.
    """
    if not distiller.distill_losses and not own:
        raise UserError(
            'model.distiller.distill_losses is empty, so nothing would be '
            "trained; name a loss, such as loss_kd=dict(type='hkd_mm.KLLoss')"
        )
    for name in distiller.distill_losses:
        if 'loss' not in name:
            raise UserError(
                f'model.distiller.distill_losses.{name}: a name without '
                f'"loss" in it trains nothing; call it loss_{name}'
            )


def drop_unused_inputs(distiller) -> None:
    """Forget what losses with a part of weight 0 would not look at.

    Its connector would have parameters without a gradient, which distributed
    training refuses, and the cache would keep its features.
    """
    distiller.loss_forward_mappings = {
        name: {
            key: record
            for key, record in mapping.items()
            if key
            not in getattr(distiller.distill_losses[name], 'unused_inputs', ())
        }
        for name, mapping in distiller.loss_forward_mappings.items()
    }
    used = {
        record.get('connector')
        for mapping in distiller.loss_forward_mappings.values()
        for record in mapping.values()
    }
    for name in set(distiller.connectors) - used:
        del distiller.connectors[name]
    asked = {
        (record['from_student'], record['recorder'])
        for mapping in distiller.loss_forward_mappings.values()
        for record in mapping.values()
    }
    for from_student, manager in (
        (True, distiller.student_recorders),
        (False, distiller.teacher_recorders),
    ):
        for name in list(manager.recorders):
            if (from_student, name) not in asked:
                del manager.recorders[name]  # it would hold on to its maps


def build_lazy_parts(model, input_size: int) -> None:
    """Give lazy connectors and losses the shapes of one dry forward.

    Connectors first: a loss is told the shapes that they deliver. One that
    takes no ``t_feature`` is told the student's alone.

    Args:
        model: a ``FrozenTeacherDistill`` or a ``SelfDistill``; its state is
            as before afterwards.
        input_size: side of the square images in pixels.

    Raises:
        UserError: a connector has nothing to meet, or cannot join the two.
    """
    distiller = model.distiller
    lazy = dict(_lazy_connectors(distiller))
    losses = {
        name: loss
        for name, loss in distiller.distill_losses.items()
        if hasattr(loss, 'build')
    }
    for loss in distiller.distill_losses.values():
        if hasattr(loss, 'attach'):
            loss.attach(model.student, getattr(model, 'teacher', None))
    if not lazy and not losses:
        return
    with _dry_forward(model, input_size):
        for connector, records in lazy.items():
            distiller.connectors[connector].build(
                *(shapes_of(_plain(distiller, record)) for record in records)
            )
        for name, loss in losses.items():
            mapping = distiller.loss_forward_mappings[name]
            loss.build(
                *(
                    shapes_of(distiller.get_record(**mapping[word]))
                    for word in ('s_feature', 't_feature')
                    if word in mapping
                )
            )


@contextmanager
def _dry_forward(model, input_size: int) -> Iterator[None]:
    """In eval mode, with the records of one black image."""
    images, samples = blank_batch(model.student, input_size)
    before = model.training, model.calculate_student_loss
    model.eval()
    model.calculate_student_loss = False
    with torch.no_grad():
        model.forward_both(images, samples)
        yield
    model.calculate_student_loss = before[1]
    model.train(before[0])


def shapes_of(record: Tensor | list[Tensor]) -> tuple | list[tuple]:
    """Shape of a tensor, or those of a list of them."""
    if isinstance(record, Tensor):
        return tuple(record.shape)
    return [tuple(item.shape) for item in record]


def _lazy_connectors(distiller) -> Iterator[tuple[str, tuple[dict, dict]]]:
    """(connector, (its own record, the record it has to meet))."""
    for mapping in distiller.loss_forward_mappings.values():
        for key, record in mapping.items():
            name = record.get('connector')
            if name is None or not hasattr(
                distiller.connectors[name], 'build'
            ):
                continue
            partner = ('t' if key[0] == 's' else 's') + key[1:]
            if partner not in mapping:
                raise UserError(
                    f'connector {name} aligns {key} to {partner}, which is '
                    'missing in the same entry of loss_forward_mappings; add '
                    'it'
                )
            yield name, (record, mapping[partner])


def _plain(distiller, record: dict) -> Tensor:
    """What was recorded, before any connector."""
    return distiller.get_record(
        **{
            key: value
            for key, value in record.items()
            if key not in ('connector', 'connector_idx')
        }
    )
