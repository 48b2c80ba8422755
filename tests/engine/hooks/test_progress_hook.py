# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A bar on terminals, a table everywhere."""

import io
import logging
import re
import uuid

from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console

from hkd_mm.engine.hooks.progress_hook import ProgressHook
from hkd_mm.engine.report.table import closing_table


def run(path, work_dir, terminal, monkeypatch):
    """Train with the bar drawn into a string; (runner, what was drawn)."""
    monkeypatch.setattr('hkd_mm.engine.hooks.progress_hook._REDRAW', 0)
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    cfg.custom_hooks = [dict(type='hkd_mm.RunReportHook')]
    runner = Runner.from_cfg(cfg)
    hook, drawn = ProgressHook(), io.StringIO()
    hook.console = Console(file=drawn, force_terminal=terminal, width=120)
    runner.register_hook(hook)
    streams = [getattr(h, 'stream', None) for h in runner.logger.handlers]
    runner.train()
    assert streams == [
        getattr(h, 'stream', None) for h in runner.logger.handlers
    ]
    return runner, drawn.getvalue()


def test_the_bar_tells_epoch_loss_best_and_eta(
    tiny_configs, tmp_path, monkeypatch
):
    _, drawn = run(
        tiny_configs['student'], tmp_path / 'run', True, monkeypatch
    )
    drawn = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', drawn)
    for words in (
        'epoch 1/2',
        'epoch 2/2',
        'validating 1/2',
        '6/6',
        'loss ',
        'ETA 0:00:0',
        'best balanced_accuracy ',
    ):
        assert words in drawn, words
    assert 'balanced accuracy' in drawn[drawn.rindex('ETA') :]


def test_no_bar_but_a_table_where_there_is_no_terminal(
    tiny_configs, tmp_path, monkeypatch
):
    runner, drawn = run(
        tiny_configs['student'], tmp_path / 'run', False, monkeypatch
    )
    assert 'ETA' not in drawn and '\x1b' not in drawn
    assert drawn.isascii()
    for words in (
        'tiny_student.py',
        'balanced accuracy',
        'parameters',
        'images/s',
        '.pth',
        str(runner.work_dir)[-20:],
    ):
        assert words in drawn.replace('\n', ''), words


def test_the_table_shows_the_figures():
    report = dict(
        config='c.py',
        epochs=7,
        training_minutes=12.34,
        images_per_second=56.7,
        last=None,
        best=dict(epoch=3, balanced_accuracy=0.81234, top1=0.9),
        checkpoint=dict(file='best.pth', megabytes=2.71),
        student=dict(parameters=695_400, gmacs=0.029, input_size=[116, 116]),
        teacher=dict(parameters=66_850_000, gmacs=3.47, input_size=[116, 116]),
    )
    with io.StringIO() as text:
        Console(file=text, width=100).print(
            closing_table(report, 'work_dirs/c', plain=True)
        )
        shown = text.getvalue()
    for words in (
        'epoch 3 of 7',
        '0.8123',
        '0.9000',
        '0.70 M parameters',
        '0.029 GMACs at 116',
        '66.85 M',
        '12.3 min, 57 images/s',
        '2.7 MB',
        'work_dirs/c',
    ):
        assert words in shown, words


def test_log_lines_are_not_lost(tiny_configs, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        logging.FileHandler,
        'emit',
        lambda self, record: seen.append(record.msg),
    )
    run(tiny_configs['student'], tmp_path / 'run', True, monkeypatch)
    assert any('Epoch(train) [2][3/3]' in str(line) for line in seen)
