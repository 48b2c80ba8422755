# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A web page that tries a teacher and its student side by side."""

import base64
import binascii
import logging
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference.student import named
from hkd_mm.io.images import read_rgb, reading
from hkd_mm.serve.demo_page import (
    Side,
    answers,
    check_grad_cam,
    frame,
    page_file,
    refusal,
)

Messages = Callable[..., Awaitable[Any]]

_LOCAL = ('127.0.0.1', 'localhost', '::1')
_AT_ONCE = 2  # images in memory
# All that the page asks for. Gradio has routes that write files.
_PAGE = ('/', '/theme.css', '/favicon.ico', '/manifest.json')
_PARTS = ('/assets/', '/static/')
_CALL = '/gradio_api/component_server'
_PORT = re.compile(r':[0-9]*$')
_LENGTH = re.compile('[0-9]{1,18}')  # isdigit() takes more than int() does


def main(
    networks: list[str],
    host: str,
    port: int,
    max_megabytes: float,
    max_megapixels: float,
) -> None:
    """Serve as the command line says, until Ctrl-C."""
    check_grad_cam()
    check_address(host, port)
    sides = [Side(*_named(text)) for text in networks]
    most, pixels = round(1e6 * max_megabytes), round(1e6 * max_megapixels)
    app = make_app(sides, most, pixels, hosts_of(host))
    import uvicorn

    if host not in _LOCAL:
        print(f'{host}: the page is open to whoever reaches this machine')
    print(f'http://{_bracketed(host)}:{port}  (Ctrl-C ends it)', flush=True)
    uvicorn.run(app, host=host, port=port, log_level='warning')


def _named(text: str) -> tuple[str, str]:
    """``NAME=PATH``, or a path that is its own name."""
    name, path = named(text)
    return name or os.path.basename(path) or path, path


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be used, before networks are loaded."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(
            f'--host {host} --port {port} cannot be used ({reason}); give another one'
        ) from None


def hosts_of(host: str) -> set[str] | None:
    """What a browser may call this machine; None where others may, too.

    Of any port: the page may be reached through a tunnel from another one.
    """
    return {_bracketed(name) for name in _LOCAL} if host in _LOCAL else None


def _bracketed(host: str) -> str:
    return f'[{host}]' if ':' in host else host


def make_app(
    sides: Sequence[Side],
    most_bytes: int = 20_000_000,
    most_pixels: int = 50_000_000,
    hosts: Collection[str] | None = None,
) -> Any:
    """Make the page as an ASGI application.

    Images come as text in a request and stay in memory; Gradio's own uploads,
    which are written to a folder, are refused.
    """
    os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
    try:
        import gradio
        from fastapi import FastAPI
    except ImportError:
        raise UserError('the page needs Gradio; pip install "gradio>=6"') from None
    for noisy in ('httpx', 'uvicorn.access'):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    title = ' and '.join(side.title for side in sides)
    with gradio.Blocks(title=title, analytics_enabled=False) as blocks:
        gradio.Markdown('# What do they see?')
        gradio.HTML(
            frame(),
            css_template=page_file('demo_page.css'),
            js_on_load=page_file('demo_page.js'),
            server_functions=[make_look(sides, most_bytes, most_pixels)],
            most_bytes=most_bytes,
        )
    fonts = ['system-ui', 'sans-serif']  # none of another server
    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path='/',
        theme=gradio.themes.Base(font=fonts, font_mono=['monospace']),
        footer_links=[],
        run_history=False,
    )
    longest = most_bytes * 4 // 3 + 100_000  # base64, and the rest
    return Limits(app, longest, hosts)


def make_look(
    sides: Sequence[Side], most_bytes: int, most_pixels: int
) -> Callable[[str], str]:
    """Make what the page calls: a file in base64 to HTML to show."""
    turn = threading.Semaphore(_AT_ONCE)

    def look(text: str) -> str:
        with turn:
            try:
                rgb = read_upload(text, most_bytes, most_pixels)
            except UserError as error:
                return refusal(str(error))
            return answers([side.look(rgb) for side in sides])

    return look


def read_upload(text: str, most_bytes: int, most_pixels: int) -> np.ndarray:
    """Decode a file that a page sent in base64, to (H, W, 3) uint8 RGB.

    One that is too large is refused before it is unpacked.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise UserError('This is no file that the page has read.') from None
    if len(data) > most_bytes:
        raise UserError(
            f'This file has {len(data) / 1e6:.1f} MB, more than the '
            f'{most_bytes / 1e6:.0f} MB allowed.'
        )
    try:
        with reading(data) as image:
            width, height = image.size
            if width * height <= most_pixels:
                return read_rgb(image, most_pixels)
    except UserError:
        raise UserError(
            'This is no photograph that can be read: take a JPEG, PNG, WebP, '
            'BMP or TIFF file that is whole.'
        ) from None
    raise UserError(
        f'This image has {width} x {height} pixels, more than the '
        f'{most_pixels / 1e6:.0f} million allowed.'
    )


class Limits:
    """An ASGI application that takes only what its page sends.

    Requests for other hosts than ``hosts``, whatever the port, are refused (a
    name that another page has pointed here), so are calls of other pages, and
    bodies of more than ``most`` bytes: at once where they say how long they
    are, else when they have become so.
    """

    def __init__(
        self, app: Messages, most: int, hosts: Collection[str] | None = None
    ) -> None:
        self.app, self.most, self.hosts = app, most, hosts

    async def __call__(self, scope: dict, receive: Messages, send: Messages) -> None:
        """Answer, or pass the request on."""
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
        if scope['type'] != 'http':  # the page opens no socket
            return
        if refused := self._refused(scope):
            await _refuse(send, *refused)
            return
        received = 0

        async def counted() -> dict:
            nonlocal received
            message = await receive()
            received += len(message.get('body', b''))
            if received > self.most:
                return {'type': 'http.disconnect'}
            return message

        await self.app(scope, counted, send)

    def _refused(self, scope: dict) -> tuple[int, bytes] | None:
        """Status and reason, if the request is none of the page's."""
        headers = {k.decode('latin1'): v.decode('latin1') for k, v in scope['headers']}
        host = headers.get('host', '').lower()
        name = _PORT.sub('', host)
        if self.hosts is not None and name not in self.hosts:
            return 403, b'another host'
        path = scope['path'].rstrip('/') or '/'
        if scope['method'] == 'POST':
            if path != _CALL:
                return 403, b'not of this page'
            kind = headers.get('content-type', '').partition(';')[0].strip()
            # Other pages can send other kinds without asking.
            if kind != 'application/json':
                return 403, b'not JSON'
            origin = headers.get('origin', f'://{host}').lower()
            if origin.partition('://')[2] != host:
                return 403, b'from another page'
        elif scope['method'] not in ('GET', 'HEAD'):
            return 405, b'not of this page'
        elif path not in _PAGE and not path.startswith(_PARTS):
            return 403, b'not of this page'
        length = headers.get('content-length', '0')
        if not _LENGTH.fullmatch(length) or int(length) > self.most:
            return 413, b'too large'
        return None


async def _refuse(send: Messages, status: int, why: bytes) -> None:
    headers = [(b'content-type', b'text/plain'), (b'connection', b'close')]
    start = dict(type='http.response.start', status=status, headers=headers)
    await send(start)
    await send(dict(type='http.response.body', body=why))
