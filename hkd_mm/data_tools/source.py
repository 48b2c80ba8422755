# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read the records of any data root for the data tools, and write tables of them."""

import argparse
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.io.progress import check_workers
from hkd_mm.io.tables import read_table, write_table

MASKED = ('LIDCNodule', 'SkinLesionMasks')
_WORDS = dict(
    image_col='the images, where the table calls it otherwise',
    label_col='the class names, likewise',
    group_cols='what keeps images in one part, several with commas between them',
    split_col='the parts train, val and test',
)
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
    add_column_arguments(parser)


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the columns of a table, see :func:`column_words`."""
    for word, what in _WORDS.items():
        option = f'--{word.replace("_", "-")}'
        parser.add_argument(option, metavar='NAME', help=f'column of {what}')


def column_words(args: argparse.Namespace) -> dict[str, str]:
    """The words of a data set that were given on the command line."""
    return {w: getattr(args, w) for w in _WORDS if getattr(args, w, None) is not None}


def check_out(out: str | os.PathLike) -> None:
    """Refuse an output that is there and no folder."""
    if os.path.lexists(out) and not os.path.isdir(out):
        raise UserError(f'--out {out} is no folder; name another place with --out')


def check_source(source: str, out: str | None = None) -> Path:
    """Refuse what is no file or folder of data, of the kernel, or holds the output."""
    path = Path(os.path.expanduser(source))
    if not os.path.exists(path):
        raise UserError(f'{source} does not exist; name a folder or file that does')
    real = Path(os.path.realpath(path))
    kernel = real.parts[1:2] in (('proc',), ('sys',), ('dev',))
    if not (path.is_file() or path.is_dir()) or (
        kernel and real.parts[1:3] != ('dev', 'shm')
    ):
        raise UserError(
            f'{source} is no folder or file of data; name the folder of your images'
        )
    if out is not None:
        check_out(out)
        if Path(os.path.realpath(out)).is_relative_to(real):
            raise UserError(
                f'--out {out} is inside of {source}, which would be read again with '
                'it; name a folder outside with --out'
            )
    return path


def read_records(args: argparse.Namespace):
    """Records, their labels in order, and name of the data; arguments as added above.

    Images with masks are labelled by whether the mask marks anything.
    """
    from hkd_mm.datasets.masks.folders import EMPTY, FOREGROUND

    check_workers(getattr(args, 'workers', 0))
    dataset = _dataset(args)
    masked = type(dataset).__name__ in MASKED
    labels = (EMPTY, FOREGROUND) if masked else dataset.classes
    return dataset.records(), labels, Path(args.data_root).resolve().name


def _dataset(args: argparse.Namespace, **options):
    from hkd_mm import datasets
    from hkd_mm.datasets.records import check_root

    if os.path.exists(args.data_root):
        check_source(args.data_root)
    root = check_root(args.data_root)
    return getattr(datasets, args.dataset or _recognise(root, args.ann_file))(
        args.data_root,
        ann_file=args.ann_file,
        classes=args.classes,
        lazy_init=True,
        **column_words(args),
        **options,
    )


def refusals(args: argparse.Namespace, document: dict) -> list[str]:
    """What a training would refuse, each as its line; see :func:`read_where`."""
    from hkd_mm.datasets.records import SPLITS
    from hkd_mm.datasets.skin_disease import EmptyPartError
    from hkd_mm.datasets.split_file import write_split

    found, path = [], args.split_file
    given = any(record.split for record in _dataset(args).records())
    options = dict(split_ratios=args.ratios, seed=args.seed)
    with tempfile.TemporaryDirectory() as folder:
        if not given and not path:  # a training would write it elsewhere
            path = os.path.join(folder, 'split.json')
            write_split(document, path)
        for part in SPLITS:
            try:
                _dataset(args, split=part, split_file=path, **options).full_init()
            except UserError as error:
                if part != 'test' or not isinstance(error, EmptyPartError):
                    found.append(str(error))
    return [*dict.fromkeys(found)]


def read_tables(args: argparse.Namespace) -> list[Path]:
    """The tables that the data set reads."""
    dataset = _dataset(args)
    root = Path(os.path.expanduser(args.data_root))
    table = dataset._find_table(root)
    if table is None:
        return []
    more = dataset.companions(table) if hasattr(dataset, 'companions') else ()
    return [table, *(p for n in more for p in (*root.glob(n), *root.glob(f'*/{n}')))]


def _recognise(root: Path, ann_file: str | None) -> str:
    tables = [*root.glob('*'), *root.glob('*/*.csv')]
    paths = [Path(ann_file)] if ann_file else tables
    for name in sorted(path.name for path in paths):
        if name.startswith(('HAM10000_metadata', 'ISIC2018_Task3')):
            return 'HAM10000'
        if name.startswith('ISIC_2019'):
            return 'ISIC2019'
    table = root / 'annotations.csv'
    asked = not ann_file and table.is_file()
    header = read_table(table)[0].keys() if asked else set()
    labelled = ann_file or ('label' in header and not header & {'mask', 'mask_image'})
    if not labelled and _has_masks(root):
        return 'LIDCNodule' if _is_deep(root) else 'SkinLesionMasks'
    return 'SkinDisease'


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


def read_where(records, args: argparse.Namespace) -> tuple[dict, dict]:
    """Find the splits of each image, leaks included: sample id -> list of splits.

    Also returned is the content of the split file, of ``args.split_file``, else drawn.
    """
    from hkd_mm.datasets.records import SPLITS
    from hkd_mm.datasets.split_file import find_split, read_split
    from hkd_mm.datasets.splits import as_document, check_data, draw_split

    if args.split_file:
        document = read_split(args.split_file)
        check_data(document, records, args.split_file)
    elif any(record.split for record in records):
        try:
            document = find_split(records, args.data_root, None, args.ratios, args.seed)
        except UserError:  # refused: look at the parts as they are
            ids = {p: [r.sample_id for r in records if r.split == p] for p in SPLITS}
            document = as_document(records, ids)
    else:
        document = draw_split(records, args.ratios, args.seed)
    where = {}
    for part in SPLITS:
        for name in document[part]:
            where.setdefault(name, []).append(part)
    return where, document


def write_annotations(path: str | os.PathLike, records: Sequence) -> None:
    """Write ``image,label``, lesions and splits if any, and the metadata."""
    columns = {
        'image': [record.sample_id for record in records],
        'label': [record.label for record in records],
    }
    for name in columns['image']:
        if re.search('[\0\r\n\ud800-\udfff]', name):
            raise UserError(
                f'image {name!a} has a name that no table can hold, a line break or '
                'letters that are no UTF-8; rename it'
            )
    for key in ('lesion_id', 'split'):
        if any(getattr(record, key) for record in records):
            columns[key] = [getattr(record, key) for record in records]
    for key in dict.fromkeys(key for record in records for key in record.metadata):
        columns[key] = [record.metadata.get(key) for record in records]
    write_table(path, [*columns], zip(*columns.values()))
