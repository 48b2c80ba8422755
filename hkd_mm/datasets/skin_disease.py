# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read images of skin diseases from class folders or a table."""

import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from mmpretrain.datasets import BaseDataset

from hkd_mm.datasets import class_folders
from hkd_mm.datasets.label_tables import Columns, named_columns, read_labels
from hkd_mm.datasets.records import (
    SPLITS,
    Record,
    check_records,
    check_root,
    describe_left_out,
    file_stamp,
    find_images,
    log_once,
)
from hkd_mm.datasets.split_file import default_split_file, find_split
from hkd_mm.datasets.splits import hash_list
from hkd_mm.datasets.unlabelled import NO_LABEL, list_unlabelled, without_copies
from hkd_mm.errors import UserError
from hkd_mm.io.files import printable, walk
from hkd_mm.registry import DATASETS

_KEPT = 2  # data roots whose records stay in memory
_SETTLED = 2_000_000_000  # ns; coarser clocks of file systems are not known
_TABLES = ('', '.csv', '.tab', '.tsv')
_known: dict[Hashable, 'RecordSet'] = {}  # the latest comes last


class EmptyPartError(UserError):
    """A split whose train, val or test part holds no image."""


@DATASETS.register_module()
class SkinDisease(BaseDataset):
    """Class folders, train/val/test folders of class folders, or a table.

    A table has the columns ``image,label`` and may have ``lesion_id``, ``patient_id``
    and ``split`` (train, val or test); other columns become ``metadata``.
    ``annotations.csv`` in the data root is the default. Where the data does not come
    split, a stratified split that keeps lesions and patients together is drawn once,
    and read from its file afterwards.

    One sample: ``img_path``, ``gt_label`` (int, -1 without a label), ``sample_id``
    (str), ``lesion_id`` (str or None), ``metadata`` (dict of str).

    Args:
        split: train, val, test or all.
        ann_file: the table, absolute or below the data root.
        image_col: column of the images, where it has another name.
        label_col: column of the class names, likewise.
        group_cols: columns whose equal values keep images in one part, in
            place of ``lesion_id`` and ``patient_id``: a list, or a text with commas.
        split_col: column of the parts, where it has another name.
        classes: class names in the order of the labels, or a file with one a line; None
            takes ``METAINFO``, or the existing folders or labels, sorted.
        split_file: split to use; drawn and written there when missing. None
            keeps it under ``work_dirs/splits``.
        split_ratios: see :func:`hkd_mm.datasets.splits.parse_ratios`.
        seed: of the split, independent of the training's.
        unlabelled_root: a folder of images without labels, in folders of any names,
            that are the training part in place of the labelled ones. Files of the
            validation and test parts, which stay as they are, are left out.

    Raises:
        UserError: the data, the table or the split file is invalid.
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        ann_file: str | None = None,
        classes: Sequence[str] | None = None,
        split_file: str | None = None,
        split_ratios: Sequence[float] | str = (0.8, 0.1, 0.1),
        seed: int = 42,
        pipeline: Sequence = (),
        image_col: str | None = None,
        label_col: str | None = None,
        group_cols: Sequence[str] | str | None = None,
        split_col: str | None = None,
        unlabelled_root: str | None = None,
        **kwargs,
    ) -> None:
        self.unlabelled_root = unlabelled_root
        if split not in (*SPLITS, 'all'):
            raise UserError(f'split "{split}" must be train, val, test or all')
        self.columns = named_columns(
            image_col=image_col,
            label_col=label_col,
            group_cols=group_cols,
            split_col=split_col,
        )
        self._table, self._document = ann_file, None
        classes = class_folders.class_names(classes)
        if classes is None and 'classes' not in self.METAINFO:
            root = check_root(data_root)
            classes = class_folders.find_classes(
                root, self._find_table(root), self.columns.label_col
            )
        self.split, self.split_file = split, split_file
        self.split_ratios, self.seed = split_ratios, seed
        self._records: RecordSet | None = None
        words = dict(data_root=data_root, classes=classes, pipeline=pipeline)
        super().__init__(ann_file='', **words, **kwargs)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._metainfo['classes'])

    @property
    def split_hash(self) -> str:
        """SHA-256 of the data and of the split, the same for all parts."""
        self.full_init()
        return self._document['hash']

    @property
    def unlabelled(self) -> bool:
        """Whether these are images without labels."""
        return self.unlabelled_root is not None and self.split == 'train'

    @property
    def unlabelled_hash(self) -> str | None:
        """Hash of the ids of images without labels; None of labelled ones."""
        return hash_list(sorted(self.sample_ids()))[:16] if self.unlabelled else None

    def class_counts(self) -> np.ndarray:
        """Samples per class, (C,) int64; of images without labels zeros."""
        labels = self.get_gt_labels()
        return np.bincount(labels[labels != NO_LABEL], minlength=len(self.classes))

    def records(self) -> list[Record]:
        """All images of all splits, shared by data sets that read equally."""
        return self._record_set().records

    def images(self) -> tuple[str, list[Record]]:
        """A folder and all its images, those of other splits included."""
        if self.unlabelled:
            return self.unlabelled_root, list_unlabelled(self.unlabelled_root)
        return self.data_root, self.records()

    def sample_ids(self) -> list[str]:
        return [info['sample_id'] for info in self._infos()]

    def get_gt_labels(self) -> np.ndarray:
        """Labels of this split, (N,) int64."""
        return np.array([info['gt_label'] for info in self._infos()], int)

    def load_data_list(self) -> list[dict]:
        twice = [n for n, c in Counter(self.classes).items() if c > 1]
        if twice:
            raise UserError(f'classes: "{twice[0]}" is listed twice')
        if len(self.classes) < 2:
            raise UserError(
                f'classes must name at least two classes, got {list(self.classes)}'
            )
        records = self.records()
        name = printable(os.path.basename(os.path.abspath(self.data_root)))
        self._document = self._record_set().split(
            name, self.split_file, self.split_ratios, self.seed
        )
        if self.unlabelled:
            held_out = {*self._document['val'], *self._document['test']}
            others = [r for r in records if r.sample_id in held_out]
            found = without_copies(self.images()[1], others)
            return list(map(self._data_info, found))
        kept = {
            sample_id
            for name in SPLITS
            if self.split in (name, 'all')
            for sample_id in self._document[name]
        }
        data = [self._data_info(r) for r in records if r.sample_id in kept]
        self._check_part(data)
        return data

    def _record_set(self) -> 'RecordSet':
        if self._records is None:
            root = check_root(self.data_root)
            if type(self).__init__ is SkinDisease.__init__:
                key = (type(self), os.path.abspath(root), self._table, self.columns)
                self._records = read_once(
                    (*key, self.data_root, self.classes),
                    root,
                    root / os.path.expanduser(self._table) if self._table else None,
                    lambda: self._read_all(root),
                )
            else:  # the arguments of another constructor may decide
                self._records = RecordSet(self._read_all(root))
        return self._records

    def _read_all(self, root: Path) -> list[Record]:
        if others := describe_left_out(root):
            log_once(f'{printable(self.data_root)}: {others}')
        return self._read_records(root)

    def _read_records(self, root: Path) -> list[Record]:
        records = self.read_records(root)
        source = str(self._find_table(root) or self.data_root)
        check_records(records, self.classes, source)
        return records

    def read_records(self, root: Path) -> list[Record]:
        """Read all images of a data root; a child may read them otherwise."""
        table = self._find_table(root)
        if table is None:
            return class_folders.read_class_folders(root, self.classes)
        return self._read_table(root, table)

    def _infos(self) -> Iterable[dict]:
        """Infos of this split, read-only: nothing is copied."""
        self.full_init()
        if not self.serialize_data:
            return self.data_list
        return map(self.get_data_info, range(len(self)))

    def _find_table(self, root: Path) -> Path | None:
        if self._table:
            return root / os.path.expanduser(self._table)
        default = root / class_folders.OWN
        if default.exists():
            return default
        if self.columns == Columns():
            return None
        tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() in _TABLES[1:]]
        if len(tables) != 1:
            names = ', '.join(path.name for path in tables) or 'none'
            raise UserError(
                'image_col, label_col, group_cols and split_col name columns of a '
                f'table, and {root} has no {class_folders.OWN} and not one other table '
                f'({names}); name it with ann_file=FILE'
            )
        return tables[0]

    def _read_table(self, root: Path, table: Path) -> list[Record]:
        return find_images(read_labels(table, self.columns), root, table)

    def _check_part(self, data: list[dict]) -> None:
        found = {sample['gt_label'] for sample in data}
        if not data:
            raise EmptyPartError(
                f'the {self.split} part of {self.data_root} is empty (ratios '
                f'{self._document["ratios"]}); use three split_ratios such '
                'as 80:10:10, or another split'
            )
        if self.split == 'train' and len(found) < 2:
            raise UserError(
                f'the training split of {self.data_root} holds one class '
                f'only ({self.classes[found.pop()]}); at least two are needed'
            )

    def _data_info(self, record: Record) -> dict:
        known = self._metainfo['classes']
        return dict(
            img_path=record.path,
            gt_label=NO_LABEL if self.unlabelled else known.index(record.label),
            sample_id=record.sample_id,
            lesion_id=record.lesion_id,
            metadata=record.metadata,
        )


class RecordSet:
    """Checked records of a data root, ``state`` None if they are not shared."""

    def __init__(self, records: list[Record], state: 'FileState | None' = None) -> None:
        self.records, self.state = records, state
        self._splits: dict[Hashable, tuple[dict, FileState | None]] = {}

    def split(self, name: str, split_file: str | None, ratios, seed: int) -> dict:
        """:func:`.split_file.find_split`, again only for a changed file."""
        key = (name, split_file, os.getcwd(), str(ratios), seed)
        document, state = self._splits.get(key, (None, None))
        if document is not None and (state is None or state.is_current()):
            return document
        if not any(record.split for record in self.records):
            path = split_file or default_split_file(name, self.records, ratios, seed)
            state = FileState([os.path.abspath(path)])
        document = find_split(self.records, name, split_file, ratios, seed)
        self._splits[key] = document, state
        return document


class FileState:
    """Inode, size and time of files and folders at one moment."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._before = time.time_ns() - _SETTLED
        self._states = {path: file_stamp(path) for path in paths}

    def is_current(self) -> bool:
        """Whether nothing has changed since; never of a file written just before.

        That may change once more within a tick of the file system's clock.
        """
        return all(
            state and state[-1] < self._before and file_stamp(path) == state
            for path, state in self._states.items()
        )


def read_once(
    key: Hashable, root: Path, table: Path | None, read: Callable[[], list[Record]]
) -> RecordSet:
    """Records of a data root, read again only after it has changed.

    Images added, removed or renamed change the time of their folder, and a
    table its own. The key holds everything that decides the records.
    """
    known = _known.pop(key, None)
    if known is None or not known.state.is_current():
        state = FileState(_watched(root, table))
        known = RecordSet(read(), state)
    _known[key] = known
    while len(_known) > _KEPT:
        del _known[next(iter(_known))]
    return known


def _watched(root: Path, table: Path | None) -> Iterator[str]:
    """Folders and tables whose change may change the records."""
    if table is not None:
        yield str(table)
    for folder, names in walk(root):
        yield folder
        # tables are searched in the data root and in its folders
        if Path(folder) == root or Path(folder).parent == root:
            for name in names:
                if os.path.splitext(name)[1].lower() in _TABLES:
                    yield os.path.join(folder, name)
