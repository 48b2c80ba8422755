# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Open the teacher cache of a distillation on its training images."""

import hashlib

import numpy as np
import torch
from mmengine import dist
from mmengine.logging import MMLogger
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.io.progress import Progress
from hkd_mm.models.teacher_cache.teacher_cache import (
    CacheDeclined,
    CacheIndex,
    weights_hash,
)


def open_teacher_cache(
    model, dataset, logger: MMLogger, batch_size: int | None = None
) -> None:
    """Open ``model.teacher_cache`` and check it, or log why there is none.

    Without one the teacher runs in every step. Views of packed images repeat after
    ``num_views`` either way, so that a full disk does not change the augmentation.

    ``model`` is a ``FrozenTeacherDistill`` with a cache, on its device; entries are
    computed with ``batch_size`` images.
    """
    cache = model.teacher_cache
    try:
        report = _open(model, dataset)
    except CacheDeclined as error:
        if cache.average:  # the teacher in every step would say something else
            raise UserError(
                f'model.teacher_cache.average={cache.average}: {error}'
            ) from None
        cache.declined = str(error)
        line = f'NO TEACHER CACHE: {error}. The teacher runs in every step'
        if getattr(model.data_preprocessor, 'num_views', None):
            line += (
                f'; views repeat after {cache.num_views} epochs as with a cache, or '
                'never with teacher_cache=False'
            )
        logger.warning(line)
        return
    _check_entries(model, dataset)
    cache.batch_size = batch_size  # what is stored from here on
    if cache.average:
        fill_views(model, dataset, batch_size or 64)
    logger.info(f'Teacher cache {report}')


def _open(model, dataset) -> str:
    """What to report, or the exception of the first rank that has one."""
    cache, preprocessor = model.teacher_cache, model.data_preprocessor
    if not (hasattr(dataset, 'store') and hasattr(preprocessor, 'view')):
        raise CacheDeclined(
            'it needs packed images (packed=True), whose views can be made again'
        )
    if cache.average:
        others = set(model.cached_recorders()) - model.exact_records()
        if others or getattr(model.student, 'dense', False):
            asked = ', '.join(sorted(others)) or 'masks'
            raise UserError(
                f'model.teacher_cache.average={cache.average} is of class scores, but '
                f'a loss asks for {asked} of the teacher; leave one of them out'
            )
    elif preprocessor.num_views not in (None, cache.num_views):
        raise UserError(
            f'packed.num_views={preprocessor.num_views} and '
            f'model.teacher_cache.num_views={cache.num_views} contradict each '
            'other; set both to one number, or teacher_cache=False'
        )
    else:
        preprocessor.num_views = cache.num_views
    reason = model.uncacheable()
    if cache.average and preprocessor.pipeline.mixing:
        reason = (
            'the scores of single images are not those of mixtures; leave Mixup and '
            'CutMix out of data_preprocessor.augment, or average'
        )
    elif preprocessor.batch_dependent:
        reason = (
            'Mixup and CutMix take partners from the batch, which differs in every '
            'epoch; packed.partners=split takes them from the training images'
        )
    if reason:
        raise CacheDeclined(reason)
    preprocessor.set_split(dataset)
    first_image = torch.zeros(1, dtype=torch.int64)
    records = model.teacher_records(_view_of(model, dataset, first_image, 0))
    report = reason = None
    for first in (True, False):  # one process makes the files
        if dist.is_main_process() == first:
            try:
                report = cache.open(
                    _parts(model, dataset),
                    records,
                    model.exact_records(),
                    CacheIndex(dataset.index),
                )
            except CacheDeclined as error:
                reason = str(error)
        dist.barrier()
    reasons = [text for text in dist.all_gather_object(reason) if text]
    if reasons:  # all ranks or none: their steps wait for each other
        cache.file = None
        raise CacheDeclined(reasons[0])
    return report


def _parts(model, dataset) -> dict[str, str]:
    recorders = model.distiller.teacher_recorders.recorders
    return dict(
        teacher=weights_hash(model.teacher),
        teacher_network=_hash(np.frombuffer(str(model.teacher).encode(), 'u1')),
        teacher_dtype=str(model.teacher_inference.dtype),
        class_order=','.join(dataset.classes),
        images=dataset.store.hash,
        split=_hash(dataset.index.numpy(), dataset.labels.numpy()),
        average=str(model.teacher_cache.average),
        augmentation=model.data_preprocessor.fingerprint(
            plain=bool(model.teacher_cache.average)
        ),
        teacher_input=repr(model.convert_input.key),
        recorders=repr(
            [
                (
                    name,
                    type(recorders[name]).__name__,
                    recorders[name].source,
                    getattr(recorders[name], 'stage', None),
                )
                for name in model.cached_recorders()
            ]
        ),
    )


def _view_of(model, dataset, positions: Tensor, view: int) -> Tensor:
    """Images (B, 3, h, w) at positions (B,) of the split, on the device."""
    device = next(model.parameters()).device
    batch = dataset.__getitems__(positions)
    images, index, labels = (
        batch[key].to(device) for key in ('inputs', 'index', 'labels')
    )
    if model.teacher_cache.average:
        return model.data_preprocessor.plain(images)
    return model.data_preprocessor.augment(images, index, view, labels)


def fill_views(model, dataset, batch_size: int) -> None:
    """Let the teacher see every view that its open cache does not hold yet.

    Each process of several takes its share of the batches.
    """
    cache, device = model.teacher_cache, next(model.parameters()).device
    parts = torch.arange(len(dataset)).split(batch_size)[
        dist.get_rank() :: dist.get_world_size()
    ]
    total = cache.stored_views * sum(map(len, parts))
    with Progress('teacher', total, 'images') as progress:
        for view in range(cache.stored_views):
            cache.start_view(view, dataset.index, device)
            for part in parts:
                index = dataset.index[part]
                if not cache.holds(view, index):
                    images = _view_of(model, dataset, part, view)
                    cache.write(index, model.teacher_records(images))
                progress.advance(len(part))
            cache.file.flush()
    dist.barrier()


def _check_entries(model, dataset) -> None:
    """Compute a few entries again, all in one forward."""
    cache = model.teacher_cache
    entries = cache.file.entries()
    chosen = np.random.default_rng(0).permutation(len(entries))[: cache.check]
    if not len(chosen):
        return
    positions = torch.full((cache.index.count,), -1)
    positions[cache.index.of(dataset.index)] = torch.arange(len(dataset))
    entries = torch.from_numpy(entries[np.sort(chosen)])  # view by view
    views, at = entries[:, 0], positions[entries[:, 1]]
    images = [
        _view_of(model, dataset, at[views == view], view)
        for view in views.unique().tolist()
    ]
    records = model.teacher_records(torch.cat(images))
    for view in views.unique().tolist():
        mine = views == view
        cache.compare(
            view,
            dataset.index[at[mine]],
            {name: value[mine.to(value.device)] for name, value in records.items()},
            coarse=model.teacher_inference.dtype is not None,
        )


def _hash(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b''.join(a.tobytes() for a in arrays)).hexdigest()
