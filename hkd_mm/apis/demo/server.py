# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/demo.py`` does."""

import base64
import binascii
import io
import logging
import os
import socket
import threading
from argparse import Namespace
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hkd_mm.errors import UserError
from hkd_mm.inference.images import FAILURES, FORMATS, read_rgb
from hkd_mm.inference.named import named

from .limits import Limits
from .markup import answers, frame, page_file, refusal
from .sides import Side, check_grad_cam

_LOCAL = ('127.0.0.1', 'localhost', '::1')
_AT_ONCE = 2  # photographs in memory


def main(args: Namespace) -> None:
    """Serve as the command line says, until Ctrl-C."""
    check_grad_cam()
    check_place(args.host, args.port)
    sides = [Side(*_named(text)) for text in args.nets]
    most = round(1e6 * args.max_megabytes)
    pixels = round(1e6 * args.max_megapixels)
    hosts = hosts_of(args.host)
    app = make_app(sides, most, pixels, hosts)
    serve(app, args.host, args.port)


def _named(text: str) -> tuple[str, str]:
    """``NAME=PATH``, or a path that is its own name."""
    name, path = named(text)
    return name or os.path.basename(path) or path, path


def read_upload(text: str, most_bytes: int, most_pixels: int) -> np.ndarray:
    """A photograph that a page sent.

    Args:
        text: its file in base64.
        most_bytes: of the file.
        most_pixels: of the image; it is refused before it is unpacked.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: it is too large, or none of JPEG, PNG, WebP, BMP and TIFF.
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
    unreadable = UserError(
        'This is no photograph that can be read: take a JPEG, PNG, WebP, BMP '
        'or TIFF file that is whole.'
    )
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except FAILURES:
        raise unreadable from None
    with image:
        width, height = image.size
        if width * height > most_pixels:
            raise UserError(
                f'This image has {width} x {height} pixels, more than the '
                f'{most_pixels / 1e6:.0f} million allowed.'
            )
        try:
            return read_rgb(image, most_pixels)
        except UserError:
            raise unreadable from None


def make_look(
    sides: Sequence[Side], most_bytes: int, most_pixels: int
) -> Callable[[str], str]:
    """What the page calls with a file in base64: HTML to show."""
    turn = threading.Semaphore(_AT_ONCE)

    def look(text: str) -> str:
        with turn:
            try:
                rgb = read_upload(text, most_bytes, most_pixels)
            except UserError as error:
                return refusal(str(error))
            return answers([side.look(rgb) for side in sides])

    return look


def make_app(
    sides: Sequence[Side],
    most_bytes: int = 20_000_000,
    most_pixels: int = 50_000_000,
    hosts: Collection[str] | None = None,
) -> Any:
    """The page as an ASGI application.

    Photographs come as text in a request and stay in memory; Gradio's own
    uploads, which are written to a folder, are refused.

    Args:
        sides: the nets, from left to right.
        most_bytes: of a file.
        most_pixels: of an image.
        hosts: see :class:`Limits`.

    Raises:
        UserError: Gradio is not installed.
    """
    os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
    try:
        import gradio
        from fastapi import FastAPI
    except ImportError:
        raise UserError(
            'the page needs Gradio; pip install "gradio>=6"'
        ) from None
    for noisy in ('httpx', 'uvicorn.access'):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    title = ' and '.join(side.title for side in sides)
    with gradio.Blocks(title=title, analytics_enabled=False) as blocks:
        gradio.Markdown('# What do they see?')
        gradio.HTML(
            frame(),
            css_template=page_file('page.css'),
            js_on_load=page_file('page.js'),
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


def hosts_of(host: str) -> set[str] | None:
    """What a browser may call this machine; None where others may, too.

    Of any port: the page may be reached through a tunnel from another one.
    """
    return {_bracketed(name) for name in _LOCAL} if host in _LOCAL else None


def _bracketed(host: str) -> str:
    return f'[{host}]' if ':' in host else host


def check_place(host: str, port: int) -> None:
    """Refuse a place that cannot be had, before nets are loaded.

    Raises:
        UserError: it is taken, or no place of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(
            f'--host {host} --port {port} cannot be had ({reason}); give '
            'another one'
        ) from None


def serve(app: Any, host: str, port: int) -> None:
    """Answer until Ctrl-C."""
    import uvicorn

    if host not in _LOCAL:
        print(f'{host}: the page is open to whoever reaches this machine')
    print(f'http://{_bracketed(host)}:{port}  (Ctrl-C ends it)', flush=True)
    uvicorn.run(app, host=host, port=port, log_level='warning')
