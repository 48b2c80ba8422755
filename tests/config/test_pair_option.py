# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``pair=...``: a method on other networks, images and schedule."""

from pathlib import Path

import pytest

from hkd_mm.config.compose import compose_config, config_named
from hkd_mm.config.networks import check_same_network
from hkd_mm.config.teacher_options import teacher_options
from hkd_mm.config.tree import number_of_classes
from hkd_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
KD = ROOT / 'configs/zoo/kd/kd_wrn50_mbv2_skin.py'


@pytest.mark.parametrize('options', [['pair=demo'], dict(pair='demo')])
def test_all_but_the_method_is_that_of_the_pair(options):
    own, other = compose_config(KD), compose_config(KD, options)
    assert own.model.teacher.model_name == 'wide_resnet50_2'
    assert other.model.teacher.model_name == 'resnet18'
    assert other.model.distiller == own.model.distiller
    assert other.train_dataloader.dataset.dataset.data_root == 'data/demo'
    assert other.max_epochs == 16 and other.teacher_config.startswith('demo/')
    assert other.filename == str(KD)
    assert other.on_pair == 'demo' and 'on_pair' not in own


def test_a_base_may_be_written_otherwise(tmp_path):
    for base in ("[\n    '{}'\n]", "(\n    '{}')"):
        path = tmp_path / 'own.py'
        pairs = ROOT / 'configs/_base_/pairs'
        path.write_text(f'_base_ = {base.format(pairs / "wrn50_mbv2.py")}\n')
        assert compose_config(path, ['pair=demo']).input_size == 64


def test_words_follow_on_the_other_pair():
    cfg = compose_config(KD, ['pair=demo', 'data_root=here', 'max_epochs=3'])
    assert cfg.train_dataloader.dataset.dataset.data_root == 'here'
    assert cfg.train_cfg.max_epochs == 3


def test_the_teacher_is_that_of_the_other_pair():
    cfg = compose_config(KD, ['pair=demo', 'data_root=here'])
    path = config_named(cfg, 'teacher_config')
    options, said = teacher_options(cfg, path, ['pair=demo', 'data_root=here'])
    assert Path(path) == ROOT / 'configs/demo/resnet18_demo.py'
    assert options == dict(data_root='here')
    assert said == [f"data_root='here' as in {KD}"]


def test_a_config_that_a_run_wrote_down_is_read_as_it_is(tmp_path):
    cfg = compose_config(KD, ['pair=demo'])
    cfg.dump(tmp_path / 'config.py')
    again = compose_config(tmp_path / 'config.py')
    assert again._cfg_dict == cfg._cfg_dict and again.on_pair == 'demo'


def test_what_cannot_be_exchanged_is_told():
    with pytest.raises(UserError, match='pair=dem: known .*demo.*wrn50_mbv2'):
        compose_config(KD, ['pair=dem'])
    with pytest.raises(UserError, match='does not inherit'):
        compose_config(ROOT / 'configs/demo/mbv2_demo.py', ['pair=demo'])


@pytest.mark.parametrize(
    'pair, network',
    [
        ('wrn50_mbv2', 'mobilenetv2_050'),
        ('demo', 'mobilenetv2_050'),
        ('resnet18_mbv2_ham10000_64', 'mobilenetv2_050'),
        ('effb7_mbv2_isic2019', 'mobilenetv2_100'),
        ('res2net101_shufflenetv2_isic2019', 'hkd_mm.ShuffleNetV2'),
        ('res2net101_shufflenetv2_skin6_512', 'hkd_mm.ShuffleNetV2'),
    ],
)
def test_a_born_again_network_is_taught_by_its_own_config(pair, network):
    method = ROOT / 'configs/zoo/born_again/born_again_wrn50_mbv2_skin.py'
    cfg = compose_config(method, [f'pair={pair}'])
    teacher, student = cfg.model.teacher, cfg.model.architecture
    for one in (teacher, student):
        name = one.get('model_name') or one.backbone.type
        assert name == network
    assert number_of_classes(teacher) == number_of_classes(student)
    path = config_named(cfg, 'teacher_config')
    check_same_network(teacher, compose_config(path).model, path)


def test_every_pair_says_who_trains_its_networks():
    pairs = ROOT / 'configs/_base_/pairs'
    for pair in pairs.glob('*.py'):
        cfg = compose_config(KD, [f'pair={pair.stem}'])
        # KL takes no class weights, whatever the pair says of them
        assert cfg.get('class_weight') is None
        for role in ('teacher', 'student'):
            assert Path(config_named(cfg, f'{role}_config')).is_file()
