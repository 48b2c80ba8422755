# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``training.py --peers``: what it installs, measures and makes of it."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / 'tools/benchmarks'
MEBIBYTE = 2**20


@pytest.fixture
def module(monkeypatch, in_tmp):
    """``module(name)`` imports a file of ``tools/benchmarks``."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for path in FOLDER.glob('*.py'):
        sys.modules.pop(path.stem, None)


def run_of(*seconds: float, images: int = 60, tree: int = 1, **more) -> dict:
    epochs = [
        # two cores, one of which waits a tenth of the time
        dict(seconds=one, images=images, cpu_seconds=1.9 * one)
        for one in seconds
    ]
    return dict(epochs=epochs, tree_bytes=tree * MEBIBYTE, **more)


def test_rate_leaves_out_the_first_epoch(module):
    peers = module('_peers')
    assert peers.rate(run_of(1000.0, 1.0, 2.0)) == 120 / 3


def test_ratios_are_within_a_round(module):
    found = module('_peers').summary(
        {
            # the machine is half as fast in the second round, 1/10 in the last
            'timm': [run_of(9, 6), run_of(9, 12), run_of(9, 60, tree=7)],
            'timm bf16': [run_of(9, 5), run_of(9, 10), run_of(9, 50)],
            'cached': [run_of(9, 1), run_of(9, 2), run_of(9, 15)],
            'online bf16': [run_of(9, 5), run_of(9, 8), run_of(9, 50)],
        }
    )
    timm, *_, cached, _ = found['rows']
    assert timm['images_per_second'] == dict(median=5, min=1, max=10)
    assert timm['memory_mib'] == 7 and cached['memory_mib'] == 1
    assert timm['gpu_mib'] is None
    ratios = {(r['ours'], r['against']): r for r in found['ratios']}
    assert list(ratios) == [
        ('cached', 'timm'),
        ('online bf16', 'timm'),
        ('cached', 'timm bf16'),
        ('online bf16', 'timm bf16'),
    ]
    row = ratios['cached', 'timm']
    expected = pytest.approx(dict(median=6, min=4, max=6))
    assert row['images_per_second'] == expected
    assert row['images_per_core_second'] == expected
    assert (row['aim'], row['reached']) == (5.0, True)
    row = ratios['online bf16', 'timm']
    assert row['images_per_second']['median'] == pytest.approx(1.2)
    assert (row['aim'], row['reached']) == (1.5, False)
    assert ratios['cached', 'timm bf16']['aim'] is None


def test_no_cpu_time_no_ratio_of_it(module):
    runs = [run_of(9, 6), run_of(9, 12)]
    runs[1]['epochs'][1]['cpu_seconds'] = None
    found = module('_peers').summary({'timm': [runs[1]], 'cached': [runs[0]]})
    assert found['rows'][0]['images_per_core_second'] is None
    assert found['ratios'][0]['images_per_second']['median'] == 2
    assert found['ratios'][0]['images_per_core_second'] is None


def test_gpu_memory_is_the_most_of_all_rounds(module):
    runs = [run_of(1, 1, gpu_bytes=n * MEBIBYTE) for n in (3, 5, 4)]
    (row,) = module('_peers').summary({'timm': runs})['rows']
    assert row['gpu_mib'] == 5


def test_a_peer_that_fails_is_left_out_and_said(module):
    peers = module('_peers')

    class Stub(peers.Comparison):
        def __init__(self, *setups: str) -> None:
            self.runs = {name: [] for name in setups}
            self.failed = {}

        def once(self, setup: str) -> dict:
            if setup in self.breaks:
                raise peers.Failed(f'{setup} has no wheel')
            return run_of(1, 1)

    stub = Stub('timm', 'torchdistill', 'cached')
    stub.breaks = {'torchdistill'}
    stub.round()
    stub.round()
    assert stub.failed == {'torchdistill': 'torchdistill has no wheel'}
    assert {k: len(v) for k, v in stub.runs.items()} == dict(timm=2, cached=2)
    stub = Stub('timm', 'cached')
    stub.breaks = {'cached'}
    with pytest.raises(peers.Failed, match='cached has no wheel'):
        stub.round()


def test_setups_of_the_command_line(module, monkeypatch, capsys):
    training = module('training')
    monkeypatch.setattr(sys, 'argv', ['training.py', '--peers'])
    args = training.parse_args()
    assert args.setups == list(module('_peers').SETUPS)
    assert args.method == 'kd_hard_wrn50_mbv2'
    monkeypatch.setattr(sys, 'argv', ['training.py', '--setups', 'timm'])
    with pytest.raises(SystemExit):
        training.parse_args()
    assert '--setups timm: there are student,' in capsys.readouterr().err


def test_memory_is_that_of_all_processes(module):
    code = (
        'import os, time; '
        'pid = os.fork(); '
        'mine = b"x" * (80 << 20); '
        'time.sleep(1.2); '
        'pid and os.wait()'
    )
    command = [sys.executable, '-S', str(FOLDER / '_measure.py'), 'found.json']
    command += [sys.executable, '-S', '-c', code]
    subprocess.run(command, check=True)
    found = json.loads(Path('found.json').read_text())
    assert found['status'] == 0 and found['seconds'] > 1.2
    assert 80 < found['bytes'] / MEBIBYTE < 120
    tree = found['tree_bytes'] / MEBIBYTE
    if Path('/proc/self/smaps_rollup').exists():
        assert 160 < tree < 200
    else:
        assert tree == found['bytes'] / MEBIBYTE


def test_cpu_time_is_that_of_workers_too(module):
    if not Path('/proc/self/stat').exists():
        pytest.skip('no /proc')
    measure = module('_measure')
    burn = 'import time\nwhile time.process_time() < 0.4: pass\n'
    before = measure.tree_cpu_seconds(os.getpid())
    subprocess.run([sys.executable, '-S', '-c', burn], check=True)  # ended
    wait = "print('done', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, '-S', '-c', burn + wait],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        child.stdout.readline()
        taken = measure.tree_cpu_seconds(os.getpid()) - before
        child.communicate(b'\n')
    assert 0.75 < taken < 2


def test_measure_says_what_a_command_printed_and_ended_with(module):
    launch = module('_launch')
    command = [sys.executable, '-c', 'raise SystemExit("no such thing")']
    with pytest.raises(launch.Failed, match='no such thing'):
        launch.measure(command, Path(), Path('it.log'))


def test_photographs_of_a_split(module):
    data = module('_common').photographs(
        'nowhere', Path().resolve(), 3, distinct=2, validation=2
    )
    assert sorted(str(path.relative_to(data)) for path in data.rglob('*.jpg')) == [
        'train/Acne/00000.jpg',
        'train/Acne/00002.jpg',
        'train/Benign/00001.jpg',
        'val/Acne/00004.jpg',
        'val/Benign/00003.jpg',
    ]


@pytest.mark.parametrize(
    ('method', 'losses'),
    [
        ('kd_hard_wrn50_mbv2', {'loss_kl': 0.85}),
        ('hybrid_wrn50_mbv2', {'loss_kl': 0.85, 'loss_fa': 0.02}),
    ],
)
def test_stock_has_the_losses_of_the_method(module, method, losses):
    common = module('_common')
    data = common.photographs('nowhere', Path().resolve(), 2, 1, validation=2)
    parser = common.make_parser('', method=method)
    args = parser.parse_args(['--teacher', 'resnet18', '--size', '32'])
    cfg = common.compose(args, 'stock', data)
    assert cfg.classes == ['Acne', 'Benign']
    distiller = cfg.model.distiller
    assert losses == {
        name: loss.loss_weight for name, loss in distiller.distill_losses.items()
    }
    assert ('align' in distiller.connectors) == ('loss_fa' in losses)
    for recorders in distiller.student_recorders, distiller.teacher_recorders:
        assert ('feature' in recorders) == ('loss_fa' in losses)


def test_environment_is_not_made_among_other_files(module):
    peers = module('_peers')
    Path('mine').mkdir()
    Path('mine/thesis.tex').write_text('x')
    with pytest.raises(peers.Failed, match='mine is no virtual environment'):
        peers.peers_environment(Path('mine'))
    assert [path.name for path in Path('mine').iterdir()] == ['thesis.tex']


@pytest.mark.nightly
def test_environment_sees_torch_and_is_made_once(module, monkeypatch, capsys):
    peers = module('_peers')
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.delenv('PYTHONPATH', raising=False)
    # installed here, so pip has nothing to fetch
    monkeypatch.setattr(peers, 'PINS', ('packaging',))
    folder = Path('env').resolve()
    python = peers.peers_environment(folder)
    assert 'packaging' in capsys.readouterr().out
    code = 'import sys, torch; print(sys.prefix, torch.__version__)'
    import torch

    assert subprocess.check_output([python, '-c', code], text=True).split() == [
        str(folder),
        torch.__version__,
    ]
    assert peers.peers_environment(folder) == python
    assert capsys.readouterr().out == ''
    monkeypatch.setattr(peers, 'PINS', ('no-such-package-of-mine',))
    with pytest.raises(peers.Failed, match='no-such-package-of-mine'):
        peers.peers_environment(folder)
    # what failed is tried again, not taken for made
    with pytest.raises(peers.Failed, match='no-such-package-of-mine'):
        peers.peers_environment(folder)


@pytest.mark.nightly
@pytest.mark.parametrize('peer', ['timm', 'timm bf16', 'torchdistill'])
def test_peer_trains(module, peer, monkeypatch):
    if peer == 'torchdistill':
        pytest.importorskip('torchdistill')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    data = module('_common').photographs('nowhere', Path().resolve(), 8, 4)
    command = [sys.executable, '-W', 'ignore']
    command += [str(FOLDER / '_peer_training.py'), peer, '--data', str(data)]
    command += ['--teacher', 'resnet18', '--student', 'mobilenetv2_050']
    command += ['--size', '32', '--batch', '4', '--workers', '1']
    command += ['--epochs', '2', '--out', 'probe.json']
    subprocess.run(command, check=True)
    found = json.loads(Path('probe.json').read_text())
    assert [epoch['images'] for epoch in found['epochs']] == [8, 8]
    assert all(epoch['seconds'] > 0 for epoch in found['epochs'])
    assert found['version'].startswith(f'{peer.split()[0]} ')
