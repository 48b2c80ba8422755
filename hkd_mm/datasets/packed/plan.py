# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a packed store is to hold, known before any image is read."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from hkd_mm.datasets.packed.hair_removal import VERSION as HAIR_VERSION
from hkd_mm.datasets.packed.hair_removal import hair_settings
from hkd_mm.datasets.packed.parts import decode
from hkd_mm.datasets.records import Record
from hkd_mm.datasets.splits import hash_list
from hkd_mm.errors import UserError


def stats(paths: Sequence[str | None], root: str) -> tuple[tuple, ...]:
    """Names below a root, sizes and times of files; None for no file.

    Raises:
        UserError: a file is not there.
    """
    names, sizes, times = [], [], []
    for path in paths:
        stat = None if path is None else _stat(path)
        names.append(None if path is None else _below(path, root))
        sizes.append(None if stat is None else stat.st_size)
        times.append(None if stat is None else stat.st_mtime_ns)
    return tuple(names), tuple(sizes), tuple(times)


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise UserError(
            f'image {path} cannot be read ({error.strerror}); replace or '
            'remove it'
        ) from None


def _below(path: str, root: str) -> str:
    path = os.path.abspath(path)
    start = os.path.join(root, '')
    return path[len(start) :] if path.startswith(start) else path


VERSION = 1  # of the pixels and of the files
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'area', 'lanczos')
_MOST = 8192  # pixels a side


@dataclass(frozen=True)
class Plan:
    """The rows of a store and how their pixels come about.

    Args:
        root: the data root, absolute.
        side: pixels a side of the square images.
        interpolation: of the resize, a word of ``mmcv.imresize``.
        ids: sample ids, sorted; row i of the store is ``ids[i]``.
        files: paths below ``root`` (absolute where they lie elsewhere).
        sizes: of the files, in bytes.
        times: when the files were last written, in nanoseconds.
        hair_removal: settings of :func:`.hair_removal.remove_hair`; None
            leaves hairs where they are.

    Attributes:
        columns: what says whether the files of a row have changed.
    """

    columns: ClassVar[tuple[str, ...]] = ('files', 'sizes', 'times')

    root: str
    side: int
    interpolation: str
    ids: tuple[str, ...]
    files: tuple[str, ...]
    sizes: tuple[int, ...]
    times: tuple[int, ...]
    hair_removal: dict[str, float] | None = None

    @property
    def rule(self) -> dict:
        """What decides, with the file, about the pixels of one image."""
        rule = dict(
            version=VERSION, side=self.side, interpolation=self.interpolation
        )
        if self.hair_removal is not None:
            rule['hair_removal'] = dict(
                self.hair_removal, version=HAIR_VERSION
            )
        return rule

    @cached_property
    def key(self) -> str:
        """SHA-256 over the rule and over name, size and time of all files."""
        rows = zip(self.ids, *self.file_columns.values())
        return hash_list([self.rule, *rows], sort_keys=True)

    @property
    def family(self) -> str:
        """Name that stores of one data root share when its files change."""
        name = os.path.basename(self.root) or 'data'
        other = '' if self.interpolation == 'area' else self.interpolation
        if self.hair_removal is not None:
            said = json.dumps(self.rule['hair_removal'], sort_keys=True)
            other += f'_hairless{zlib.crc32(said.encode()):08x}'
        return f'{name}_{self.side}{other}'

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return row_bytes(self.rule)

    @property
    def file_columns(self) -> dict[str, tuple]:
        """The columns by name, one value a row."""
        return {name: getattr(self, name) for name in self.columns}

    def path(self, row: int) -> str:
        """The image file of a row."""
        return os.path.join(self.root, self.files[row])

    def sources(self, row: int) -> Any:
        """What :meth:`worker` is told of a row."""
        return self.path(row)

    def worker(self, folder: Path) -> Callable[[tuple[int, Any]], str | None]:
        """What packs one (row, sources) into the store in a folder."""
        return partial(
            decode,
            folder,
            len(self.ids),
            self.side,
            self.interpolation,
            self.hair_removal,
        )

    def as_dict(self) -> dict:
        """The rows as ``rows.json`` keeps them."""
        return dict(
            rule=self.rule,
            root=self.root,
            ids=self.ids,
            **self.file_columns,
        )


def row_bytes(rule: dict) -> int:
    """Bytes of one row of a store: the image, then the mask if any.

    Args:
        rule: of a plan, or the header of a store.
    """
    masks = rule.get('masks')
    each = masks['channels'] * (masks['bits'] // 8) + 1 if masks else 3
    return rule['side'] * rule['side'] * each


def make_plan(
    data_root: str,
    records: Sequence[Record],
    side: int,
    interpolation: str = 'area',
    hair_removal: bool | dict | None = None,
) -> Plan:
    """Look at the files of all photographs of a data root.

    Args:
        data_root: as of the data set.
        records: photographs of all splits, in any order.
        side: see :class:`Plan`.
        interpolation: see :class:`Plan`.
        hair_removal: see :func:`.hair_removal.hair_settings`.

    Raises:
        UserError: a bad side, interpolation or setting, or a file that is not
            there.
    """
    check_pixels(side, interpolation)
    root = os.path.abspath(os.path.expanduser(data_root))
    ordered = sorted(records, key=lambda record: record.sample_id)
    files, sizes, times = stats([record.path for record in ordered], root)
    return Plan(
        root=root,
        side=side,
        interpolation=interpolation,
        ids=tuple(record.sample_id for record in ordered),
        files=files,
        sizes=sizes,
        times=times,
        hair_removal=hair_settings(hair_removal),
    )


def check_pixels(side: int, interpolation: str) -> None:
    """Refuse a bad side or interpolation."""
    if interpolation not in INTERPOLATIONS:
        raise UserError(
            f'interpolation={interpolation!r} of PackedDataset must be one '
            f'of {", ".join(INTERPOLATIONS)}'
        )
    if not 1 <= side <= _MOST:
        raise UserError(
            f'packed images of {side} pixels a side: must lie in 1..{_MOST}; '
            'set input_size or margin accordingly'
        )
