# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find image and mask files in folders side by side or by name."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hkd_mm.datasets.class_folders import split_folders
from hkd_mm.datasets.records import (
    ImageFinder,
    Record,
    composed,
    list_images,
    same_id,
    subfolders,
)
from hkd_mm.errors import UserError
from hkd_mm.io.files import printable

EMPTY, FOREGROUND = 'empty', 'foreground'  # labels, for the split
IMAGE_FOLDERS = ('image', 'images', 'img', 'imgs')
MASK_FOLDERS = ('mask', 'masks', 'segmentation', 'segmentations')
_MASK_WORD = 'segmentation'  # HAM10000_segmentations_lesion_tschandl
_MASK_ENDINGS = ('_segmentation', '_mask')


@dataclass(slots=True)
class MaskRecord(Record):
    """A :class:`hkd_mm.datasets.records.Record` with a mask, None for an empty one."""

    mask_path: str | None = None
    group: str = 'patient'


def image_folder(root: Path) -> Path | None:
    """The folder of images of a root, or None."""
    return _folder_of(root, IMAGE_FOLDERS)


def mask_folder(root: Path) -> Path | None:
    """The folder of masks of a root, or None; several are refused."""
    exact = _folder_of(root, MASK_FOLDERS)
    found = [f for f in subfolders(root) if _MASK_WORD in f.name.lower()]
    if exact or not found:
        return exact
    if len(found) > 1:
        raise UserError(
            f'the masks of {root} could lie in {found[0].name} or in '
            f'{found[1].name}; rename the one that is meant to Mask'
        )
    return found[0]


def _folder_of(root: Path, names: tuple[str, ...]) -> Path | None:
    found = [f for f in subfolders(root) if f.name.lower() in names]
    return found[0] if found else None


def stem_of(path: str | Path, folder: Path, mask: bool = False) -> str:
    """Path below a folder without suffix, of a mask without its ending."""
    name = printable(Path(path).relative_to(folder).with_suffix('').as_posix())
    for ending in _MASK_ENDINGS if mask else ():
        name = name.removesuffix(ending)
    return name


class NamedFiles(ImageFinder):
    """Find images or masks by the names that a table gives them.

    Where several files have a name, the one in a folder named as the patient is taken,
    and never one in a folder named as another of the patients, ``groups``. The names of
    masks may lack ``_segmentation`` or ``_mask``.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        groups: Iterable[str] = (),
        mask: bool = False,
        skipped: Path | None = None,
    ) -> None:
        self._groups, self._mask = set(groups), mask
        #: path below the folder without suffix -> file
        self.by_stem: dict[str, str] = {}
        super().__init__(root, folder, skipped)

    def names_of(self, path: str) -> set[str]:
        """The id, and the name without suffix and the ending of masks."""
        stem = stem_of(path, self.folder, self._mask)
        self.by_stem[stem] = path
        return {same_id(path), composed(stem.rsplit('/', 1)[-1])}

    def find(
        self, name: str, group: str | None, other: str | None = None
    ) -> str | None:
        """The file of a name and a patient, never ``other``, or None."""
        name = name.replace('\\', '/')
        for base in (self.root, self.folder) if '/' in name else ():
            if (base / name).is_file():
                # without `..`
                path = os.path.abspath(base / name)
                top = os.path.join(os.path.abspath(self.root), '')
                below = path.startswith(top)
                return str(self.root / path.removeprefix(top)) if below else path
        foreign = self._groups - {group}
        found = [
            path
            for path in self.candidates(name)
            if path != other
            and foreign.isdisjoint(Path(path).relative_to(self.folder).parts[:-1])
        ]
        if len(found) > 1:
            found = [p for p in found if group in Path(p).parts] or found
        if len(found) > 1:
            raise UserError(
                f'{name} could be {found[0]} or {found[1]}; write its path '
                f'below {self.folder} into the table'
            )
        return found[0] if found else None

    def id_of(self, path: str) -> str:
        """Path of a found file without suffix, below the folder or the root."""
        for base in (self.folder, self.root):
            if Path(path).is_relative_to(base):
                return stem_of(path, base)
        raise UserError(
            f'{path} lies outside of the data root {self.root}; move or link '
            'it there, or set data_root to a folder above both'
        )


def read_mask_folders(root: Path, without_mask: bool) -> list[MaskRecord]:
    """Pair images and masks of equal names below ``Image`` and ``Mask``.

    A first folder below ``Image`` is a patient. Labels are empty where the mask must be
    read. ``without_mask``: a missing mask is an empty one.

    Raises:
        UserError: a folder is missing, a mask has no image, or an image no mask.
    """
    parts = split_folders(root, ())
    if parts and image_folder(root):
        raise UserError(
            f'data root {root} has both an image folder and '
            f'{", ".join(sorted(parts))}; move one of them elsewhere'
        )
    if not parts:
        return _read_pair(root, root, None, without_mask)
    return [
        record
        for name, folder in sorted(parts.items())
        for record in _read_pair(root, folder, name, without_mask)
    ]


def _read_pair(
    root: Path, folder: Path, split: str | None, without_mask: bool
) -> list[MaskRecord]:
    images, masks = image_folder(folder), mask_folder(folder)
    if images is None or masks is None:
        raise UserError(
            f'{folder} has no folder {"Mask" if images else "Image"}; expected Image '
            'and Mask side by side, or a table split_dataset.csv'
        )
    by_stem = {}
    for path in list_images(masks):
        first = by_stem.setdefault(stem_of(path, masks, mask=True), path)
        if first != path:
            raise UserError(f'{first} and {path} are masks of one image')
    records = []
    for path in list_images(images):
        stem = stem_of(path, images)
        mask = by_stem.pop(stem, None)
        if mask is None and not without_mask:
            raise UserError(f'image {path} has no mask {masks / stem}.png; add it')
        patient, slash, _ = stem.partition('/')
        records.append(
            MaskRecord(
                sample_id=f'{split}/{stem}' if split else stem,
                path=str(path),
                label='' if mask else EMPTY,
                lesion_id=patient if slash else None,
                split=split,
                mask_path=mask and str(mask),
            )
        )
    if by_stem:
        orphan = next(iter(by_stem.values()))
        raise UserError(
            f'mask {orphan} has no image of the same name under {images} '
            f'({len(by_stem)} such masks); rename or remove it'
        )
    if not records:
        raise UserError(f'{images} has no image')
    return records
