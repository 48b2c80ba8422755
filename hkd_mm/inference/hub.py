# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Exported students on the Hugging Face Hub."""

import os
import re
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import read_manifest
from hkd_mm.inference.manifest_fields import FILE
from hkd_mm.inference.student import default_backend, kind_of

_NAME = re.compile(r'[\w.-]+/[\w.-]+')


def place_of(
    name: str | os.PathLike,
    backend: str | None,
    precision: str,
    revision: str | None,
) -> Path:
    """A folder on this machine, or one fetched by :func:`fetch`.

    Raises:
        UserError: as of :func:`fetch`.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    return fetch(str(name), backend, precision, revision)


def fetch(
    name: str,
    backend: str | None,
    precision: str,
    revision: str | None = None,
) -> Path:
    """The folder of a model, fetched unless it lies in the Hub's cache.

    Args:
        name: ``owner/name``.
        backend: ``onnx``, ``torch`` or None; says with the next which file
            is fetched beside the manifest.
        precision: ``fp32`` or ``int8``.
        revision: branch, tag or commit.

    Raises:
        UserError: it is no such name, not there or cannot be reached, or
            huggingface_hub is missing.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f'{name} is neither a folder that exists nor a name OWNER/NAME '
            'on the Hugging Face Hub'
        )
    folder = _fetch(name, FILE, revision)
    manifest = read_manifest(folder)
    kind = kind_of(
        backend or default_backend(manifest.files, precision), precision
    )
    if kind not in manifest.files:
        raise UserError(
            f'{name} on the Hub has no "{kind}"; it has '
            f'{", ".join(manifest.files)}'
        )
    # The second file has to be of the same commit as the first.
    return _fetch(name, manifest.files[kind].path, folder.name)


def _fetch(name: str, file: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UserError(
            f'{name} is no folder here, and models of the Hub need '
            'huggingface_hub; mend it with: pip install huggingface_hub'
        ) from None
    try:
        return Path(hf_hub_download(name, file, revision=revision)).parent
    except Exception as error:  # of the Hub, its client, or the network
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = lines[0].strip() if lines else type(error).__name__
        raise UserError(
            f'{file} of {name} cannot be had from the Hugging Face Hub, and '
            f'the path {name} does not exist here ({why})'
        ) from None
