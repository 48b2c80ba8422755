# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A config as one file; each of configs/ is read back in test_overrides.py."""

from pathlib import Path

import pytest
from mmengine.config import Config

from hkd_mm.config.compose import compose_config
from hkd_mm.config.config_text import config_text
from hkd_mm.config.networks import config_root
from hkd_mm.errors import UserError

VALUES = dict(
    words=['', "it's", 'say "so"', 'a\nb\t', 'back\\slash', 'Érythème'],
    braces=['{{ fileDirname }}', '{{_base_.word}}', '{{{x}}}', '{{$HOME:1}}'],
    numbers=[0, -1, 1.0, 1e-300, 0.1 + 0.2, float('inf'), -float('inf'), True],
    tuples=((), (1,), (1, (2, [3, ()])), [()], None),
    groups=dict(
        empty=dict(),
        odd={'a-b': 1, 'class': dict(x=(2,)), '1': {}, '': None},
        whole={0: 'zero', 12: ['twelve']},
        **{'lambda_': 1, 'type': 'x.Y', '_delete_like': False},
    ),
    long=[['word' * 5] * 4, {f'key {i}': list(range(30)) for i in range(3)}],
)  # fmt: skip


def test_any_values_are_read_back_as_they_are(tmp_path):
    cfg = Config(VALUES)
    text = config_text(cfg)
    path = tmp_path / 'text.py'
    path.write_text(text, encoding='utf-8')
    again = Config.fromfile(path)
    assert again._cfg_dict == cfg._cfg_dict
    assert repr(again._cfg_dict) == repr(cfg._cfg_dict)  # kinds and order
    assert config_text(again) == text
    assert max(map(len, text.splitlines())) <= 79


@pytest.mark.parametrize(
    'value, said',
    [
        (dict(a=[dict(b=Path('x'))]), r'a\.0\.b=.*PosixPath'),
        (dict(a=dict(type=Config)), r'a\.type=.* registered name'),
        (dict(a={1, 2}), r'a=\{1, 2\} is a set'),
        ({'a b': 1}, "top-level key 'a b'"),
        ({'class': 1}, "top-level key 'class'"),
    ],
)
def test_what_no_file_can_hold_is_refused(value, said):
    with pytest.raises(UserError, match=said) as caught:
        config_text(Config(value))
    assert '\n' not in str(caught.value)


def test_the_tool_prints_what_would_run(tool, tmp_path, capsys):
    path = config_root() / 'hybrid_wrn50_mbv2.py'
    options = ['student=timm:ghostnet_050', 'batch_size=8', 'pair=demo']
    argv = [str(path), '--cfg-options', *options]
    assert tool('print_config')(argv) == 0
    text = capsys.readouterr().out
    (tmp_path / 'printed.py').write_text(text)
    again = compose_config(tmp_path / 'printed.py')
    assert again._cfg_dict == compose_config(path, options)._cfg_dict
    assert '_base_' not in text
    assert tool('print_config')([str(path), '--cfg-options', 'bach=1']) == 2
    assert capsys.readouterr().err.startswith('error: --cfg-options bach')


def test_what_is_counted_on_the_data_is_a_word_until_asked(
    tool, tiny_configs, tmp_path, capsys
):
    options = ['--cfg-options', 'class_weight=balanced', 'classes=None']
    argv = [str(tiny_configs['student']), *options]
    found = []
    for more in ([], ['--data']):
        assert tool('print_config')([*argv, *more]) == 0
        path = tmp_path / f'printed{len(found)}.py'
        path.write_text(capsys.readouterr().out)
        found.append(Config.fromfile(path).model.head)
    assert found[0].loss.class_weight == 'balanced'
    assert found[1].loss.class_weight == [1.0, 1.0, 1.0]
    assert found[1].num_classes == 3
