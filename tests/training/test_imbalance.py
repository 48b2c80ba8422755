# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The word ``sampler`` and its warning beside ``class_weight``."""

from types import SimpleNamespace

import pytest

from hkd_mm.config.compose import compose_config
from hkd_mm.config.networks import config_root
from hkd_mm.errors import UserError
from hkd_mm.training.trainer import warn_if_balanced_twice

BALANCED = dict(type='hkd_mm.BalancedSampler')
SHUFFLED = dict(type='DefaultSampler', shuffle=True)
OWN = f'train_dataloader = dict(sampler=dict(power=0.5, **{BALANCED}))'


@pytest.mark.parametrize(
    ('lines', 'options', 'expected'),
    [
        ('', ['sampler=balanced'], BALANCED),
        (OWN, [], dict(BALANCED, power=0.5)),
        (OWN, ['sampler=None'], SHUFFLED),
        (OWN, ['sampler=balanced'], BALANCED),
        ('', ['sampler=balanced', 'packed=True'], BALANCED),
        (
            '',
            ['sampler=balanced', 'train_dataloader.sampler.power=0.5'],
            dict(BALANCED, power=0.5),
        ),
        ('', [], SHUFFLED),
    ],
)
def test_the_training_loader_follows(lines, options, expected, tmp_path):
    child = tmp_path / 'child.py'
    base = config_root() / 'hybrid_wrn50_mbv2.py'
    # keys of another kind of sampler do not mix
    lines = lines.replace('sampler=dict(', 'sampler=dict(_delete_=True, ')
    child.write_text(f'_base_ = {str(base)!r}\n{lines}\n')
    cfg = compose_config(child, options)
    assert cfg.train_dataloader.sampler.to_dict() == expected
    for name in ('val_dataloader', 'test_dataloader'):
        assert cfg[name].sampler.shuffle is False
    cfg.dump(str(tmp_path / 'dumped.py'))
    again = compose_config(tmp_path / 'dumped.py')
    assert again.to_dict() == cfg.to_dict()


def test_a_sampler_of_another_kind_is_not_replaced(tiny_configs, tmp_path):
    own = dict(type='RepeatAugSampler', shuffle=True)
    child = tmp_path / 'child.py'
    child.write_text(
        f"_base_ = './tiny_student.py'\ntrain_dataloader = dict(sampler={own!r})\n"
    )
    assert compose_config(child).train_dataloader.sampler == own
    with pytest.raises(UserError, match='sampler=.balanced. .* it needs'):
        compose_config(child, ['sampler=balanced'])


def test_other_words_are_refused(tiny_configs):
    with pytest.raises(UserError, match='sampler.*balanced'):
        compose_config(tiny_configs['student'], ['sampler=weighted'])


@pytest.mark.parametrize(
    ('options', 'warned'),
    [
        (['sampler=balanced'], 0),
        (['class_weight=balanced'], 0),
        (['sampler=balanced', 'class_weight=balanced'], 1),
    ],
)
def test_it_trains_and_warns_of_balancing_twice(
    options, warned, tiny_configs, tool, quick_runner, capsys
):
    assert (
        tool('train')(
            [
                str(tiny_configs['student']),
                '--work-dir',
                'run',
                '--cfg-options',
                'max_epochs=1',
                *options,
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.count('rare classes count twice') == warned


@pytest.mark.parametrize(
    'option, warned', [('sampler=balanced', True), ('seed=1', False)]
)
def test_balanced_softmax_is_a_way_of_its_own(option, warned):
    name = 'zoo/balanced_softmax/balanced_softmax_wrn50_mbv2_skin.py'
    said = []
    logger = SimpleNamespace(warning=said.append)
    warn_if_balanced_twice(compose_config(config_root() / name, [option]), logger)
    assert [line.partition(' are ')[0] for line in said] == (
        ['sampler=balanced and BalancedSoftmaxLoss'] if warned else []
    )
