# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Two gloo processes on a CPU do the work of one; a launch serves all tests."""

import json
from functools import partial
from pathlib import Path

import pytest
import ranks
import torch
from mmengine.registry import MODELS, init_default_scope
from processes import ROOT, fork, free_port, run
from tiny import CURRICULUM, forget_runs, write_tiny_configs

from hkd_mm.config.compose import load_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tiny_data, tmp_path_factory) -> Path:
    """Configs, the teacher's weights, and what each of two processes found."""
    folder = tmp_path_factory.mktemp('two')
    configs = write_tiny_configs(folder, tiny_data)
    curriculum = folder / 'curriculum.py'
    curriculum.write_text(configs['kd'].read_text() + CURRICULUM)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        network = MODELS.build(load_config(curriculum).model.teacher)
        network.init_weights()
        torch.save(dict(state_dict=network.state_dict()), folder / 'teacher.pth')
        address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
        address |= dict(WORLD_SIZE='2', CUDA_VISIBLE_DEVICES='')
        started = [
            fork(partial(ranks.main, dict(address, RANK=rank, LOCAL_RANK=rank)), rank)
            for rank in '01'
        ]
        for rank, process in enumerate(started):
            process.join(300)
            assert process.exitcode == 0, Path(str(rank)).read_text()
    forget_runs()
    return folder


@pytest.fixture
def found(folder, monkeypatch, quick_runner):
    """``found(task)`` is what each rank found; works in the folder."""
    monkeypatch.chdir(folder)

    def read(task: str) -> list:
        each = [torch.load(f'{task}{rank}.pth') for rank in range(2)]
        for of_rank in each:
            assert not isinstance(of_rank, str), of_rank  # a traceback
        return each

    return read


@pytest.mark.parametrize('layout', ['last', 'first'])
def test_gradients_are_those_of_one(found, layout):
    """The mean over ranks of two halves' gradients is that of the whole batch.

    It is so up to the order of float32 sums.
    """
    first, second = found(f'gradients_{layout}')
    one = ranks.gradients(layout == 'last')
    assert one.keys() == first.keys() and len(one) > 10
    for name, gradient in one.items():
        assert gradient is not None, name
        scale = gradient.abs().max().item()
        close = dict(atol=1e-5 * scale + 1e-8, rtol=1e-4)
        assert torch.allclose(gradient, first[name], **close), name
        assert torch.equal(first[name], second[name]), name
    assert max(g.abs().max().item() for g in one.values()) > 1e-3


def test_loss_factors_are_those_of_one(found):
    first, second = found('balance')
    assert first == second and set(first) == {'kd', 'align'}
    assert first == pytest.approx(ranks.balance(), rel=1e-3)


def test_images_are_ranked_as_by_one(found):
    """Plain and packed, every image once or drawn by class."""
    each, whole = found('ranking'), ranks.ranking()
    assert len(whole) == 4
    for name, one in whole.items():
        first, second = each[0][name], each[1][name]
        assert len(set(one['confidence'])) > 9  # they do differ
        assert first['confidence'] == second['confidence'] == one['confidence']
        for epoch, drawn in enumerate(one['drawn']):
            assert first['drawn'][epoch] == drawn[::2]
            assert second['drawn'][epoch] == drawn[1::2]
            order = [one['confidence'][i] for i in drawn]
            assert order == sorted(order, reverse=True)


def test_losses_over_a_batch_do_not_see_where_it_is_cut(found):
    """Every registered loss over a batch, found by itself."""
    for checked in found('halves'):
        assert {'RKDDistanceLoss', 'CRDLoss'} <= set(checked)
        assert {name: why for name, why in checked.items() if why} == {}


# ``atexit`` calls what was registered first last: before hkd_mm is imported
_TRAIN = """
import atexit, os, runpy, sys
def note():
    import torch.distributed as dist
    with open(f'ended{os.environ["RANK"]}', 'w') as file:
        file.write(str(dist.is_initialized()))
atexit.register(note)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_a_training_leaves_one_run_and_no_group(folder, tmp_path):
    (tmp_path / 'noted.py').write_text(_TRAIN)
    said = run(
        tmp_path,
        *('noted.py', str(ROOT / 'tools/train.py')),
        str(folder / 'tiny_student.py'),
        *('--launcher', 'pytorch', '--work-dir', 'run'),
        *('--cfg-options', 'max_epochs=1', 'batch_size=3'),
    )
    assert 'Start: ' in said and '2 x CPU' in said
    for rank in range(2):  # the group is left before the interpreter ends
        assert (tmp_path / f'ended{rank}').read_text() == 'False'
    work_dir = tmp_path / 'run'
    assert [path.name for path in work_dir.glob('epoch*')] == ['epoch_1.pth']
    finished = json.loads((work_dir / 'run_state.json').read_text())['result']
    assert finished['checkpoint'] == 'best_balanced_accuracy_epoch_1.pth'
    saved = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    assert saved['meta']['iter'] == 3  # 18 images / (2 x 3)
    assert not any(key.startswith('module.') for key in saved['state_dict'])
    assert len(list(tmp_path.glob('work_dirs/splits/*.json'))) == 1
