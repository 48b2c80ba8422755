# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read the records of any data root for the data tools."""

import argparse
import csv
from pathlib import Path

from hkd_mm.errors import UserError

MASKED = ('LIDCNodule', 'SkinLesionMasks')
DATASETS = ('SkinDisease', 'HAM10000', 'ISIC2019', *MASKED)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the data of a tool."""
    parser.add_argument('data_root', help='folder of the images, as in the config')
    parser.add_argument(
        '--dataset',
        choices=DATASETS,
        help='how to read it (default: found by its tables)',
    )
    parser.add_argument('--ann-file', help='table, absolute or below the data root')
    parser.add_argument(
        '--classes',
        nargs='+',
        help='class names (default: those of the folders or tables)',
    )


def read_records(args: argparse.Namespace):
    """Read the images of :func:`add_source_arguments`.

    Returns:
        (list of Record, their labels in order, name of the data). Images with
        masks are labelled by whether the mask marks anything.
    """
    from hkd_mm import datasets
    from hkd_mm.datasets.masks.folders import EMPTY, FOREGROUND
    from hkd_mm.datasets.records import check_root

    root = check_root(args.data_root)
    kind = args.dataset or _recognise(root, args.ann_file)
    dataset = getattr(datasets, kind)(
        args.data_root,
        ann_file=args.ann_file,
        classes=args.classes,
        lazy_init=True,
    )
    labels = (EMPTY, FOREGROUND) if kind in MASKED else dataset.classes
    return dataset.records(), labels, root.resolve().name


def _recognise(root: Path, ann_file: str | None) -> str:
    """The data set of a root, by its tables and folders."""
    tables = [*root.glob('*'), *root.glob('*/*.csv')]
    paths = [Path(ann_file)] if ann_file else tables
    for name in sorted(path.name for path in paths):
        if name.startswith(('HAM10000_metadata', 'ISIC2018_Task3')):
            return 'HAM10000'
        if name.startswith('ISIC_2019'):
            return 'ISIC2019'
    if not (ann_file or _has_labels(root)) and _has_masks(root):
        return 'LIDCNodule' if _is_deep(root) else 'SkinLesionMasks'
    return 'SkinDisease'


def _has_labels(root: Path) -> bool:
    """Whether the table of a data root names classes and no masks."""
    table = root / 'annotations.csv'
    if not table.is_file():
        return False
    with table.open(newline='', encoding='utf-8-sig') as stream:
        header = {n.strip().lower() for n in next(csv.reader(stream), ())}
    return 'label' in header and not header & {'mask', 'mask_image'}


def _has_masks(root: Path) -> bool:
    """A table of masks, or folders of images and masks side by side."""
    from hkd_mm.datasets.masks.folders import image_folder, mask_folder

    return (root / 'split_dataset.csv').is_file() or all(
        image_folder(part) and mask_folder(part) for part in _parts(root)
    )


def _is_deep(root: Path) -> bool:
    """Whether the first image has 16 bits, as slices have."""
    from hkd_mm.datasets.masks.folders import image_folder
    from hkd_mm.datasets.records import list_images
    from hkd_mm.io.images import DEEP, reading

    part = _parts(root)[0]
    for path in list_images(image_folder(part) or part):
        try:
            with reading(path) as image:
                return image.mode[0] in DEEP
        except UserError:  # reported when all are read
            continue
    return False


def _parts(root: Path) -> list[Path]:
    from hkd_mm.datasets.class_folders import split_folders

    return [*split_folders(root, ()).values()] or [root]


def read_where(records, args: argparse.Namespace) -> tuple[dict, str]:
    """Find the splits of each image, leaks included.

    Args:
        records: of :func:`read_records`.
        args: ``split_file``, ``ratios`` and ``seed``.

    Returns:
        (sample id -> list of splits, hash of the split).

    Raises:
        UserError: the split file belongs to other data.
    """
    from hkd_mm.datasets.records import SPLITS
    from hkd_mm.datasets.split_file import read_split
    from hkd_mm.datasets.splits import as_document, check_data, draw_split

    if args.split_file:
        document = read_split(args.split_file)
        check_data(document, records, args.split_file)
    elif any(record.split for record in records):
        parts = {
            part: [r.sample_id for r in records if r.split == part] for part in SPLITS
        }
        document = as_document(records, parts)
    else:
        document = draw_split(records, args.ratios, args.seed)
    where = {}
    for part in SPLITS:
        for name in document[part]:
            where.setdefault(name, []).append(part)
    return where, document['hash']
