# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A static page that classifies photographs on the device of whoever opens it."""

import hashlib
import html
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from hkd_mm.errors import UserError
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.pretrained import DEFAULT, introduction, pretrained_folder
from hkd_mm.inference.student import named
from hkd_mm.io.files import replacing

RUNTIME = 'onnxruntime-web@1.30.0'  # of npm, MIT
_RUNTIME_FILES = {  # of its folder ``dist`` -> SHA-256
    'ort.wasm.bundle.min.mjs': '11e64bd8ffe11bd1a2a2f0d6275fdfbb'
    'ba7262f0b76b99b53d228a8a22ef3d90',
    'ort-wasm-simd-threaded.wasm': '3398c10d07d229bd91b364548e130e0e'
    '51a8e5704b88c7c083ebbeb78842dee2',
}
_WORKER = ('resize.js', 'photo.js', 'worker.js')
_SITE = 'site.json'
_ICONS = (180, 192, 512)  # pixels a side


def main(students: Sequence[str], out: str, runtime: str | None = None) -> None:
    """Write the site that the command line asks for."""
    sides = [_student(text) for text in students] or [_pretrained()]
    folder = write_site(sides, out, runtime)
    size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    print(f'wrote {folder}, {size / 1e6:.1f} MB: any https host can serve it')
    print(f'to try it: python -m http.server -d {folder} 8000 --bind 127.0.0.1')


def _student(text: str) -> tuple[str, SkinClassifier]:
    name, path = named(text)
    found = SkinClassifier(path, backend='onnx')
    return name or found.student.manifest.name, found


def _pretrained() -> tuple[str, SkinClassifier]:
    found = SkinClassifier(pretrained_folder(), backend='onnx')
    print(introduction(found.student.manifest))
    return DEFAULT, found


def write_site(
    students: Sequence[tuple[str, SkinClassifier]],
    out: str | os.PathLike,
    runtime: str | os.PathLike | None = None,
) -> Path:
    """Write a page for named students to the folder ``out``.

    Args:
        students: of the ONNX backend, in float32.
        out: a new or empty folder, or a site written before, which is replaced.
        runtime: folder or ``.tgz`` of the npm package ``RUNTIME``; by default what
            is cached, else what npm fetches.

    Raises:
        UserError: a student or folder that cannot be used, or no runtime.
    """
    out = Path(out).expanduser()
    if out.exists() and not (
        out.is_dir() and (_is_site(out) or not any(out.iterdir()))
    ):
        raise UserError(f'--out {out} holds something else; give a new folder')
    content = {f'ort/{k}': v for k, v in runtime_files(runtime).items()}
    described = []
    for number, (name, one) in enumerate(students, 1):
        path = f'student-{number}.onnx'
        content[path] = one.student.weights.read_bytes()
        described.append(dict(_described(name, one), file=path))
    title = ' and '.join(name for name, _ in students)
    notices = dict.fromkeys(one['notice'] for one in described)
    content.update(_page(title, ' '.join(notices)))
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in content.items()}
    site = dict(
        version=hashlib.sha256(json.dumps([hashes, described]).encode()).hexdigest(),
        parts=dict(zip(('runtime', 'wasm'), content), worker=_WORKER),
        students=described,
        files={k: dict(sha256=hashes[k], bytes=len(v)) for k, v in content.items()},
    )
    content[_SITE] = json.dumps(site, indent=1).encode()
    hashes[_SITE] = hashlib.sha256(content[_SITE]).hexdigest()
    hashes['./'] = hashes.pop('index.html')
    head = (
        f'const VERSION = "{site["version"]}";\nconst FILES = {json.dumps(hashes)};\n'
    )
    content['sw.js'] = head.encode() + _own('sw.js')
    _replace(out, content)
    return out


def _is_site(folder: Path) -> bool:
    return (folder / _SITE).is_file() and (folder / 'sw.js').is_file()


def _replace(out: Path, content: dict[str, bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.web-') as aside:
        new = Path(aside) / 'site'
        for name, data in content.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        if out.exists():
            out.rename(Path(aside) / 'old')
        new.rename(out)


def _own(name: str) -> bytes:
    return files(__package__).joinpath('web_page', name).read_bytes()


def _page(title: str, notice: str) -> dict[str, bytes]:
    """The files that are the same for every student, but for what they are called."""
    text = _own('index.html').decode()
    for key, value in dict(title=title, notice=notice).items():
        text = text.replace(f'[[{key}]]', html.escape(value))
    icons = {f'icon-{side}.png': _icon(side) for side in _ICONS}
    listed = [
        dict(src=name, sizes=f'{side}x{side}', type='image/png', purpose='any maskable')
        for side, name in zip(_ICONS, icons)
    ]
    manifest = dict(
        name=title,
        start_url='./',
        display='standalone',
        background_color='#ffffff',
        theme_color='#1d4ed8',
        icons=listed[1:],
    )
    own = {
        name: _own(name) for name in ('page.js', 'style.css', 'licences.txt', *_WORKER)
    }
    return {
        'index.html': text.encode(),
        'site.webmanifest': json.dumps(manifest).encode(),
        **own,
        **icons,
    }


def _icon(side: int) -> bytes:
    image, file = Image.new('RGB', (side, side), '#1d4ed8'), io.BytesIO()
    for share, colour in ((0.3, 'white'), (0.2, '#1d4ed8'), (0.1, 'white')):
        box = [side * (0.5 - share)] * 2 + [side * (0.5 + share)] * 2
        ImageDraw.Draw(image).ellipse(box, colour)
    image.save(file, 'PNG')
    return file.getvalue()


def _described(name: str, one: SkinClassifier) -> dict:
    """What the page knows of a student, with its answer to a picture both can draw."""
    manifest = one.student.manifest
    spec, threshold = manifest.input, manifest.threshold
    if spec.colour != 'RGB' or spec.bits != 8 or spec.window is not None:
        raise UserError(f'{name} takes {spec}; the page takes RGB of 8 bits, no window')
    height, width = 2 * spec.size[0] + 17, 3 * spec.size[1] + 5
    y, x, c = np.ogrid[:height, :width, :3]
    picture = (7 * x + 13 * y + 29 * c + (x * y >> 3) & 255).astype(np.uint8)
    return dict(
        name=name,
        architecture=manifest.architecture,
        parameters=manifest.parameters,
        classes=manifest.classes,
        temperature=manifest.temperature,
        threshold=vars(threshold),
        input=dict(size=spec.size, mean=spec.mean, std=spec.std),
        licence=manifest.licence,
        notice=manifest.notice,
        check=dict(
            size=(height, width),
            probabilities=one.probabilities(picture)[0].tolist(),
        ),
    )


def runtime_files(source: str | os.PathLike | None = None) -> dict[str, bytes]:
    """The files of ONNX Runtime Web by name, their hashes checked.

    They are kept in the user's cache folder, so that npm is asked once.
    """
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    cache = Path(base) / 'hkd_mm' / RUNTIME
    if source is not None:
        found = _read_runtime(Path(source).expanduser())
    elif all((cache / name).is_file() for name in _RUNTIME_FILES):
        found = _read_runtime(cache)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = _read_runtime(_fetch(Path(folder)))
    cache.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        with replacing(cache / name) as file:
            file.write(data)
    return found


def _fetch(folder: Path) -> Path:
    npm, reason = shutil.which('npm'), 'npm is not installed'
    if npm is not None:
        command = [npm, 'pack', '--silent', RUNTIME]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode == 0:
            return next(folder.glob('*.tgz'))
        reason = next(filter(None, done.stderr.splitlines()), 'npm failed')
    raise UserError(
        f'{RUNTIME} cannot be fetched ({reason}); with a network and npm, type '
        f'"npm pack {RUNTIME}" and give the file that it writes: --runtime FILE.tgz'
    )


def _read_runtime(source: Path) -> dict[str, bytes]:
    found = {}
    for name, known in _RUNTIME_FILES.items():
        try:
            if source.is_dir():
                places = (source / name, source / 'dist' / name)
                data = next(filter(Path.is_file, places), places[0]).read_bytes()
            else:
                with tarfile.open(source) as packed:
                    data = packed.extractfile(f'package/dist/{name}').read()
        except (OSError, tarfile.TarError, KeyError) as error:
            raise UserError(
                f'{source} has no {name} ({error}); give the file that "npm pack '
                f'{RUNTIME}" writes: --runtime FILE.tgz'
            ) from None
        if hashlib.sha256(data).hexdigest() != known:
            raise UserError(
                f'{name} of {source} is not that of {RUNTIME} (its SHA-256 differs); '
                f'remove it and type "npm pack {RUNTIME}", then --runtime FILE.tgz'
            )
        found[name] = data
    return found
