# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A web page that tries a teacher and its student side by side."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.inference import pretrained
from hkd_mm.inference.student import named
from hkd_mm.io.images import decode, reading
from hkd_mm.lazy import require
from hkd_mm.serve.demo_page import Side, answers, page, policy

Messages = Callable[..., Awaitable[Any]]

_LOCAL = ('127.0.0.1', 'localhost', '::1')
_UPLOADS = 3  # files in memory; one of them is looked at
_SHARES = dict(WEBP=0.5, progressive=0.8)  # of the pixels, as they take more memory
_CONNECTIONS = 100
_HEADER_SECONDS = 10.0
_BODY_SECONDS = 30.0
_LIFE_SECONDS = 120.0  # of a connection, which is of one request
_PORT = re.compile(r':[0-9]*$')
_HOST = re.compile(r'[a-z0-9_.-]+|\[[0-9a-f:.]+\]')
_ROOT = re.compile(r'(/[\w.~-]+)*')
_LENGTH = re.compile('[0-9]{1,18}')  # isdigit() takes more than int() does
_KIND = 'application/octet-stream'  # other pages cannot send it without asking


def main(
    networks: list[str],
    host: str,
    port: int,
    max_megabytes: float,
    max_megapixels: float,
    root_path: str = '',
    allowed_host: Sequence[str] = (),
) -> None:
    """Serve as the command line says, until Ctrl-C."""
    if {named(one)[1] for one in networks} - {*pretrained.PRETRAINED}:  # without torch
        require('pytorch_grad_cam', 'the page', '"grad-cam>=1.5"')
    if not _ROOT.fullmatch(root_path):
        raise UserError(f'--root-path {root_path}: write it as /NAME, without a / last')
    hosts = hosts_of(host, allowed_host)
    check_address(host, port)
    sides = [Side(*_named(text)) for text in networks or [pretrained.DEFAULT]]
    if not networks:
        print(pretrained.introduction(sides[0].classifier.student.manifest))
    most, pixels = round(1e6 * max_megabytes), round(1e6 * max_megapixels)
    app = Page(sides, most, pixels, hosts, root_path)
    if host not in _LOCAL:
        print(f'{host}: the page is open to whoever reaches this machine')
    print(f'http://{_bracketed(host)}:{port}  (Ctrl-C ends it)', flush=True)
    _serve(app, host, port)
    sys.stdout.flush()
    os._exit(0)  # Python takes seconds to forget torch; nothing is to be saved


def _named(text: str) -> tuple[str, str | Path]:
    name, path = named(text)
    return name or os.path.basename(path) or path, pretrained.folder_of(path)


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be used, before networks are loaded."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(
            f'--host {host} --port {port} cannot be used ({reason}); give another one'
        ) from None


def hosts_of(host: str, allowed: Sequence[str] = ()) -> set[str] | None:
    """What a browser may call this machine; None where that is not known.

    Of any port: the page may be reached through a tunnel or proxy from another one.
    """
    allowed = {_bracketed(name.lower()) for name in allowed}
    for name in allowed:
        if not _HOST.fullmatch(name):
            raise UserError(f'--allowed-host {name}: a name such as demo.example.org')
    if host not in _LOCAL and not allowed:
        return None
    return allowed | {_bracketed(name) for name in (*_LOCAL, host)}


def _bracketed(host: str) -> str:
    return f'[{host}]' if ':' in host and host[0] != '[' else host


def _serve(app: 'Page', host: str, port: int) -> None:
    """Run uvicorn, which waits for headers as long as a client likes."""
    uvicorn = require('uvicorn', 'the page', '"uvicorn>=0.30"')
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Connection(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > _CONNECTIONS:
                self._end('503 Service Unavailable', 'Too many are here; come back.')
            self._timers = [
                self.loop.call_later(_HEADER_SECONDS, self._check_header),
                self.loop.call_later(_LIFE_SECONDS, transport.abort),
            ]

        def _check_header(self) -> None:
            if self.cycle is None:
                self._end('408 Request Timeout', 'The request came too slowly.')

        def _end(self, status: str, why: str) -> None:
            head = f'HTTP/1.1 {status}\r\ncontent-length: {len(why)}\r\n'
            head += 'content-type: text/plain\r\nconnection: close\r\n\r\n'
            self.transport.write(f'{head}{why}'.encode())
            self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in self._timers:
                timer.cancel()
            super().connection_lost(exc)

    uvicorn.run(
        app,
        host=host,
        port=port,
        http=Connection,
        ws='none',
        lifespan='off',
        log_config=None,  # uvicorn's own would close the handlers of all loggers
        log_level='error',
        timeout_graceful_shutdown=1,
    )


class _Refusal(Exception):
    """Status of an answer, and a sentence for people."""


class Page:
    """The page as an ASGI application: what it sends, and what that asks for.

    A photograph comes as it is in a request and stays in memory. Requests for other
    hosts than ``hosts`` (None for any) are refused (a name that another page has
    pointed here), so are calls of other pages, and more than memory is meant for. A
    proxy shows the page under ``root_path``, whether it takes it off or not.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        most_bytes: int = 20_000_000,
        most_pixels: int = 50_000_000,
        hosts: Collection[str] | None = None,
        root_path: str = '',
    ) -> None:
        self.sides, self.hosts, self.root_path = sides, hosts, root_path
        self.most_bytes, self.most_pixels = most_bytes, most_pixels
        self._shown = page([one.title for one in sides], most_bytes, root_path)
        self._uploads, self._turn = 0, ThreadPoolExecutor(1)

    async def __call__(self, scope: dict, receive: Messages, send: Messages) -> None:
        """Answer a request."""
        status, kind = 200, 'text/html; charset=utf-8'
        try:
            text = await self._answer(scope, receive)
        except _Refusal as error:
            (status, text), kind = error.args, 'text/plain; charset=utf-8'
        except asyncio.CancelledError:
            status, text, kind = 503, 'The page is closing.', 'text/plain'
        if text is None:  # nobody is there any more
            return
        body = text.encode()
        headers = {
            'content-type': kind,
            'content-length': str(len(body)),
            'content-security-policy': policy(),
            'x-content-type-options': 'nosniff',
            'cache-control': 'no-store',
            'connection': 'close',
        }
        pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
        await send(dict(type='http.response.start', status=status, headers=pairs))
        await send(dict(type='http.response.body', body=body))

    async def _answer(self, scope: dict, receive: Messages) -> str | None:
        headers = {k.decode('latin1'): v.decode('latin1') for k, v in scope['headers']}
        host = headers.get('host', '').lower()
        name = _PORT.sub('', host)
        if self.hosts is not None and name not in self.hosts:
            raise _Refusal(
                403, f'This page is not called {name!r:.99}; see --allowed-host.'
            )
        path, method = scope['path'], scope['method']
        if self.root_path and f'{path}/'.startswith(f'{self.root_path}/'):
            path = path[len(self.root_path) :]
        if path == '/look' and method == 'POST':
            return await self._look(headers, host, receive)
        if path not in ('', '/'):
            raise _Refusal(404, 'This is no part of the page.')
        if method not in ('GET', 'HEAD'):
            raise _Refusal(405, 'The page can be read, and nothing else.')
        return self._shown

    async def _look(self, headers: dict, host: str, receive: Messages) -> str | None:
        if headers.get('content-type') != _KIND:
            raise _Refusal(415, f'A file is sent as {_KIND}.')
        if headers.get('origin', f'://{host}').lower().partition('://')[2] != host:
            raise _Refusal(403, f'This comes from another page than that of {host}.')
        length = headers.get('content-length', '0')
        if not _LENGTH.fullmatch(length):
            raise _Refusal(400, 'The length of the request is no number.')
        if int(length) > self.most_bytes:
            self._too_large(int(length))
        # What finds no room is read and forgotten: a browser that could not send
        # all of it would not show the answer.
        room = self._uploads < _UPLOADS
        self._uploads += room
        try:
            data = await asyncio.wait_for(self._body(receive, room), _BODY_SECONDS)
            if not room:
                raise _Refusal(429, 'Others are before you; try again in a moment.')
            if data is None:
                return None
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._turn, self._show, data)
        except asyncio.TimeoutError:
            raise _Refusal(408, 'The file came too slowly.') from None
        except UserError as error:
            reason = str(error)
            raise _Refusal(422, f'{reason[:1].upper()}{reason[1:]}.') from None
        finally:
            self._uploads -= room

    async def _body(self, receive: Messages, keep: bool) -> bytearray | None:
        """The body of a request, as far as it is kept; None where nobody is left."""
        data, size = bytearray(), 0
        while True:
            message = await receive()
            if message['type'] == 'http.disconnect':
                return None
            size += len(message.get('body', b''))
            if size > self.most_bytes:
                self._too_large(size)
            if keep:
                data += message.get('body', b'')
            if not message.get('more_body'):
                return data

    def _too_large(self, size: int) -> None:
        raise _Refusal(
            413,
            f'This file has {size / 1e6:.1f} MB, more than the '
            f'{self.most_bytes / 1e6:.0f} MB allowed.',
        )

    def _show(self, data: bytearray) -> str:
        with reading(data, remedy='') as image:
            kind = 'progressive' if 'progressive' in image.info else image.format
            rgb = decode(image, round(self.most_pixels * _SHARES.get(kind, 1)))
        return answers([side.look(rgb) for side in self.sides])
