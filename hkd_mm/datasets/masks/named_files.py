# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files that a table names, and folders of images and masks."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from hkd_mm.errors import UserError

from ..image_finder import same_id
from ..records import list_images, subfolders

IMAGE_FOLDERS = ('image', 'images', 'img', 'imgs')
MASK_FOLDERS = ('mask', 'masks', 'segmentation', 'segmentations')
_MASK_ENDINGS = ('_segmentation', '_mask')


def folder_of(root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder of a root with one of some names, in any case."""
    found = [f for f in subfolders(root) if f.name.lower() in names]
    return found[0] if found else None


def stem_of(path: Path, folder: Path, mask: bool = False) -> str:
    """Path below a folder without suffix, of a mask without its ending."""
    name = path.relative_to(folder).with_suffix('').as_posix()
    for ending in _MASK_ENDINGS if mask else ():
        name = name.removesuffix(ending)
    return name


class NamedFiles:
    """Finds files by the names that a table gives them.

    A name is a path below the data root or below the folder, or a file name
    or an id without suffix; where several files have it, the one in a folder
    that is named as the patient. A file in a folder that is named as another
    patient is never taken.

    Args:
        root: the data root.
        folder: the one to search.
        groups: all patients of the table.
        mask: the names may lack ``_segmentation`` or ``_mask``.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        groups: Iterable[str] = (),
        mask: bool = False,
    ) -> None:
        self.root, self.folder, self._groups = root, folder, set(groups)
        self._by_id = defaultdict(list)
        self._by_stem = {}
        for path in list_images(folder):
            stem = stem_of(path, folder, mask)
            self._by_stem[stem] = path
            for name in {same_id(path.name), stem.rsplit('/', 1)[-1]}:
                self._by_id[name].append(path)

    def at(self, stem: str) -> Path | None:
        """The file of a path below the folder without suffix, or None."""
        return self._by_stem.get(stem)

    def find(self, name: str, group: str | None) -> Path | None:
        """The file, or None.

        Raises:
            UserError: several could be meant.
        """
        name = name.replace('\\', '/')
        for base in (self.root, self.folder) if '/' in name else ():
            if (base / name).is_file():
                return base / name
        foreign = self._groups - {group}
        found = [
            path
            for path in self._by_id.get(same_id(name), [])
            if foreign.isdisjoint(path.relative_to(self.folder).parts[:-1])
        ]
        parents = Path(name).parent.parts
        if parents:
            count = len(parents)
            found = [p for p in found if p.parent.parts[-count:] == parents]
        if len(found) > 1:
            found = [p for p in found if group in p.parts] or found
        if len(found) > 1:
            raise UserError(
                f'{name} could be {found[0]} or {found[1]}; write its path '
                f'below {self.folder} into the table'
            )
        return found[0] if found else None
