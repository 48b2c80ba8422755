# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How processes meet; what two of them do is in test_two_processes.py."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import has_ended, launch, wait_for

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
