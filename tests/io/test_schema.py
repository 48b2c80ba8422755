# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Plain data becomes typed values, or one line says why not."""

from dataclasses import dataclass, field

import pytest
from pydantic import ConfigDict

from hkd_mm.errors import UserError
from hkd_mm.io.schema import read_as, validate


@dataclass(frozen=True)
class Row:
    __pydantic_config__ = ConfigDict(extra='forbid')
    name: str
    rate: float = 0.1
    after: tuple[str, ...] = ()
    options: dict[str, int] = field(default_factory=dict)


def test_lists_fill_tuples_and_whole_numbers_floats():
    row = validate(Row, dict(name='a', rate=1, after=['b']), 'here')
    assert row == Row('a', 1.0, ('b',))


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ({}, 'here: name: '),
        (dict(name=3), 'here: name: .*, not 3$'),
        (dict(name='a', rate='0.1'), "here: rate: .*, not '0.1'$"),
        (dict(name='a', rate=True), 'here: rate: '),
        (dict(name='a', ater=[]), 'here: ater is no known key; did you mean after'),
        (dict(name='a', options=dict(x=1.5)), 'here: options.x: '),
        (dict(name='a', after=print), 'here: .*not JSON serializable'),
        ([], 'here: its content: '),
        (None, 'here: its content: '),
        ('x' * 500, r'here: its content: .*\.\.\.$'),
    ],
)
def test_anything_else_is_one_line(data, message):
    with pytest.raises(UserError, match=message) as error:
        validate(Row, data, 'here')
    assert '\n' not in str(error.value)


def test_data_within_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(UserError, match='here: Circular'):
        validate(Row, loop, 'here')


def test_files_are_read_or_named(tmp_path):
    path = tmp_path / 'row.json'
    path.write_text('{"name": "a"}')
    assert read_as(Row, path) == Row('a')
    for text in ('{', '[' * 100_000, '{"name": "\ud800"}'):
        path.write_text(text, errors='surrogatepass')
        with pytest.raises(UserError, match=r'row\.json: .*; make it again$'):
            read_as(Row, path, '; make it again')
    with pytest.raises(UserError, match='No such file'):
        read_as(Row, tmp_path / 'none.json')
