# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables: what is right is read, what is cut, doubled or open is refused."""

import csv
import os
import random

import pytest

from hkd_mm.errors import UserError
from hkd_mm.io.tables import is_blank, read_table, write_table, written_rows


def written(tmp_path, text, encoding='utf-8'):
    path = tmp_path / 't.csv'
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
@pytest.mark.parametrize('mark', [',', ';', '\t'])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_usual_files_are_read(tmp_path, encoding, mark, end):
    lines = [['Image', 'LABEL'], ['a.jpg', 'Ekzém'], ['', ''], ['b', ' c ']]
    text = end.join(mark.join(line) for line in lines) + end
    rows = read_table(written(tmp_path, text, encoding), ('image',))
    assert rows == [
        dict(image='a.jpg', label='Ekzém'),
        dict(image='b', label='c'),
    ]


def test_quoted_commas_and_quotes_stay_in_their_cell(tmp_path):
    text = 'sep=,\nimage,label\na,"Acne, rosacea"\nb,"the ""other"" one"\n'
    rows = read_table(written(tmp_path, text))
    assert [row['label'] for row in rows] == [
        'Acne, rosacea',
        'the "other" one',
    ]


@pytest.mark.parametrize(
    ('text', 'encoding', 'reason'),
    [
        ('image,label\na,Acne, rosacea\n', 'utf-8', 'line 2 has 3 cells'),
        ('image,label,age\na,b\n', 'utf-8', 'line 2 ends before .*"age"'),
        ('image,Label,label\na,b,c\n', 'utf-8', '2 columns called "label"'),
        ('image,label\na,b\nc,"d\ne,f\n', 'utf-8', 'line 3'),
        ('image,label\na,"b\nc,d"\ne,f\n', 'utf-8', 'line 2: a quoted cell'),
        ('image,label\na,"b"c\n', 'utf-8', 'line 2'),
        ('image,label\na,é\n', 'cp1252', r'line 2: byte 0xe9.*CP1252'),
        ('image,label\na,b\n', 'utf-16', 'UTF-16'),
        ('PK\3\4\0', 'latin-1', 'is a workbook or an archive'),
        ('image,label\n\n', 'utf-8', 'no rows'),
        ('', 'utf-8', 'no column "image"'),
        ('x,label\na,b\n', 'utf-8', 'no column "image"; found: x, label'),
        ('image,label\na,\0\n', 'utf-8', 'zero bytes'),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path, text, encoding, reason):
    path = written(tmp_path, text, encoding)
    with pytest.raises(UserError, match=reason) as error:
        read_table(path, ('image',))
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_a_table_that_is_missing_or_a_folder_is_named(tmp_path):
    for path in (tmp_path / 'none.csv', tmp_path):
        with pytest.raises(UserError, match=str(path)):
            read_table(path)


def test_programs_write_nothing_in_many_ways():
    for text in (
        '',
        ' ',
        'nan',
        'NaN',
        'NA',
        'N/A',
        '-',
        'unknown',
        'None',
        '<NA>',
        '\\N',
    ):
        assert is_blank(text), text
    for text in ('0', 'lesion', 'HAM_0001', 'nano'):
        assert not is_blank(text), text


FORMULAS = {
    '=HYPERLINK("http://x")': """'=HYPERLINK("http://x")""",
    '+1+cmd': "'+1+cmd",
    '-2+3': "'-2+3",
    '@SUM(A1)': "'@SUM(A1)",
    '\t=1': "'\t=1",
    '-': "'-",
    '-inf': "'-inf",
    "'=1": "''=1",  # else reading would take off what was its own
    "''-x": "'''-x",
    '-5': '-5',
    '+1.5e-3': '+1.5e-3',
    "'t Hooft": "'t Hooft",
    "'": "'",
    'a=b': 'a=b',
}


def test_no_cell_of_text_is_a_formula_and_every_id_comes_back(tmp_path):
    path = tmp_path / 'new' / 't.csv'
    write_table(path, ['image', '=label'], [(name, 1) for name in FORMULAS])
    with path.open(newline='') as file:
        header, *cells = csv.reader(file)
    assert header == ['image', "'=label"]
    assert [row[0] for row in cells] == [*FORMULAS.values()]
    rows = read_table(path)
    assert [row['image'] for row in rows] == [name.strip(' ') for name in FORMULAS]
    assert {row['=label'] for row in rows} == {'1'}


def test_a_carriage_return_before_a_formula_is_harmless(tmp_path):
    write_table(tmp_path / 't.csv', ['image'], [['\r=1'], ['a\r=1']])
    text = (tmp_path / 't.csv').read_bytes()
    assert text == b'image\n"\'\r=1"\n"a\r=1"\n'


def test_any_text_comes_back(tmp_path):
    path, rng = tmp_path / 't.csv', random.Random(0)
    letters = '\'=+-@1ae.\t,";\u2028\x85\x0cé\U0001f600'
    names = [''.join(rng.choices(letters, k=rng.randint(1, 5))) for _ in range(5000)]
    names = sorted({name.strip() for name in names} - {''})
    write_table(path, ['image', 'n'], [[name, 0] for name in names])
    assert read_table(path) == [dict(image=name, n='0') for name in names]


def test_cells_keep_their_kinds_and_bytes(tmp_path):
    path = tmp_path / 't.csv'
    name = os.fsdecode(b'caf\xe9.jpg')
    write_table(path, ['a', 'b', 'c', 'd'], iter([(name, None, -0.5, 'x,\ny')]))
    assert path.read_bytes() == b'a,b,c,d\ncaf\xe9.jpg,,-0.5,"x,\ny"\n'


def test_a_table_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / 't.csv'
    path.write_text('old')

    def rows():
        yield ['a']
        raise KeyError

    with pytest.raises(KeyError):
        write_table(path, ['image'], rows())
    assert path.read_text() == 'old' and [*tmp_path.iterdir()] == [path]


def test_other_line_marks_within_a_cell_end_no_row(tmp_path):
    text = 'image,label\na,"x\u2028y\x0bz\x85"\nb,c\n'
    rows = read_table(written(tmp_path, text))
    assert [row['label'] for row in rows] == ['x\u2028y\x0bz', 'c']


def test_a_device_is_no_table():
    with pytest.raises(UserError, match='/dev/zero cannot be read: a FIFO, device'):
        read_table('/dev/zero')


def test_a_table_of_ours_comes_back_as_it_was_written(tmp_path):
    path, rng = tmp_path / 't.csv', random.Random(0)
    letters = '\'=+-@1aA.\t,";; \n\r\u2028\udce9'
    rows = [[''.join(rng.choices(letters, k=4)) for _ in range(9)] for _ in range(500)]
    write_table(path, rows[0], rows[1:])
    assert [*written_rows(path)] == rows
    path.write_bytes(path.read_bytes() + b'cut,off\n')
    with pytest.raises(UserError, match='has 2 cells and the header 9'):
        [*written_rows(path)]
    path.write_bytes(b'a,b\n1,"2\n')
    with pytest.raises(UserError, match='cannot be read'):
        [*written_rows(path)]
