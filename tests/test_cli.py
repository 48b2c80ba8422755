# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How a tool imports its work."""

import gc
import sys

import pytest

import hkd_mm
from hkd_mm import cli


@pytest.fixture
def work(tmp_path, monkeypatch):
    """``work(source) -> name`` of a function ``main`` in a new module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> str:
        (tmp_path / 'some_work.py').write_text(source)
        return 'some_work:main'

    yield write
    sys.modules.pop('some_work', None)
    gc.unfreeze()


def test_work_is_imported_without_looking_for_garbage(work, capsys):
    name = work(
        'import gc\nduring = gc.isenabled()\n'
        'def main(word):\n    print(word, during, gc.isenabled())'
    )
    assert gc.isenabled()
    assert cli.run_tool(name, 'done') == 0
    assert capsys.readouterr().out == 'done False True\n'
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    assert cli.run_tool(name, 'again') == 0  # imported: nothing to set aside
    assert gc.get_freeze_count() == 0


def test_a_package_that_is_missing_is_named_with_what_mends_it(
    work, monkeypatch, capsys
):
    def check():
        raise ImportError('hkd_mm needs mmcv. Mend it with: pip install mmcv')

    monkeypatch.setattr(cli, 'check_versions', check)
    assert cli.run_tool(work('import missing_package')) == 2
    assert capsys.readouterr().err == (
        'error: hkd_mm needs mmcv. Mend it with: pip install mmcv\n'
    )
    assert gc.isenabled()


def test_an_import_that_fails_otherwise_keeps_its_traceback(work):
    hkd_mm.check_versions()  # nothing is missing here
    with pytest.raises(ModuleNotFoundError, match='missing_package'):
        cli.run_tool(work('import missing_package'))
