# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The benchmarks run at a toy size; what no machine changes is asserted."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'tools/benchmarks'
TOY = [
    *('--teacher', 'resnet18', '--size', '32', '--batch', '4'),
    *('--out', 'report.json'),
]
DRAWN = ['--data-root', 'drawn']


@pytest.fixture
def benchmark(monkeypatch, in_tmp, quick_runner):
    """``benchmark(name, *argv) -> report``; imports as the program does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')

    def run(name: str, *argv: str) -> dict:
        monkeypatch.setattr(sys, 'argv', [name, *argv])
        importlib.import_module(name).main()
        return json.loads(Path('report.json').read_text())

    yield run
    for path in FOLDER.glob('*.py'):
        sys.modules.pop(path.stem, None)


@pytest.mark.slow
def test_counts(benchmark):
    argv = ['--iterations', '6', '--interval', '3', *DRAWN]
    report = benchmark('counts', *TOY, *argv)
    of_128 = report['preprocessing_128']
    assert of_128['packed'] <= 12
    # 653 with torch 2.15, 654 with 2.14
    assert of_128['MMPretrain, list of images'] in (653, 654)
    rows = {row['setup']: row for row in report['iterations']}
    assert list(rows) == [
        *('student', 'stock student', 'cached, filling', 'cached', 'online'),
        'stock',
    ]
    for name, row in rows.items():
        assert row['iterations'] == 6
        assert row['preprocessing_without_augmentation'] <= 12, name
        assert row['loading'] > 0
        assert 300 < row['step'] < 2000  # forward, backward and optimizer
        assert row['host_reads_at_log_points']
    for name in ('student', 'cached', 'online'):
        assert rows[name]['host_reads_between'] == {}
        assert rows[name]['preprocessing'] > 12
    assert sum(rows['stock']['host_reads_between'].values()) == 4
    assert rows['cached']['step'] < rows['online']['step']
    assert (
        [row['measured'] for row in report['cache_bytes']]
        == [row['predicted'] for row in report['cache_bytes']]
        == [13, 13, 13 + 2 * 512, 13 + 2 * 512]
    )


def test_counter_sees_what_the_host_waits_for(benchmark):
    counter = importlib.import_module('_counter').OperatorCounter('cpu')
    copies = importlib.import_module('_counter').HostCopies(counter)
    x = torch.arange(6.0, requires_grad=True)
    network = torch.nn.Conv1d(1, 1, 3)
    with copies, counter:
        x[torch.tensor([1, 2])] + 1  # no wait: the shape is known
        assert not counter.reads
        x.sum().item()
        bool(x.sum() > 1)
        x[x > 2]
        x.detach().tolist()
        x.detach().cpu()
        torch.equal(x, x)
        network(x.view(1, 1, 6)).sum().backward()
    names = [name for name, _ in counter.reads.elements()]
    assert names == [
        *['aten._local_scalar_dense'] * 2,
        *('aten.index.Tensor', 'tolist', 'cpu', 'aten.equal'),
    ]
    assert all(
        where.split(':')[0].endswith('test_benchmarks.py') for _, where in counter.reads
    )
    operators = {name for _, name in counter.operators}
    assert 'aten.convolution_backward.default' in operators
    assert sum(counter.by_phase().values()) == counter.operators.total()


@pytest.mark.nightly
def test_startup(benchmark):
    argv = ['--images', '40', '--repeats', '1', *DRAWN]
    ways = ['--ways', 'packed, first time', 'help']
    report = benchmark('startup', *TOY, *argv, *ways)
    packed, said = report['rows']
    assert [packed['way'], said['way']] == ['packed, first time', 'help']
    assert 0 < packed['first_batch_s'] <= packed['first_iteration_s']
    assert packed['first_iteration_s'] < packed['end_s']
    assert said['first_batch_s'] is None
    # --help imports no torch, and the peak is its own, not that of pytest
    assert said['memory_mib'] < 60 < packed['memory_mib']
    assert report['machine']['torch'] == torch.__version__


@pytest.mark.nightly
def test_threads(benchmark, monkeypatch):
    monkeypatch.setenv('OMP_WAIT_POLICY', 'PASSIVE')  # put back afterwards
    argv = ['--images', '40', '--epochs', '1', '--rounds', '1', *DRAWN]
    report = benchmark('threads', *TOY, *argv, *('--batch', '8'))
    assert [row['busy_processes'] for row in report['rows']] == [0, 1]
    for row in report['rows']:
        assert row['losses_are_equal'] is True
        assert row['passive_s'] > 0 and row['default_s'] > 0
    every = report['runs']['0']
    assert len(every['passive'][0]['losses']) == 4


@pytest.mark.nightly
def test_training(benchmark):
    argv = [
        '--steps',
        '1',
        '--rounds',
        '1',
        '--setups',
        'cached',
        'stock',
        'online bf16',
    ]
    report = benchmark('training', *TOY, *argv, *DRAWN)
    assert list(report['images_per_second']) == [
        'cached',
        'stock',
        'online bf16',
    ]
    assert list(report['ratios']) == [
        'stock / KD cached',
        'stock / KD online, bf16 teacher',
    ]


@pytest.mark.nightly
def test_loader(benchmark):
    report = benchmark(
        'loader',
        *('nowhere', '--images', '8', '--times', '1', '--repeats', '1'),
        *('--batch', '4', '--size', '16', '--workers', '1'),
        *('--out', 'report.json'),
    )
    ways = {row['way']: row for row in report['rows']}
    assert len(ways) == 7
    fastest = max(ways[way]['images_per_second'] for way in ('stock', 'stock, workers'))
    assert ways['packed']['times_the_faster_stock'] == pytest.approx(
        ways['packed']['images_per_second'] / fastest, abs=0.01
    )
