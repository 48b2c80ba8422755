# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Settings of one frozen teacher, where there is none."""

import pytest

from hkd_mm.config.compose import compose_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.value_checks import check_model_groups
from hkd_mm.errors import UserError


@pytest.mark.parametrize('method', ['dml', 'byot'])
@pytest.mark.parametrize(
    'group',
    [dict(teacher_cache=dict(num_views=2)), dict(teacher_inference={})],
)
def test_without_one_frozen_teacher_they_are_refused(method, group):
    path = config_root() / f'zoo/{method}/{method}_wrn50_mbv2_skin.py'
    cfg = compose_config(path)
    check_model_groups(cfg)
    cfg.model.update(group)
    with pytest.raises(UserError, match='for one frozen teacher'):
        check_model_groups(cfg)


def test_with_several_teachers_they_are_taken():
    path = config_root() / 'zoo/multi_average/multi_average_wrn50_mbv2_skin.py'
    cfg = compose_config(path)
    cfg.model.teacher_cache = dict(num_views=2)
    check_model_groups(cfg)
