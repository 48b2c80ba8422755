# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images mixed with each other, or partly painted over.

How much is mixed, and where, is a function of (seed, view, sample id). So is the
partner where it is one of the split (:class:`Partners`); else it is the next in the
batch, whose samples are ranked by a number of their own, and what a teacher says of
such images is never cached. Mixing operations are marked ``mixes`` and come last.
"""

import torch
from scipy.special import betaincinv
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Positive, Share
from hkd_mm.models.preprocessors.augmentation import (
    Augmentation,
    Draw,
    Fractions,
    Level,
    Ratios,
    Values,
    box_mask,
    per_image,
    random_box,
)
from hkd_mm.models.preprocessors.counter_rng import uniform_by_name
from hkd_mm.registry import TASK_UTILS

Mixed = tuple[Tensor, Tensor]  # images and their targets


class Partners:
    """With whom each sample of a split is mixed, in each view.

    The samples are ranked by a number of (seed, view, sample id), ties by their id; the
    partner is the next, the first that of the last. So each is a partner once a view,
    nobody its own, and neither batches, their order nor processes matter.

    Args:
        dataset: a ``PackedDataset``, the split.

    Raises:
        UserError: the samples of ``dataset`` have no ids.
    """

    def __init__(self, dataset) -> None:
        if not hasattr(dataset, 'store'):
            raise UserError(
                'data_preprocessor.partners=split mixes images of a '
                f'hkd_mm.PackedDataset, not {type(dataset).__name__}; take it as '
                'train_dataloader.dataset, or set packed.partners=batch'
            )
        self._dataset = dataset
        self._ids, self._places = dataset.index.sort()
        self._drawn: tuple[int, int] | None = None

    def of(self, index: Tensor, seed: int, view: int) -> dict[str, Tensor]:
        """The packed batch of the partners of ids (B,), in host memory."""
        if self._drawn != (seed, view):
            numbers = uniform_by_name(seed, view, self._ids, dict(partner=1))
            order = numbers['partner'][:, 0].argsort(stable=True)
            self._next = torch.empty_like(order)
            self._next[order] = order.roll(-1)
            self._drawn = seed, view
        mine = torch.searchsorted(self._ids, index)
        return self._dataset.__getitems__(self._places[self._next[mine]])


class _Mixing(Augmentation):
    """Choice of the partner and of its share."""

    mixes = True
    draws = 5
    later = ('own_larger',)

    alpha: Positive = 1.0  # of Beta(alpha, alpha), the distribution of the share
    prob: Share = 1.0  # of mixing
    own_larger: bool = False  # the share is max(share, 1 - share), at least half

    def parameters(self, draw: Draw) -> Values:
        """``keep``: a sample's own share in (0, 1]; ``partner``: positions
        in the batch.
        """
        numbers = draw.numbers
        on = numbers[:, 1] < self.prob
        order = numbers[:, 0].argsort(stable=True)
        partner = torch.empty_like(order)
        partner[order] = order.roll(-1)
        uniform = numbers[:, 2].double().cpu().numpy()
        share = torch.from_numpy(betaincinv(self.alpha, self.alpha, uniform))
        share = torch.maximum(share, 1 - share) if self.own_larger else share
        keep = torch.where(on, share.to(numbers), 1.0)
        return dict(partner=partner, top=numbers[:, 3], left=numbers[:, 4], keep=keep)

    def mix(self, own: Mixed, partners: Mixed, parameters: Values) -> Mixed:
        """Mix images (B, 3, H, W) and targets (B, C), rows that sum to 1."""
        raise NotImplementedError


@TASK_UTILS.register_module()
class Mixup(_Mixing):
    """Weighted mean of two images (mixup, arXiv:1710.09412)."""

    def mix(self, own: Mixed, partners: Mixed, parameters: Values) -> Mixed:
        keep = parameters['keep']
        return (
            torch.lerp(partners[0], own[0], per_image(keep)),
            torch.lerp(partners[1], own[1], keep.view(-1, 1)),
        )


@TASK_UTILS.register_module()
class CutMix(_Mixing):
    """A box of another image pasted in (CutMix, arXiv:1905.04899).

    The box has the image's aspect ratio and lies inside of it; the targets
    are mixed by its area in whole pixels.
    """

    def mix(self, own: Mixed, partners: Mixed, parameters: Values) -> Mixed:
        (images, scores), keep = own, parameters['keep']
        size = tuple(images.shape[-2:])
        ratio = torch.full_like(keep, size[1] / size[0])
        inside = box_mask(dict(parameters, area=1 - keep, ratio=ratio), size)
        inside *= per_image(keep < 1)
        share = 1 - inside.mean((1, 2, 3))
        return (
            torch.lerp(images, partners[0], inside),
            torch.lerp(partners[1], scores, share.view(-1, 1)),
        )


@TASK_UTILS.register_module()
class RandomErasing(Augmentation):
    """Paint over a box of random place, size and shape.

    The box is that of torchvision's ``RandomErasing`` (area uniform, aspect ratio
    log-uniform); where it does not fit, it is cut to the image instead of drawn again.
    """

    draws = 8

    prob: Share = 0.25  # of a box
    scale: Fractions = (0.02, 1 / 3)  # smallest and largest part of the area
    ratio: Ratios = (0.3, 10 / 3)  # smallest and largest width / height
    fill: Level | None = 128.0  # value of the paint; None draws a colour for each image

    def parameters(self, draw: Draw) -> Values:
        numbers = draw.numbers
        colour = numbers[:, 5:] * 255
        if self.fill is not None:
            colour = torch.full_like(colour, self.fill)
        return dict(
            random_box(numbers[:, :4], self.scale, self.ratio),
            on=numbers[:, 4] < self.prob,
            colour=colour,
        )

    def apply(self, images: Tensor, parameters: Values) -> Tensor:
        inside = box_mask(parameters, tuple(images.shape[-2:]))
        inside *= per_image(parameters['on'])
        colour = parameters['colour'][:, : images.shape[1], None, None]
        return images.lerp_(colour, inside)
