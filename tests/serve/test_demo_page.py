# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The page in a real browser, with real files."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

CHROME = shutil.which('chromium') or shutil.which('google-chrome')
TOOL = Path(__file__).parents[2] / 'tools' / 'demo.py'


@pytest.fixture(scope='module')
def server(tiny_run, tmp_path_factory):
    """Its address, and the folder that it could write to."""
    if CHROME is None:
        pytest.skip('no Chromium on this machine')
    for package in ('uvicorn', 'playwright', 'pytorch_grad_cam'):
        pytest.importorskip(package)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    scratch = tmp_path_factory.mktemp('scratch')
    environment = {**os.environ, 'TMPDIR': str(scratch)}
    command = [sys.executable, str(TOOL), f'teacher={tiny_run}']
    command += [f'student={tiny_run}', '--port', str(port)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline().startswith('http://127.0.0.1:')
        _wait(f'http://127.0.0.1:{port}')
        yield f'http://127.0.0.1:{port}', scratch
    finally:
        process.terminate()
        process.wait(30)


def _wait(address):
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError('the server does not answer')


@pytest.fixture(scope='module')
def browser(server):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROME, args=['--no-sandbox']
        )
        yield found
        found.close()


@pytest.fixture(params=[1280, 390], ids=['wide', 'phone'])
def page(request, server, browser):
    phone = request.param < 1000
    tab = browser.new_page(
        viewport=dict(width=request.param, height=900),
        color_scheme='dark' if phone else 'light',
    )
    tab.said, tab.asked = [], []
    tab.on('console', lambda m: tab.said.append((m.type, m.text)))
    tab.on('pageerror', lambda error: tab.said.append(('error', str(error))))
    tab.on('request', lambda r: tab.asked.append(r.url))
    tab.goto(server[0])
    tab.wait_for_selector('.drop input', state='attached', timeout=60_000)
    yield tab
    tab.close()


def give(page, path, wanted):
    page.set_input_files('.drop input', path)
    page.wait_for_selector(wanted, timeout=60_000)
    return page.inner_text('.result')


def test_a_photograph_is_answered_and_kept_nowhere(page, server, tmp_path):
    assert 'no diagnostic device' in page.inner_text('.notice')
    path = tmp_path / 'photo.jpg'
    Image.new('RGB', (400, 300), (60, 160, 60)).save(path)
    said = give(page, path, '.sides')
    assert said.count('Benign') >= 2 and 'ms (torch)' in said
    pictures = page.query_selector_all('.result img')
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.evaluate('image => image.naturalWidth') > 100
    width = page.viewport_size['width']
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    text = page.evaluate('getComputedStyle(document.body).color')
    assert text == ('rgb(255, 255, 255)' if width < 1000 else 'rgb(0, 0, 0)')
    assert [text for kind, text in page.said if kind == 'error'] == []
    address = f'{server[0]}/upload'
    asked = urllib.request.Request(address, data=b'x' * 1000, method='POST')
    with pytest.raises(urllib.error.HTTPError, match='404'):
        urllib.request.urlopen(asked, timeout=30)
    outside = [
        url for url in page.asked if not url.startswith((server[0], 'data:', 'blob:'))
    ]
    assert outside == []
    assert [one for one in server[1].rglob('*') if one.is_file()] == []


def test_what_is_no_photograph_is_told(page, server, tmp_path):
    broken, huge = tmp_path / 'broken.png', tmp_path / 'huge.png'
    drawn, text = tmp_path / 'drawn.svg', tmp_path / 'text.jpg'
    Image.new('RGB', (300, 200)).save(broken)
    broken.write_bytes(broken.read_bytes()[:100])
    Image.new('1', (10_000, 10_000)).save(huge)
    drawn.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    text.write_text('only words')
    for path in (broken, drawn, text):
        assert 'cannot be read' in give(page, path, '.refusal')
        page.evaluate("document.querySelector('.result').innerHTML = ''")
    said = give(page, huge, '.refusal')
    assert '10000 x 10000 pixels, more than the 50000000' in said
    long = tmp_path / 'long.jpg'
    with long.open('wb') as file:
        file.truncate(21_000_000)
    page.evaluate("document.querySelector('.result').innerHTML = ''")
    assert '21.0 MB, more than the 20 MB' in give(page, long, '.refusal')
    # and it still answers
    fine = tmp_path / 'fine.png'
    Image.new('RGB', (40, 30), (160, 60, 60)).save(fine)
    assert 'Acne' in give(page, fine, '.sides')
