# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The folder of an export: whole, or without a manifest."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import FILE, Manifest, write_manifest
from hkd_mm.training.runtime import make_work_dir

CARD = 'README.md'
NAMES = dict(
    fp32='student.onnx',
    int8='student_int8.onnx',
    fp32_image='student_image.onnx',
    int8_image='student_int8_image.onnx',
    executorch='student.pte',
)
_PART = re.compile(r'\.(\d+)\.part')


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Make a hidden folder to write to, which is removed in the end.

    What killed exports have left is removed.

    Args:
        out: folder of the export, made where it is missing.

    Raises:
        UserError: it cannot be made or written to.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f'--out {out} is a file; give a folder')
    new = not out.exists()
    make_work_dir(str(out))
    for left in out.glob('.*.part'):
        found = _PART.fullmatch(left.name)
        if left.is_dir() and found and not _alive(int(found[1])):
            shutil.rmtree(left)
    staged = out / f'.{os.getpid()}.part'
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged)
        if new and not any(out.iterdir()):
            out.rmdir()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def move_files(staged: Path, out: Path, manifest: Manifest, card: str) -> None:
    """Move files to their folder; the manifest goes first and comes last.

    Args:
        staged: where they were written.
        out: the folder.
        manifest: lists them.
        card: text of the model card.
    """
    (staged / CARD).write_text(card, encoding='utf-8')
    for name in (FILE, *NAMES.values()):
        (out / name).unlink(missing_ok=True)
    for name in [*(spec.path for spec in manifest.files.values()), CARD]:
        with open(staged / name, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(staged / name, out / name)
    write_manifest(manifest, out)
