# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Class names of any script in pictures: characters or numbers, never boxes."""

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hkd_mm.engine.run_figures import save_confusion
from hkd_mm.io import picture_text
from hkd_mm.io.picture_text import draw_line, drawable, drawable_names

SCRIPTS = ['黒色腫', '흑색종', 'سرطان', 'סרטן', 'मेलेनोमा', '🩺', '👩\u200d⚕️', 'Ångström']


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """A machine with the font of matplotlib alone, and without anyascii."""
    own = picture_text._own_font()
    monkeypatch.setattr(picture_text, '_installed', lambda: iter([own]))
    monkeypatch.setattr(picture_text, '_useful', {})
    monkeypatch.setattr(picture_text, '_absent', set())
    monkeypatch.setitem(sys.modules, 'anyascii', None)


def test_a_font_that_has_the_characters_is_taken(tmp_path, monkeypatch):
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    made = FontBuilder(1000)
    names = ['.notdef', *(f'g{code}' for code in map(ord, '黒色腫'))]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0)), pen.lineTo((500, 0)), pen.lineTo((0, 500)), pen.closePath()
    made.setupGlyphOrder(names)
    made.setupCharacterMap({ord(c): f'g{ord(c)}' for c in '黒色腫'})
    made.setupGlyf({name: pen.glyph() for name in names})
    made.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable(dict(familyName='Kanji', styleName='Regular'))
    made.setupOS2(), made.setupPost()
    path = str(tmp_path / 'kanji.ttf')
    made.save(path)
    own = picture_text._own_font()
    gone = str(tmp_path / 'gone.ttf')
    monkeypatch.setattr(picture_text, '_installed', lambda: iter([own, gone, path]))
    assert drawable('黒色腫') == ('黒色腫', path)
    assert drawable_names(['mel', '黒\n'], 9) == [('mel', own), ('黒', path)]


def test_what_no_font_has_is_spelt_or_numbered(monkeypatch):
    assert drawable('黒色腫')[0] == ''
    assert [name for name, _ in drawable_names(['mel', '黒', '色', 'class 1'], 20)] == [
        'mel', 'class 1', 'class 2', '3 class 1'
    ]  # fmt: skip
    spelt = SimpleNamespace(anyascii=lambda text: 'Hei' * text.count('黒'))
    monkeypatch.setitem(sys.modules, 'anyascii', spelt)
    assert [name for name, _ in drawable_names(['黒', 'x'], 20)] == ['Hei', 'x']


def test_fonts_of_boxes_alone_are_no_fonts(monkeypatch):
    monkeypatch.undo()
    assert not any('LastResort' in path for path in picture_text._installed())


def test_right_to_left_stays_readable_without_shaping():
    assert picture_text._reversed('סרטן v2 עור') == 'רוע v2 ןטרס'
    assert picture_text._reversed('melanoma 黒') == 'melanoma 黒'


@pytest.mark.parametrize(
    'classes',
    [
        SCRIPTS,
        ['a$b$c', '$\\frac$', '_x', '\udcff', '', 'a\nb'],
        ['黒' * 250, '黒' * 250],
    ],
    ids=['scripts', 'marks', 'long'],
)
def test_a_confusion_matrix_draws_every_name(tmp_path, classes):
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # "Glyph ... missing", collapsed axes
        save_confusion(np.eye(len(classes), dtype=int), classes, tmp_path / 'c.png')
    with Image.open(tmp_path / 'c.png') as picture:
        assert max(picture.size) < 1500


def test_a_matrix_of_many_classes_has_a_size_to_look_at(tmp_path):
    classes = [f'{number} ' + 'long ' * 50 for number in range(100)]
    save_confusion(np.ones((100, 100), int), classes, tmp_path / 'c.png')
    with Image.open(tmp_path / 'c.png') as picture:
        assert picture.size == (2640, 2520)


def test_a_long_line_ends_within_the_picture():
    picture = Image.new('L', (300, 20), 'white')
    draw_line(ImageDraw.Draw(picture), (0, 0), 'm' * 250, 200)
    inked = np.flatnonzero((np.asarray(picture) < 128).any(0))
    assert 150 < inked.max() <= 200
