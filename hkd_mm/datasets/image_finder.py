# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The file of an image that a table names."""

import os
from collections import defaultdict
from pathlib import Path

from hkd_mm.errors import UserError

from .records import IMAGE_SUFFIXES, Record, image_paths


def same_id(name: str) -> str:
    """An image name without folder, suffix and ISIC's ``_downsampled``."""
    stem = name.replace('\\', '/').rsplit('/', 1)[-1]
    base, suffix = os.path.splitext(stem)
    stem = base if suffix.lower() in IMAGE_SUFFIXES else stem
    return stem.removesuffix('_downsampled')


class ImageFinder:
    """Finds the file of an image that a table names.

    The name may be a path below the root or its ``images``, a file name or
    an id without suffix. The suffix may differ (``a.jpg`` finds ``a.png``
    of a resized copy) and ``_downsampled`` may be missing on either side.
    With a folder ``images`` in the root only that one is searched, otherwise
    all folders but ``originals``.

    Args:
        root: the data root.
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
            # Path is slow and takes out no more than these
            odd = '//' in named or '/./' in named or named.startswith('./')
            return str(Path(named)) if odd else named
        found = self._by_id.get(same_id(file), [])
        if folder:
            parents = [str(base / folder) for base in (self.root, self.folder)]
            found = [
                p for p in found if (os.path.dirname(p) or '.') in parents
            ]
        if len(found) > 1:
            found = self._meant(name, file, found)
        return found[0] if found else None

    def _meant(self, name: str, file: str, found: list[str]) -> list[str]:
        """Those of several files of one id that are named most exactly."""
        for wanted in (
            lambda path: os.path.basename(path) == file,
            lambda path: Path(path).stem == file,
            lambda path: Path(path).stem == os.path.splitext(file)[0],
        ):
            exact = [path for path in found if wanted(path)]
            if exact:
                found = exact
                break
        # Archives hold some folders twice: equal sizes are taken as equal.
        if len({os.path.getsize(path) for path in found}) > 1:
            raise UserError(
                f'image {name} lies in two places, {found[0]} and '
                f'{found[1]}; remove the one that is not meant'
            )
        return found


def find_images(
    records: list[Record], root: Path, source: Path
) -> list[Record]:
    """Fill in ``path`` of every record of a table.

    Raises:
        UserError: an image is not on disk; names the first and their number.
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
