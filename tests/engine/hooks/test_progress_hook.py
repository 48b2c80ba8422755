# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A bar on terminals, lines in files, a table everywhere."""

import io
import re
import warnings
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from hkd_mm.engine.hooks.log_hooks import ProgressHook
from hkd_mm.engine.run_figures import closing_table
from hkd_mm.engine.runner import NamedRunner


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(path, work_dir, stream, **cfg_options):
    """Train with what is shown written into a stream."""
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(cfg_options)
    cfg.work_dir = str(work_dir)
    cfg.custom_hooks = [dict(type='hkd_mm.RunReportHook')]
    runner = NamedRunner.from_cfg(cfg)
    hook = ProgressHook()
    hook.stream = stream
    runner.register_hook(hook)
    streams = [getattr(h, 'stream', None) for h in runner.logger.handlers]
    runner.train()
    assert streams == [getattr(h, 'stream', None) for h in runner.logger.handlers]
    return runner


def test_the_bar_tells_step_epoch_loss_and_time_left(
    tiny_configs, tmp_path, monkeypatch, quick_runner
):
    monkeypatch.setattr('hkd_mm.io.progress.REDRAW', 0)
    monkeypatch.setenv('COLUMNS', '150')
    terminal = Terminal()
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # such as of a loss with a gradient
        run(tiny_configs['student'], tmp_path / 'run', terminal)
    drawn = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', terminal.getvalue())
    for words in (
        'training: 0 of 6 steps',
        'training: 1 of 6 steps, epoch 1 of 2, loss ',
        'training: 5 of 6 steps, epoch 2 of 2, loss ',
        ', about 0 s left',
        'validating epoch 1 of 2, batch 1 of 2',
        'training: 6 of 6 steps',
    ):
        assert words in drawn, words
    assert 'balanced accuracy' in drawn[drawn.rindex('left') :]


def test_a_file_gets_a_line_every_30_s_one_an_epoch_and_a_table(
    tiny_configs, tmp_path, monkeypatch, quick_runner
):
    clock = iter(range(0, 100_000, 8))
    monkeypatch.setattr('hkd_mm.io.progress.time.monotonic', lambda: next(clock))
    stream = io.StringIO()
    runner = run(tiny_configs['student'], tmp_path / 'run', stream)
    told = stream.getvalue()
    assert told.isascii() and '\x1b' not in told
    lines = told.splitlines()
    steps = [line for line in lines if line.startswith('training: ')]
    # a look at the clock for each of 6 steps and 4 batches of validation, and
    # a few where a line is due
    assert 2 <= len(steps) <= 6, steps
    assert re.fullmatch(r'training: 6 of 6 steps in \d+ (s|min)', steps[-1])
    for line in steps[:-1]:
        assert re.fullmatch(
            r'training: (\d of 6 steps, (validating )?epoch [12] of 2, .*'
            r'about \d+ (s|min) left|6 of 6 steps, validating epoch 2 of 2.*)',
            line,
        ), line
    epochs = [line for line in lines if line.startswith('epoch ')]
    for number, line in enumerate(epochs, 1):
        assert re.fullmatch(
            rf'epoch {number} of 2: balanced_accuracy 0\.\d{{4}}, '
            r'best 0\.\d{4}, training loss \d+\.\d{4}',
            line,
        ), line
    assert len(epochs) == 2
    for words in (
        'tiny_student.py',
        'balanced accuracy',
        'parameters',
        'images/s',
        '.pth',
        str(runner.work_dir)[-20:],
    ):
        # a long path is folded within the table
        assert words.replace(' ', '') in re.sub(r'[\s|]', '', told), words


def test_dumps_go_to_the_log_file_and_news_to_the_console(
    tiny_configs, tmp_path, quick_runner, capsys
):
    runner = run(tiny_configs['student'], tmp_path / 'run', io.StringIO())
    runner.logger.warning('a warning')
    told = capsys.readouterr().out
    assert 'a warning' in told and 'The plain student of' in told
    [log] = Path(runner.log_dir).glob('*.log')
    kept = log.read_text()
    for words in (
        'System environment',
        'Config:',
        'Hooks will be executed',
        'Epoch(train) [2][3/3]',
        'Epoch(val) [2][2/2]',
        'Saving checkpoint at 2 epochs',
        'The plain student of',
    ):
        assert words in kept, words
    for words in ('Config:', 'Hooks will', 'Epoch(', 'Saving'):
        assert words not in told, words


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
