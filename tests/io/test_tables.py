# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables: what is right is read, what is cut, doubled or open is refused."""

import pytest

from hkd_mm.errors import UserError
from hkd_mm.io.tables import is_blank, read_table


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
        ('image,label\na,é\n', 'cp1252', r'line 2: byte 0xe9.*cp1252'),
        ('image,label\na,b\n', 'utf-16', 'UTF-16'),
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
    for text in ('', ' ', 'nan', 'NaN', 'NA', 'N/A', '-', 'unknown', 'None'):
        assert is_blank(text), text
    for text in ('0', 'lesion', 'HAM_0001', 'nano'):
        assert not is_blank(text), text


def test_other_line_marks_within_a_cell_end_no_row(tmp_path):
    text = 'image,label\na,"x\u2028y\x0bz\x85"\nb,c\n'
    rows = read_table(written(tmp_path, text))
    assert [row['label'] for row in rows] == ['x\u2028y\x0bz', 'c']


def test_a_device_is_no_table():
    with pytest.raises(UserError, match='/dev/zero cannot be read: a FIFO, device'):
        read_table('/dev/zero')
