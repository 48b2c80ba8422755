# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A tool at its old place is refused with the new one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OLD = [
    path.relative_to(ROOT)
    for folder in ('dataset_tools', 'analysis_tools')
    for path in sorted((ROOT / 'tools' / folder).glob('*.py'))
]


@pytest.mark.parametrize('old', OLD, ids=str)
def test_the_new_place_is_named_and_there(old):
    done = subprocess.run(
        [sys.executable, old, 'x'], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2 and done.stderr.count('\n') == 1
    new = done.stderr.split('run python ')[1].strip()
    assert new != str(old) and (ROOT / new).is_file()


def test_there_are_some():
    assert len(OLD) == 13
