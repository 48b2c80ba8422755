# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the pages link to and name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'models/README.md', *(ROOT / 'docs').rglob('*.md')]
PAGES.sort()
EXTENDING = (ROOT / 'docs/extending.md').read_text(encoding='utf-8')
FILES = re.findall(r'```python\n# (\S+\.py)\n', EXTENDING)


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_and_named_files_exist(page):
    text = page.read_text(encoding='utf-8')
    named = re.findall(r'\]\((?!https?:|#)([^)#]+)', text)
    missing = [name for name in named if not (page.parent / name).exists()]
    commands = re.findall(r'(?:python|bash) ((?:tools|configs)/[\w/.-]*\w)', text)
    commands += re.findall(r'`((?:configs|tools|docs)/[\w/.]+\.\w+)`', text)
    missing += [
        name for name in commands if not (ROOT / name).exists() and name not in FILES
    ]
    assert missing == []
