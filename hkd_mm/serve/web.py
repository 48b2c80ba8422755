# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A static page that classifies photographs on the device of whoever opens it."""

import hashlib
import html
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib.resources import files
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference import pretrained
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.student import named
from hkd_mm.io.files import read_record, replacing

RUNTIME = 'onnxruntime-web@1.30.0'  # of npm, MIT
_REMEDY = f'type "npm pack {RUNTIME}" and give what it writes: --runtime FILE.tgz'
_RUNTIME_FILES = {  # of its folder ``dist`` -> SHA-256
    'ort.wasm.bundle.min.mjs': '11e64bd8ffe11bd1a2a2f0d6275fdfbb'
    'ba7262f0b76b99b53d228a8a22ef3d90',
    'ort-wasm-simd-threaded.wasm': '3398c10d07d229bd91b364548e130e0e'
    '51a8e5704b88c7c083ebbeb78842dee2',
}
_WORKERS = ('resize.js', 'photo.js', 'worker.js')
_OWN = 'index.html page.js style.css icon.png site.webmanifest licences.txt'.split()
_SITE = 'site.json'


def main(students: Sequence[str], out: str, runtime: str | None = None) -> None:
    """Write the site that the command line asks for."""
    sides = [_student(text) for text in students or [pretrained.DEFAULT]]
    if not students:
        print(pretrained.introduction(sides[0][1].student.manifest))
    folder = write_site(sides, out, runtime)
    size = sum(one['bytes'] for one in read_record(folder / _SITE)['files'].values())
    print(f'wrote {folder}, {size / 1e6:.1f} MB: any https host can serve it')
    print(f'to try it: python -m http.server -d {folder} 8000 --bind 127.0.0.1')


def _student(text: str) -> tuple[str, SkinClassifier]:
    name, path = named(text)
    found = SkinClassifier(pretrained.folder_of(path), backend='onnx')
    known = path if path in pretrained.PRETRAINED else found.student.manifest.name
    return name or known, found


def write_site(
    students: Sequence[tuple[str, SkinClassifier]],
    out: str | os.PathLike,
    runtime: str | os.PathLike | None = None,
) -> Path:
    """Write a page for named students to the folder ``out``.

    Args:
        students: of the ONNX backend, in float32.
        out: a new or empty folder, or that of a site written before, whose files are
            replaced, or all stay where that fails; other files in it stay.
        runtime: as of :func:`runtime_files`.

    Raises:
        UserError: a student or folder that cannot be used, or no runtime.
    """
    out = Path(out).expanduser().resolve()
    old = _listed(out)
    content = {f'ort/{k}': v for k, v in runtime_files(runtime).items()}
    parts = dict(zip(('runtime', 'wasm'), content), worker=_WORKERS)
    described = [_described(*student) for student in students]
    for i, (one, (_, student)) in enumerate(zip(described, students), 1):
        one['file'] = f'student-{i}.onnx'
        content[one['file']] = student.student.weights.read_bytes()
        if (licence := student.student.weights.with_name('LICENSE')).is_file():
            one['terms'] = f'student-{i}.licence.txt'
            content[one['terms']] = licence.read_bytes()
    content.update((name, _own(name)) for name in (*_OWN, *_WORKERS))
    script = f'page.js?{_hash(content["page.js"])}'  # caches may hold an older one
    page = content['index.html'].decode().replace('page.js', script)
    for key in ('name', 'notice'):
        text = ' and '.join(dict.fromkeys(one[key] for one in described))
        page = page.replace(f'[[{key}]]', html.escape(text))
    content['index.html'] = page.encode()
    known = {k: dict(sha256=_hash(v), bytes=len(v)) for k, v in content.items()}
    site = dict(parts=parts, students=described, files=known)
    site['version'] = _hash(json.dumps(site).encode())
    content[_SITE] = json.dumps(site, indent=1).encode()
    hashes = {k: _hash(v) for k, v in content.items()}
    hashes['./'] = hashes.pop('index.html')
    head = f'const VERSION = "{site["version"]}"; const FILES = {json.dumps(hashes)};\n'
    content['sw.js'] = head.encode() + _own('sw.js')
    if clash := [k for k in content if k not in old and (out / k).exists()]:
        raise UserError(f'--out {out} holds {clash[0]} of others; give a new folder')
    (out / 'ort').mkdir(parents=True, exist_ok=True)
    try:
        _write(out, content, old)
    except BaseException:
        _write(out, old, content)
        raise
    return out


def _listed(out: Path) -> dict[str, bytes]:
    """The files of the site that ``out`` holds, without others."""
    site = read_record(out / _SITE)
    if not {'parts', 'students', 'files'} <= site.keys():
        if out.is_file() or any(path.is_file() for path in out.rglob('*')):
            raise UserError(f'--out {out} holds something else; give a new folder')
        return {}
    paths = {name: (out / name).resolve() for name in (*site['files'], _SITE, 'sw.js')}
    inside = {k: v for k, v in paths.items() if v.is_file() and out in v.parents}
    return {name: path.read_bytes() for name, path in inside.items()}


def _write(out: Path, content: dict[str, bytes], before: dict[str, bytes]) -> None:
    """Write all files, then let each take its name; remove others that were before."""
    with ExitStack() as written:
        for name, data in reversed(content.items()):  # they are left the other way
            written.enter_context(replacing(out / name)).write(data)
    for name in before.keys() - content.keys():
        (out / name).unlink(missing_ok=True)


def _own(name: str) -> bytes:
    return files(__package__).joinpath('web_page', name).read_bytes()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _described(name: str, one: SkinClassifier) -> dict:
    """What the page knows of a student, with its answer to a picture both can draw."""
    manifest = one.student.manifest
    spec = manifest.input
    if spec.colour != 'RGB' or spec.bits != 8 or spec.window is not None:
        raise UserError(f'{name} takes {spec}; the page takes RGB of 8 bits, no window')
    height, width = size = (2 * spec.size[0] + 17, 3 * spec.size[1] + 5)
    y, x, c = np.ogrid[:height, :width, :3]
    picture = (7 * x + 13 * y + 29 * c + (x * y >> 3) & 255).astype(np.uint8)
    check = dict(size=size, probabilities=one.probabilities(picture)[0].tolist())
    kept = 'architecture parameters classes temperature licence notice'.split()
    return dict(
        name=name,
        threshold=vars(manifest.threshold),
        input=vars(spec),
        check=check,
        **{key: getattr(manifest, key) for key in kept},
    )


def runtime_files(source: str | os.PathLike | None = None) -> dict[str, bytes]:
    """The files of ONNX Runtime Web by name, their hashes checked.

    Args:
        source: folder or ``.tgz`` of the npm package ``RUNTIME``; by default what the
            cache folder of the user has, else what npm fetches, which is kept there.
    """
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    cache = Path(base) / 'hkd_mm' / RUNTIME
    if source is None:
        with suppress(UserError):  # absent or damaged, so it is fetched
            return _read_runtime(cache)
    with tempfile.TemporaryDirectory() as folder:
        found = _read_runtime(Path(source or _fetch(folder)).expanduser())
    with suppress(OSError):  # no cache here: next time it is fetched again
        cache.mkdir(parents=True, exist_ok=True)
        for name, data in found.items():
            with replacing(cache / name) as file:
                file.write(data)
    return found


def _fetch(folder: str) -> Path:
    npm, reason = shutil.which('npm'), 'npm is not installed'
    if npm is not None:
        command = [npm, 'pack', '--silent', RUNTIME]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode == 0:
            return next(Path(folder).glob('*.tgz'))
        reason = next(filter(None, done.stderr.splitlines()), 'npm failed')
    raise UserError(f'{RUNTIME} cannot be fetched ({reason}); {_REMEDY}')


def _read_runtime(source: Path) -> dict[str, bytes]:
    found, why = {}, 'its SHA-256 is another'
    for name, known in _RUNTIME_FILES.items():
        try:
            if source.is_dir():
                inside = source / 'dist' / name
                path = inside if inside.is_file() else source / name
                found[name] = path.read_bytes()
            else:
                with tarfile.open(source) as packed:
                    found[name] = packed.extractfile(f'package/dist/{name}').read()
        except (OSError, EOFError, tarfile.TarError, zlib.error, KeyError) as error:
            why = str(error)
        if _hash(found.get(name, b'')) != known:
            raise UserError(f'{source} has no {name} of {RUNTIME} ({why}); {_REMEDY}')
    return found
