# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files that a table names, and folders of images and masks."""

from collections import defaultdict
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
    that is named as the patient.

    Args:
        root: the data root.
        folder: the one to search.
        mask: the names may lack ``_segmentation`` or ``_mask``.
    """

    def __init__(self, root: Path, folder: Path, mask: bool = False) -> None:
        self.root, self.folder = root, folder
        self._by_id = defaultdict(list)
        for path in list_images(folder):
            found = {same_id(path.name)}
            found.add(stem_of(path, folder, mask).rsplit('/', 1)[-1])
            for name in found:
                self._by_id[name].append(path)

    def find(self, name: str, group: str | None) -> Path | None:
        """The file, or None.

        Raises:
            UserError: several could be meant.
        """
        name = name.replace('\\', '/')
        for base in (self.root, self.folder) if '/' in name else ():
            if (base / name).is_file():
                return base / name
        found = self._by_id.get(same_id(name), [])
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
