# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find images, and decode them while the network is at work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.io.files import walk
from hkd_mm.io.images import IMAGE_SUFFIXES

# Formats that are not read. Their files are found, to be reported, and the
# reader refuses them; or reads them, where the name is wrong.
_SUFFIXES = IMAGE_SUFFIXES.union(
    '.apng .arw .avif .cr2 .cr3 .dcm .dib .dicom .dng .gif .heic .heif .hif '
    '.j2k .jp2 .jpx .jxl .jxr .mpo .nef .orf .pbm .pgm .pnm .ppm .psd .raf '
    '.rw2 .tga'.split()
)


def distinct_paths(paths: Sequence[str]) -> list[str]:
    """Normal paths without those that are there twice, or inside another one."""
    real: dict[str, str] = {}
    for path in map(os.fspath, paths):
        if not os.path.lexists(path):
            raise UserError(f'{path} does not exist; name images or folders')
        real.setdefault(os.path.realpath(path), os.path.normpath(path))
    return [
        path
        for resolved, path in real.items()
        if not any(str(parent) in real for parent in Path(resolved).parents)
    ]


def find_images(
    paths: Iterable[str | os.PathLike],
    failed: Callable[[str, str], Any] | None = None,
    skipped: Callable[[str], Any] | None = None,
) -> Iterator[str]:
    """Yield paths of images in a fixed order.

    Folders are searched with their subfolders, each once; hidden files are left out.
    What has the suffix of an image is given, also where its format is not read.
    ``failed`` is called with what cannot be listed, or is no file, and why (without it
    that is a ``UserError``), ``skipped`` with other files.
    """

    def report(path: str, reason: str) -> None:
        if failed is None:
            raise UserError(f'{path} cannot be read ({reason})')
        failed(path, reason)

    def listed(path: str) -> bool:
        image = os.path.splitext(path)[1].lower() in _SUFFIXES
        if not image and skipped is not None:
            skipped(path)
        return image

    def odd(path: str) -> None:
        if not os.path.basename(path).startswith('.') and listed(path):
            report(path, 'it is no file, or a link to nowhere')

    def unlisted(error: OSError) -> None:
        report(error.filename, f'the folder cannot be listed ({error.strerror})')

    for path in map(os.fspath, paths):
        if not os.path.isdir(path):
            yield path
            continue
        for folder, names in walk(path, on_odd=odd, on_error=unlisted):
            for name in names:
                if not name.startswith('.') and listed(os.path.join(folder, name)):
                    yield os.path.join(folder, name)


def prepared(
    paths: Iterable[str], prepare: Callable[[str], Any], workers: int, ahead: int
) -> Iterator[tuple[str, Any]]:
    """Read images in threads, in order, at most ``ahead`` of the reader.

    Pillow and OpenCV let go of the interpreter while they work. Yields path, and what
    ``prepare`` gave, or the ``UserError`` it raised.
    """

    def read(path: str) -> tuple[str, Any]:
        try:
            return path, prepare(path)
        except UserError as error:
            return path, error

    waiting: deque = deque()
    with ThreadPoolExecutor(workers, 'decode') as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(read, path))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
