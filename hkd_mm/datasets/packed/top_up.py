# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""List images of small classes of the training split several times."""

import copy
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

import numpy as np

from hkd_mm.errors import UserError

Target = str | int | float | None


def target_of(word: Any) -> Target:
    """Check ``packed.top_up``, whose number may be text.

    Raises:
        UserError: neither ``largest``, nor a fraction, nor a number.
    """
    target = word
    if isinstance(word, str) and word != 'largest':
        with suppress(ValueError):
            target = int(word) if word.strip().isdigit() else float(word)
    fraction = type(target) is float and 0 < target <= 1
    number = type(target) is int and target >= 2  # 1 could mean either
    if not (target is None or target == 'largest' or fraction or number):
        raise UserError(
            f'packed.top_up={word!r} must be largest, a fraction of the largest class '
            'such as 0.5, a number of images a class such as 500, or None'
        )
    return target


def plan_copies(
    labels: Sequence[int], sample_ids: Sequence[str], target: Target
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the images to list again, and how often.

    A class of n images, fewer than the target t, is listed t times: every image floor(t
    / n) times, and those whose ids have the smallest hashes once more. Larger classes
    and empty ones stay as they are. The result depends on the arguments alone.

    Returns:
        ``positions`` and ``copies`` (M,) int64, M >= N: first every image
        with copy 0, then the copies, 1 upwards.
    """
    target = target_of(target)
    labels = np.asarray(labels)
    sizes = np.bincount(labels) if len(labels) else np.zeros(0, int)
    positions, copies = [np.arange(len(labels))], [np.zeros(len(labels), int)]
    wanted = target or 0
    if len(sizes) and (target == 'largest' or isinstance(target, float)):
        wanted = round((1.0 if target == 'largest' else target) * int(sizes.max()))
    for label in np.flatnonzero((sizes > 0) & (sizes < wanted)):
        members = np.flatnonzero(labels == label)
        hashes = [sha256(sample_ids[i].encode()).hexdigest() for i in members]
        members = members[np.argsort(hashes)]
        more = np.arange(len(members), wanted)
        positions.append(members[more % len(members)])
        copies.append(more // len(members))
    return np.concatenate(positions), np.concatenate(copies)


def topped_up(dataset: Any, target: Target) -> tuple[Any, np.ndarray]:
    """List the images of a training split with their copies.

    Returns:
        The longer data set, and ``copies`` (M,) of :func:`plan_copies`.
    """
    if target_of(target) is None:
        return dataset, np.zeros(len(dataset), int)
    if dataset.split in ('val', 'test'):
        raise UserError(
            f'packed.top_up={target} of the {dataset.split} part: what is '
            'measured there would count images twice; use it for training'
        )
    dataset.full_init()
    labels, names = dataset.get_gt_labels(), dataset.sample_ids()
    positions, copies = plan_copies(labels, names, target)
    longer = copy.copy(dataset)
    longer.get_subset_(positions.tolist())
    return longer, copies
