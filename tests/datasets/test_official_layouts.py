# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An official download in the wrong config: the way out it is told works."""

import shlex
from pathlib import Path

import pytest

from hkd_mm.config.compose import compose_config
from hkd_mm.config.data_summary import check_training, summarize_data
from hkd_mm.config.teacher_options import teacher_options
from hkd_mm.datasets.class_folders import HAM10000, ISIC2019, way_out
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')

CONFIGS = Path(__file__).parents[2] / 'configs'
KD_ISIC = 'dspkd/kd_res2net101_shufflenetv2_isic2019.py'


@pytest.fixture
def roots(tmp_path, write_image, write_table):
    """An official HAM10000 and an official ISIC 2019, ten a class."""
    found = dict(ham=tmp_path / 'ham', isic=tmp_path / 'isic')
    ham = [
        dict(lesion_id=f'HAM_{i}', image_id=f'ISIC_{i:07d}', dx=name)
        for i, name in enumerate(HAM10000.classes * 10)
    ]
    isic = [
        dict(
            image=f'ISIC_{i:07d}',
            **{other: float(other == name) for other in ISIC2019.classes},
        )
        for i, name in enumerate(ISIC2019.classes * 10)
    ]
    write_table(found['ham'] / 'HAM10000_metadata.csv', ham)
    write_table(found['isic'] / 'ISIC_2019_Training_GroundTruth.csv', isic)
    write_table(
        found['isic'] / 'ISIC_2019_Training_Metadata.csv',
        [dict(image=row['image'], lesion_id='') for row in isic],
    )
    for i in range(70):
        write_image(found['ham'] / f'images/ISIC_{i:07d}.jpg', i, 8)
    for i in range(80):
        folder = found['isic'] / 'ISIC_2019_Training_Input'
        write_image(folder / f'ISIC_{i:07d}.jpg', i, 8)
    return found


def _told(config, root, *options):
    cfg = compose_config(CONFIGS / config, [f'data_root={root}', *options])
    return cfg, summarize_data(cfg)


@pytest.mark.parametrize(
    ('config', 'name', 'layout'),
    [
        ('hybrid_wrn50_mbv2.py', 'ham', HAM10000),
        ('hybrid_wrn50_mbv2.py', 'isic', ISIC2019),
        (KD_ISIC, 'ham', HAM10000),
        ('hybrid_wrn50_mbv2_ham10000.py', 'isic', ISIC2019),
    ],
)
def test_the_way_out_of_the_error_works(roots, config, name, layout):
    with pytest.raises(UserError) as caught:
        _told(config, roots[name])
    message = str(caught.value)
    assert '\n' not in message and 'classes="[images]"' not in message
    assert ('--size small' in message) == (name == 'ham')
    told = message.split('--cfg-options ')[1].split(';')[0]
    cfg, summary = _told(config, roots[name], *shlex.split(told))
    assert summary.classes == layout.classes
    assert sum(summary.sizes.values()) == 10 * len(layout.classes)
    cfg.train_dataloader.batch_size = 8
    check_training(cfg, summary)  # both heads have as many outputs


def test_a_teacher_trained_first_reads_the_same_data(roots):
    """What is said on the command line goes on to its config."""
    words = ['dataset_type=hkd_mm.HAM10000', f'data_root={roots["ham"]}']
    teacher = str(CONFIGS / 'teachers/wrn50_skin.py')
    cfg = compose_config(CONFIGS / 'hybrid_wrn50_mbv2.py', words)
    options, _ = teacher_options(cfg, teacher, words)
    found = summarize_data(compose_config(teacher, options))
    assert found.classes == HAM10000.classes


def test_other_folders_are_no_official_download(tmp_path, write_image):
    write_image(tmp_path / 'x/images/a.png')
    (tmp_path / 'x/annotations.csv').write_text('image,label\n')
    assert way_out(tmp_path / 'x') == ''


def test_a_data_set_that_is_not_there_is_told_in_one_line(roots):
    with pytest.raises(UserError, match='no data set HAM10000; .*hkd_mm.HAM'):
        _told('hybrid_wrn50_mbv2.py', roots['ham'], 'dataset_type=HAM10000')
