# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Two gloo processes on a CPU do the work of one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import ROOT, has_ended, launch, run, wait_for

# One step of the pair with BatchNorm in eval (see the test).
_STEP = """
import os, sys
import torch
from mmengine.model import is_model_wrapper
from mmpretrain.structures import DataSample
from hkd_mm.config.compose import compose_config
from hkd_mm.training.runtime import set_up_processes
from mmengine.runner import Runner

torch.set_num_threads(1)
cfg = compose_config(sys.argv[1])
rank, many = int(os.environ.get('RANK', 0)), 'RANK' in os.environ
set_up_processes(cfg, 'pytorch' if many else 'none', 'cpu')
cfg.work_dir, cfg.channels_last = 'runs', sys.argv[3] == 'True'
model = Runner.from_cfg(cfg).model
generator = torch.Generator().manual_seed(1)
inputs = torch.randn(8, 3, 16, 16, generator=generator)
labels = torch.randint(0, 3, (8, ), generator=generator)
if many:
    assert is_model_wrapper(model)
    inputs, labels = inputs[rank::2], labels[rank::2]
model.train()
inner = model.module if is_model_wrapper(model) else model
for part in inner.modules():
    if isinstance(part, torch.nn.BatchNorm2d):
        part.eval()
samples = [DataSample().set_gt_label(int(label)) for label in labels]
losses = model(inputs, samples, mode='loss')
total, _ = inner.parse_losses(losses)
total.backward()
if rank == 0:
    torch.save({name: p.grad for name, p in inner.named_parameters()},
               sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize('channels_last', ['True', 'False'])
def test_two_processes_give_the_gradients_of_one(tiny_configs, tmp_path, channels_last):
    """BatchNorm is in eval here: in training it sees its own process only.

    With that set aside the mean over ranks of the gradients of two halves is
    the gradient of the whole batch, up to the order of float32 sums.
    """
    (tmp_path / 'step.py').write_text(_STEP)
    config = str(tiny_configs['kd'])
    for processes, out in enumerate(('one.pth', 'two.pth'), 1):
        run(tmp_path, 'step.py', config, out, channels_last, processes=processes)
    one, two = (torch.load(tmp_path / f'{name}.pth') for name in ('one', 'two'))
    assert one.keys() == two.keys() and len(one) > 10
    for name, gradient in one.items():
        assert gradient is not None, name
        scale = gradient.abs().max().item()
        assert torch.allclose(
            gradient, two[name], atol=1e-5 * scale + 1e-8, rtol=1e-4
        ), name
    assert max(g.abs().max().item() for g in one.values()) > 1e-3


@pytest.mark.slow
def test_two_processes_train_and_leave_one_run(tiny_configs, tmp_path):
    said = run(
        tmp_path,
        str(ROOT / 'tools' / 'train.py'),
        str(tiny_configs['student']),
        '--launcher',
        'pytorch',
        '--work-dir',
        'run',
        '--cfg-options',
        'max_epochs=1',
        'batch_size=3',
    )
    assert 'Start: ' in said and '2 x CPU' in said
    assert sorted(path.name for path in (tmp_path / 'run').glob('epoch*')) == [
        'epoch_1.pth'
    ]
    finished = json.loads((tmp_path / 'run' / 'run_state.json').read_text())['result']
    assert finished['checkpoint'] == 'best_balanced_accuracy_epoch_1.pth'
    saved = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    assert saved['meta']['iter'] == 3  # 18 images / (2 x 3)
    assert not any(key.startswith('module.') for key in saved['state_dict'])
    assert len(list(tmp_path.glob('work_dirs/splits/*.json'))) == 1


# atexit calls what was registered first last.
_LEAVE = """
import atexit, os
from pathlib import Path
import torch.distributed as dist
file = Path(f"rank{os.environ['RANK']}")
atexit.register(
    lambda: file.write_text(f'{file.read_text()} {dist.is_initialized()}'))
from hkd_mm.engine.distributed import init_process_group
init_process_group('pytorch', 'cpu')
file.write_text(str(dist.is_initialized()))
raise SystemExit(0)
"""


def test_the_group_is_left_before_the_interpreter_ends(tmp_path):
    script = tmp_path / 'leave.py'
    script.write_text(_LEAVE)
    run(tmp_path, str(script))
    for rank in range(2):
        assert (tmp_path / f'rank{rank}').read_text() == 'True False'


_RANK = """
import os, time
from hkd_mm.engine.distributed import init_process_group
init_process_group('pytorch', 'cpu')
file = f"rank{os.environ['RANK']}"
with open(f'{file}.part', 'w') as stream:
    stream.write(str(os.getpid()))
os.rename(f'{file}.part', file)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
def test_a_killed_launcher_takes_its_ranks_along(tmp_path):
    (tmp_path / 'rank.py').write_text(_RANK)
    files = [tmp_path / f'rank{rank}' for rank in range(2)]
    command, env = launch()
    with subprocess.Popen(
        [*command, 'rank.py'], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    ) as launcher:
        assert wait_for(lambda: all(map(Path.exists, files)), 120)
        ranks = [int(file.read_text()) for file in files]
        assert not any(map(has_ended, ranks))
        launcher.kill()
    assert wait_for(lambda: all(map(has_ended, ranks)))


def test_cpu_wrapper_drops_device_ids(tmp_path):
    from mmengine.registry import MODEL_WRAPPERS

    from hkd_mm.engine.distributed import CPUDistributedDataParallel

    assert (
        MODEL_WRAPPERS.get('hkd_mm.CPUDistributedDataParallel')
        is CPUDistributedDataParallel
    )
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        wrapped = CPUDistributedDataParallel(
            torch.nn.Linear(2, 2), device_ids=[0], broadcast_buffers=False
        )
        assert wrapped.device_ids is None
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    'launcher, missing',
    [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')],
)
def test_launcher_needs_its_environment(launcher, missing, monkeypatch):
    from hkd_mm.engine.distributed import init_process_group
    from hkd_mm.errors import UserError

    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=missing):
        init_process_group(launcher, 'cpu')
