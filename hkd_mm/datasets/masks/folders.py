# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Records from an image and a mask folder side by side."""

from pathlib import Path

from hkd_mm.errors import UserError

from ..class_folders import split_folders
from ..records import list_images
from .mask_record import EMPTY, MaskRecord
from .named_files import image_folder, mask_folder, stem_of


def read_mask_folders(root: Path, without_mask: bool) -> list[MaskRecord]:
    """Pairs of equal names below ``Image`` and ``Mask``.

    The two lie in the root, or in each of its folders train, val and test. A
    first folder below ``Image`` is a patient. Labels are empty where the
    mask must be read.

    Args:
        root: the data root.
        without_mask: an image without a mask file has nothing to show.

    Raises:
        UserError: a folder is missing, a mask has no image, or an image no
            mask.
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
            f'{folder} has no folder {"Mask" if images else "Image"}; '
            'expected Image and Mask side by side, or a table '
            'split_dataset.csv'
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
            raise UserError(
                f'image {path} has no mask {masks / stem}.png; add it'
            )
        records.append(_record(path, stem, mask, split))
    if by_stem:
        orphan = next(iter(by_stem.values()))
        raise UserError(
            f'mask {orphan} has no image of the same name under {images} '
            f'({len(by_stem)} such masks); rename or remove it'
        )
    if not records:
        raise UserError(f'{images} has no image')
    return records


def _record(
    path: Path, stem: str, mask: Path | None, split: str | None
) -> MaskRecord:
    patient, slash, _ = stem.partition('/')
    return MaskRecord(
        sample_id=f'{split}/{stem}' if split else stem,
        path=str(path),
        label='' if mask else EMPTY,
        lesion_id=patient if slash else None,
        split=split,
        mask_path=mask and str(mask),
    )
