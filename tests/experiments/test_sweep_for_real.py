# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A sweep of the learning rate with the real tools, on generated images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('optuna')
ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
config = 'demo/hybrid_resnet18_mbv2_demo.py'
sampler = 'grid'
seeds = 2
space = {'optim_wrapper.optimizer.lr': [0.01, 0.02]}
options = dict(max_epochs=1)
"""


@pytest.mark.nightly
def test_trials_of_several_rates_and_seeds_share_one_teacher(tmp_path):
    (tmp_path / 's.py').write_text(SWEEP)
    images = 'tools/data/make_demo_images.py'
    for words in (
        [images, '--out', f'{tmp_path}/data', '--num', '80', '--size', '64'],
        ['tools/sweep.py', f'{tmp_path}/s.py', '--data-root']
        + [
            f'{tmp_path}/data',
            '--work-dir',
            f'{tmp_path}/w',
            '--workers',
            '2',
        ],
    ):
        subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            check=True,
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''},
        )
    told = json.loads((tmp_path / 'w/sweep.json').read_text())
    assert [trial['state'] for trial in told['trials']] == ['complete'] * 2
    assert [len(trial['values']) for trial in told['trials']] == [2, 2]
    number = told['winner']['number']
    assert told['tested_trials'] == [number]
    assert 0 <= told['winner']['test']['balanced_accuracy'] <= 1
    runs = tmp_path / 'w/runs'
    tested = sorted(path.parent.name for path in runs.glob('*/test.json'))
    assert tested == [f'{number:04d}_seed{seed}' for seed in range(2)]
    consoles = (tmp_path / 'w/trials').glob('*/console.log')
    said = '\n'.join(path.read_text() for path in consoles)
    assert said.count('TEACHER: done') == 1
    # the rate is the student's; the teacher has that of its own config
    own = json.loads((runs / 'resnet18_demo/run_state.json').read_text())
    schedule = own['fingerprint']['schedule']
    assert schedule['optim_wrapper']['optimizer']['lr'] == 0.05
