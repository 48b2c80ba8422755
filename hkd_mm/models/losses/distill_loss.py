# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Base class of all losses: checks, weights, class weights, gathering."""

import inspect
import warnings
from typing import ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from hkd_mm.errors import UserError
from hkd_mm.models.connectors.feature_align_connector import Shape, require

Feature = Tensor | list[Tensor]


class DistillLoss(nn.Module):
    """A distillation loss: its facts as class attributes, its maths as code.

    ``forward`` takes any of ``preds_S``, ``preds_T`` (logits (N, C)), ``gt_labels``
    ((N,) int64 in [0, C), or (N, C) float32 of mixed images), ``s_feature`` and
    ``t_feature`` ((N, C, H, W) or (N, C)), and returns a float32 scalar, or a dict of
    them, already times ``loss_weight``. No gradient flows into what the teacher gives.
    From the names of its inputs a distiller finds out what to record
    (:mod:`hkd_mm.models.algorithms.wiring`); from the attributes the test suite knows
    which laws the loss obeys, and docs/zoo.md is written.

    A loss with ``build(student_shape[, teacher_shape])`` is given the shapes of its
    features before the first use, one with ``attach(student, teacher)`` the networks.

    Attributes:
        family: ``response``, ``feature``, ``relation``, ``self`` or ``online``.
        source: the paper and its equations.
        upstream: package that computes it; empty where it is our own.
        fails: where the method is known to fail, for the docs.
        features: what ``s_feature`` and ``t_feature`` are: ``map`` (N, C, H, W),
            ``last_map``, the one that is pooled for the last layer, ``vector`` (N, C),
            or ``maps``, a list of maps, one a stage.
        dense: it compares pixels: logits (N, C, h, w), ``gt_labels``
            (N, h, w), where 255 counts nowhere.
        aligned: ``s_feature`` must have the shape of ``t_feature``, so it
            comes through a connector; else only the batch must agree.
        soft_labels: ``gt_labels`` of mixed images make sense to it.
        over_batch: it compares the samples of a batch with each other, so
            its value depends on the batch; such a loss takes ``gather``.
        minimum_at_teacher: a student that equals its teacher is not pulled
            away (of the terms without a label).
        two_classes: what is lost with two classes; empty if nothing.
        smallest_batch: fewer samples in one process draw a warning.
        views: the batch is so many views of every image, stacked: all images in their
            first view, then all in the second (:class:`hkd_mm.RotationDistill`).
        fixed: its numbers that are read only when it is built.
        recommended_range: argument -> range outside of which a run warns
            (:class:`hkd_mm.GuardRailsHook`).
        gather: compare the samples of all processes, not of each one.

    Args:
        loss_weight: factor on what is returned, >= 0.

    Raises:
        UserError: a value is out of its range.
    """

    family: ClassVar[str]
    source: ClassVar[str]
    upstream: ClassVar[str] = ''
    fails: ClassVar[str] = ''
    features: ClassVar[str | None] = None
    dense: ClassVar[bool] = False
    aligned: ClassVar[bool] = True
    soft_labels: ClassVar[bool] = False
    over_batch: ClassVar[bool] = False
    minimum_at_teacher: ClassVar[bool] = True
    two_classes: ClassVar[str] = ''
    smallest_batch: ClassVar[int] = 1
    views: ClassVar[int] = 1
    fixed: ClassVar[tuple[str, ...]] = ()
    recommended_range: ClassVar[dict[str, tuple[float, float]]] = dict(tau=(1, 20))
    gather: bool = False
    require = require  # refuse an argument

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.set_not_negative(loss_weight=loss_weight)
        self._warned: set[str] = set()
        self._inputs = input_names(self)
        self.register_forward_pre_hook(_check_inputs, with_kwargs=True)

    def set_positive(self, **values: float) -> None:
        """Keep arguments that must be > 0 as attributes."""
        for name, value in values.items():
            self.require(value > 0, name, value, '> 0')
            setattr(self, name, value)

    def set_not_negative(self, **values: float) -> None:
        """Keep arguments that must be >= 0 as attributes."""
        for name, value in values.items():
            self.require(value >= 0, name, value, '>= 0')
            setattr(self, name, value)

    def set_class_weight(self, class_weight: list[float] | None) -> None:
        """Keep one weight a class as a buffer, in no checkpoint.

        ``'balanced'`` and ``'sqrt_balanced'`` are made numbers by the config loader.
        """
        self.require(
            not isinstance(class_weight, str),
            'class_weight',
            class_weight,
            'a list of numbers here; tools/train.py (hkd_mm.config.compose.'
            'load_config) makes one from the training split',
        )
        weight = (
            None
            if class_weight is None
            else torch.tensor(class_weight, dtype=torch.float32)
        )
        self.register_buffer('class_weight', weight, persistent=False)

    def scaled(self, **parts: Tensor) -> dict[str, Tensor]:
        """Multiply all parts by ``loss_weight``."""
        return {name: self.loss_weight * x for name, x in parts.items()}

    def gathered(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Batches of all processes if ``gather`` is set, else as they are."""
        return tuple(map(gather_batch, tensors)) if self.gather else tensors

    def warn_once(self, key: str, message: str) -> None:
        """Warn about this instance, the first time only."""
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(f'{type(self).__name__}: {message}', stacklevel=2)

    def extra_repr(self) -> str:
        names = inspect.signature(type(self)).parameters
        return ', '.join(
            f'{name}={value}'
            for name in names
            if isinstance(value := getattr(self, name, None), (int, float))
        )


def input_names(loss: type | nn.Module) -> list[str]:
    """Names of the inputs that a loss's ``forward`` takes, in order."""
    found = list(inspect.signature(loss.forward).parameters)
    return found[1:] if isinstance(loss, type) else found


def _check_inputs(loss: DistillLoss, args: tuple, kwargs: dict) -> None:
    """Refuse or warn about the inputs of a forward."""
    given = dict(zip(loss._inputs, args)) | kwargs
    labels, logits = given.get('gt_labels'), given.get('preds_S')
    _check_pixels(loss, logits, labels)
    if labels is not None and labels.dim() == 2 and not loss.soft_labels:
        raise UserError(
            f'{type(loss).__name__} needs one class an image, but mixup or '
            'cutmix made targets of several; leave them out of the '
            'augmentation, or take another loss'
        )
    if logits is not None and logits.size(1) == 2 and loss.two_classes:
        loss.warn_once('classes', f'2 classes: {loss.two_classes}')
    if loss.aligned and 't_feature' in given:
        _compare_features(loss, given.get('s_feature'), given['t_feature'])
    if loss.training and loss.smallest_batch > 1:
        first = next(iter(given.values()))
        rows = len(first[0] if isinstance(first, (list, tuple)) else first)
        _check_batch_size(loss, rows // loss.views)


def _check_pixels(
    loss: DistillLoss, logits: Tensor | None, labels: Tensor | None
) -> None:
    """Whole images and masks need losses of their own."""
    name = type(loss).__name__
    if logits is not None and (logits.dim() == 4) != loss.dense:
        raise UserError(
            f'{name} compares pixels, but the network gives class scores of '
            f'whole images {tuple(logits.shape)}; take a segmentor, such as '
            'hkd_mm.SMPSegmentor, or a loss for classes'
            if loss.dense
            else f'{name} compares class scores of whole images, but the '
            f'network gives masks {tuple(logits.shape)}; take '
            'hkd_mm.DiceBCELoss for labels, hkd_mm.PixelKLLoss for soft '
            'targets'
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
    mine, other = _shapes(student), _shapes(teacher)
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


def _shapes(feature: Feature) -> list[Shape]:
    features = feature if isinstance(feature, (list, tuple)) else [feature]
    return [tuple(x.shape) for x in features]


def weighted_cross_entropy(
    preds_S: Tensor, gt_labels: Tensor, class_weight: Tensor | None
) -> Tensor:
    """Cross-entropy as a mean over the samples, float32.

    As in mmpretrain; torch divides by the sum of the weights. So several
    processes make the gradient of one.

    Args:
        preds_S: logits (N, C).
        gt_labels: (N,) int64 in [0, C), or (N, C) targets of mixed images.
        class_weight: (C,), or None.
    """
    return F.cross_entropy(
        preds_S.float(), gt_labels, weight=class_weight, reduction='none'
    ).mean()


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
