# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Names of anybody in Markdown, YAML and pictures: text, never markup."""

import html
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hkd_mm.io.markup import (
    clean,
    front_matter,
    is_link,
    markdown,
    markdown_code,
    markdown_table,
    shorten,
)

ATTACKS = [
    '<img src=x onerror=alert(1)>', '<javascript:alert(1)>', '[x](javascript:alert(1))',
    '![x](http://e/p.png)', '[x][y]', '[x]: javascript:alert(1)', 'a|b', '`', '``',
    '*a*', '_a_', '~~a~~', 'a\nb', '---', '# a', '{{ 7 }}', '{% x %}', '$x$',
    '&lt;b&gt;', "=cmd|' /C calc'!A0", '\udcff', '\u202etxt', 'a\\',
    '\\|', '</td>', '<!-- x',
]  # fmt: skip
NAMES = st.text(
    'a1 -+=#>[]()!<>&;:/`*_~|\\${}"\'.,\n\t\x00\u2028é黒\ud800br', max_size=12
)
RENDER = MarkdownIt('gfm-like', dict(html=True, linkify=False)).render


def texts(page, tag):
    """What a reader sees in each of these elements."""
    found = re.findall(f'<{tag}(?: [^>]*)?>(.*?)</{tag}>', page, re.DOTALL)
    return [html.unescape(text).strip() for text in found]


def check(name):
    shown = clean(name)
    assert texts(RENDER(f'Name: {markdown(name)}.'), 'p') == [f'Name: {shown}.']
    assert texts(RENDER(f'# {markdown(name)}'), 'h1') == [shown]
    page = RENDER(markdown_table([['head', name], [name, 'x']]))
    assert texts(page, 't[hd]') == ['head', shown, shown, 'x']
    if shown:
        assert texts(RENDER(f'Name {markdown_code(name)}'), 'code') == [shown]
        page = RENDER(markdown_table([['a', 'b'], [name, name]], code=1))
        assert texts(page, 'code') == [shown] and texts(page, 'td')[1] == shown


@pytest.mark.parametrize('name', ATTACKS)
def test_a_name_is_shown_as_it_is(name):
    check(name)
    made = markdown(name)
    assert '<img' not in made and '](' not in made and '\n' not in made
    made.encode()


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_any_name_is_shown_as_it_is(name):
    check(name)


def test_figures_and_file_names_stay_readable_as_they_are():
    for text in (
        'HAM10000_64',
        '0.38 +- 0.06',
        '[-0.060, 0.165]',
        'p < 0.001',
        'a.b/c',
    ):
        assert markdown(text) == text


@pytest.mark.parametrize('name', [*ATTACKS, 'a: "b', "it's", '- x', '', 'null', '@a'])
def test_front_matter_is_read_back(name):
    text = front_matter(dict(license=clean(name), tags=['a', clean(name)]))
    start, block, rest = re.split('^---\n', text, flags=re.MULTILINE)
    assert (start, rest) == ('', '\n')
    assert yaml.safe_load(block) == dict(license=clean(name), tags=['a', clean(name)])


def test_short_names_are_different():
    names = ['x' * 250, 'x' * 250, 'x' * 249 + 'y', '', 'mel', 'mel', '4 mel', 'a\nb']
    found = shorten(names, 12)
    assert len(set(found)) == len(names) and max(map(len, found)) == 12
    assert found[2].endswith('xxxy') and found[4:6] == ['mel', '5 mel']
    assert found[7] == 'a b'


@pytest.mark.parametrize(
    ('text', 'known'),
    [
        ('https://e.org/a', True), ('HTTP://e.org', True), ('mailto:a@b', True),
        ('javascript:alert(1)', False), ('data:text/html,x', False), ('//e.org', False),
        ('https://e.org/ x', False), ('https://e.org/"x', False), ('file:///x', False),
    ],
)  # fmt: skip
def test_links_are_of_known_schemes(text, known):
    assert is_link(text) == known
