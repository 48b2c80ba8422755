# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How a tool imports its work."""

import gc
import os
import re
import signal
import sys
import time
from collections.abc import Callable

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

    gc.unfreeze()
    yield write
    sys.modules.pop('some_work', None)
    gc.unfreeze()
    gc.freeze()  # as it was, see conftest.py


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


def _build_a_part():
    import mmengine.optim  # noqa: F401, registers them
    from mmengine.registry import OPTIMIZERS
    from torch import nn

    OPTIMIZERS.build(dict(type='SGD', params=nn.Linear(1, 1).parameters(), foo=1))


def _read_a_name_of_any_bytes():
    raise cli.UserError('\udcff\0\x1b[31m no file')


def _terminated(then: Callable[[], None]) -> Callable[[], None]:
    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            then()

    return work


def _lose_a_worker():
    raise RuntimeError('DataLoader worker (pid 1) is killed by signal: Terminated.')


class _Loader:
    """Joins its workers when it goes."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def _go():
    _Loader()
    time.sleep(5)
    pytest.fail('not terminated')


@pytest.mark.parametrize(
    'work', [_terminated(lambda: None), _terminated(_lose_a_worker), _go]
)
def test_sigterm_ends_in_a_line_that_says_how_to_go_on(work, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert cli.run_tool(work) == 143
    said = capsys.readouterr().err
    assert said.startswith('terminated; ') and '--resume' in said
    assert said.count('\n') == 1 and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ('fails', 'words'),
    [
        (_build_a_part, "type=SGD of the config cannot be built: TypeError: .*'foo'"),
        (_read_a_name_of_any_bytes, r'\\udcff\\x00\\x1b\[31m no file'),
        (lambda: open('x' * 5000), 'xxx.*: File name too long'),
        (lambda: open('gone/here'), 'gone/here: No such file or directory'),
        (lambda: bytearray(1 << 60), 'memory is full'),
    ],
)
def test_what_others_refuse_is_one_line(fails, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run_tool(fails) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and re.search(words, said), said


def test_a_folder_that_was_deleted_is_told(tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'gone'
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert cli.run_tool(lambda: None) == 2
    assert 'current folder was deleted' in capsys.readouterr().err
