# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Names and notes of anybody as text of a page: Markdown, YAML, one clean line.

HTML is written by Jinja with ``autoescape``, which needs nothing from here but
:func:`clean`.
"""

import re
from collections.abc import Iterable
from typing import Any

import yaml

# Line breaks and controls; marks that turn the rest of a line round; surrogates.
_UNSEEN = re.compile(
    '[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+'
)
# What Markdown, GitHub's tables, TeX or Liquid act on. Brackets and underscores only
# where they act, so that intervals and file names stay readable as they are.
_ACTIVE = re.compile(
    r'[\\`|~${}]|(?<=\S)\*|\*(?=\S)'
    r'|(?<![^\W_])_|_(?![^\W_])'
    r'|!(?=\[)|\[(?![-+]?[\d.]+,)|\](?=[\[(:])|(?<=\])\('
    r'|^#+|#+$'
)
_LINK = re.compile(r'(https?://|mailto:)[^\s<>"]+', re.IGNORECASE)


def clean(text: object) -> str:
    """One line that UTF-8 can hold; what has no place in it is a replacement mark."""
    text = re.sub(r'[\r\n\t\v\f\x85\u2028\u2029]+', ' ', str(text))
    return _UNSEEN.sub('\ufffd', text).strip()


def shorten(names: Iterable[object], width: int) -> list[str]:
    """Names for a picture: clean, at most ``width`` characters, all different.

    Long ones lose their middle; what is empty or there already gets its number.
    """
    found: list[str] = []
    for number, name in enumerate(map(clean, names)):
        shown = _cut(name, width)
        while not shown or shown in found:
            name = f'{number} {name}'.strip()
            shown = _cut(name, width)
        found.append(shown)
    return found


def _cut(name: str, width: int) -> str:
    tail = width // 3
    cut = f'{name[: width - tail - 1]}\u2026{name[-tail:]}'
    return cut if len(name) > width else name


def is_link(text: str) -> bool:
    """Whether a text is an address that a page may link to, and nothing else."""
    return bool(_LINK.fullmatch(text))


def markdown(text: object) -> str:
    """A text inside of a line of Markdown, shown as it is: no tag, link or column."""
    text = re.sub(r'&(?=#?\w+;)', '&amp;', clean(text))
    text = re.sub(r'<(?=\S)', '&lt;', text)
    return _ACTIVE.sub(lambda found: re.sub(r'(\W|_)', r'\\\1', found[0]), text)


def markdown_code(text: object) -> str:
    """A text as code of Markdown, whatever backticks are in it."""
    text = clean(text)
    fence = '`' * (1 + max(map(len, re.findall('`+', text)), default=0))
    blank = ' ' * (len(fence) > 1)
    return f'{fence}{blank}{text}{blank}{fence}'


def markdown_table(rows: Iterable[Iterable[object]], code: int = 0) -> str:
    """Rows of texts, which are escaped, the header first, as a table of Markdown.

    So many columns of the left are ``code``. It ends with a line break.
    """
    header, *rest = [[*row] for row in rows]
    lines = [[markdown(cell) for cell in header], ['---'] * len(header)]
    for row in rest:
        coded = [markdown_code(cell).replace('|', '\\|') for cell in row[:code]]
        lines.append([*coded, *map(markdown, row[code:])])
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def front_matter(values: dict[str, Any]) -> str:
    """The YAML block that a file of Markdown begins with, as hubs read it."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return f'---\n{text}---\n\n'
