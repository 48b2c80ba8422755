# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Records of images, of class folders and tables, and the files that they name."""

import filecmp
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from mmengine.logging import MMLogger

from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import incomplete_marker
from hkd_mm.io.files import is_skipped, printable, walk
from hkd_mm.io.images import IMAGE_SUFFIXES
from hkd_mm.io.tables import is_blank

SPLITS = ('train', 'val', 'test')
# names, in lower case, of the parts of a split in folders and tables
SPLIT_NAMES = dict(
    train='train',
    training='train',
    val='val',
    valid='val',
    validation='val',
    test='test',
    testing='test',
)
_CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')
_ABSOLUTE = re.compile('([A-Za-z]:)?/')
# Beside images as a matter of course; whatever else is no image is counted.
_PAPERS = frozenset(
    '.csv .tab .tsv .txt .md .json .jsonl .xlsx .xml .html .pdf .log .yaml .yml '
    '.db .ini .py .sh'.split()
)


@dataclass(slots=True)
class Record:
    """One image before a split is chosen.

    Args:
        sample_id: unique within a data set.
        lesion_id: shared by the images of one group; None when unknown.
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
    """The data root; refused are missing, empty and incomplete ones."""
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
        names = [e.name for e in entries if e.is_dir() and not is_skipped(e.name)]
    return sorted(folder / name for name in names)


def list_images(folder: Path) -> list[Path]:
    """Sorted image files below a folder."""
    return [Path(path) for path in image_paths(folder)]


def image_paths(folder: str | os.PathLike) -> list[str]:
    """Sorted image files below a folder, as texts: far quicker than paths."""
    return sorted(path for path, suffix in _files(folder) if suffix in IMAGE_SUFFIXES)


def describe_left_out(folder: str | os.PathLike) -> str:
    """``left out 5 files that are no photographs (.gif 3, .dcm 2)``, or nothing.

    Tables and texts are not counted, nor are files without a suffix in the
    folder itself.
    """
    top = os.path.join(folder, '').removeprefix('./')
    found = Counter(
        suffix or 'without suffix'
        for path, suffix in _files(folder)
        if suffix not in IMAGE_SUFFIXES | _PAPERS
        and (suffix or os.path.dirname(path) != os.path.dirname(top))
    )
    kinds = ', '.join(f'{name} {count}' for name, count in found.most_common(8))
    more = ', ...' if len(found) > 8 else ''
    number = found.total()
    what = 'files that are no photographs' if number > 1 else 'file that is none'
    return f'left out {number} {what} ({kinds}{more})' if found else ''


def _files(folder: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """Path and suffix, in lower case, of the files below a folder."""
    for parent, names in walk(folder):
        base = os.path.join(parent, '').removeprefix('./')
        for name in names:
            if not name.startswith('.'):
                yield base + name, os.path.splitext(name)[1].lower()


@cache
def log_once(line: str) -> None:
    """Log a line once a process."""
    MMLogger.get_current_instance().info(line)


def check_records(records: list[Record], classes: tuple[str, ...], source: str) -> None:
    """Refuse a label outside the classes, a class without an image, a repeated id.

    And classes of several lines, which no table or list of names could hold.
    """
    for name in classes:
        if _CONTROL.search(name):
            raise UserError(
                f'{source}: class {name!r} has a line break or another control '
                'character in its name; rename its folder, or correct its label'
            )
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
    """An image name without folder, suffix and ISIC's ``_downsampled``.

    Unicode is composed (NFC): macOS gives names decomposed.
    """
    stem = name.replace('\\', '/').rsplit('/', 1)[-1]
    base, suffix = os.path.splitext(stem)
    stem = base if suffix.lower() in IMAGE_SUFFIXES else stem
    return composed(stem.removesuffix('_downsampled'))


def composed(name: str) -> str:
    """A file name as text in Unicode's composed form (NFC)."""
    return unicodedata.normalize('NFC', printable(name))


class ImageFinder:
    """Find the file of an image that a table names.

    The name may be a path below the root, the last folders of one, a file name or an
    id without suffix. The suffix may differ and ``_downsampled`` may be missing on
    either side. Of an absolute path of another machine the file name counts.

    Args:
        folder: the folder to search; None takes ``images`` in the root, if
            it is there, else the root.
        skipped: a folder below that is not searched.

    Attributes:
        elsewhere: names of another machine that were found by file name.
    """

    def __init__(
        self, root: Path, folder: Path | None = None, skipped: Path | None = None
    ) -> None:
        self.root, self.elsewhere = root, []
        images = root / 'images'
        self.folder = folder or (images if images.is_dir() else root)
        start = skipped and os.path.join(skipped, '')
        self._by_id = defaultdict(list)
        for path in image_paths(self.folder):
            if not (start and path.startswith(start)):
                for name in self.names_of(path):
                    self._by_id[name].append(path)

    def names_of(self, path: str) -> set[str]:
        """Ids by which a file is found."""
        return {same_id(path)}

    def named(self, name: str) -> list[str]:
        """The files of a name or id, in any folder."""
        return self._by_id.get(same_id(name), [])

    def candidates(self, name: str) -> list[str]:
        """The files of a name in folders that end as its own."""
        name = name.replace('\\', '/')
        found = self.named(name)
        folder = os.path.normpath(os.path.dirname(name))
        if _ABSOLUTE.match(name):
            self.elsewhere += [name] if found else []
        elif folder != '.':
            end = composed(f'/{folder}')
            parents = [composed(f'/{os.path.dirname(path)}') for path in found]
            found = [path for path, at in zip(found, parents) if at.endswith(end)]
        return found

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
        found = self.candidates(name)
        for wanted in (
            lambda path: os.path.basename(path) == file,
            lambda path: Path(path).stem == file,
            lambda path: Path(path).stem == os.path.splitext(file)[0],
        ):
            found = [path for path in found if wanted(path)] or found
        others = [
            path
            for path in found[1:]
            # some archives repeat a folder
            if name in self.elsewhere or not filecmp.cmp(found[0], path, shallow=False)
        ]
        if others:
            raise UserError(
                f'image {name} could be {found[0]} or {others[0]}; remove the one '
                'that is not meant, or name it by its path below the data root'
            )
        return found[0] if found else None


def find_images(records: list[Record], root: Path, source: Path) -> list[Record]:
    """Fill in ``path`` of every record; refuse missing files and twice listed ones."""
    finder = ImageFinder(root)
    missing, owner = [], {}
    for record in records:
        path = finder(record.sample_id)
        if path is None:
            missing.append(record.sample_id or '(no name)')
        else:
            record.path = path
            first = owner.setdefault(path, record.sample_id)
            if first != record.sample_id:
                raise UserError(
                    f'{source} lists {path} twice, as {first} and as '
                    f'{record.sample_id}; take one of the rows out'
                )
    if missing:
        others = describe_left_out(finder.folder)
        raise UserError(
            f'{source} lists image {missing[0]}, which is not under '
            f'{finder.folder} ({len(missing)} of {len(records)} are missing); '
            'add the images or take their rows out' + (others and f'; {others}')
        )
    log_elsewhere(finder, source)
    return records


def log_elsewhere(finder: ImageFinder, source: Path) -> None:
    """Log that paths of another machine were taken by their file names."""
    if finder.elsewhere:
        log_once(
            f'{source} names {len(finder.elsewhere)} images by paths of another '
            f'machine, such as {finder.elsewhere[0]}; they were found by their '
            f'file names below {finder.folder}'
        )


# Columns that name what an image shows, the wider one last.
GROUP_COLUMNS = ('lesion_id', 'patient_id')
_KINDS = {'lesion_id': 'lesion', 'patient_id': 'patient'}


def kind_of(columns: Sequence[str]) -> str:
    """What groups over some columns are called: ``lesion and patient``."""
    return ' and '.join(_KINDS.get(name, name) for name in columns)


def columns_of(kind: str) -> str:
    """The columns of :func:`kind_of`: ``lesion_id and patient_id``."""
    columns = {kind: name for name, kind in _KINDS.items()}
    return ' and '.join(columns.get(name, name) for name in kind.split(' and '))


def group_names(
    columns: Sequence[str], values: Sequence[Sequence[str | None]]
) -> list[str | None]:
    """Name the groups of images that share a value, or are linked by a chain of such.

    Args:
        columns: names of the columns; one that several tables have comes again.
        values: of each image, one value a column, which may be blank.

    Returns:
        One name an image: the value itself where there is one column, else
        ``column=value`` of the last column known in the group, the first in
        order of the alphabet; None where an image has no value.
    """
    known = [[None if is_blank(v) else v.strip() for v in row] for row in values]
    if len(columns) < 2:
        return [row[0] if row else None for row in known]
    images = defaultdict(list)
    for index, row in enumerate(known):
        for column, value in zip(columns, row):
            if value is not None:
                images[column, value].append(index)
    numbers = connected_groups(len(known), images.values())
    names: dict[int, str] = {}
    several = len(set(columns)) > 1
    # the last column counts, of its values the first by the alphabet
    for column, value in sorted(images, key=lambda key: (-columns.index(key[0]), key)):
        number = numbers[images[column, value][0]]
        names.setdefault(number, f'{column}={value}' if several else value)
    return [names.get(number) for number in numbers]


def connected_groups(size: int, links: Iterable[Sequence[int]]) -> list[int]:
    """Number the groups of ``size`` items, equal for items connected by links."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = [(link[0], item) for link in links for item in link[1:]]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends), bool), ends.T), (size, size))
    return connected_components(graph)[1].tolist()
