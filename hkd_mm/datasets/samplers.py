# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Samplers that balance classes or follow the teacher's difficulty."""

from collections.abc import Iterator

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from hkd_mm.errors import UserError
from hkd_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class BalancedSampler(Sampler):
    """Weighted random sampler: a class first, then one of its images.

    Class c is drawn with a probability ~ n_c ** (1 - power), an image of it uniformly,
    both with replacement. The indices of an epoch are a function of (seed, epoch)
    alone; process r of R takes every R-th, starting at r.

    Args:
        dataset: has ``get_gt_labels()`` and may be wrapped.
        seed: None takes the run's.
        power: 1 draws all classes equally, 0.5 in proportion to the root of
            their size, 0 as they are.
        num_samples: images an epoch over all processes; None takes the size
            of the dataset. Rounded up to a multiple of the processes.

    Raises:
        UserError: ``power`` outside [0, 1] or ``num_samples`` < 1.
    """

    def __init__(
        self,
        dataset,
        seed: int | None = None,
        power: float = 1.0,
        num_samples: int | None = None,
    ) -> None:
        if not 0 <= power <= 1:
            raise UserError(f'BalancedSampler power={power} must lie in [0, 1]')
        if num_samples is not None and num_samples < 1:
            raise UserError(
                f'BalancedSampler num_samples={num_samples} must be at least 1'
            )
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        labels = np.asarray(dataset.get_gt_labels())
        self._images = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        sizes = np.array([len(images) for images in self._images], float)
        self._edges = np.cumsum(sizes ** (1 - power) / sum(sizes ** (1 - power)))
        total = num_samples or len(labels)
        self.num_samples = -(-total // self.world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.drawn()[self.rank :: self.world_size])

    def drawn(self) -> list[int]:
        """The indices of this epoch over all processes."""
        total = self.num_samples * self.world_size
        draws = np.random.default_rng((self.seed, self.epoch)).random((total, 2))
        chosen = np.searchsorted(self._edges[:-1], draws[:, 0], side='right')
        found = np.empty(total, np.int64)
        for number, images in enumerate(self._images):
            own = chosen == number
            found[own] = images[(draws[own, 1] * len(images)).astype(int)]
        return found.tolist()

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


@DATA_SAMPLERS.register_module()
class CurriculumSampler(BalancedSampler):
    """An epoch that runs from the easiest to the most difficult image.

    The images of an epoch are drawn as by :class:`BalancedSampler` and then
    sorted, those first that the teacher is most confident of
    (:class:`hkd_mm.TeacherRankingHook`). The paper that does this with a skin-disease
    teacher found it to hurt: the first batches are nearly of one class.

    Args:
        power: None takes every image once, without ``num_samples``.
    """

    def __init__(
        self,
        dataset,
        seed: int | None = None,
        power: float | None = 1.0,
        num_samples: int | None = None,
    ) -> None:
        self.all_once = power is None
        number = None if power is None else num_samples
        super().__init__(dataset, seed, power or 0, number)
        self._count = len(dataset.get_gt_labels())
        self._confidence: np.ndarray | None = None

    def rank_by(self, confidence: np.ndarray) -> None:
        """Set the teacher's confidence in its prediction, (N,) in [0, 1]."""
        assert len(confidence) == self._count
        self._confidence = np.asarray(confidence)

    def drawn(self) -> list[int]:
        assert self._confidence is not None, 'a hook ranks before the epoch'
        if self.all_once:
            total = self.num_samples * self.world_size
            indices = np.resize(np.arange(self._count), total)
        else:
            indices = np.array(super().drawn())
        order = np.argsort(-self._confidence[indices], kind='stable')
        return indices[order].tolist()
