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
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference import pretrained
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.student import named
from hkd_mm.io.files import replacing

RUNTIME = 'onnxruntime-web@1.30.0'  # of npm, MIT
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
    size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
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
        out: a new or empty folder, or a site written before, whose files are replaced;
            others in it stay.
        runtime: as of :func:`runtime_files`.

    Raises:
        UserError: a student or folder that cannot be used, or no runtime.
    """
    out = Path(out).expanduser()
    if out.exists() and not (out / _SITE).is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise UserError(f'--out {out} holds something else; give a new folder')
    content = {f'ort/{k}': v for k, v in runtime_files(runtime).items()}
    parts = dict(zip(('runtime', 'wasm'), content), worker=_WORKERS)
    described = [_described(*student) for student in students]
    for one, (_, student) in zip(described, students):
        one['file'] = f'student-{len(content) - 1}.onnx'
        content[one['file']] = student.student.weights.read_bytes()
        licence = student.student.weights.with_name('LICENSE')
        one['terms'] = licence.read_text('utf-8') if licence.is_file() else ''
    content.update((name, _own(name)) for name in (*_OWN, *_WORKERS))
    page = content['index.html'].decode()
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
    head = (
        f'const VERSION = "{site["version"]}";\nconst FILES = {json.dumps(hashes)};\n'
    )
    content['sw.js'] = head.encode() + _own('sw.js')
    (out / 'ort').mkdir(parents=True, exist_ok=True)
    for name, data in content.items():  # those that name the others last
        with replacing(out / name) as file:
            file.write(data)
    for path in out.glob('student-*.onnx'):
        if path.name not in content:
            path.unlink()
    return out


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
    if source is None and all((cache / name).is_file() for name in _RUNTIME_FILES):
        with suppress(UserError):  # damaged, so it is fetched again
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
    raise UserError(
        f'{RUNTIME} cannot be fetched ({reason}); with a network and npm, type '
        f'"npm pack {RUNTIME}" and give the file that it writes: --runtime FILE.tgz'
    )


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
            raise UserError(
                f'{source} has no {name} of {RUNTIME} ({why}); type "npm pack '
                f'{RUNTIME}" and give the file that it writes: --runtime FILE.tgz'
            )
    return found
