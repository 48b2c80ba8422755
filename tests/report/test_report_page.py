# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The page itself: its text, and in a real browser."""

import base64
import re

import pytest

from hkd_mm.errors import UserError
from hkd_mm.report import make_report
from hkd_mm.report.page import render
from hkd_mm.report.report import drawn, write_figures


def test_the_page_is_whole_and_alone(page):
    text = page.read_text(encoding='utf-8')
    assert '&lt;b&gt;Small &amp; new&lt;/b&gt;' in text
    assert '<b>Small' not in text
    assert text.count('plotly.js v') == 1  # the library, once
    assert '<script src' not in text and '<link rel="stylesheet"' not in text
    for number, title in enumerate(
        [
            'Comparison',
            'Accuracy against cost',
            'F1 by class',
            'Confusion',
            'Calibration',
            'Risk and coverage',
            'ROC by class',
            'Training',
            'Agreement with the teacher',
            'Where networks look (Grad-CAM)',
            'What the student loses',
            'Groups of patients',
            'Leakage',
            'Model card',
        ],
        1,
    ):
        assert f'>{number}. {title}</h2>' in text
    assert text.count('Left out: ') == 1  # Grad-CAM, not asked for


def test_mistakes_are_one_line(tool, study_dir, tmp_path, capfd):
    assert tool('report')([str(study_dir), '--out', 'x.pdf']) == 2
    assert tool('report')([str(tmp_path), '--out', 'x.html']) == 2
    errors = capfd.readouterr().err.splitlines()
    told = [line for line in errors if line.startswith('error: ')]
    assert len(told) == 2
    assert '--out x.pdf' in told[0] and 'no finished run' in told[1]


def test_a_missing_library_is_named(study_dir, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'plotly', None)
    with pytest.raises(UserError, match='pip install "plotly>='):
        make_report([str(study_dir)], 'x.html')


@pytest.fixture(
    scope='module',
    params=[(1280, 'light'), (390, 'dark')],
    ids=['wide', 'phone'],
)
def shown(request, open_page, page):
    """The page as opened, with what it said and asked for."""
    width, scheme = request.param
    tab = open_page(page, width, scheme)
    yield tab
    tab.close()


def test_every_figure_is_drawn_and_nothing_is_fetched(shown):
    outside = [u for u in shown.asked if u.split(':')[0] not in
               ('file', 'data', 'blob')]  # fmt: skip
    assert shown.said == [] and outside == []
    charts = shown.query_selector_all('.chart')
    assert len(charts) == 15
    for chart in charts:
        drawn = chart.eval_on_selector_all(
            '.main-svg .points path, .main-svg .lines path, '
            '.main-svg image, .main-svg .boxes path',
            'nodes => nodes.length',
        )
        assert drawn > 0, chart.get_attribute('id')
        assert chart.query_selector('[role=img]').get_attribute('aria-label')
    width = shown.evaluate('document.documentElement.scrollWidth')
    assert width <= shown.viewport_size['width']
    colour = shown.evaluate('getComputedStyle(document.body).backgroundColor')
    dark = shown.viewport_size['width'] == 390
    assert (colour == 'rgb(255, 255, 255)') != dark


def test_a_click_on_a_heading_sorts(shown):
    def column(place):
        return shown.eval_on_selector_all(
            f'#comparison tbody tr > :nth-child({place})',
            'cells => cells.map(c => c.textContent.trim())',
        )

    head = shown.locator('#comparison thead button')
    head.nth(1).click()
    assert column(1) == ['teacher', 'kd', 'dist', 'alone']
    assert shown.locator('#comparison th[aria-sort=descending]').count() == 1
    head.nth(1).click()
    assert column(1) == ['alone', 'dist', 'kd', 'teacher']
    head.nth(0).click()
    assert column(1) == ['teacher', 'kd', 'dist', 'alone']


def test_a_choice_redraws_and_buttons_save(shown, tmp_path):
    points = '#figure-losses .scatterlayer .trace'
    shown.select_option('#figure-losses select', label='alone')
    shown.wait_for_timeout(300)
    assert shown.locator(points).count() == 2
    for kind, start in (('png', b'\x89PNG'), ('svg', b'<svg')):
        with shown.expect_download() as waiting:
            shown.click(f'#figure-f1 [data-save={kind}]')
        path = tmp_path / f'f1.{kind}'
        waiting.value.save_as(path)
        assert waiting.value.suggested_filename == f'f1.{kind}'
        assert path.read_bytes().startswith(start)
    assert shown.said == []


def sections():
    from plotly import graph_objects as go

    from hkd_mm.report.page import Chart, Section

    figure = go.Figure([go.Scatter(y=[1, 2]), go.Scatter(y=[2, 1])])
    charts = [
        Chart('plain', figure, 'A line.', 300),
        Chart('apart', figure, 'A line.', 300, {'A b': [0], 'c': [1]}),
    ]
    return [Section('s', 'S', blocks=charts)]


def test_heat_maps_of_many_classes_have_room_for_their_names():
    from hkd_mm.report.page import MANY, Chart, heat_map

    names = [f'a rather long name of class {i}' for i in range(MANY + 1)]
    for count in (3, 12, MANY, MANY + 1):
        values = [[0.5] * count for _ in range(count)]
        made = heat_map(values, names[:count], names[:count])
        room = (Chart('x', made, '', 300).width - 170) / count
        lines = max(label.count('<br>') + 1 for label in made.data[0].x)
        assert room >= 14 * lines
        assert len({*made.data[0].y}) == count


def test_each_part_of_a_chart_gets_its_files(tmp_path, monkeypatch):
    pytest.importorskip('kaleido')
    written = []
    monkeypatch.setattr('plotly.io.write_images', lambda **words: written.append(words))
    said = []
    write_figures(sections(), tmp_path / 'new', said.append)
    names = [[path.name for path in words['file']] for words in written]
    assert names == [
        [f'{name}.{kind}' for name in ('plain', 'apart-a-b', 'apart-c')]
        for kind in ('png', 'svg')
    ]
    shown = [[trace.visible for trace in made.data] for made in written[0]['fig']]
    assert shown == [[None, None], [True, False], [False, True]]
    assert said == [f'wrote 6 figures to {tmp_path / "new"}']


def test_without_a_chrome_there_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip('kaleido')

    def fail(**words):
        raise RuntimeError('no browser. Look here:\nand there')

    monkeypatch.setattr('plotly.io.write_images', fail)
    said = []
    write_figures(sections(), tmp_path, said.append)
    assert len(said) == 1 and 'no working Chrome (no browser);' in said[0]
    with pytest.raises(UserError, match='no working Chrome'):
        drawn(sections())


def test_a_still_page_holds_pictures_and_no_library(monkeypatch):
    pytest.importorskip('kaleido')

    def write(fig, file, **words):
        for made, path in zip(fig, file):
            seen = [trace.visible for trace in made.data]
            path.write_text(f'<svg>{path.stem} {seen}</svg>')

    monkeypatch.setattr('plotly.io.write_images', write)
    found = drawn(sections())
    assert {name: [word for word, _ in part] for name, part in found.items()} == {
        'plain': [''],
        'apart': ['A b', 'c'],
    }
    text = render('T', sections(), 'said', found)
    assert 'plotly.js' not in text and 'json">{' not in text
    assert 'json">{' in render('T', sections(), 'said')
    sources = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    shown = [base64.b64decode(source).decode() for source in sources]
    assert shown == [
        '<svg>plain [None, None]</svg>',
        '<svg>apart-a-b [True, False]</svg>',
        '<svg>apart-c [False, True]</svg>',
    ]
    assert 'alt="A line. A b."' in text


def test_a_still_page_in_a_browser(study_dir, tmp_path, open_page):
    pytest.importorskip('kaleido')
    page = make_report(
        [str(study_dir)],
        str(tmp_path / 'still.html'),
        still=True,
        options=dict(images=False, calibration=False, cam_images=0),
        report=lambda line: None,
    )
    assert page.stat().st_size < 1_000_000
    tab = open_page(page)
    sizes = tab.eval_on_selector_all(
        'figure.still img', 'all => all.map(one => one.clientWidth / one.naturalWidth)'
    )
    # texts have their size on a wide page
    assert len(sizes) > 15 and 0.95 < min(sizes) and max(sizes) < 1.05
    assert tab.said == []
    tab.close()
