# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The static page in a real browser: it answers as Python does, and sends nothing."""

import gzip
import io
import json
import os
import re
import shutil
import struct
import subprocess
import threading
import time
import zlib
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from exported import write_tiny_manifest
from PIL import Image

from hkd_mm.errors import UserError
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.manifest import file_spec
from hkd_mm.io.images import read_rgb
from hkd_mm.serve import web

CHROME = shutil.which('chromium') or shutil.which('google-chrome')
NAMES = ('akiec', 'bcc', 'mel', 'nv')
SIZES = (48, 40), (64, 64)


def export(folder, size, threshold=0.6):
    """A convolution, then a linear layer that sees every place."""
    pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.3, (6, 3, 3, 3))
    count = 6 * (size[0] // 2) * (size[1] // 2)
    linear = rng.normal(0, 3 / count**0.5, (count, len(NAMES)))
    weights = dict(kernel=kernel, linear=linear)
    graph = helper.make_graph(
        [
            helper.make_node(
                'Conv', ['images', 'kernel'], ['maps'], strides=[2, 2], pads=[1] * 4
            ),
            helper.make_node('Relu', ['maps'], ['bent']),
            helper.make_node('Flatten', ['bent'], ['flat']),
            helper.make_node('MatMul', ['flat', 'linear'], ['logits']),
        ],
        'tiny',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, ['N', 3, *size])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, ['N', len(NAMES)])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10
    )
    folder.mkdir(parents=True)
    (folder / 'student.onnx').write_bytes(model.SerializeToString())
    spec = file_spec(folder / 'student.onnx', 'tensor', 'logits')
    write_tiny_manifest(folder, NAMES, threshold, size, fp32=spec)
    return folder


@pytest.fixture(scope='module')
def runtime():
    """Where the runtime is, as ``--runtime`` takes it: None is the cache."""
    try:
        web.runtime_files()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def students(tmp_path_factory):
    root = tmp_path_factory.mktemp('exports')
    return [
        (f'student {i}', SkinClassifier(export(root / str(i), size), backend='onnx'))
        for i, size in enumerate(SIZES)
    ]


@contextmanager
def serving(site, **headers):
    """A server of a site; ``asked`` are the requests that it has seen."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def end_headers(self):
            for key, value in headers.items():
                self.send_header(key, value)
            super().end_headers()

        def log_message(self, *args):
            asked.append(getattr(self, 'requestline', args))

    found = ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(site)))
    found.asked, found.site = asked, site
    found.address = f'http://127.0.0.1:{found.server_address[1]}/'
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        found.shutdown()
        found.server_close()


@pytest.fixture(scope='module')
def server(runtime, students, tmp_path_factory):
    site = web.write_site(students, tmp_path_factory.mktemp('web') / 'site')
    with serving(site) as found:
        yield found


@pytest.fixture(scope='module')
def browser():
    if CHROME is None:
        pytest.skip('no Chromium on this machine')
    pytest.importorskip('playwright')
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROME, args=['--no-sandbox', '--disable-dev-shm-usage']
        )
        yield found
        found.close()


def opened(context, server):
    tab = context.new_page()
    tab.said = []
    tab.on('console', lambda m: tab.said.append((m.type, m.text)))
    tab.on('pageerror', lambda error: tab.said.append(('error', str(error))))
    tab.goto(server.address)
    tab.wait_for_selector('html[data-state]', state='attached', timeout=120_000)
    return tab


@pytest.fixture(scope='module')
def page(server, browser):
    context = browser.new_context(viewport=dict(width=390, height=800))
    yield opened(context, server)
    context.close()


def give(page, path):
    """Drop a file; the probabilities, or what is said instead."""
    page.evaluate(
        "for (const one of document.querySelectorAll('.result, .refusals')) "
        'one.replaceChildren()'
    )
    page.set_input_files('.drop input', path)
    page.wait_for_selector('.sides, .refusal', timeout=120_000)
    if refusal := page.query_selector('.refusal'):
        return refusal.inner_text()
    sides = page.query_selector_all('[data-probabilities]')
    return [
        np.float64(json.loads(one.get_attribute('data-probabilities'))) for one in sides
    ]


def icc_of_display_p3():
    """A matrix profile: primaries of P3, gamma 2.2."""

    def fixed(*values):
        return b''.join(struct.pack('>i', round(65536 * v)) for v in values)

    xyz = b'XYZ \0\0\0\0'
    curve = b'curv\0\0\0\0' + struct.pack('>IH', 1, round(2.2 * 256)) + b'\0\0'
    tags = {
        b'wtpt': xyz + fixed(0.9642, 1.0, 0.8249),
        b'rXYZ': xyz + fixed(0.5151, 0.2412, -0.0011),
        b'gXYZ': xyz + fixed(0.2920, 0.6922, 0.0419),
        b'bXYZ': xyz + fixed(0.1571, 0.0666, 0.7841),
        **dict.fromkeys((b'rTRC', b'gTRC', b'bTRC'), curve),
        b'desc': b'desc\0\0\0\0' + struct.pack('>I', 3) + b'P3\0' + bytes(79),
        b'cprt': b'text\0\0\0\0none\0\0\0\0',
    }
    place, table, body = 132 + 12 * len(tags), b'', b''
    for name, data in tags.items():
        table += name + struct.pack('>II', place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        '>I4sI4s4s4s',
        place + len(body),
        b'none',
        0x02100000,
        *(b'mntr', b'RGB ', b'XYZ '),
    )
    head += bytes(12) + b'acsp' + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b'\0') + struct.pack('>I', len(tags)) + table + body


def picture(height, width, seed=0):
    """Smooth colours with noise, as photographs have, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    size = (max(2, height // 24), max(2, width // 24), 3)
    rough = rng.integers(0, 256, size).astype(np.uint8)
    smooth = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-12, 13, smooth.shape[:2] + (3,))
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def deep_png(values, colour, interlace=0):
    """PNG of 16 bits a channel, filters 0 to 4 by turns, (H, W, C) uint16."""
    height, width, channels = values.shape
    raw = values.astype('>u2').tobytes()
    stride, step, rows = 2 * channels * width, 2 * channels, []
    lines = np.frombuffer(raw, np.uint8).reshape(height, stride).astype(int)
    above = np.zeros(stride, int)
    for y, line in enumerate(lines):
        left = np.concatenate([np.zeros(step, int), line[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        a, b, c = (abs(left + above - corner - one) for one in (left, above, corner))
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, above, corner))
        guess = (0 * line, left, above, (left + above) // 2, paeth)[y % 5]
        rows.append(bytes([y % 5]) + ((line - guess) % 256).astype(np.uint8).tobytes())
        above = line
    header = struct.pack('>IIBBBBB', width, height, 16, colour, 0, 0, interlace)
    chunks = (b'IHDR', header), (b'IDAT', zlib.compress(b''.join(rows))), (b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data))
        + name
        + data
        + struct.pack('>I', zlib.crc32(name + data))
        for name, data in chunks
    )


def files():
    """Name -> bytes of photographs of many kinds."""

    def coded(image, kind, **options):
        file = io.BytesIO()
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(file, kind, **options)
        return file.getvalue()

    def turned(value):
        exif = Image.Exif()
        exif[0x112] = value
        return exif.tobytes()

    photo = picture(480, 640)
    image = Image.fromarray(photo)
    odd = picture(333, 517, 1)
    alpha = np.dstack([odd, np.random.default_rng(2).integers(0, 256, odd.shape[:2])])
    alpha = Image.fromarray(alpha.astype(np.uint8))
    p3 = icc_of_display_p3()
    found = {}
    for value in range(1, 9):
        found[f'exif {value}.jpg'] = coded(odd, 'JPEG', exif=turned(value), quality=92)
        if value in (3, 6):
            found[f'exif {value}.png'] = coded(odd, 'PNG', exif=turned(value))
            found[f'exif {value}.webp'] = coded(
                odd, 'WEBP', exif=turned(value), lossless=True
            )
    found |= {
        'xmp 8.jpg': coded(odd, 'JPEG', xmp=b'<x tiff:Orientation="8"/>'),
        '420.jpg': coded(photo, 'JPEG', quality=85),
        '422.jpg': coded(odd, 'JPEG', subsampling='4:2:2'),
        '444.jpg': coded(odd, 'JPEG', subsampling='4:4:4', quality=95),
        'progressive.jpg': coded(odd, 'JPEG', progressive=True),
        'grey.jpg': coded(image.convert('L'), 'JPEG'),
        'cmyk.jpg': coded(image.convert('CMYK'), 'JPEG'),
        'p3.jpg': coded(photo, 'JPEG', icc_profile=p3),
        'p3.png': coded(odd, 'PNG', icc_profile=p3),
        'p3.webp': coded(odd, 'WEBP', icc_profile=p3, lossless=True),
        'trailer.jpg': coded(odd, 'JPEG') + b'\xff\xd8\xff' + bytes(500),
        'plain.png': coded(photo, 'PNG'),
        'alpha.png': coded(alpha, 'PNG'),
        'alpha.webp': coded(alpha, 'WEBP', lossless=True, exact=True),
        'grey alpha.png': coded(alpha.convert('LA'), 'PNG'),
        'palette.png': coded(image.quantize(64), 'PNG'),
        'clear.png': coded(image.quantize(64), 'PNG', transparency=7),
        'one bit.png': coded(image.convert('1'), 'PNG'),
        'grey.png': coded(image.convert('L'), 'PNG'),
        'lossy.webp': coded(photo, 'WEBP', quality=80),
        'lossless.webp': coded(odd, 'WEBP', lossless=True),
        'plain.bmp': coded(odd, 'BMP'),
        'wide.jpg': coded(picture(300, 9000, 3), 'JPEG'),
        'wider.png': coded(picture(70, 20_000, 4), 'PNG'),
        'high.png': coded(picture(5000, 130, 5), 'PNG'),
        'factor 2.png': coded(picture(96, 80, 6), 'PNG'),
        'factor 3 and 5.png': coded(picture(144, 200, 7), 'PNG'),
        'the size itself.png': coded(picture(48, 40, 8), 'PNG'),
        'tiny.png': coded(picture(5, 7, 9), 'PNG'),
        'one pixel.png': coded(picture(24, 24, 10)[:1, :1].copy(), 'PNG'),
        'low.png': coded(picture(30, 700, 11), 'PNG'),
        'narrow.jpg': coded(picture(700, 31, 12), 'JPEG'),
        '12 megapixels.jpg': coded(picture(3024, 4032, 13), 'JPEG', quality=90),
    }
    values = np.random.default_rng(3).integers(0, 65536, (90, 121, 4), np.uint16)
    values = cv2.blur(values, (9, 9))
    found |= {
        'deep grey.png': deep_png(values[..., :1], 0),
        'deep grey alpha.png': deep_png(values[..., :2], 4),
        'deep colour.png': deep_png(values[..., :3], 2),
        'deep alpha.png': deep_png(values, 6),
    }
    return found


@pytest.mark.slow
def test_answers_are_those_of_python(page, students, tmp_path):
    worst, changed = {}, {}
    for name, data in files().items():
        path = tmp_path / name
        path.write_bytes(data)
        found = give(page, path)
        assert not isinstance(found, str), (name, found)
        for (_, student), answer in zip(students, found, strict=True):
            wanted = student.probabilities(path)[0]
            off = float(abs(answer - wanted).max())
            worst[name] = max(off, worst.get(name, 0))
            if answer.argmax() != wanted.argmax():
                changed[name] = answer, wanted
        assert students[0][1](path).best in page.inner_text('.verdict >> nth=0')
    print({name: f'{off:.1e}' for name, off in worst.items()})
    assert len(worst) >= 40 and not changed
    assert {name: off for name, off in worst.items() if off > 1e-5} == {}
    assert [said for kind, said in page.said if kind == 'error'] == []


def test_the_input_of_the_network_is_that_of_python(page, students, tmp_path):
    """Every pixel, of factors whose means often end in a half as well."""
    read = """() => [...document.querySelectorAll('.seen')].map((one) => {
        const pen = one.getContext('2d');
        return Array.from(pen.getImageData(0, 0, one.width, one.height).data);
    })"""
    for height, width in ((480, 640), (450, 600), (97, 131), (20, 300)):
        pixels = picture(height, width, height)
        Image.fromarray(pixels).save(tmp_path / 'photo.png')
        give(page, tmp_path / 'photo.png')
        for (_, student), values in zip(students, page.evaluate(read), strict=True):
            high, wide = student.student.input.size
            wanted = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_AREA)
            found = np.uint8(values).reshape(high, wide, 4)[..., :3]
            np.testing.assert_array_equal(found, wanted)


def test_nothing_is_asked_or_sent_after_load(page, server, tmp_path):
    Image.fromarray(picture(300, 400)).save(tmp_path / 'photo.jpg')
    give(page, tmp_path / 'photo.jpg')  # it is loaded
    time.sleep(3)  # a browser looks for a new sw.js by itself
    before = len(server.asked)
    give(page, tmp_path / 'photo.jpg')
    tries = """async () => {
        const words = {};
        try { await fetch('./?leak'); words.fetch = true; }
        catch { words.fetch = false; }
        navigator.sendBeacon?.('./?leak', 'photo');
        const made = {img: 'src', script: 'src', link: 'href', iframe: 'src'};
        for (const [name, at] of self.document ? Object.entries(made) : []) {
            for (const path of ['./?leak', './icon.png?leak', './leak', OTHER]) {
                const one = document.createElement(name);
                one.rel = 'stylesheet';
                one[at] = path;
                document.body.append(one);
            }
        }
        try { await import('./page.js?leak'); words.code = true; }
        catch { words.code = false; }
        try { new WebSocket(SOCKET); } catch {}
        return words;
    }"""
    port = server.server_address[1]
    for name, place in ('OTHER', 'http://localhost'), ('SOCKET', 'ws://127.0.0.1'):
        tries = tries.replace(name, f'"{place}:{port}/leak"')
    assert page.evaluate(tries) == dict(fetch=False, code=False)
    (worker,) = [one for one in page.workers if one.url.startswith('blob:')]
    inside = tries.replace("'./", f"'{server.address}")
    assert worker.evaluate(inside) == dict(fetch=False, code=False)
    time.sleep(0.5)
    assert server.asked[before:] == []


def test_it_answers_without_a_server_after_the_first_visit(
    browser, server, students, tmp_path
):
    Image.fromarray(picture(300, 400)).save(tmp_path / 'photo.png')
    context = browser.new_context()
    site = shutil.copytree(server.site, tmp_path / 'site')
    (site / 'docs').mkdir()
    (site / 'docs' / 'index.html').write_text('<p>another page')
    with serving(site, Vary='*') as short:
        tab = opened(context, short)
        first = give(tab, tmp_path / 'photo.png')
        beside = context.new_page()
        beside.goto(short.address + 'docs/index.html')
        assert beside.text_content('p') == 'another page'
        beside.close()
    assert tab.get_attribute('html', 'data-state') == 'offline'
    assert sum('student-1.onnx' in one for one in short.asked) == 1
    for address in ('', 'index.html', '?start'):
        tab.goto(short.address + address)
        tab.wait_for_selector('html[data-state]', state='attached', timeout=120_000)
        np.testing.assert_array_equal(give(tab, tmp_path / 'photo.png'), first)
    context.close()


def test_it_can_be_installed(page):
    session = page.context.new_cdp_session(page)
    found = session.send('Page.getAppManifest')
    assert found['errors'] == [] and 'standalone' in found['data']
    errors = session.send('Page.getInstallabilityErrors')['installabilityErrors']
    assert [one['errorId'] for one in errors] in ([], ['in-incognito'])


def test_what_cannot_be_read_is_said(page, tmp_path):
    def said(name, data):
        (tmp_path / name).write_bytes(data)
        return give(page, tmp_path / name)

    made = files()
    for name in ('420.jpg', 'progressive.jpg', 'plain.png', 'lossy.webp'):
        data = made[name]
        assert 'cut off' in said(name, data[: len(data) // 2])
    file = io.BytesIO()
    Image.new('L', (40, 30)).save(file, 'GIF')
    assert 'save it as JPEG' in said('moving.gif', file.getvalue())
    assert 'save it as JPEG' in said('phone.heic', bytes(4) + b'ftypheic' + bytes(99))
    assert 'save it as JPEG' in said('empty.jpg', b'')
    data = made['plain.png']
    middle = len(data) // 2
    damaged = data[:middle] + bytes(200) + data[middle + 200 :]
    with pytest.raises(UserError):
        read_rgb(damaged)
    assert isinstance(said('damaged.png', damaged), str)
    assert '21.0 MB, more than the 20 MB' in said('long.jpg', bytes(21_000_000))
    file = io.BytesIO()
    Image.new('1', (10_000, 10_000)).save(file, 'PNG')
    assert '10000 x 10000 pixels, more than the 50000000' in said(
        'huge.png', file.getvalue()
    )
    assert len(said('fine.png', made['tiny.png'])) == 2  # and it still answers


def test_keys_and_readers_find_their_way(page, tmp_path):
    Image.fromarray(picture(300, 400)).save(tmp_path / 'photo.png')
    page.reload()
    page.wait_for_selector('html[data-state]', state='attached', timeout=120_000)
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.type') == 'file'
    with page.expect_file_chooser() as chooser:
        page.keyboard.press('Enter')
    chooser.value.set_files(tmp_path / 'photo.png')
    page.wait_for_selector('.sides')
    assert page.get_by_label('choose one').count() == 1
    assert page.get_by_role('table', name='Classes of student 1').count() == 1
    assert page.get_by_role('row').count() == 2 * len(NAMES)
    assert page.get_by_role('note').text_content() == 'no diagnostic device'
    assert page.get_by_role('status').count() == 2
    assert page.evaluate('document.documentElement.scrollWidth') <= 390


def test_confident_from_the_threshold_on(runtime, browser, server, tmp_path):
    """A threshold that none kept is never reached; its page replaces another."""
    student = SkinClassifier(export(tmp_path / 'never', (8, 8), None), backend='onnx')
    with pytest.raises(UserError, match='holds something else'):
        web.write_site([('never', student)], tmp_path)
    name = '<i>never</i> & "more"'
    site = tmp_path / 'site'
    for _ in range(2):
        web.write_site([(name, student)], site)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['never', 'site']
    Image.fromarray(picture(30, 40)).save(tmp_path / 'photo.png')
    with serving(site) as other:
        context = browser.new_context(color_scheme='dark')
        tab = opened(context, other)
        (found,) = give(tab, tmp_path / 'photo.png')
        assert tab.inner_text('.verdict').startswith('Not confident: ')
        assert 'never confident' in tab.inner_text('.students')
        assert name in tab.inner_text('h1') and found.sum() == pytest.approx(1)
        context.close()
        model = site / 'student-1.onnx'
        model.write_bytes(bytes(model.stat().st_size))
        context = browser.new_context()
        tab = opened(context, other)
        assert 'is not the file of this site' in tab.inner_text('.refusal')
        context.close()


def test_runtime_from_a_file_and_without_a_network(runtime, tmp_path, monkeypatch):
    known = web.runtime_files()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    with pytest.raises(UserError, match='npm is not installed.*"npm pack .*--runtime'):
        web.runtime_files()
    folder = tmp_path / 'package' / 'dist'
    folder.mkdir(parents=True)
    for name, data in known.items():
        (folder / name).write_bytes(data)
    packed = tmp_path / 'runtime.tgz'
    subprocess.run(['tar', 'czf', packed, '-C', tmp_path, 'package'], check=True)
    for source in (folder, folder.parent, packed, None):  # None: the cache now has it
        assert web.runtime_files(source) == known
    (folder / name).write_bytes(data[:-1] + b'x')
    with pytest.raises(UserError, match='SHA-256 is another'):
        web.runtime_files(folder)
    with pytest.raises(UserError, match='has no ort.wasm'):
        web.runtime_files(tmp_path / 'nowhere.tgz')
    # a cut archive is one line; a damaged cache is made anew; without one it works too
    (tmp_path / 'cut.tgz').write_bytes(packed.read_bytes()[:2_000_000])
    with pytest.raises(UserError, match='cut.tgz has no ort.wasm'):
        web.runtime_files(tmp_path / 'cut.tgz')
    kept = tmp_path / 'cache' / 'hkd_mm' / web.RUNTIME / name
    kept.write_bytes(b'damaged')
    with pytest.raises(UserError, match='npm is not installed'):
        web.runtime_files()
    squeeze = zlib.compressobj(wbits=31)
    whole = squeeze.compress(gzip.decompress(packed.read_bytes())[:2_000_000])
    whole += squeeze.flush(zlib.Z_FULL_FLUSH) + b'\xff' * 99  # no block begins so
    (tmp_path / 'damaged.tgz').write_bytes(whole)
    with pytest.raises(UserError, match='damaged.tgz has no ort.wasm'):
        web.runtime_files(tmp_path / 'damaged.tgz')
    assert web.runtime_files(packed) == known and kept.read_bytes() == data
    monkeypatch.setenv('XDG_CACHE_HOME', '/proc/nowhere')
    assert web.runtime_files(packed) == known


def test_a_site_is_written_again_beside_files_of_others(
    runtime, students, tmp_path, monkeypatch
):
    site = web.write_site(students, tmp_path / 'site')
    stays = site / 'CNAME', site / '.git' / 'HEAD', site / 'student-7.onnx'
    for path in stays:
        path.parent.mkdir(exist_ok=True)
        path.write_text('mine')
    (tmp_path / 'link').symlink_to(site)
    web.write_site(students[:1], tmp_path / 'link')
    assert (tmp_path / 'link').is_symlink()
    assert [path.read_text() for path in stays] == ['mine'] * 3
    assert len(list(site.glob('student-*.onnx'))) == 2
    for name, known in json.loads((site / 'site.json').read_text())['files'].items():
        assert web._hash((site / name).read_bytes()) == known['sha256']
    with pytest.raises(UserError, match='holds something else'):
        web.write_site(students, site / '.git')
    (site / 'student-2.onnx').write_text('mine')
    with pytest.raises(UserError, match='holds student-2.onnx of others; give a new'):
        web.write_site(students, site)
    (site / 'student-2.onnx').unlink()
    (site / 'site.json').write_text('{"name": "of another program"}')
    with pytest.raises(UserError, match='holds something else'):
        web.write_site(students, site)


@pytest.mark.parametrize('many', [0, 4, 13])
def test_a_site_that_cannot_be_written_stays_the_old_one(
    runtime, students, tmp_path, monkeypatch, many
):
    def state():
        paths = [path for path in tmp_path.rglob('*') if path.is_file()]
        return {path: path.read_bytes() for path in paths}

    replace, done = os.replace, []

    def interrupted(source, target):
        done.append(target)
        if len(done) > many:
            monkeypatch.undo()
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, 'replace', interrupted)
    with pytest.raises(KeyboardInterrupt):
        web.write_site(students[:1], tmp_path / 'site')
    assert state() == {}
    web.write_site(students[:1], tmp_path / 'site')
    before = state()
    done.clear()
    monkeypatch.setattr(os, 'replace', interrupted)
    with pytest.raises(KeyboardInterrupt):
        web.write_site(students[::-1], tmp_path / 'site')
    assert state() == before
    web.write_site(students[::-1], tmp_path / 'site')


def test_the_tool_says_what_it_wrote(runtime, tool, tmp_path, capsys):
    for _ in range(2):
        assert tool('web')(['ham10000', '--out', str(tmp_path / 'site')]) == 0
        found = capsys.readouterr().out
        assert re.search('site, 1[78]\\.[0-9] MB: any https host', found)
        (tmp_path / 'site' / 'mine').write_bytes(bytes(20_000_000))


def test_the_terms_of_the_weights_go_along(runtime, browser, tmp_path):
    found = SkinClassifier(web.pretrained.folder_of('ham10000'), backend='onnx')
    site = web.write_site([('ham10000', found)], tmp_path / 'site')
    with serving(site) as host:
        context = browser.new_context()
        tab = opened(context, host)
        assert 'licence: CC BY-NC 4.0' in tab.inner_text('.students')
        tab.click('.students a')
        tab.wait_for_url('**/student-1.licence.txt')
        assert 'Tschandl' in tab.inner_text('body')
        context.close()
    (site / 'student-1.licence.txt').unlink()
    web.write_site([('ham10000', found)], site)
    assert (site / 'student-1.licence.txt').is_file()


def test_a_site_written_again_is_seen_behind_caches(
    runtime, browser, students, tmp_path, monkeypatch
):
    site = web.write_site(students[:1], tmp_path / 'site')
    for path in site.rglob('*'):
        os.utime(path, (1.7e9, 1.7e9))  # a server compares whole seconds
    photo = tmp_path / 'photo.png'
    Image.fromarray(picture(30, 40)).save(photo)
    wanted = students[1][1].probabilities(photo)[0]

    def answer(tab):
        (found,) = give(tab, photo)
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    with serving(site, **{'Cache-Control': 'max-age=3600'}) as host:
        context = browser.new_context(service_workers='block')
        opened(context, host)
        web.write_site(students[1:], site)
        tab = opened(context, host)
        answer(tab)
        tab.evaluate("""async () => {
            for (const name of await caches.keys()) {
                const cache = await caches.open(name);
                for (const one of await cache.keys()) {
                    await cache.put(one, new Response('x'));
                }
            }
        }""")
        for fetched in (True, False):  # what is damaged comes anew, and is kept
            before = len(host.asked)
            answer(opened(context, host))
            asked = [one for one in host.asked[before:] if 'student-1.onnx' in one]
            assert bool(asked) == fetched
        own = web._own
        newer = {'page.js': b'// of another release'}
        monkeypatch.setattr(web, '_own', lambda name: own(name) + newer.get(name, b''))
        web.write_site(students[1:], site)
        tab = opened(context, host)
        assert 'earlier version of this site; reload it' in tab.inner_text('.refusal')
        tab.reload()
        tab.wait_for_selector('html[data-state=ready]', state='attached')
        answer(tab)
        context.close()


def test_a_reader_that_ends_is_said(browser, server, tmp_path):
    Image.fromarray(picture(30, 40)).save(tmp_path / 'photo.png')
    context = browser.new_context()
    tab = opened(context, server)
    tab.evaluate("""() => {
        window.Worker = class {
            postMessage() { this.onerror(); }
            terminate() {}
        };
    }""")
    assert give(tab, tmp_path / 'photo.png').endswith('could not be looked at.')
    assert tab.inner_text('.state') == ''
    context.close()
