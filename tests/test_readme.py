# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the pages show is run as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')])
NEW_LOSS = (ROOT / 'docs/new_loss.md').read_text(encoding='utf-8')
FILES = dict(
    re.findall(r'```python\n(?:# (\S+\.py)\n)(.*?)```', NEW_LOSS, re.DOTALL)
)


def test_a_new_loss_is_one_file_and_one_config_that_train(tiny_data, tmp_path):
    assert [Path(name).parts[0] for name in FILES] == ['hkd_mm', 'configs']
    for folder in ('hkd_mm', 'configs', 'tools'):
        shutil.copytree(
            ROOT / folder,
            tmp_path / folder,
            ignore=shutil.ignore_patterns('__pycache__', '.mim'),
        )
    for name, text in FILES.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text)
    config = list(FILES)[1]
    options = [
        f'data_root={tiny_data}',
        'classes=[Acne,Benign,Eczema]',
        'split_ratios=(0.5,0.25,0.25)',
        'teacher=resnet8',
        'student=resnet8',
        'teacher_config=students/resnet8_skin.py',
        'input_size=16',
        'batch_size=6',
        'max_epochs=1',
    ]
    ran = subprocess.run(
        [sys.executable, 'tools/train.py', config, '--cfg-options', *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1'),
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    run = tmp_path / 'work_dirs' / Path(config).stem
    (log,) = run.glob('*/*.log')
    assert 'distill.loss_huber' in log.read_text()
    assert list(run.glob('best_balanced_accuracy_epoch_*.pth'))


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_and_named_files_exist(page):
    text = page.read_text(encoding='utf-8')
    named = re.findall(r'\]\((?!https?:|#)([^)#]+)', text)
    missing = [name for name in named if not (page.parent / name).exists()]
    commands = re.findall(
        r'(?:python|bash) ((?:tools|configs)/[\w/.-]*\w)', text
    )
    commands += re.findall(r'`((?:configs|tools|docs)/[\w/.]+\.\w+)`', text)
    missing += [
        name
        for name in commands
        if not (ROOT / name).exists() and name not in FILES
    ]
    assert missing == []
