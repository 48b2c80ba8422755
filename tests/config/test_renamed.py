# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Old names in a config are refused with the new ones."""

import pytest

from hkd_mm.config.cfg_options import RENAMED, is_word
from hkd_mm.config.compose import compose_config
from hkd_mm.config.schema import RUN_KEYS, class_of_type
from hkd_mm.errors import UserError


@pytest.mark.parametrize('old', RENAMED)
def test_the_new_name_exists_and_the_old_one_does_not(old):
    def known(name):
        return name in RUN_KEYS or is_word(name) or class_of_type(name, 'x')

    assert known(RENAMED[old]) and not known(old)


@pytest.mark.parametrize('old', RENAMED)
def test_a_file_with_an_old_name_is_told_the_new_one(old, tmp_path):
    text = f'{old} = None' if '.' not in old else f'h = [dict(type={old!r})]'
    (tmp_path / 'c.py').write_text(text + '\n')
    with pytest.raises(UserError, match=f'{old} is now .*{RENAMED[old]}'):
        compose_config(tmp_path / 'c.py')


@pytest.mark.parametrize('old', RENAMED)
def test_an_option_with_an_old_name_is_told_the_new_one(old, tmp_path):
    (tmp_path / 'c.py').write_text("h = [dict(type='X')]\n")
    option = f'{old}=x' if '.' not in old else f'h.0.type={old}'
    for options in ([option], dict([option.split('=')])):
        with pytest.raises(UserError, match=f'{old} is now .*{RENAMED[old]}'):
            compose_config(tmp_path / 'c.py', options)
