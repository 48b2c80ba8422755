# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Exported students on the Hugging Face Hub."""

import os
import re
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import FILE, read_manifest
from hkd_mm.inference.student import choose_file

_NAME = re.compile(r'[\w.-]+/[\w.-]+')


def local_folder(
    name: str | os.PathLike,
    backend: str | None,
    precision: str,
    revision: str | None,
) -> Path:
    """Return a folder of this machine, or fetch one unless it is cached.

    Of the Hub the manifest and the one file that backend and precision take
    are fetched; see :meth:`.base.StudentModel.from_pretrained`.
    """
    path, name = Path(name).expanduser(), str(name)
    if path.exists():
        return path
    if not _NAME.fullmatch(name):
        raise UserError(
            f'{name} is neither a folder that exists nor a name OWNER/NAME '
            'on the Hugging Face Hub'
        )
    folder = _fetch(name, FILE, revision)
    files = read_manifest(folder).files
    _, kind = choose_file(files, backend, precision)
    if kind not in files:
        raise UserError(f'{name} on the Hub has no "{kind}"; it has {", ".join(files)}')
    # The second file has to be of the same commit as the first.
    return _fetch(name, files[kind].path, folder.name)


def _fetch(name: str, file: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UserError(
            f'{name} is no folder here, and models of the Hub need '
            'huggingface_hub; fix it with: pip install huggingface_hub'
        ) from None
    try:
        return Path(hf_hub_download(name, file, revision=revision)).parent
    except Exception as error:  # of the Hub, its client, or the network
        raise UserError(
            f'{file} of {name} cannot be fetched from the Hugging Face Hub, '
            f'and the path {name} does not exist here ({first_line(error)})'
        ) from None


def first_line(error: Exception) -> str:
    """First line of an error's text that is not blank, else its type."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
