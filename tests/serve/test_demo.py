# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the page's server takes and says."""

import asyncio
import base64
import io
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from hkd_mm.errors import UserError
from hkd_mm.export.export_run import export
from hkd_mm.export.options import ExportOptions
from hkd_mm.serve import demo as server
from hkd_mm.serve.demo import (
    Limits,
    check_address,
    hosts_of,
    make_look,
    read_upload,
)
from hkd_mm.serve.demo_page import Side

MOST, PIXELS = 1_000_000, 1_000_000


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file_of(image, kind='PNG', **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photograph(colour=(200, 80, 60), size=(30, 20)):
    return Image.new('RGB', size, colour)


@pytest.fixture(scope='module')
def exported(tiny_run, tmp_path_factory):
    run = tmp_path_factory.mktemp('demo_run') / tiny_run.name
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns('export'))
    export(run, options=ExportOptions(int8=False), report=lambda line: None)
    return run


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF'])
def test_photographs_are_read_from_memory(kind):
    rgb = read_upload(coded(file_of(photograph(), kind)), MOST, PIXELS)
    assert rgb.shape == (20, 30, 3) and rgb.dtype == np.uint8
    assert abs(rgb.astype(int).mean((0, 1)) - (200, 80, 60)).max() < 4


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(photograph(), 'JPEG', exif=exif)
    assert read_upload(coded(data), MOST, PIXELS).shape == (30, 20, 3)


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'only words, whatever the name says',
        b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>',
        file_of(photograph(size=(300, 200)), 'PNG')[:200],
        file_of(photograph(), 'GIF'),
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n',
    ],
    ids=['empty', 'text', 'svg', 'half', 'gif', 'eps'],
)
def test_what_is_no_photograph_is_refused(data):
    with pytest.raises(UserError, match='no photograph that can be read'):
        read_upload(coded(data), MOST, PIXELS)


def test_bombs_are_refused_before_they_are_unpacked(monkeypatch):
    data = file_of(Image.new('1', (10_000, 10_000)))
    assert len(data) < 50_000
    monkeypatch.setattr(Image.Image, 'load', None)
    with pytest.raises(UserError, match='10000 x 10000 pixels, more than'):
        read_upload(coded(data), MOST, PIXELS)


def test_files_that_are_too_long_are_refused():
    with pytest.raises(UserError, match='2.0 MB, more than the 1 MB'):
        read_upload(coded(bytes(2_000_000)), MOST, PIXELS)


@pytest.mark.parametrize('text', ['not base64!', 'abc', None, '\x00'])
def test_what_is_no_file_is_refused(text):
    with pytest.raises(UserError, match='no file that the page has read'):
        read_upload(text, MOST, PIXELS)


def test_both_networks_answer_side_by_side(exported, tiny_run):
    pytest.importorskip('pytorch_grad_cam')
    sides = [Side('a <teacher>', tiny_run), Side('student', exported)]
    look = make_look(sides, MOST, PIXELS)
    shown = look(coded(file_of(photograph((60, 160, 60)))))
    assert 'a &lt;teacher&gt;' in shown and '<teacher>' not in shown
    assert shown.count('<section') == 2
    assert shown.count('data:image/jpeg') == 4  # both pictures of both
    assert 'not calibrated' in shown and '(torch)' in shown
    assert '(onnx)' in shown and 'M weights' in shown
    best = sides[1].classifier(np.full((9, 9, 3), (60, 160, 60), np.uint8))
    assert best.best == 'Benign' and shown.count('Benign') >= 2


def test_a_folder_without_torch_weights_has_no_heat(exported, tmp_path):
    alone = tmp_path / 'alone'
    shutil.copytree(exported / 'export', alone)
    side = Side('student', alone)
    look = side.look(np.zeros((9, 9, 3), np.uint8))
    assert look.heat is None
    shown = make_look([side], MOST, PIXELS)(coded(file_of(photograph())))
    assert 'needs the weights for torch' in shown


def test_heat_is_of_the_weights_that_answer(exported, tmp_path):
    pytest.importorskip('pytorch_grad_cam')
    run = shutil.copytree(exported, tmp_path / 'renamed')
    black = np.zeros((9, 9, 3), np.uint8)
    assert Side('student', run).look(black).heat is not None
    assert Side('student', run / 'export').look(black).heat is not None
    found = torch.load(run / 'student.pth', weights_only=True)
    found['state_dict']['head.fc.bias'] += 1  # trained again since
    torch.save(found, run / 'student.pth')
    assert Side('student', run).look(black).heat is None


def test_a_refusal_is_shown_and_escaped(exported):
    shown = make_look([], MOST, PIXELS)('<b>')
    assert shown.startswith('<p class="refusal"') and '<b>' not in shown


CALL = '/gradio_api/component_server'
JSON = (b'content-type', b'application/json')
HOST = (b'host', b'127.0.0.1:7860')


def ask(path=CALL, headers=(JSON,), body=(b'abc',), most=10, method='POST'):
    """Status of one request, and what came through."""
    came, sent = [], []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            if message['type'] == 'http.disconnect':
                came.append('cut')
                return
            came.append(message['body'])
            if not message['more_body']:
                break
        await send({'type': 'http.response.start', 'status': 200})
        await send({'type': 'http.response.body', 'body': b'fine'})

    parts = [
        {
            'type': 'http.request',
            'body': part,
            'more_body': i + 1 < len(body),
        }
        for i, part in enumerate(body)
    ]

    async def receive():
        return parts.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        'type': 'http',
        'method': method,
        'path': path,
        'headers': [HOST, *headers],
    }
    hosts = hosts_of('127.0.0.1')
    asyncio.run(Limits(app, most, hosts)(scope, receive, send))
    return sent[0]['status'] if sent else None, came


def test_bodies_have_a_limit():
    assert ask() == (200, [b'abc'])
    assert ask(headers=[JSON, (b'content-length', b'11')]) == (413, [])
    assert ask(headers=[JSON, (b'content-length', b'-1')]) == (413, [])
    # one that does not say how long it is
    assert ask(body=(b'12345', b'12345', b'1')) == (
        None,
        [b'12345', b'12345', 'cut'],
    )


@pytest.mark.parametrize(
    'path',
    [
        '/gradio_api/upload',
        '/gradio_api/process_recording',
        '/gradio_api/queue/join',
        '/gradio_api/component_server/../upload',
        '/',
    ],
)
def test_nothing_else_is_called(path):
    assert ask(path) == (403, [])


@pytest.mark.parametrize(
    'path',
    ['/config', '/gradio_api/file=/etc/passwd', '/gradio_api/proxy=x', '/x'],
)
def test_nothing_else_is_got(path):
    assert ask(path, method='GET') == (403, [])
    assert ask('/', method='GET')[0] == 200
    assert ask('/assets/x.js', method='GET')[0] == 200
    assert ask('/', method='DELETE')[0] == 405


def test_other_pages_and_other_names_are_refused():
    assert ask(headers=[(b'content-type', b'text/plain')]) == (403, [])
    evil = (b'origin', b'http://evil.example')
    assert ask(headers=[JSON, evil]) == (403, [])
    own = (b'origin', b'http://127.0.0.1:7860')
    assert ask(headers=[JSON, own])[0] == 200
    # the later one of two stands
    assert ask(headers=[JSON, (b'host', b'evil.example:7860')]) == (403, [])
    assert hosts_of('0.0.0.0') is None


@pytest.mark.parametrize(
    ('host', 'status'),
    [
        ('127.0.0.1', 200),  # --port 80 is not named
        ('localhost:8000', 200),  # through a tunnel from another port
        ('LOCALHOST:7860', 200),
        ('[::1]:7860', 200),
        ('[::1]', 200),
        ('evil.example:7860', 403),
        ('localhost.evil.example', 403),
        ('localhost:7860:7860', 403),
        ('localhost:7860@evil.example', 403),
        ('', 403),
    ],
)
def test_hosts_are_compared_without_their_port(host, status):
    own = (b'origin', f'http://{host}'.encode())
    assert ask(headers=[JSON, (b'host', host.encode()), own])[0] == status
    other = (b'origin', b'http://127.0.0.1:9999')  # another page from here
    assert ask(headers=[JSON, (b'host', host.encode()), other])[0] == 403


@pytest.mark.parametrize('length', ['²', '1²', '+3', ' 3', '9' * 5000, ''])
def test_lengths_that_are_none_are_refused(length):
    header = (b'content-length', length.encode('latin1'))
    assert ask(headers=[JSON, header]) == (413, [])


def test_networks_of_the_page_may_have_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'lr=0.1').mkdir()
    assert server._named('lr=0.1') == ('lr=0.1', 'lr=0.1')
    assert server._named('student=lr=0.1') == ('student', 'lr=0.1')
    assert server._named('a/b/') == ('a/b/', 'a/b/')


def test_no_more_photographs_are_in_memory_than_two(monkeypatch):
    inside, most = [], []

    def slow(text, *_):
        inside.append(text)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        raise UserError('enough')

    monkeypatch.setattr(server, 'read_upload', slow)
    look = make_look([], MOST, PIXELS)
    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(look, map(str, range(6))))) == 6
    assert max(most) == 2


def test_a_place_that_is_taken_is_told():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f'--port {port} cannot be used'):
            check_address('127.0.0.1', port)
    check_address('127.0.0.1', port)
    with pytest.raises(UserError, match='cannot be used'):
        check_address('no.such.host.invalid', 80)


def test_mistakes_are_one_line(tool, in_tmp, capsys):
    pytest.importorskip('pytorch_grad_cam')
    assert tool('demo')(['x=nowhere']) == 2
    assert 'error: ' in capsys.readouterr().err
    for words in (['--max-megabytes', '0'], ['--port', '99999']):
        with pytest.raises(SystemExit):
            tool('demo')(['x', *words])
