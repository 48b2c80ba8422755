# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Students that come with hkd_mm, by name."""

import os
import warnings
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import FILE, Manifest

PRETRAINED = dict(ham10000='ham10000_small')  # name -> folder in ``models``
DEFAULT = 'ham10000'
_PACKAGE = Path(__file__).resolve().parents[1]
# of the repository, else of the installation
ROOTS = (_PACKAGE.parent / 'models', _PACKAGE / '.mim' / 'models')


def pretrained_folder(
    name: str = DEFAULT, remedy: str = 'give a folder of tools/export.py'
) -> Path:
    """Find the folder of a name in ``PRETRAINED``.

    Raises:
        UserError: this copy of hkd_mm comes without it; ``remedy`` is what to do.
    """
    folders = [root / PRETRAINED[name] for root in ROOTS]
    for folder in folders:
        if (folder / FILE).is_file():
            return folder
    raise UserError(
        f'the student "{name}" is not in this copy of hkd_mm (no {FILE} in '
        f'{" or ".join(map(str, folders))}); {remedy}'
    )


def folder_of(path: str) -> str | Path:
    """The folder of a student that comes with hkd_mm, by name; else the path."""
    if path not in PRETRAINED:
        return path
    if os.path.exists(path):
        warnings.warn(
            f'{path} is the student that comes with hkd_mm; write ./{path} for what '
            'has that name in this folder'
        )
    return pretrained_folder(path)


def introduction(manifest: Manifest, name: str = DEFAULT) -> str:
    """Describe a student in one line: its classes, licence, and what it is not."""
    return (
        f'{name}: {manifest.architecture}, {manifest.parameters / 1e6:.2f} M '
        f'parameters; classes {", ".join(manifest.classes)}; licence '
        f'{manifest.licence}; not a medical device'
    )
