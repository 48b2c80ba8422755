# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a server takes."""

from collections.abc import Awaitable, Callable
from typing import Any

Messages = Callable[..., Awaitable[Any]]


class Limits:
    """An ASGI application that takes no large bodies and no uploads.

    A body that says how long it is is refused at once; one that does not is
    cut off when it has become too long.

    Args:
        app: what is guarded.
        most: bytes of a request's body.
    """

    def __init__(self, app: Messages, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(
        self, scope: dict, receive: Messages, send: Messages
    ) -> None:
        """Answer, or hand on."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return
        if '/upload' in scope['path']:  # Gradio would write a file
            await _refuse(send, 403, b'no uploads here')
            return
        length = dict(scope['headers']).get(b'content-length', b'0')
        if not length.isdigit() or int(length) > self.most:
            await _refuse(send, 413, b'too large')
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


async def _refuse(send: Messages, status: int, why: bytes) -> None:
    headers = [(b'content-type', b'text/plain'), (b'connection', b'close')]
    await send(
        {'type': 'http.response.start', 'status': status, 'headers': headers}
    )
    await send({'type': 'http.response.body', 'body': why})
