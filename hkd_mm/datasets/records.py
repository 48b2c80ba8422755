# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Records of images, and the files that they name.

Class folders and annotation tables are read into the same list of
:class:`Record`, so that splits, data sets and tools share one reader.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import incomplete_marker
from hkd_mm.io.files import is_skipped, walk
from hkd_mm.io.images import IMAGE_SUFFIXES
from hkd_mm.io.tables import is_blank

# Columns that name what an image shows, the wider one last.
GROUP_COLUMNS = ('lesion_id', 'patient_id')
_KINDS = {'lesion_id': 'lesion', 'patient_id': 'patient'}

SPLITS = ('train', 'val', 'test')


@dataclass(slots=True)
class Record:
    """One image before a split is chosen.

    Args:
        sample_id: unique within a data set.
        path: the image file.
        label: class name.
        lesion_id: shared by the images of one lesion; None when unknown.
        split: train, val or test where the data comes split, else None.
        metadata: further columns of the table, as text.

        group: kind of ``lesion_id``, for messages and split files: a lesion,
            a patient, or the connected set of both.
    """

    sample_id: str
    path: str
    label: str
    lesion_id: str | None = None
    split: str | None = None
    metadata: dict = field(default_factory=dict)
    group: str = 'lesion'


def check_root(data_root: str) -> Path:
    """The data root as an absolute path.

    Raises:
        UserError: it does not exist, is not a folder, is empty, or was left
            incomplete by the tool that makes it.
    """
    root = Path(os.path.expanduser(data_root))
    if not root.is_dir():
        what = 'is not a folder' if root.exists() else 'does not exist'
        raise UserError(
            f'data root {data_root} {what}; set '
            '--cfg-options data_root=PATH to your images'
        )
    if all(entry.name.startswith('.') for entry in root.iterdir()):
        raise UserError(
            f'data root {data_root} is empty; put the images '
            'there or set --cfg-options data_root=PATH'
        )
    tool = incomplete_marker(root)
    if tool is not None:
        raise UserError(
            f'data root {data_root} is incomplete: {tool} is writing it, or '
            'was ended before its end; run it again'
        )
    return root


def file_stamp(path: str | os.PathLike) -> tuple[int, ...]:
    """Inode, size and time of a file; empty where it cannot be read."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def subfolders(folder: Path) -> list[Path]:
    """Sorted folders that may hold images: not hidden, not ``originals``."""
    with os.scandir(folder) as entries:
        return sorted(
            folder / entry.name
            for entry in entries
            if entry.is_dir() and not is_skipped(entry.name)
        )


def list_images(folder: Path) -> list[Path]:
    """All image files under a folder, sorted by their path."""
    return [Path(path) for path in image_paths(folder)]


def image_paths(folder: str | os.PathLike) -> list[str]:
    """Sorted image files below a folder, as texts: far quicker than paths.

    Links to folders are followed, see :func:`hkd_mm.io.files.walk`.
    """
    found = []
    for parent, files in walk(folder):
        base = os.path.join(parent, '').removeprefix('./')
        found += [
            base + file
            for file in files
            if not file.startswith('.')
            and os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def check_records(records: list[Record], classes: tuple[str, ...], source: str) -> None:
    """Check records against the classes.

    Raises:
        UserError: a label outside the classes, a class without an image, or
            a repeated id.
    """
    known, seen, used = set(classes), set(), set()
    for record in records:
        if record.label not in known:
            raise UserError(
                f'{source}: image {record.sample_id} has the label '
                f'"{record.label}", which is not one of the classes '
                f'{", ".join(classes)}; correct it or set classes=[...]'
            )
        if record.sample_id in seen:
            raise UserError(
                f'{source}: image id {record.sample_id} is listed twice; '
                'ids must be unique'
            )
        seen.add(record.sample_id)
        used.add(record.label)
    missing = [name for name in classes if name not in used]
    if missing:
        raise UserError(
            f'{source}: no image of class "{missing[0]}"; add '
            'some or leave it out of classes=[...]'
        )


def same_id(name: str) -> str:
    """An image name without folder, suffix and ISIC's ``_downsampled``."""
    stem = name.replace('\\', '/').rsplit('/', 1)[-1]
    base, suffix = os.path.splitext(stem)
    stem = base if suffix.lower() in IMAGE_SUFFIXES else stem
    return stem.removesuffix('_downsampled')


class ImageFinder:
    """Find the file of an image that a table names.

    The name may be a path below the root or its ``images``, a file name or an id
    without suffix. The suffix may differ (``a.jpg`` finds ``a.png`` of a resized copy)
    and ``_downsampled`` may be missing on either side. With a folder ``images`` in the
    root only that one is searched, otherwise all folders but ``originals``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        images = root / 'images'
        self.folder = images if images.is_dir() else root
        self._by_id = defaultdict(list)
        for path in image_paths(self.folder):
            self._by_id[same_id(path)].append(path)

    def __call__(self, name: str) -> str | None:
        """The file of ``name``, or None.

        Raises:
            UserError: two different files could be meant.
        """
        folder, _, file = name.replace('\\', '/').rpartition('/')
        named = os.path.join(self.root, folder, file)
        if folder and os.path.isfile(named):
            # Path is slow and normalises only these
            odd = '//' in named or '/./' in named or named.startswith('./')
            return str(Path(named)) if odd else named
        found = self._by_id.get(same_id(file), [])
        if folder:
            parents = [str(base / folder) for base in (self.root, self.folder)]
            found = [p for p in found if (os.path.dirname(p) or '.') in parents]
        if len(found) > 1:
            found = self._closest(name, file, found)
        return found[0] if found else None

    def _closest(self, name: str, file: str, found: list[str]) -> list[str]:
        """The files of one id whose names are closest."""
        for wanted in (
            lambda path: os.path.basename(path) == file,
            lambda path: Path(path).stem == file,
            lambda path: Path(path).stem == os.path.splitext(file)[0],
        ):
            exact = [path for path in found if wanted(path)]
            if exact:
                found = exact
                break
        # some archives repeat a folder: equal sizes are taken as equal files
        if len({os.path.getsize(path) for path in found}) > 1:
            raise UserError(
                f'image {name} could be {found[0]} or {found[1]}; remove '
                'the one that is not meant'
            )
        return found


def find_images(records: list[Record], root: Path, source: Path) -> list[Record]:
    """Fill in ``path`` of every record of a table.

    Raises:
        UserError: images are missing, or a file is listed twice.
    """
    finder = ImageFinder(root)
    missing, owner = [], {}
    for record in records:
        path = finder(record.sample_id)
        if path is None:
            missing.append(record.sample_id)
        else:
            record.path = path
            first = owner.setdefault(path, record.sample_id)
            if first != record.sample_id:
                raise UserError(
                    f'{source} lists {path} twice, as {first} and as '
                    f'{record.sample_id}; take one of the rows out'
                )
    if missing:
        raise UserError(
            f'{source} lists image {missing[0]}, which is not under '
            f'{finder.folder} ({len(missing)} of {len(records)} are missing); '
            'add the images or take their rows out'
        )
    return records


def kind_of(columns: Sequence[str]) -> str:
    """What groups over some columns are called: ``lesion and patient``."""
    return ' and '.join(_KINDS.get(name, name) for name in columns)


def column_of(kind: str) -> str:
    """The columns of :func:`kind_of`: ``lesion_id and patient_id``."""
    return ' and '.join(f'{name}_id' for name in kind.split(' and '))


def groups_of_rows(
    rows: Sequence[Mapping[str, str]],
) -> tuple[list[str | None], str]:
    """Group the rows of a table by all columns that name a group.

    Returns:
        One name a row, see :func:`group_names`, and the kind of the groups.
    """
    columns = [name for name in GROUP_COLUMNS if name in rows[0]]
    values = [[row[name] for name in columns] for row in rows]
    return group_names(columns, values), kind_of(columns) or 'lesion'


def group_names(
    columns: Sequence[str], values: Sequence[Sequence[str | None]]
) -> list[str | None]:
    """Name the connected groups of images.

    Two images are in one group where they share a value in any column, or
    are linked by a chain of such images.

    Args:
        columns: names of the columns.
        values: of each image, one value a column; blank marks such as
            ``NA`` and ``-`` say that nothing is known.

    Returns:
        One name an image: the value itself where there is one column, else
        ``column=value`` of the last column known in the group, the first in
        order of the alphabet; None where an image has no value.
    """
    known = [
        [None if is_blank(value) else value.strip() for value in row] for row in values
    ]
    if len(columns) < 2:
        return [row[0] if row else None for row in known]
    images = defaultdict(list)
    for index, row in enumerate(known):
        for place, value in enumerate(row):
            if value is not None:
                images[place, value].append(index)
    numbers = connected_groups(len(known), images.values())
    names: dict[int, str] = {}
    # the last column counts, of its values the first by the alphabet
    for place, value in sorted(images, key=lambda key: (-key[0], key[1])):
        number = numbers[images[place, value][0]]
        names.setdefault(number, f'{columns[place]}={value}')
    return [names.get(number) for number in numbers]


def connected_groups(size: int, links: Iterable[Sequence[int]]) -> list[int]:
    """Number the groups of items that are connected by links.

    Args:
        size: number of items.
        links: items that belong together, each as a list.

    Returns:
        The number of its group for each item, equal within a group.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = [(link[0], item) for link in links for item in link[1:]]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends), bool), ends.T), (size, size))
    return connected_components(graph)[1].tolist()
