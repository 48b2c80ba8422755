# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""MMEngine names what it keeps of a run after the config and the second."""

import shutil
import time

import pytest
from mmengine.config import Config

from hkd_mm.io.checkpoints import safe_load
from hkd_mm.training.trainer import train


@pytest.fixture
def run(tiny_configs, quick_runner, tmp_path, monkeypatch):
    # with a clock that stands still all runs begin in one second
    monkeypatch.setattr(time, 'strftime', lambda *given: '20260101_000000')

    def begin(name, **options):
        train(
            str(tiny_configs['teacher']),
            str(tmp_path / name),
            cfg_options=dict(max_epochs=1, **options),
        )
        return tmp_path / name / '20260101_000000'

    return begin


def test_runs_of_one_second_write_into_their_own_folders(run):
    for folder in (run('a'), run('b')):
        assert (folder / 'vis_data' / 'scalars.json').stat().st_size
        assert (folder / '20260101_000000.log').stat().st_size
    shutil.rmtree(folder.parent)
    assert (run('b') / 'vis_data' / 'scalars.json').stat().st_size


@pytest.mark.parametrize('given', [{}, dict(experiment_name='mine')])
def test_the_name_is_told_and_the_config_stays(run, given):
    folder = run('a', **given).parent
    meta = safe_load(str(folder / 'epoch_1.pth'))['meta']
    start = given.get('experiment_name', 'tiny_teacher')
    assert meta['experiment_name'].startswith(f'{start}_')
    dumped = (folder / 'tiny_teacher.py').read_text()
    for text in (meta['cfg'], dumped):
        assert text.count('experiment_name') == len(given)
    if given:
        assert Config.fromstring(dumped, '.py').experiment_name == 'mine'
