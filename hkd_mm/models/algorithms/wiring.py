# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Wire, check and finish a distiller once both networks are there.

MMRazor wants every input of a loss spelt out. The arguments of a loss's ``forward``
show what it needs (:class:`hkd_mm.models.losses.distill_loss.DistillLoss`), so a loss
without an entry in ``loss_forward_mappings`` is given

=========================  ============================================
``preds_S``, ``preds_T``   recorder ``logits`` (``teacher_scores`` where a
                           loss wants those of ``each_teacher``)
``gt_labels``              recorder ``labels`` of the student
``s_feature``              by the loss's ``features``: recorder ``feature``
and ``t_feature``          (``map``), ``last_map``, ``pooled`` (``vector``)
                           or ``maps``
=========================  ============================================

``s_feature`` passes through the connector that bears the loss's name, ``t_feature``
through the one called ``<loss>_teacher``; a loss that wants aligned features and has no
connector gets :class:`hkd_mm.FeatureAlignConnector`. What a config does write is kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
from mmengine.config import ConfigDict
from mmpretrain.structures import DataSample
from mmrazor.registry import TASK_UTILS as RAZOR_TASK_UTILS
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from hkd_mm.errors import UserError
from hkd_mm.models.losses.distill_loss import input_names
from hkd_mm.models.recorders.guarded_recorders import GuardedRecorders
from hkd_mm.models.recorders.network_recorders import is_segmentor
from hkd_mm.registry import MODELS, TASK_UTILS
from hkd_mm.structures.mask_samples import MaskSamples
from hkd_mm.structures.packed_samples import PackedSamples


def channels_of(network: nn.Module) -> int:
    """Channels of the images that a network takes."""
    return getattr(network, 'in_channels', 3)


def blank_batch(network: nn.Module, input_size: int) -> tuple[Tensor, Sequence]:
    """One black image (1, C, h, h), with label 0 or an empty mask."""
    size = input_size, input_size
    images = next(network.parameters()).new_zeros((1, channels_of(network), *size))
    if is_segmentor(network):
        masks = images.new_zeros((1, *size), dtype=torch.uint8)
        index = images.new_zeros(1, dtype=torch.int64)
        return images, MaskSamples(masks, index)
    return images, [DataSample().set_gt_label(0).to(images.device)]


_RECORDERS = dict(
    logits='hkd_mm.Logits',
    teacher_scores='hkd_mm.TeacherScores',
    labels='hkd_mm.GTLabels',
    feature='hkd_mm.Feature',
    last_map='hkd_mm.LastMap',
    pooled='hkd_mm.Pooled',
    maps='hkd_mm.StageMaps',
)
_OF_FEATURES = dict(map='feature', last_map='last_map', vector='pooled', maps='maps')


def fill_wiring(distiller: dict) -> dict:
    """Fill in the recorders, connectors and mappings of a distiller config.

    Returns:
        A copy that names all of them, and no recorder that no loss asks for.

    Raises:
        UserError: a loss has no type, or takes an input without a default.
    """
    # a plain dict: ConfigDict.setdefault returns what it does not keep
    distiller = ConfigDict(distiller).to_dict()
    losses = distiller.get('distill_losses') or {}
    mappings = distiller.setdefault('loss_forward_mappings', {})
    for name, loss in list(losses.items()):
        if loss is None:  # taken out by a config that inherits it
            del losses[name]
            mappings.pop(name, None)
        elif not isinstance(loss, dict) or 'type' not in loss:
            raise UserError(
                f'model.distiller.distill_losses.{name} has no type; give one such as '
                "dict(type='hkd_mm.KLLoss'), or None to leave it out"
            )
        elif name not in mappings:
            mappings[name] = _mapping(distiller, name, loss)
    for side in ('student', 'teacher'):
        key = f'{side}_recorders'
        known = distiller.get(key) or {}
        asked = asked_recorders(mappings, side == 'student')
        missing = sorted(asked - known.keys() - _RECORDERS.keys())
        if missing:
            raise UserError(
                f'model.distiller.{key} has no {missing[0]!r}, which '
                'loss_forward_mappings asks for; add it'
            )
        for name, recorder in known.items():
            kind = recorder.get('type')
            with RAZOR_TASK_UTILS.switch_scope_and_registry(None) as registry:
                found = registry.get(f'{kind}Recorder')
            if found is None and TASK_UTILS.get(f'mmrazor.{kind}Recorder'):
                raise UserError(
                    f"model.distiller.{key}.{name}: type='{kind}' is not registered; "
                    f"write 'mmrazor.{kind}'"
                )
        distiller[key] = {
            name: known.get(name) or dict(type=_RECORDERS[name])
            for name in sorted(asked, key=[*known, *_RECORDERS].index)
        }
    return distiller


def _mapping(distiller: dict, name: str, loss: dict) -> dict[str, dict]:
    kind = MODELS.get(loss['type'])
    if kind is None:
        return {}  # the distiller reports it by name
    connectors = distiller.get('connectors') or {}
    mapping = {}
    for key in input_names(kind):
        mapping[key] = _record(kind, name, key)
        if key not in ('s_feature', 't_feature'):
            continue
        own = name if key == 's_feature' else f'{name}_teacher'
        if key == 's_feature' and kind.aligned and kind.features != 'maps':
            connectors.setdefault(own, dict(type='hkd_mm.FeatureAlignConnector'))
        if own in connectors:
            mapping[key]['connector'] = own
    if connectors:
        distiller['connectors'] = connectors
    return mapping


def _record(kind: type, name: str, key: str) -> dict:
    feature = _OF_FEATURES.get(getattr(kind, 'features', None))
    known = dict(preds_S='logits', preds_T='logits', gt_labels='labels')
    if getattr(kind, 'each_teacher', False):
        known['preds_T'] = 'teacher_scores'
    recorder = (known | dict(s_feature=feature, t_feature=feature)).get(key)
    if recorder:
        return dict(recorder=recorder, from_student=key not in ('preds_T', 't_feature'))
    raise UserError(
        f'model.distiller.distill_losses.{name}: nothing is known to give '
        f'{kind.__name__} as {key}; name a recorder in '
        f'model.distiller.loss_forward_mappings.{name}.{key}'
    )


def asked_recorders(mappings: dict, from_student: bool) -> set[str]:
    """Names of the recorders of one side that a loss reads."""
    return {
        record['recorder']
        for mapping in mappings.values()
        for record in mapping.values()
        if isinstance(record, dict)
        and record.get('from_student') is from_student
        and 'recorder' in record
    }


def check_losses(distiller, own: bool = False) -> None:
    """Refuse what would train nothing, or something else than configured.

    With ``own`` the student's own loss is added, so no other is needed.
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
    """Forget what losses with a part of weight 0 do not read.

    Its connector would have no gradient, which distributed training refuses.
    """
    mappings = {
        name: {
            key: record
            for key, record in mapping.items()
            if key not in getattr(distiller.distill_losses[name], 'unused_inputs', ())
        }
        for name, mapping in distiller.loss_forward_mappings.items()
    }
    distiller.loss_forward_mappings = mappings
    records = (r for mapping in mappings.values() for r in mapping.values())
    used = {record.get('connector') for record in records}
    for name in set(distiller.connectors) - used:
        del distiller.connectors[name]
    for side in ('student', 'teacher'):
        found = getattr(distiller, f'{side}_recorders').recorders
        for name in found.keys() - asked_recorders(mappings, side == 'student'):
            del found[name]  # it would hold on to its maps


def build_lazy_parts(model, input_size: int) -> None:
    """Give lazy connectors and losses the shapes of one dry forward.

    A loss that takes no ``t_feature`` is given the student's alone.
    """
    distiller = model.distiller
    lazy = dict(_lazy_connectors(distiller))
    losses = distiller.distill_losses
    for loss in losses.values():
        if hasattr(loss, 'attach'):
            loss.attach(model.student, getattr(model, 'teacher', None))
    built = [name for name, loss in losses.items() if hasattr(loss, 'build')]
    if not lazy and not built:
        return
    images, samples = blank_batch(model.student, input_size)
    preprocessor = getattr(model, 'data_preprocessor', None)  # of peers: none
    if size := getattr(preprocessor, 'teacher_size', None):
        zeros = torch.zeros(1, dtype=torch.int64, device=images.device)
        shown, _ = blank_batch(model.teacher, size)
        samples = PackedSamples(zeros, zeros, teacher_images=shown)
    before = model.training, model.calculate_student_loss
    model.eval()
    model.calculate_student_loss = False
    with torch.no_grad():
        model.forward_both(images, samples)
        for connector, records in lazy.items():
            plain = ({**r, 'connector': None, 'connector_idx': None} for r in records)
            distiller.connectors[connector].build(
                *(shapes_of(distiller.get_record(**r)) for r in plain)
            )
        for name in built:
            mapping = distiller.loss_forward_mappings[name]
            records = (mapping[k] for k in ('s_feature', 't_feature') if k in mapping)
            losses[name].build(*(shapes_of(distiller.get_record(**r)) for r in records))
    model.calculate_student_loss = before[1]
    model.train(before[0])


def shapes_of(record: Tensor | list[Tensor]) -> tuple | list[tuple]:
    """Shape of a tensor, or those of a list of them."""
    return tree_map_only(Tensor, lambda x: tuple(x.shape), record)


def _lazy_connectors(distiller) -> Iterator[tuple[str, tuple[dict, dict]]]:
    """(connector, (its own record, the record it has to meet))."""
    for mapping in distiller.loss_forward_mappings.values():
        for key, record in mapping.items():
            name = record.get('connector')
            if name is None or not hasattr(distiller.connectors[name], 'build'):
                continue
            partner = ('t' if key[0] == 's' else 's') + key[1:]
            if partner not in mapping:
                raise UserError(
                    f'connector {name} aligns {key} to {partner}, which is missing in '
                    'the same entry of loss_forward_mappings; add it'
                )
            yield name, (record, mapping[partner])


def finish_distiller(
    distiller, student: nn.Module, teacher: nn.Module | None, own: bool = False
) -> None:
    """Check (as :func:`check_losses`), prune and guard one whose recorders listen."""
    check_losses(distiller, own)
    drop_unused_inputs(distiller)
    for side, network in dict(student=student, teacher=teacher).items():
        if network is not None:
            found = getattr(distiller, f'{side}_recorders')
            guarded = GuardedRecorders.over(found, network, side)
            setattr(distiller, f'{side}_recorders', guarded)


def loss_parts(distiller) -> dict[str, Tensor]:
    """Compute the losses of what was recorded: part or loss -> scalar.

    Of parts with one name the later ones are ``<loss>.<part>``.
    """
    found: dict[str, Tensor] = {}
    for name, value in distiller.compute_distill_losses().items():
        parts = value if isinstance(value, dict) else {name: value}
        for part, scalar in parts.items():
            found[f'{name}.{part}' if part in found else part] = scalar
    return found


def part_name(name: str) -> str:
    """``kd`` of ``distill.loss_kd``, ``student`` of ``student.loss``."""
    name = name.removeprefix('distill.').removesuffix('.loss')
    return name.replace('loss_', '')


class StudentLossMixin:
    """Losses of an algorithm of MMRazor whose ``forward_both`` fills the recorders."""

    # part -> factor on its value (hkd_mm.LossBalanceHook)
    loss_factors: Mapping[str, float] = MappingProxyType({})

    def loss(
        self, batch_inputs: Tensor, data_samples: list | None = None
    ) -> dict[str, Tensor]:
        """Losses of images (N, 3, H, W), normalised for the student.

        Returns:
            Name -> scalar. ``distill.<part>`` for each part of a loss that
            returns a dict, ``distill.<loss>`` for the others,
            ``student.<loss>`` for the student's own.
        """
        losses = self.forward_both(batch_inputs, data_samples)
        if not self.distillation_stopped:
            for part, value in loss_parts(self.distiller).items():
                factor = self.loss_factors.get(part_name(part), 1.0)
                losses[f'distill.{part}'] = value * factor
        return losses

    def run_student(
        self, batch_inputs: Tensor, data_samples: list | None
    ) -> dict[str, Tensor]:
        """Run the student under its recorders; its own losses, if any."""
        distiller = self.distiller
        distiller.set_deliveries_override(True)
        mode = 'loss' if self.calculate_student_loss else 'tensor'
        with (
            torch.set_grad_enabled(self.student_trainable and torch.is_grad_enabled()),
            distiller.student_recorders,
            distiller.deliveries,
        ):
            output = self.student(batch_inputs, data_samples, mode=mode)
        if not self.calculate_student_loss:
            return {}
        return {f'student.{name}': value for name, value in output.items()}


def name_preprocessor(kwargs: dict) -> None:
    """Fill in the type of ``data_preprocessor``, as mmpretrain does."""
    if isinstance(kwargs.get('data_preprocessor'), dict):
        kwargs['data_preprocessor'].setdefault('type', 'mmpretrain.ClsDataPreprocessor')


class TeacherlessMixin:
    """An algorithm without a teacher, in front of its class of MMRazor.

    Args:
        teacher: None, as ``teacher_ckpt`` and ``teacher_cache``; here so that a config
            can take out those that it inherits.

    Raises:
        UserError: one of them is set.
    """

    def __init__(
        self,
        *args,
        teacher: None = None,
        teacher_ckpt: None = None,
        teacher_cache: None = None,
        **kwargs,
    ) -> None:
        given = dict(
            teacher=teacher, teacher_ckpt=teacher_ckpt, teacher_cache=teacher_cache
        )
        for name, value in given.items():
            if value is not None:
                raise UserError(
                    f'model.{name} is set, but hkd_mm.{type(self).__name__} has no '
                    f'teacher; set model.{name}=None, or take '
                    'hkd_mm.FrozenTeacherDistill'
                )
        name_preprocessor(kwargs)
        super().__init__(*args, **kwargs)
