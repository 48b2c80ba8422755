# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a server takes."""

import re
from collections.abc import Awaitable, Callable, Collection
from typing import Any

Messages = Callable[..., Awaitable[Any]]

# All that the page asks for. Gradio has routes that write files.
_PAGE = ('/', '/theme.css', '/favicon.ico', '/manifest.json')
_PARTS = ('/assets/', '/static/')
_CALL = '/gradio_api/component_server'
_PORT = re.compile(r':[0-9]*$')
_LENGTH = re.compile('[0-9]{1,18}')  # isdigit() takes more than int() does


class Limits:
    """An ASGI application that takes what its page sends and nothing else.

    Requests for other hosts than its own are refused (a name that another
    page has pointed here), so are calls of other pages, and bodies that are
    too long: at once where they say how long they are, else when they have
    become so.

    Args:
        app: what is guarded.
        most: bytes of a request's body.
        hosts: names that a request may be for, whatever the port; None for
            any.
    """

    def __init__(
        self, app: Messages, most: int, hosts: Collection[str] | None = None
    ) -> None:
        self.app, self.most, self.hosts = app, most, hosts

    async def __call__(
        self, scope: dict, receive: Messages, send: Messages
    ) -> None:
        """Answer, or hand on."""
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return
        if scope['type'] != 'http':  # the page opens no socket
            return
        refused = self._refused(scope)
        if refused is not None:
            await _refuse(send, *refused)
            return
        came = 0

        async def counted() -> dict:
            nonlocal came
            message = await receive()
            came += len(message.get('body', b''))
            if came > self.most:
                return {'type': 'http.disconnect'}
            return message

        await self.app(scope, counted, send)

    def _refused(self, scope: dict) -> tuple[int, bytes] | None:
        """Status and reason, if the request is none of the page's."""
        headers = {
            k.decode('latin1'): v.decode('latin1') for k, v in scope['headers']
        }
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
            origin = headers.get('origin')
            if (
                origin is not None
                and origin.lower().partition('://')[2] != host
            ):
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
    await send(
        {'type': 'http.response.start', 'status': status, 'headers': headers}
    )
    await send({'type': 'http.response.body', 'body': why})
