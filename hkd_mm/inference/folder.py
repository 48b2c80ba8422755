# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Finding photographs, and decoding them while the network is at work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.io.images import IMAGE_SUFFIXES

_SKIPPED = '__MACOSX'
# Of photographs that are not read. They are found, to be told of, and the
# reader refuses them; or reads them, where the name is wrong.
_OTHER_IMAGES = frozenset(
    '.apng .arw .avif .cr2 .cr3 .dcm .dib .dicom .dng .gif .heic .heif .hif '
    '.j2k .jp2 .jpx .jxl .jxr .mpo .nef .orf .pbm .pgm .pnm .ppm .psd .raf '
    '.rw2 .tga'.split()
)


def check_places(places: Sequence[str]) -> list[str]:
    """What was named, each once.

    Args:
        places: files and folders.

    Returns:
        Their normal paths, without those that lie in one of the others.

    Raises:
        UserError: one does not exist.
    """
    real: dict[str, str] = {}
    for place in map(os.fspath, places):
        if not os.path.lexists(place):
            raise UserError(f'{place} does not exist; name images or folders')
        real.setdefault(os.path.realpath(place), os.path.normpath(place))
    return [
        place
        for path, place in real.items()
        if not any(parent in real for parent in _parents(path))
    ]


def _parents(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def find_images(
    places: Iterable[str | os.PathLike],
    failed: Callable[[str, str], Any] | None = None,
    passed: Callable[[str], Any] | None = None,
) -> Iterator[str]:
    """Paths of photographs, one after another, in an order that is fixed.

    Folders are searched with what is in them; hidden files and folders are
    left out. What has the suffix of an image is given, also where its format
    is not read, so that no photograph is passed by in silence; other files
    are passed by. The names of one folder at a time are in memory.

    Args:
        places: files, taken whatever their suffix, and folders.
        failed: called with a folder that cannot be listed, and why; without
            it that is an error.
        passed: called with each file that is passed by for its suffix.

    Raises:
        UserError: a folder cannot be listed.
    """
    for place in map(os.fspath, places):
        if os.path.isdir(place):
            yield from _walk(place, (), failed, passed)
        else:
            yield place


def _walk(
    folder: str,
    above: tuple[tuple[int, int], ...],
    failed: Callable[[str, str], Any] | None,
    passed: Callable[[str], Any] | None,
) -> Iterator[str]:
    try:
        status = os.stat(folder)
        own = (status.st_dev, status.st_ino)
        if own in above:  # a link to a folder that it lies in
            return
        with os.scandir(folder) as entries:
            kinds = sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if _may_be(entry)
            )
    except OSError as error:
        if failed is None:
            raise UserError(
                f'folder {folder} cannot be read ({error.strerror})'
            ) from None
        failed(folder, f'the folder cannot be listed ({error.strerror})')
        return
    for name in (name for name, is_folder in kinds if not is_folder):
        path = os.path.join(folder, name)
        if is_image(name):
            yield path
        elif passed is not None:
            passed(path)
    for name in (name for name, is_folder in kinds if is_folder):
        place = os.path.join(folder, name)
        yield from _walk(place, (*above, own), failed, passed)


def is_image(name: str) -> bool:
    """Whether a file's suffix is that of an image, of any format."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES or suffix in _OTHER_IMAGES


def _may_be(entry: os.DirEntry) -> bool:
    if entry.name.startswith('.'):
        return False
    if entry.is_dir():
        return entry.name != _SKIPPED
    # A link to nowhere is listed, to be told of; a pipe would never end.
    return entry.is_file() or not os.path.exists(entry.path)


def prepared(
    paths: Iterable[str],
    prepare: Callable[[str], Any],
    workers: int,
    ahead: int,
) -> Iterator[tuple[str, Any]]:
    """Read photographs in threads, in order, a few ahead of the reader.

    Pillow and OpenCV let go of the interpreter while they work.

    Args:
        paths: of the photographs.
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
