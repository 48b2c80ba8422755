# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the page's server takes and says."""

import asyncio
import io
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from exported import WITHOUT_TRAINING
from PIL import Image

from hkd_mm.errors import UserError
from hkd_mm.export.export_run import export
from hkd_mm.export.options import ExportOptions
from hkd_mm.serve import demo as server
from hkd_mm.serve.demo import Page, check_address, hosts_of
from hkd_mm.serve.demo_page import Side

MOST, PIXELS = 1_000_000, 1_000_000


def file_of(image, kind='PNG', **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photograph(colour=(200, 80, 60), size=(30, 20)):
    return Image.new('RGB', size, colour)


@pytest.fixture(scope='module')
def exported(tiny_run, tmp_path_factory):
    run = tmp_path_factory.mktemp('demo_run') / tiny_run.name
    shutil.copytree(tiny_run, run)
    export(run, options=ExportOptions(int8=False), report=lambda line: None)
    return run


class Seen:
    """A network that says what it was given."""

    title = 'seen'

    def look(self, rgb):
        assert rgb.dtype == np.uint8
        colour = np.abs(rgb.astype(int).mean((0, 1)) - (200, 80, 60)).max() < 4
        raise UserError(f'{rgb.shape}, {"red" if colour else "no"}')


def said_of(data: bytes, most=MOST) -> str:
    status, said = ask(body=[data], page=Page([Seen()], most, PIXELS))
    assert status == 422
    return said


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF'])
def test_photographs_are_read_from_memory(kind):
    assert said_of(file_of(photograph(), kind)) == '(20, 30, 3), red.'


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(photograph(), 'JPEG', exif=exif)
    assert said_of(data) == '(30, 20, 3), red.'


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
    said = said_of(data)
    assert said.startswith('The image cannot be read (') and '\n' not in said


def test_bombs_are_refused_before_they_are_unpacked(monkeypatch):
    data = file_of(Image.new('1', (10_000, 10_000)))
    assert len(data) < 50_000
    monkeypatch.setattr(Image.Image, 'load', None)
    assert '10000 x 10000 pixels, more than' in said_of(data)


@pytest.mark.parametrize(
    ('kind', 'options', 'most'),
    [
        ('PNG', {}, 1_000_000),
        ('JPEG', {}, 1_000_000),
        ('JPEG', dict(progressive=True), 800_000),
        ('WEBP', {}, 500_000),
    ],
)
def test_what_takes_more_memory_may_have_fewer_pixels(kind, options, most):
    for width, answer in (
        (most // 1000, '(1000, '),
        (most // 1000 + 1, f' {most} all'),
    ):
        image = photograph((60, 160, 60), (width, 1000))
        assert answer in said_of(file_of(image, kind, **options))


def test_both_networks_answer_side_by_side(exported, tiny_run, tmp_path):
    pytest.importorskip('pytorch_grad_cam')
    run = shutil.copytree(
        tiny_run, tmp_path / 'run', ignore=shutil.ignore_patterns('export')
    )
    sides = [Side('a <teacher>', run), Side('student', exported)]
    status, shown = ask(
        body=[file_of(photograph((60, 160, 60)))], page=Page(sides, MOST, PIXELS)
    )
    assert status == 200
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
    shown = ask(body=[file_of(photograph())], page=Page([side], MOST, PIXELS))[1]
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


KIND = (b'content-type', b'application/octet-stream')
HOST = (b'host', b'127.0.0.1:7860')


def ask(
    path='/look',
    headers=(KIND,),
    body=(b'abc',),
    most=10,
    method='POST',
    page=None,
    root='',
):
    """Status of one request, and what was shown or said."""
    page = page or Page([], most, PIXELS, hosts_of('127.0.0.1'), root)
    sent = []
    parts = [
        dict(type='http.request', body=part, more_body=i + 1 < len(body))
        for i, part in enumerate(body)
    ]

    async def receive():
        return parts.pop(0) if parts else await asyncio.sleep(99)

    async def send(message):
        sent.append(message)

    scope = dict(type='http', method=method, path=path, headers=[HOST, *headers])
    asyncio.run(page(scope, receive, send))
    if not sent:
        return None, ''
    assert (b'connection', b'close') in sent[0]['headers']
    return sent[0]['status'], sent[1]['body'].decode()


def test_bodies_have_a_limit():
    assert ask()[0] == 422  # it is read, and no photograph
    assert ask(headers=[KIND, (b'content-length', b'11')])[0] == 413
    # one that does not say how long it is
    status, said = ask(body=(b'12345', b'12345', b'1'))
    assert status == 413 and said.endswith('allowed.')
    huge = ask(headers=[KIND, (b'content-length', b'21000000')], most=20_000_000)
    assert huge == (413, 'This file has 21.0 MB, more than the 20 MB allowed.')


def test_bodies_have_their_time(monkeypatch):
    monkeypatch.setattr(server, '_BODY_SECONDS', 0.1)
    begun = time.monotonic()
    page = Page([], 10, PIXELS)
    parts = [dict(type='http.request', body=b'1', more_body=True)]

    async def receive():
        return parts.pop() if parts else await asyncio.sleep(99)

    sent = []

    async def send(message):
        sent.append(message)

    scope = dict(type='http', method='POST', path='/look', headers=[HOST, KIND])
    asyncio.run(page(scope, receive, send))
    assert sent[0]['status'] == 408 and b'too slowly' in sent[1]['body']
    assert time.monotonic() - begun < 5 and page._uploads == 0


def test_who_leaves_is_not_answered():
    page = Page([], 10, PIXELS)

    async def receive():
        return dict(type='http.disconnect')

    scope = dict(type='http', method='POST', path='/look', headers=[HOST, KIND])
    asyncio.run(page(scope, receive, None))
    assert page._uploads == 0


def test_what_finds_no_room_is_sent_away_and_forgotten():
    page = Page([], 10, PIXELS)
    page._uploads = 3
    status, said = ask(page=page)
    assert status == 429 and 'try again' in said and page._uploads == 3
    page._uploads = 2
    assert ask(page=page)[0] == 422 and page._uploads == 2


@pytest.mark.parametrize('depth', [100, 100_000])
def test_nested_brackets_are_only_bytes(depth):
    body = b'[' * depth
    assert ask(headers=[(b'content-type', b'application/json')], body=[body])[0] == 415
    assert ask(body=[body], most=10**6)[0] == 422


@pytest.mark.parametrize(
    'path', ['/gradio_api/upload', '/config', '/look/../x', '/x', '//', '/look/']
)
def test_there_is_nothing_else(path):
    assert ask(path)[0] == 404 == ask(path, method='GET')[0]


def test_the_page_is_read_and_nothing_more():
    status, shown = ask('/', method='GET')
    assert status == 200 and 'data-look="/look"' in shown
    assert ask('/', method='HEAD')[0] == 200
    assert ask('/')[0] == 405 == ask('/', method='DELETE')[0]
    assert ask('/look', method='GET')[0] == 404


@pytest.mark.parametrize('way', ['/demo/skin', ''])
def test_behind_a_proxy_the_root_path_is_in_the_links(way):
    """Whether the proxy takes the prefix off or not."""
    status, shown = ask(f'{way}/', method='GET', root='/demo/skin')
    assert status == 200 and 'data-look="/demo/skin/look"' in shown
    assert ask(f'{way}/look', root='/demo/skin')[0] == 422
    assert ask(way, method='GET', root='/demo/skin')[0] == 200
    assert ask(f'{way}/skin/look', root='/demo/skin')[0] == 404
    assert ask('/demo/skinlook', root='/demo/skin')[0] == 404


def test_other_pages_and_other_names_are_refused():
    assert ask(headers=[(b'content-type', b'text/plain')])[0] == 415
    evil = (b'origin', b'http://evil.example')
    assert ask(headers=[KIND, evil])[0] == 403
    own = (b'origin', b'http://127.0.0.1:7860')
    assert ask(headers=[KIND, own])[0] == 422
    # the later one of two stands
    assert ask(headers=[KIND, (b'host', b'evil.example:7860')])[0] == 403
    assert hosts_of('0.0.0.0') is None


@pytest.mark.parametrize(
    ('host', 'status'),
    [
        ('127.0.0.1', 422),  # --port 80 is not named
        ('localhost:8000', 422),  # through a tunnel from another port
        ('LOCALHOST:7860', 422),
        ('[::1]:7860', 422),
        ('[::1]', 422),
        ('evil.example:7860', 403),
        ('localhost.evil.example', 403),
        ('localhost:7860:7860', 403),
        ('localhost:7860@evil.example', 403),
        ('', 403),
    ],
)
def test_hosts_are_compared_without_their_port(host, status):
    own = (b'origin', f'http://{host}'.encode())
    assert ask(headers=[KIND, (b'host', host.encode()), own])[0] == status
    other = (b'origin', b'http://127.0.0.1:9999')  # another page from here
    assert ask(headers=[KIND, (b'host', host.encode()), other])[0] == 403


def test_other_names_can_be_allowed():
    page = Page([], 10, PIXELS, hosts_of('127.0.0.1', ['Demo.example.org', '::2']))
    for host, status in (
        ('demo.example.org', 422),
        ('demo.example.org:8443', 422),
        ('[::2]:80', 422),
        ('127.0.0.1:7860', 422),
        ('example.org', 403),
        ('evil.demo.example.org', 403),
    ):
        own = (b'origin', f'https://{host}'.encode())
        named = (b'host', host.encode())
        assert ask(headers=[KIND, named, own], page=page)[0] == status
    status, said = ask(headers=[KIND, (b'host', b'a.b')], page=page)
    assert status == 403 and 'see --allowed-host' in said
    # a machine that is open to all may be asked under the names that are said
    assert hosts_of('0.0.0.0', ['a.b']) >= {'a.b', '0.0.0.0', 'localhost'}
    for wrong in ('https://a.b', 'a.b/c', '*', '', 'a b'):
        with pytest.raises(UserError, match='--allowed-host'):
            hosts_of('127.0.0.1', [wrong])


@pytest.mark.parametrize('length', ['²', '1²', '+3', ' 3', '-1', '9' * 5000, ''])
def test_lengths_that_are_none_are_refused(length):
    header = (b'content-length', length.encode('latin1'))
    assert ask(headers=[KIND, header])[0] == 400


_SERVE = """
import sys, time
from hkd_mm.serve import demo
demo._HEADER_SECONDS, demo._BODY_SECONDS, demo._CONNECTIONS = 1, 2, 5
class Slow:
    title = 'slow'
    def look(self, rgb):
        time.sleep(0.2)
        raise demo.UserError('seen')
demo._serve(demo.Page([Slow()], 10_000_000), '127.0.0.1', int(sys.argv[1]))
"""


@pytest.fixture
def port():
    """That of a server whose network takes its time, in a process of its own."""
    pytest.importorskip('uvicorn')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        number = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, '-c', _SERVE, str(number)],
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        try:
            socket.create_connection(('127.0.0.1', number)).close()
            time.sleep(0.5)  # until it has seen that this one has left
            break
        except OSError:
            time.sleep(0.1)
    yield number, process
    process.kill()
    process.communicate()


def call(port, data, length=None, host='localhost'):
    """Open a connection and send what may be a part of a request."""
    connection = socket.create_connection(('127.0.0.1', port), timeout=20)
    if length is not None:
        head = f'POST /look HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n'
        connection.sendall(f'{head}content-type: {KIND[1].decode()}\r\n\r\n'.encode())
    connection.sendall(data)
    return connection


def answer(connection):
    """Status and text."""
    found = b''
    with connection:
        while part := connection.recv(65536):
            found += part
    return int(found.split()[1]), found.split(b'\r\n\r\n', 1)[1].decode()


def test_slow_clients_are_sent_away_and_ctrl_c_ends_it(port):
    number, process = port
    headers = [call(number, b'GET / HTTP/1.1\r\nhost: loc') for _ in range(2)]
    bodies = [call(number, b'abc', 1000) for _ in range(2)]
    fine = call(number, b'GET / HTTP/1.1\r\nhost: localhost\r\n\r\n')
    assert '<main' in answer(fine)[1]
    begun = time.monotonic()
    assert [answer(one)[0] for one in headers] == [408, 408]
    assert [answer(one)[0] for one in bodies] == [408, 408]
    assert time.monotonic() - begun < 10
    slow = [call(number, b'abc', 1000), call(number, b'GET /')]
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0 and time.monotonic() - begun < 3
    assert 'Traceback' not in process.stderr.read()
    assert [one.close() for one in slow] == [None, None]


def test_more_than_there_is_room_for_is_told(port):
    number, _ = port
    data = file_of(photograph())
    waiting = [call(number, data[:-1], len(data)) for _ in range(5)]
    status, said = answer(call(number, b''))
    assert status == 503 and said.startswith('Too many')
    for one in waiting:
        one.sendall(data[-1:])
    assert sorted(answer(one)[0] for one in waiting) == [422, 422, 422, 429, 429]
    assert answer(call(number, data, len(data))) == (422, 'Seen.')


def test_networks_of_the_page_may_have_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'lr=0.1').mkdir()
    assert server._named('lr=0.1') == ('lr=0.1', 'lr=0.1')
    assert server._named('student=lr=0.1') == ('student', 'lr=0.1')
    assert server._named('a/b/') == ('a/b/', 'a/b/')


def test_without_a_run_the_student_of_hkd_mm_opens(
    pretrained, tool, in_tmp, monkeypatch, capsys
):
    pages = []
    monkeypatch.setattr(server, '_serve', lambda app, *address: pages.append(app))
    monkeypatch.setattr(server.os, '_exit', lambda code: None)
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)  # nothing to explain
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = str(free.getsockname()[1])
    assert tool('demo')(['--port', port]) == 0
    assert capsys.readouterr().out.startswith('ham10000: two layers, ')
    status, shown = ask(body=[file_of(photograph())], page=pages[0])
    assert status == 200 and 'ham10000' in shown and '(onnx)' in shown
    assert shown.count('data:image/jpeg') == 1 and 'not calibrated' not in shown
    assert tool('demo')(['small=ham10000', '--port', port]) == 0
    assert [one.title for one in pages[1].sides] == ['small']
    monkeypatch.setitem(sys.modules, 'jinja2', None)
    assert tool('demo')(['--port', port]) == 2
    assert 'needs jinja2 ' in capsys.readouterr().err
    (pretrained / 'manifest.json').unlink()
    assert tool('demo')(['--port', port]) == 2
    assert capsys.readouterr().err.endswith('; give a folder of tools/export.py\n')


_ALONE = f"""{WITHOUT_TRAINING}
import numpy
from hkd_mm.inference.pretrained import pretrained_folder
from hkd_mm.serve.demo_page import Side, answers
side = Side('small', pretrained_folder())
print(answers([side.look(numpy.full((90, 90, 3), 200, numpy.uint8))]))
"""


def test_it_answers_without_torch():
    command = [sys.executable, '-c', _ALONE]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert 'small' in ran.stdout and ran.stdout.count('data:image/jpeg') == 1


def test_one_photograph_is_looked_at_at_a_time(monkeypatch):
    inside, most = [], []

    def slow(data, *_):
        inside.append(data)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        raise UserError('enough')

    monkeypatch.setattr(server, 'decode', slow)
    page = Page([], MOST, PIXELS)
    body = [file_of(photograph())]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: ask(page=page, body=body), range(3)))
    assert found == [(422, 'Enough.')] * 3 and max(most) == 1


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
    for words in (
        ['--max-megabytes', '0'],
        ['--max-megapixels', 'inf'],
        ['--port', '99999'],
    ):
        with pytest.raises(SystemExit):
            tool('demo')(['x', *words])
