# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What is said of the data before a network is built."""

from pathlib import Path

import pytest

from hkd_mm.config.compose import load_config
from hkd_mm.config.data_summary import summarize_data
from hkd_mm.errors import UserError


def test_a_split_without_test_part_trains_and_is_not_tested(
    tiny_configs, tool, quick_runner, capsys
):
    options = ['--cfg-options', 'split_ratios=8:2']
    argv = [str(tiny_configs['student']), '--work-dir', 'run']
    assert tool('train')([*argv, *options, 'max_epochs=1']) == 0
    said = ''.join(path.read_text() for path in Path('run').rglob('*.log'))
    assert '27 train, 9 val, no test part' in said
    capsys.readouterr()
    network = str(next(Path('run').glob('best_*.pth')))
    assert tool('test')([argv[0], network, *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith('error: the test part of ')
    assert 'split_ratios' in lines[-1]


def test_only_the_test_part_may_be_empty(tiny_configs):
    cfg = load_config(tiny_configs['student'], {'split_ratios': '8:2'})
    assert summarize_data(cfg).sizes == dict(train=27, val=9, test=0)
    cfg.val_dataloader.dataset.split = 'test'
    with pytest.raises(UserError, match='test part of .* is empty'):
        summarize_data(cfg)
    with pytest.raises(UserError, match='test part of .* is empty'):
        summarize_data(cfg, ('test_dataloader',))
