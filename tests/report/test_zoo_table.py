# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""docs/zoo.md says what the registry and the folders say."""

import re
from pathlib import Path

import pytest

from hkd_mm.errors import UserError
from hkd_mm.report import network_tables as zoo_table

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted((ROOT / 'configs/zoo').glob('*/README.md'))


def test_the_table_is_up_to_date():
    zoo_table.print_zoo_table(str(ROOT), check=True)


def test_an_old_table_is_found(tmp_path):
    (tmp_path / 'docs').mkdir()
    page = tmp_path / 'docs/zoo.md'
    text = (ROOT / 'docs/zoo.md').read_text()
    page.write_text(text.replace('arXiv 1503.02531', 'arXiv 1503.02532'))
    with pytest.raises(UserError, match=r'tools/dev/zoo_table\.py'):
        zoo_table.print_zoo_table(str(tmp_path), check=True)
    zoo_table.print_zoo_table(str(tmp_path))
    rows = re.findall(r'arXiv 1503\.0253.', page.read_text())
    assert set(rows) == {'arXiv 1503.02531'}


@pytest.mark.parametrize('readme', FOLDERS, ids=lambda path: path.parent.name)
def test_every_row_is_complete(readme):
    row = zoo_table.method(readme.parent)
    assert row['family'] in zoo_table._FAMILIES
    assert row['losses'] and row['title']
    assert len(row['fails']) > 30, 'say where the method is known to fail'
