# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Find images, and decode them while the network is at work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.io.images import IMAGE_SUFFIXES

_SKIPPED = '__MACOSX'
# Formats that are not read. Their files are found, to be reported, and the
# reader refuses them; or reads them, where the name is wrong.
_OTHER_IMAGES = frozenset(
    '.apng .arw .avif .cr2 .cr3 .dcm .dib .dicom .dng .gif .heic .heif .hif '
    '.j2k .jp2 .jpx .jxl .jxr .mpo .nef .orf .pbm .pgm .pnm .ppm .psd .raf '
    '.rw2 .tga'.split()
)


def distinct_paths(paths: Sequence[str]) -> list[str]:
    """Drop files and folders that are named twice, or inside another one.

    Returns:
        Their normal paths.

    Raises:
        UserError: one does not exist.
    """
    real: dict[str, str] = {}
    for path in map(os.fspath, paths):
        if not os.path.lexists(path):
            raise UserError(f'{path} does not exist; name images or folders')
        real.setdefault(os.path.realpath(path), os.path.normpath(path))
    return [
        path
        for resolved, path in real.items()
        if not any(parent in real for parent in _parents(resolved))
    ]


def _parents(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def find_images(
    paths: Iterable[str | os.PathLike],
    failed: Callable[[str, str], Any] | None = None,
    skipped: Callable[[str], Any] | None = None,
) -> Iterator[str]:
    """Yield paths of images in a fixed order.

    Folders are searched with their subfolders; hidden files and folders are
    left out. What has the suffix of an image is given, also where its format
    is not read, so that no image is skipped in silence; other files are
    skipped. The names of one folder at a time are in memory.

    Args:
        paths: files, taken whatever their suffix, and folders.
        failed: called with a folder that cannot be listed, and why; without
            it that is an error.
        skipped: called with each file that is skipped for its suffix.

    Raises:
        UserError: a folder cannot be listed.
    """
    for path in map(os.fspath, paths):
        if os.path.isdir(path):
            yield from _walk(path, (), failed, skipped)
        else:
            yield path


def _walk(
    folder: str,
    above: tuple[tuple[int, int], ...],
    failed: Callable[[str, str], Any] | None,
    skipped: Callable[[str], Any] | None,
) -> Iterator[str]:
    try:
        status = os.stat(folder)
        own = (status.st_dev, status.st_ino)
        if own in above:  # a link to a folder around it
            return
        with os.scandir(folder) as entries:
            kept = sorted(
                (entry.is_dir(), entry.name)
                for entry in entries
                if _may_be_image(entry)
            )
    except OSError as error:
        if failed is None:
            raise UserError(
                f'folder {folder} cannot be read ({error.strerror})'
            ) from None
        failed(folder, f'the folder cannot be listed ({error.strerror})')
        return
    for is_folder, name in kept:  # files first
        path = os.path.join(folder, name)
        if is_folder:
            yield from _walk(path, (*above, own), failed, skipped)
        elif _has_image_suffix(name):
            yield path
        elif skipped is not None:
            skipped(path)


def _has_image_suffix(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES or suffix in _OTHER_IMAGES


def _may_be_image(entry: os.DirEntry) -> bool:
    if entry.name.startswith('.'):
        return False
    if entry.is_dir():
        return entry.name != _SKIPPED
    # A link to nowhere is listed, to be reported; a pipe would never end.
    return entry.is_file() or not os.path.exists(entry.path)


def prepared(
    paths: Iterable[str],
    prepare: Callable[[str], Any],
    workers: int,
    ahead: int,
) -> Iterator[tuple[str, Any]]:
    """Read images in threads, in order, a few ahead of the reader.

    Pillow and OpenCV let go of the interpreter while they work.

    Args:
        paths: of the images.
        prepare: reads one.
        workers: threads.
        ahead: how many may wait, which bounds the memory.

    Yields:
        Path, and what ``prepare`` gave, or the ``UserError`` it raised.
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
