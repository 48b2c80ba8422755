# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Mistakes in options are told before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from hkd_mm.config.compose import check_early, compose_config
from hkd_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/hybrid_wrn50_mbv2.py'
_LOSS = 'model.distiller.distill_losses.loss_hybrid'
WRONG = ['max_epoch=3', f'{_LOSS}.alpa=0.5', 'batch_size=-3', 'classes=[A,']
# without stdout of upstream: torch is looked for when the tool has answered
TOOL = """
import runpy, sys
sys.argv = ['train.py', {config!r}, '--cfg-options', {option!r}]
try:
    runpy.run_path({tool!r}, run_name='__main__')
except SystemExit as end:
    print('torch' in sys.modules, end.code)
"""


@pytest.mark.parametrize('option', WRONG)
def test_the_tool_answers_without_torch(option, tmp_path):
    tool = str(ROOT / 'tools/train.py')
    code = TOOL.format(config=str(CONFIG), option=option, tool=tool)
    ran = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.stdout.split() == ['False', '2'], ran.stdout + ran.stderr
    assert ran.stderr.startswith('error: ') and ran.stderr.count('\n') == 1


@pytest.mark.parametrize('option', WRONG)
def test_it_says_what_the_whole_check_says(option):
    said = []
    for check in (check_early, compose_config):
        with pytest.raises(UserError) as caught:
            check(str(CONFIG), [option])
        said.append(str(caught.value))
    early, whole = (text.split('; known there')[0] for text in said)
    assert early == whole


@pytest.mark.parametrize(
    'option',
    [
        f'{_LOSS}.alpha=0.5',
        f'{_LOSS}.loss_weight=1.0',
        'teacher=resnet18',
        'train_dataloader.dataset.split=val',
        'train_dataloader.dataset.store_dir=x',
        'optim_wrapper.optimizer.nesterov=True',
        'default_hooks.early_stopping.patience=2',
        'model.teacher_cache.num_views=3',
    ],
)
def test_what_is_right_passes(option):
    check_early(str(CONFIG), [option])
