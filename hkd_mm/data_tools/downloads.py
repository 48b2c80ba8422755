# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""List the files of a public download, unpacked or in archives within archives."""

import filecmp
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from hkd_mm.data_tools.source import check_source
from hkd_mm.errors import UserError, first_line
from hkd_mm.io.files import is_skipped, walk
from hkd_mm.io.images import IMAGE_SUFFIXES

TABLES = ('', '.csv', '.tab')  # the suffix of HAM10000_metadata is empty
_TARS = ('.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz')
_ARCHIVES = ('.zip', *_TARS)
_CLOSED = ('.7z', '.rar', '.gz', '.bz2', '.xz', '.zst')  # and no tar
# Images hardly shrink. What unpacks to more than a hundred times is a bomb.
_MOST, _SMALL = 100, 2**28
_DEEPEST = 5  # archives within archives
_DAMAGED = (
    (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
    + (struct.error, RuntimeError, ValueError, KeyError)
)  # fmt: skip
# name, size, why it is refused, how to open it
Member = tuple[bytes, int, str, Callable[[], IO[bytes]]]


class Entry(NamedTuple):
    """One file of a download."""

    name: PurePosixPath  # below its source or archive, composed and fit for a table
    path: Path  # of the file, or of what was unpacked of it


def list_downloads(
    sources: list[str], out: str, stack: ExitStack, folders_name_classes: bool = True
) -> tuple[list[Entry], Counter[str]]:
    """List the images and tables of folders and archives, nested ones included.

    Archives are unpacked below ``out``, for as long as the stack is open; one that is
    damaged, encrypted, leads out of itself, or unpacks to far more than its size is
    refused. Also returned is how many files of other suffixes were passed over.
    """
    entries: dict[PurePosixPath, list[Entry]] = {}
    skipped: Counter[str] = Counter()
    for source in sources:
        refuse = _refuse_twin if folders_name_classes else None
        for entry in _find(check_source(source, out), out, stack, refuse):
            suffix = entry.name.suffix.lower()
            if suffix not in (*IMAGE_SUFFIXES, *TABLES):
                skipped[suffix] += 1
                continue
            known = entries.setdefault(entry.name, [])
            # an archive often lies beside what was unpacked of it
            if not any(filecmp.cmp(entry.path, e.path, False) for e in known):
                known.append(entry)
    return [entry for known in entries.values() for entry in known], skipped


def _find(
    source: Path, out: str, stack: ExitStack, on_repeat: Callable[[str], None] | None
) -> Iterator[Entry]:
    if source.is_file():
        if _is_archive(source) or zipfile.is_zipfile(source):
            yield from _unpack(source, out, stack)
        elif source.name.lower().endswith(_CLOSED):
            raise UserError(
                f'{source} cannot be unpacked here; unpack it, and name the folder'
            )
        else:
            yield Entry(_clean(os.fsencode(source.name)), source)
        return
    home = Path(os.path.realpath(out))
    for folder, files in walk(source, on_repeat):
        real = Path(os.path.realpath(folder))
        if real == home or real.is_relative_to(home / 'images'):
            raise UserError(
                f'{folder} links to --out {out}, which would be read again; '
                'remove the link, or name another folder'
            )
        below = os.path.relpath(folder, source)
        for file in files:
            path = Path(folder, file)
            if _is_archive(path):
                yield from _unpack(path, out, stack)
            elif not file.startswith('.'):
                yield Entry(_clean(os.fsencode(os.path.join(below, file))), path)


def _refuse_twin(folder: str) -> None:
    """Refuse a folder that was read by a link before, unless the link is a loop."""
    real = os.path.realpath(folder)
    if not Path(os.path.realpath(os.path.dirname(folder))).is_relative_to(real):
        raise UserError(f'{folder} is read twice, as a link leads there; remove that')


def _is_archive(path: Path | PurePosixPath) -> bool:
    return path.name.lower().endswith(_ARCHIVES)


def _clean(raw: bytes, slashes: str = '_') -> PurePosixPath:
    """A name that tables and other systems can hold, of the bytes of any name.

    Names that are no UTF-8 come from Windows (its letters are C0 to FF), else from DOS,
    as the zip format wants it. ``slashes`` stands for backslashes.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        windows = min(byte for byte in raw if byte > 127) >= 0xC0
        text = raw.decode('cp1252' if windows else 'cp437')
    text = unicodedata.normalize('NFC', text).replace('\\', slashes)
    text = re.sub(r'[\x00-\x1f\x7f\x85\u2028\u2029]', '_', text)
    parts = [part.strip() or '_' for part in text.split('/') if part not in ('', '.')]
    return PurePosixPath(*parts)


def _unpack(source: Path, out: str, stack: ExitStack) -> Iterator[Entry]:
    """Unpack images and tables of an archive, and of the archives in it."""
    Path(out).mkdir(parents=True, exist_ok=True)
    made = tempfile.TemporaryDirectory(prefix='.unpacked-', dir=out)
    folder = Path(stack.enter_context(made))
    most, total, count = max(_SMALL, _MOST * source.stat().st_size), 0, 0
    waiting = [(source, str(source), 1)]
    while waiting:
        archive, label, depth = waiting.pop()
        try:
            for raw, size, why, open_member in _members(archive):
                total += size
                if total > most or depth > _DEEPEST:
                    raise UserError(
                        f'archive {label} unpacks to more than {most / 1e6:.0f} MB, or '
                        f'holds more than {_DEEPEST} archives within each other; if '
                        'you trust it, unpack it yourself and name the folder'
                    )
                name = _clean(raw, '/')
                *above, file = name.parts
                if '..' in above or re.match(rb'[/\\]|[A-Za-z]:[/\\]', raw):
                    why = 'leads out of it'
                elif file.startswith('.') or any(map(is_skipped, above)):
                    continue
                if why:
                    raise UserError(
                        f'archive {label} holds {name}, which {why}; unpack it '
                        'yourself, if you trust it, and name the folder'
                    )
                count += 1
                ending = next(filter(name.name.lower().endswith, _TARS), name.suffix)
                target = folder / f'{count}{ending[:9].lower()}'
                if name.suffix.lower() in TABLES:  # messages name it
                    target = folder / str(count) / file[-200:]
                    target.parent.mkdir()
                elif not (_is_archive(name) or name.suffix.lower() in IMAGE_SUFFIXES):
                    yield Entry(name, target)
                    continue
                with open_member() as content, open(target, 'wb') as copy:
                    shutil.copyfileobj(content, copy)
                if _is_archive(name):
                    waiting.append((target, f'{label}:{name}', depth + 1))
                else:
                    yield Entry(name, target)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # such as a full disk
                raise
            raise UserError(
                f'archive {label} is damaged ({first_line(error)}); download it again'
            ) from None


def _members(path: Path) -> Iterator[Member]:
    """The files of an archive, each to be read before the next is asked for."""
    if not path.name.lower().endswith(_TARS):
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                if info.filename.endswith(('/', '\\')):
                    continue
                why = 'is encrypted' if info.flag_bits & 1 else ''
                if stat.S_ISLNK(info.external_attr >> 16):
                    why = 'is a link'
                utf8 = info.flag_bits & 0x800
                raw = info.filename.encode('utf-8' if utf8 else 'cp437')
                yield raw, info.file_size, why, partial(archive.open, info)
        return
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isdir():
                continue
            try:  # links are followed to files of the archive, never out of it
                content = archive.extractfile(info)
            except KeyError:
                content = None  # a link to what is not there
            why = '' if content else 'is no file, or a link to a folder'
            size = content.seek(0, os.SEEK_END) if content else 0
            raw = info.name.encode('utf-8', 'surrogateescape')
            yield raw, size, why, partial(_rewound, content)
        archive.fileobj.seek(archive.offset)
        # up to the end, where compressed files hold their checksum
        if not archive.fileobj.read(2**24).startswith(bytes(512)):
            raise EOFError('it ends too early')


def _rewound(content: IO[bytes]) -> IO[bytes]:
    content.seek(0)
    return content


def place(entry: Entry, target: Path) -> bool:
    """Put a file into place by hard link or copy; False if one of its size is there."""
    source = entry.path.resolve()
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f'.{os.getpid()}.part')
    aside.unlink(missing_ok=True)  # of a killed run, maybe a link to an original
    try:
        os.link(source, aside)
    except OSError:  # another disk, or no links there
        shutil.copyfile(source, aside)
    os.replace(aside, target)
    return True
