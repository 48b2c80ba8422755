# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Text in pictures of matplotlib and Pillow, in any script."""

import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from mmengine.logging import print_log

from hkd_mm.io.markup import clean, shorten

_PLACEHOLDERS = re.compile(r'last ?resort|blank', re.IGNORECASE)  # boxes for all
_useful: dict[str, frozenset[int]] = {}  # fonts that texts were found in
_absent: set[int] = set()  # characters that no font has


def drawable(text: str) -> tuple[str, str]:
    """A text as a picture can show it, and the file of a font that has all of it.

    Where no installed font does, the text is spelt in ASCII by the package anyascii;
    without that package it is empty.
    """
    shown = ''.join(
        c
        for c in unicodedata.normalize('NFC', clean(text))
        # no joiner, mark of order or selector
        if unicodedata.category(c) != 'Cf' and not '\ufe00' <= c <= '\ufe0f'
    )
    if font := _font_of(frozenset(map(ord, shown))):
        return shown, font
    try:
        from anyascii import anyascii
    except ImportError:
        _report_once()
        return '', _own_font()
    return anyascii(text), _own_font()


def drawable_names(names: Sequence[str], width: int) -> list[tuple[str, str]]:
    """Class names for a picture, each with its font, short and all different.

    One that cannot be shown is called by its number, ``class 3``.
    """
    pairs = [drawable(name) for name in shorten(names, width)]
    shown = [text or f'class {number}' for number, (text, _) in enumerate(pairs)]
    fonts = [font for _, font in pairs]
    return [*zip(shorten(shown, width), fonts)]


def set_labels(axis: Any, names: Sequence[str], width: int = 24, **style) -> None:
    """Give an axis of matplotlib a tick for each name, of ``width`` characters at most.

    They are from 0 on. ``style`` is of the texts; ``fontsize`` in points.
    """
    pairs = drawable_names(names, width)
    from matplotlib import ft2font

    shapes = hasattr(ft2font, '__libraqm_version__')
    texts = [text if shapes else _reversed(text) for text, _ in pairs]
    axis.set_ticks(range(len(names)), texts, parse_math=False, **style)
    for label, (_, font) in zip(axis.get_ticklabels(), pairs):
        properties = label.get_fontproperties().copy()
        properties.set_file(font)
        label.set_fontproperties(properties)


def draw_line(draw: Any, place: tuple[int, int], text: str, width: int) -> None:
    """Write a line with Pillow, cut where it would be longer than ``width`` pixels."""
    from PIL import ImageFont, features

    text, file = drawable(text)
    font = ImageFont.truetype(file, 12)
    cut = text
    while cut and font.getlength(cut) > width:
        text = text[:-1]
        cut = f'{text}\u2026'
    shapes = features.check('raqm')
    draw.text(place, cut if shapes else _reversed(cut), 'black', font)


def _reversed(text: str) -> str:
    """Right-to-left text for a program that draws all from the left."""
    if not any(unicodedata.bidirectional(c) in ('R', 'AL') for c in text):
        return text
    latin = re.compile('[!-~]+( [!-~]+)*')
    return latin.sub(lambda found: found[0][::-1], text[::-1])


def _font_of(needed: frozenset[int]) -> str | None:
    for path, known in _useful.items():
        if needed <= known:
            return path
    if needed & _absent:
        return None
    found: set[int] = set()
    for path in _installed():
        known = _characters(path)
        if needed <= known:
            _useful[path] = known
            return path
        found |= known & needed
    _absent.update(needed - found)
    return None


def _own_font() -> str:
    """DejaVu Sans, which comes with matplotlib."""
    from matplotlib import get_data_path

    return f'{get_data_path()}/fonts/ttf/DejaVuSans.ttf'


def _installed() -> Iterator[str]:
    from matplotlib.font_manager import fontManager

    def rank(font: Any) -> tuple:
        plain = font.style == 'normal' and font.weight in (400, 'normal', 'regular')
        return not plain, 'Sans' not in font.name, font.fname

    yield _own_font()
    for font in sorted(fontManager.ttflist, key=rank):
        if not _PLACEHOLDERS.search(font.name):
            yield font.fname


def _characters(path: str) -> frozenset[int]:
    """Code points that a font has; none of a file that cannot be read."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _report_once() -> None:
    print_log(
        'no installed font has all characters of the names: pictures show numbers in '
        'place of some; install a font that has them, or: pip install anyascii',
        'current',
        logging.WARNING,
    )
