# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""No training batch is one image, which BatchNorm would stop at."""

from types import SimpleNamespace

import pytest
from mmengine.registry import DefaultScope

from hkd_mm.engine.runner import NamedRunner
from hkd_mm.registry import DATASETS
from hkd_mm.training.run_notes import read_finished


@DATASETS.register_module()
class Images96:
    """Listed and nothing else."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 96

    def __getitem__(self, index):
        return index

    def full_init(self):
        pass

    def get_gt_labels(self):
        return [0] * 60 + [1] * 30 + [2] * 6


def _batches(monkeypatch, batch, processes=1, training=True, **more):
    for module in ('mmengine.dataset.sampler', 'hkd_mm.datasets.samplers'):
        monkeypatch.setattr(f'{module}.get_dist_info', lambda: (0, processes))
    cfg = dict(
        batch_size=batch,
        num_workers=0,
        dataset=dict(type='hkd_mm.Images96'),
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    cfg.update(more)
    runner = NamedRunner.__new__(NamedRunner)
    runner._train_dataloader = cfg if training else None
    lines = []
    runner.logger = SimpleNamespace(info=lines.append)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = runner.build_dataloader(cfg, seed=0)
    assert len(lines) == (loader.drop_last and 'drop_last' not in more)
    return loader.drop_last, len(loader)


@pytest.mark.parametrize(
    ('batch', 'processes', 'dropped'),
    [
        (19, 1, True),  # 96 = 5 * 19 + 1
        (19, 2, False),  # 48 = 2 * 19 + 10
        (47, 2, True),  # 48 = 47 + 1
        (31, 3, True),  # 32 = 31 + 1
        (19, 5, True),  # 20, one image twice
        (1, 1, False),  # asked for: every batch is one image
        (48, 2, False),
        (95, 1, True),
        (96, 1, False),
        (64, 1, False),
    ],
)
def test_the_remainder_on_a_process_decides(batch, processes, dropped, monkeypatch):
    share = -(-96 // processes)
    batches = share // batch if dropped else -(-share // batch)
    assert _batches(monkeypatch, batch, processes) == (dropped, batches)


def test_samplers_and_wrappers_are_counted_as_they_are(monkeypatch):
    balanced = dict(type='hkd_mm.BalancedSampler', num_samples=101)
    assert _batches(monkeypatch, 20, sampler=balanced) == (True, 5)
    assert _batches(monkeypatch, 19, sampler=balanced) == (False, 6)
    twice = dict(type='RepeatDataset', times=2, dataset=dict(type='hkd_mm.Images96'))
    assert _batches(monkeypatch, 19, dataset=twice) == (False, 11)
    assert _batches(monkeypatch, 191, dataset=twice) == (True, 1)


def test_other_loaders_are_left_alone(monkeypatch):
    assert _batches(monkeypatch, 19, training=False) == (False, 6)
    assert _batches(monkeypatch, 19, drop_last=True) == (True, 5)
    assert _batches(monkeypatch, 19, num_batch_per_epoch=3) == (False, 3)


@pytest.mark.parametrize(
    'options',
    [[], ['packed=True', 'packed.store_dir=store']],
    ids=['stock', 'packed'],
)
def test_a_network_whose_last_map_is_one_pixel_trains(
    options, tiny_configs, tmp_path, tool, quick_runner, capsys
):
    network = tmp_path / 'network.py'
    network.write_text(f"""
_base_ = {str(tiny_configs['student'])!r}
model = dict(backbone=dict(
    _delete_=True, type='MobileNetV2', widen_factor=0.1, norm_eval=False),
    head=dict(in_channels=1280))
""")
    assert (
        tool('train')(
            [
                str(network),
                '--work-dir',
                'run',
                '--cfg-options',
                'batch_size=17',
                'max_epochs=1',
                *options,
            ]
        )
        == 0
    )  # 18 images of 16 x 16
    assert capsys.readouterr().out.count('single image') == 1
    assert read_finished(tmp_path / 'run')['epoch'] == 1
