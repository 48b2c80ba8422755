# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Base class of all losses: checks, weights, class weights, gathering."""

import inspect
import warnings
from dataclasses import field, fields
from typing import ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.utils._pytree import tree_map_only

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Arguments, NotNegative

Feature = Tensor | list[Tensor]
ClassWeight = list[NotNegative] | None


class DistillLoss(Arguments, nn.Module):
    """A distillation loss: facts and arguments as attributes, its maths as code.

    ``forward`` takes any of ``preds_S``, ``preds_T`` (logits (N, C)), ``gt_labels``
    ((N,) int64 in [0, C), or (N, C) float32 of mixed images), ``s_feature`` and
    ``t_feature`` ((N, C, H, W) or (N, C)), and returns a float32 scalar, or a dict of
    them, already times ``loss_weight``. It is given float32, also under autocast, and
    what the teacher gives without a gradient. From the names of its inputs follows what
    is recorded (:mod:`hkd_mm.models.algorithms.wiring`), from the attributes the laws
    that it is tested for, and docs/zoo.md.

    Before the first use a loss with ``attach(student, teacher)`` is given the networks,
    then one with ``build(student_shape[, teacher_shape])`` the shapes of its features.

    Attributes:
        family: ``response``, ``feature``, ``relation``, ``self`` or ``online``.
        source: the paper and its equations.
        fails: where the method is known to fail, for the docs.
        features: what ``s_feature`` and ``t_feature`` are: ``map`` (N, C, H, W),
            ``last_map``, the one that is pooled for the last layer, ``vector`` (N, C),
            or ``maps``, a list of maps, one a stage.
        dense: it compares pixels: logits (N, C, h, w), ``gt_labels``
            (N, h, w), where 255 counts nowhere.
        each_teacher: ``preds_T`` is (N, K, C), the logits of K teachers.
        aligned: ``s_feature`` must have the shape of ``t_feature``, so it
            comes through a connector; else only the batch must agree.
        soft_labels: ``gt_labels`` of mixed images make sense to it.
        over_batch: it compares the samples of a batch with each other, so
            its value depends on the batch (:class:`BatchLoss`).
        minimum_at_teacher: a student that equals its teacher is not pulled
            away (of the terms without a label).
        two_classes: what is lost with two classes; empty if nothing.
        trains_last_layer: it does so without class scores.
        smallest_batch: fewer samples in one process draw a warning.
        views: the batch is so many views of every image, stacked: all images in their
            first view, then all in the second (:class:`hkd_mm.RotationDistill`).
        fixed: its numbers that are read only when it is built.
        recommended_range: argument -> range outside of which a run warns
            (:class:`hkd_mm.GuardRailsHook`).
        class_weight: a loss that takes it annotates it as ``ClassWeight``: one weight
            >= 0 a class. ``'balanced'`` and ``'sqrt_balanced'`` are made numbers by
            the config loader.
    """

    family: ClassVar[str]
    source: ClassVar[str]
    fails: ClassVar[str] = ''
    features: ClassVar[str | None] = None
    dense: ClassVar[bool] = False
    each_teacher: ClassVar[bool] = False
    aligned: ClassVar[bool] = True
    soft_labels: ClassVar[bool] = False
    over_batch: ClassVar[bool] = False
    minimum_at_teacher: ClassVar[bool] = True
    two_classes: ClassVar[str] = ''
    smallest_batch: ClassVar[int] = 1
    trains_last_layer: ClassVar[bool] = False
    views: ClassVar[int] = 1
    fixed: ClassVar[tuple[str, ...]] = ()
    recommended_range: ClassVar[dict[str, tuple[float, float]]] = dict(tau=(1, 20))
    # no fields unless a child annotates them
    class_weight = None
    gather = False
    # factor on what is returned
    loss_weight: NotNegative = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._warned: set[str] = set()
        self._inputs = input_names(self)
        weight = None if self.class_weight is None else torch.tensor(self.class_weight)
        self.register_buffer('_class_weight', weight, persistent=False)
        self.register_forward_pre_hook(_prepare_inputs, with_kwargs=True)

    def scaled(self, **parts: Tensor) -> dict[str, Tensor]:
        """Parts times ``loss_weight``."""
        return {name: self.loss_weight * x for name, x in parts.items()}

    def gathered(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Batches of all processes if ``gather`` is set, else as they are."""
        return tuple(map(gather_batch, tensors)) if self.gather else tensors

    def cross_entropy(self, preds_S: Tensor, gt_labels: Tensor) -> Tensor:
        """Cross-entropy of each sample times its class's weight, as a mean.

        As in mmpretrain; torch divides by the sum of the weights, by which several
        processes would not make the gradient of one.
        """
        return F.cross_entropy(
            preds_S.float(), gt_labels, weight=self._class_weight, reduction='none'
        ).mean()

    def sample_weight(self, preds_S: Tensor, gt_labels: Tensor) -> Tensor:
        """Weight (N,) of each label's class; of a mixed image their mean."""
        weight = self._class_weight
        if weight is None:
            weight = preds_S.new_ones(preds_S.size(1))
        if gt_labels.dim() == 2:
            return (gt_labels * weight).sum(dim=1)
        return weight.gather(0, gt_labels)

    def warn_once(self, key: str, message: str) -> None:
        """Warn about this instance, the first time only."""
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(f'{type(self).__name__}: {message}', stacklevel=2)

    def extra_repr(self) -> str:
        return ', '.join(
            f'{item.name}={value}'
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), (int, float))
        )


class BatchLoss(DistillLoss):
    """A loss that compares the samples of a batch with each other."""

    over_batch = True
    smallest_batch = 8
    # compare the samples of all processes, not of each one
    gather: bool = field(default=False, kw_only=True)


def input_names(loss: type | nn.Module) -> list[str]:
    """Names of the inputs that a loss's ``forward`` takes, in order."""
    found = list(inspect.signature(loss.forward).parameters)
    return found[1:] if isinstance(loss, type) else found


def _prepare_inputs(loss: DistillLoss, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Refuse or warn about the inputs of a forward, and make them float32."""
    given = dict(zip(loss._inputs, args)) | kwargs
    labels, logits = given.get('gt_labels'), given.get('preds_S')
    _check_pixels(loss, logits, labels)
    if labels is not None and labels.dim() == 2 and not loss.soft_labels:
        raise UserError(
            f'{type(loss).__name__} needs one class an image, but mixup or '
            'cutmix made targets of several; leave them out of the '
            'augmentation, or take another loss'
        )
    if logits is not None:
        classes, weight = logits.size(1), loss.class_weight
        if classes == 2 and loss.two_classes:
            loss.warn_once('classes', f'2 classes: {loss.two_classes}')
        expected = f'one number for each of the {classes} classes'
        good = weight is None or len(weight) == classes
        loss.require(good, 'class_weight', weight, expected)
    if loss.aligned and 't_feature' in given:
        _compare_features(loss, given.get('s_feature'), given['t_feature'])
    if loss.training and loss.smallest_batch > 1:
        first = next(iter(given.values()))
        rows = len(first[0] if isinstance(first, (list, tuple)) else first)
        _check_batch_size(loss, rows // loss.views)
    floats = tree_map_only(
        Tensor, lambda x: x.float() if x.is_floating_point() else x, given
    )
    for name in {'preds_T', 't_feature'} & floats.keys():
        floats[name] = tree_map_only(Tensor, Tensor.detach, floats[name])
    return args[len(loss._inputs) :], floats


def _check_pixels(
    loss: DistillLoss, logits: Tensor | None, labels: Tensor | None
) -> None:
    name = type(loss).__name__
    if logits is not None and (logits.dim() == 4) != loss.dense:
        raise UserError(
            f'{name} compares pixels, but the network gives class scores of '
            f'whole images {tuple(logits.shape)}; take a segmentor, such as '
            'hkd_mm.SMPSegmentor, or a loss for classes'
            if loss.dense
            else f'{name} compares class scores of whole images, but the '
            f'network gives masks {tuple(logits.shape)}; take hkd_mm.DiceBCELoss for '
            'labels, hkd_mm.PixelKLLoss for soft targets'
        )
    if labels is not None and loss.dense and labels.dim() != 3:
        raise UserError(
            f'{name} needs a mask (N, h, w) of class ids, but the labels are '
            f'{tuple(labels.shape)}; take a data set with masks, and no mixup'
        )


def _check_batch_size(loss: DistillLoss, images: int) -> None:
    """Warn of the first batch alone: the last of an epoch may be a rest."""
    if 'batch' in loss._warned:
        return
    images *= get_world_size() if loss.gather else 1
    if images < loss.smallest_batch:
        alone = loss.gather or get_world_size() == 1
        loss.warn_once(
            'batch',
            f'{images} images a batch are few to be compared with each other '
            f'(at least {loss.smallest_batch} make sense); raise batch_size'
            + ('' if alone else ' or set gather=True'),
        )
    loss._warned.add('batch')


def _compare_features(
    loss: DistillLoss, student: Feature | None, teacher: Feature | None
) -> None:
    if student is None or teacher is None:
        return
    mine, other = (
        [tuple(x.shape) for x in (part if isinstance(part, (list, tuple)) else [part])]
        for part in (student, teacher)
    )
    if len(mine) != len(other):
        raise UserError(
            f'{type(loss).__name__}: {len(mine)} student features and '
            f'{len(other)} of the teacher; record as many stages of both'
        )
    if mine != other:
        raise UserError(
            f'{type(loss).__name__}: the student feature {mine} has not the '
            f"shape of the teacher's {other}; put a connector on s_feature, "
            'such as hkd_mm.FeatureAlignConnector'
        )


def gather_batch(tensor: Tensor) -> Tensor:
    """Put the batches (N, ...) of all processes together, in order of rank.

    Gradients flow back to each process's own part from the losses of all, so that after
    distributed training has averaged over the processes they are those of one process
    with the whole batch. All processes need batches of one size.
    """
    if get_world_size() == 1:
        return tensor
    if tensor.requires_grad:
        return torch.cat(all_gather(tensor.contiguous()))
    parts = [torch.empty_like(tensor) for _ in range(get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context without autocast on the tensor's device.

    For differences of products, which half precision would round away.
    """
    return torch.autocast(tensor.device.type, enabled=False)
