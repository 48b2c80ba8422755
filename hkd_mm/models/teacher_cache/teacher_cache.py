# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Disk cache of teacher outputs, keyed by (image, view)."""

import errno
import hashlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Arguments, NotNegative, Views, Whole
from hkd_mm.models.teacher_cache.cache_file import Arrays, CacheFile

CODE_VERSION = 2  # raise it with any change of what an entry means
_GIB = 2**30
_HEADROOM = 2 * _GIB  # bytes of the disk that are left to checkpoints and logs
_COARSE = 0.03  # of the largest value: a few roundings of bfloat16
_ON_DEVICE = _GIB // 2  # bytes of logits and the like kept on the device


class TeacherCache(Arguments):
    """Outputs of a frozen teacher, a function of (image, view).

    Valid under random augmentation, since a view of an image is the same in
    every run (see ``hkd_mm.PackedPreprocessor``). A batch that is being stored and one
    that is read give the losses the same numbers, bit for bit. Everything that decides
    the outputs goes into the key.
    """

    in_config = 'model.teacher_cache.'
    # views of an image before they repeat. It holds for the augmentation also when
    # there is no room for the cache
    num_views: Views = 10
    # keep the class scores of the image without augmentation in place of those of each
    # view, their mean over its eight flips and quarter turns: one entry an image, made
    # before the first epoch, and views need not repeat
    average: Literal['d4'] | None = None
    # folder of all caches; each has a folder of its own below
    dir: Annotated[str, Field(pattern=r'^[^\x00]+$')] = 'work_dirs/teacher_cache'
    # largest size on the disk in GiB; None for no limit but the free disk, of which 2
    # GiB are left to others. A cache that does not fit is not made. The default takes
    # the last map of WRN-50-2 at 116 pixels of HAM10000's training images in 10 views
    budget_gb: NotNegative | None = 5.0
    # dtype of maps and pooled features. Logits are float32
    features: Literal['float16', 'float32'] = 'float16'
    # entries that are computed again when a cache is opened
    check: Whole = 16
    # largest difference then, relative to the largest value
    tolerance: NotNegative = 5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.file: CacheFile | None = None
        self.index: CacheIndex | None = None
        self.batch_size: int | None = None  # that the teacher is run with
        self.declined: str | None = None  # why there is none
        self._whole: dict[int, dict[str, Tensor]] = {}  # view -> on device
        self._view = -1

    @property
    def stored_views(self) -> int:
        """Entries of an image."""
        return 1 if self.average else self.num_views

    def open(
        self,
        parts: dict[str, str],
        records: dict[str, Tensor],
        exact: set[str],
        index: 'CacheIndex',
    ) -> str:
        """Open or make the folder of this key, and describe it in one line.

        ``parts`` is the text of all that the outputs depend on, ``records`` one batch
        of what is cached; ``exact`` are kept in float32, the logits.

        Raises:
            UserError: foreign or truncated, see :class:`CacheFile`.
            CacheDeclined: it does not fit.
        """
        arrays: Arrays = {
            name: (tuple(x.shape[1:]), 'float32' if name in exact else self.features)
            for name, x in records.items()
        }
        parts = dict(parts, features=self.features, code_version=str(CODE_VERSION))
        contents = (sorted(parts.items()), sorted(arrays.items()))
        key = repr((*contents, self.stored_views, index.count)).encode()
        folder = Path(self.dir) / hashlib.sha256(key).hexdigest()[:16]
        size = CacheFile.size_of(arrays, self.stored_views, index.count)
        filled_before = False
        try:
            filled_before = CacheFile.exists(folder)
            if not filled_before:
                self._check_room(size)
            file = CacheFile(folder, parts, arrays, self.stored_views, index.count)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f'model.teacher_cache.dir={self.dir}: {error}; give a folder '
                    'that can be written to, or teacher_cache=False'
                ) from None
            if not filled_before:
                shutil.rmtree(folder, ignore_errors=True)
            self._check_room(size, 0)  # or a quota
        damaged = file.verify()
        self.file, self.index = file, index
        report = (
            f'{folder}: {size / _GIB:.2f} GiB for {self.stored_views} views '
            f'of {index.count} images, {file.count()} entries there'
        )
        if damaged:
            report += (
                f'; {damaged} MORE DID NOT MATCH THEIR CHECKSUMS (a power '
                'cut, or a damaged disk) and are computed again'
            )
        return report

    @property
    def is_open(self) -> bool:
        """Whether there is a cache; otherwise the teacher stays online."""
        if self.file is None and self.declined is None:
            raise UserError(
                'model.teacher_cache was never opened: the config needs '
                "default_hooks=dict(teacher_cache=dict(type='hkd_mm.TeacherCacheHook'))"
            )
        return self.file is not None

    def _check_room(self, size: int, free: int | None = None) -> None:
        """Decline a size in bytes beyond the budget or the free disk.

        Raises:
            CacheDeclined: with the options that would change it.
        """
        if free is None:
            disk = Path(self.dir).absolute()
            while not disk.is_dir():
                disk = disk.parent
            free = max(shutil.disk_usage(disk).free - _HEADROOM, 0)
        option = 'model.teacher_cache'
        budget = math.inf if self.budget_gb is None else self.budget_gb * _GIB
        limits, changes = [], []
        if size > budget:
            limits.append(f'the {self.budget_gb:.3g} GiB of {option}.budget_gb')
            room = math.ceil(size / _GIB * 10) / 10
            changes.append(f'{option}.budget_gb={room:g}')
        if size > free:
            limits.append(
                f'the {free / _GIB:.3g} GiB that the disk of {self.dir} has to spare'
            )
            changes.append(f'{option}.dir=FOLDER on a larger disk')
        if limits:
            fits = int(min(budget, free) // (size / self.num_views))
            fewer = f', or with fewer views: {option}.num_views={fits}'
            raise CacheDeclined(
                f'{self.num_views} views take {size / _GIB:.3g} GiB, more than '
                f'{" and ".join(limits)}; it would fit with '
                f'{" and ".join(changes)}{fewer if fits else ""}'
            )

    def start_view(self, view: int, index: Tensor, device: torch.device) -> bool:
        """Prepare an epoch on one view of the samples of these ids.

        Returns:
            Whether all of them are stored; otherwise the teacher runs.
        """
        assert self.file is not None
        view = 0 if self.average else view
        self._view, complete = view, self.holds(view, index)
        small = CacheFile.size_of(self.file.arrays, 1, self.file.num_rows) <= _ON_DEVICE
        if view not in self._whole:
            self._whole.clear()
        if complete and small and not self._whole:
            self._whole[view] = {
                name: torch.from_numpy(data).to(device)
                for name, data in self.file.read_view(view).items()
            }
        return complete

    def holds(self, view: int, index: Tensor) -> bool:
        """Whether a view of all these samples, by their ids, is stored."""
        return self.file.is_complete(view, self.index.on_host(index))

    def answer(
        self, index: Tensor, ask_teacher: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Records of a batch of ids (B,): the stored ones, or the teacher's, stored.

        Where an entry of any image is missing the teacher runs on the whole batch.
        """
        stored = self.read(index)
        if stored is not None:
            return stored
        assert not self.average, 'it was filled when it was opened'
        return self.write(index, ask_teacher())

    def read(self, index: Tensor) -> dict[str, Tensor] | None:
        """Records of a batch of ids (B,), float32 (B, ...) on their device.

        None where the teacher has to run.
        """
        whole = self._whole.get(self._view)
        if whole is not None:
            rows = self.index.of(index)
            return {name: data[rows].float() for name, data in whole.items()}
        rows = self.index.on_host(index)
        if not self.file.is_complete(self._view, rows):
            return None
        found = self.file.read(self._view, rows)
        return {
            name: torch.from_numpy(value).to(index.device, non_blocking=True).float()
            for name, value in found.items()
        }

    def write(self, index: Tensor, records: dict[str, Tensor]) -> dict[str, Tensor]:
        """Store the teacher's outputs for a batch of ids (B,).

        Returns:
            What :meth:`read` would: rounded as it is stored, or what was there before.
        """
        stored = {}
        for name, (_, kind) in self.file.arrays.items():
            value = records[name].detach()
            stored[name] = value.to(getattr(torch, kind))
            if not stored[name].isfinite().all():
                raise UserError(
                    f'teacher_cache: {name} of the teacher reaches '
                    f'{value.abs().max():.3g}, too much for {kind}; set '
                    + (
                        'model.teacher_cache.features=float32'
                        if kind == 'float16'
                        else 'teacher_cache=False'
                    )
                )
        kept = self.file.write(
            self._view,
            self.index.on_host(index),
            {name: value.cpu().numpy() for name, value in stored.items()},
        )
        if kept:
            return {name: value.float() for name, value in stored.items()}
        found = self.read(index)
        assert found is not None
        return found

    def full_batch(self, images: Tensor) -> Tensor:
        """Images (N, ...), repeated up to ``batch_size`` of them.

        Kernels round differently for another number of images, but not for
        other neighbours.
        """
        missing = (self.batch_size or 0) - len(images)
        if missing <= 0:
            return images
        again = torch.arange(self.batch_size, device=images.device)
        return images[again % len(images)]

    def compare(
        self, view: int, index: Tensor, records: dict[str, Tensor], coarse: bool = False
    ) -> None:
        """Compare stored entries, of ids (B,), with what the teacher answers now.

        With ``coarse`` it runs in 16 bits, which other machines round differently.
        """
        tolerance = max(self.tolerance, _COARSE if coarse else 0)
        rows = self.index.on_host(index)
        for name, stored in self.file.read(view, rows).items():
            value = records[name].detach().float().cpu().numpy()
            worst = np.abs(stored.astype('float32') - value).max()
            if worst > tolerance * max(np.abs(value).max(), 1e-6):
                raise UserError(
                    f'teacher cache {self.file.folder}: {name} of view '
                    f'{view} differs by {worst:.3g} from what the teacher '
                    'answers now; delete the folder, it fills again'
                )


class CacheIndex:
    """Positions of samples in a cache, by ids (N,) int64 of their split."""

    def __init__(self, index: Tensor) -> None:
        self.ids = index.cpu().unique()  # sorted
        self.count = len(self.ids)
        self._on = {self.ids.device: self.ids}

    def of(self, index: Tensor) -> Tensor:
        """Positions (B,) of known ids (B,), on their device; no wait."""
        if index.device not in self._on:
            self._on[index.device] = self.ids.to(index.device)
        return torch.searchsorted(self._on[index.device], index)

    def on_host(self, index: Tensor) -> np.ndarray:
        """The same in host memory."""
        return self.of(index.cpu()).numpy()


class CacheDeclined(Exception):
    """There can be no cache; the teacher stays online."""


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        data = value.detach().cpu().contiguous()
        digest.update(f'{name}{tuple(data.shape)}{data.dtype}'.encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def flatten(buffers: dict[str, list[Any]], count: int) -> dict[str, Tensor]:
    """Recorder name -> its one record, tuples split up as ``name.i``.

    Raises:
        CacheDeclined: a recorder delivers something else than one tensor (or tuple of
            tensors) a forward with one row for each of ``count`` images.
    """
    records = {}
    for name, buffer in buffers.items():
        if len(buffer) != 1:
            raise CacheDeclined(
                f'recorder {name} delivers {len(buffer)} records a forward, '
                'and one can be stored'
            )
        if isinstance(buffer[0], Tensor):
            records[name] = buffer[0]
        else:
            records |= {f'{name}.{i}': x for i, x in enumerate(buffer[0])}
    for name, value in records.items():
        if not (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.shape[:1] == (count,)
        ):
            raise CacheDeclined(
                f'recorder {name.split(".")[0]} does not deliver one row of '
                'numbers an image'
            )
    return records


def unflatten(records: dict[str, Tensor]) -> dict[str, list[Any]]:
    """What :func:`flatten` was given."""
    buffers: dict[str, Any] = {}
    for name, value in records.items():
        stem, dot, _ = name.partition('.')
        if not dot:
            buffers[stem] = [value]
        else:
            buffers.setdefault(stem, [()])[0] += (value,)
    return buffers
