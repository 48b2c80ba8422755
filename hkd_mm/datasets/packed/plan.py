# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Contents of a packed store, known before any image is read."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.datasets.packed.hair_removal import VERSION as HAIR_VERSION
from hkd_mm.datasets.packed.hair_removal import hair_settings, remove_hair_for
from hkd_mm.datasets.records import Record
from hkd_mm.datasets.splits import hash_list
from hkd_mm.errors import UserError
from hkd_mm.io.files import printable

VERSION = 1  # of the pixels and of the files
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'area', 'lanczos')
MAX_SIDE = 8192  # pixels


@dataclass(frozen=True)
class Plan:
    """The rows of a store and how their pixels are computed.

    Args:
        root: absolute path of the data root.
        side: pixels a side of the stored images.
        ids: sample ids, sorted; row i of the store is ``ids[i]``.
        files: paths below ``root``, absolute for files outside of it.
        sizes: of the files, in bytes.
        times: when the files were last written, in nanoseconds.
        hair_removal: settings of :func:`.hair_removal.remove_hair`; None
            leaves hairs where they are.

    Attributes:
        columns: values by which changed files of a row are noticed.
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
        """Settings that decide, with the file, the pixels of one image."""
        rule = dict(version=VERSION, side=self.side, interpolation=self.interpolation)
        if self.hair_removal is not None:
            rule['hair_removal'] = dict(self.hair_removal, version=HAIR_VERSION)
        return rule

    @cached_property
    def key(self) -> str:
        """SHA-256 over the rule and over name, size and time of all files."""
        rows = zip(self.ids, *self._file_columns.values())
        return hash_list([self.rule, *rows], sort_keys=True)

    @property
    def family(self) -> str:
        """Name that stores of one data root share when its files change."""
        name = printable(os.path.basename(self.root)) or 'data'
        name = name.encode()[:100].decode(errors='ignore')
        other = '' if self.interpolation == 'area' else self.interpolation
        if self.hair_removal is not None:
            text = json.dumps(self.rule['hair_removal'], sort_keys=True)
            other += f'_hairless{zlib.crc32(text.encode()):08x}'
        return f'{name}_{self.side}{other}'

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.rule)

    @property
    def _file_columns(self) -> dict[str, tuple]:
        return {name: getattr(self, name) for name in self.columns}

    def sources(self, row: int) -> Any:
        """The argument of :attr:`reader` for a row: its image file."""
        return os.path.join(self.root, self.files[row])

    @property
    def reader(self) -> Callable[[Any], bytes]:
        """Function from the sources of a row to its bytes; can be pickled."""
        rule = dict(side=self.side, interpolation=self.interpolation)
        return partial(_image_bytes, **rule, hair_removal=self.hair_removal)

    def as_dict(self) -> dict:
        return dict(rule=self.rule, root=self.root, ids=self.ids, **self._file_columns)


def row_bytes(rule: dict) -> int:
    """Bytes of one row, image and mask, by a rule or the header of a store."""
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
    """Plan a store of all images of a data root.

    Raises:
        UserError: a bad side, interpolation or setting, or a missing file.
    """
    rows = plan_rows(data_root, records, side, interpolation)
    return Plan(**rows, hair_removal=hair_settings(hair_removal))


def plan_rows(
    data_root: str, records: Sequence[Record], side: int, interpolation: str
) -> dict[str, Any]:
    """The required arguments of :class:`Plan`, from all image files."""
    if interpolation not in INTERPOLATIONS:
        raise UserError(
            f'interpolation={interpolation!r} of PackedDataset must be one '
            f'of {", ".join(INTERPOLATIONS)}'
        )
    if not 1 <= side <= MAX_SIDE:
        raise UserError(
            f'packed images of {side} pixels a side: must lie in '
            f'1..{MAX_SIDE}; set input_size or margin accordingly'
        )
    root = os.path.abspath(os.path.expanduser(data_root))
    ordered = sorted(records, key=lambda record: record.sample_id)
    ids = tuple(record.sample_id for record in ordered)
    files, sizes, times = file_states([r.path for r in ordered], root)
    rule = dict(side=side, interpolation=interpolation)
    return dict(rule, root=root, ids=ids, files=files, sizes=sizes, times=times)


def file_states(paths: Sequence[str | None], root: str) -> tuple[tuple, tuple, tuple]:
    """Names below a root, sizes and times of files; None for no file."""
    start, rows = os.path.join(root, ''), []
    for path in paths:
        if path is None:
            rows.append((None, None, None))
            continue
        try:
            stat = os.stat(path)
        except OSError as error:
            raise UserError(
                f'image {path} cannot be read ({error.strerror}); replace or remove it'
            ) from None
        name = os.path.abspath(path).removeprefix(start)
        rows.append((name, stat.st_size, stat.st_mtime_ns))
    return tuple(zip(*rows)) or ((), (), ())


def _image_bytes(*settings, **words) -> bytes:
    return pack_image(*settings, **words).tobytes()


def pack_image(
    path: str,
    side: int,
    interpolation: str,
    hair_removal: dict[str, float] | None = None,
) -> np.ndarray:
    """Decode and resize one image to (side, side, 3) uint8, RGB.

    As ``LoadSkinImage`` followed by ``Resize(scale=(side, side),
    interpolation=interpolation)``, bit for bit; hairs are removed before.
    """
    from mmcv import imresize

    image = read_image(path)
    if hair_removal is not None:
        image = remove_hair_for(image[..., ::-1], side, hair_removal)
        image = np.ascontiguousarray(image[..., ::-1])
    image = imresize(image, (side, side), interpolation=interpolation, backend='cv2')
    return np.ascontiguousarray(image[..., ::-1])
