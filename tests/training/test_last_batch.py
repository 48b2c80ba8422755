# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""No training batch is one image, which BatchNorm would stop at."""

import numpy as np
import pytest
from mmengine.config import Config

from hkd_mm.config.data_summary import DataSummary
from hkd_mm.training.trainer import drop_singleton_batch

COUNTS = np.array([60, 30, 6])  # 96 images


def _config(batch, sampler=None, **more):
    sampler = sampler or dict(type='DefaultSampler', shuffle=True)
    return Config(
        dict(
            train_dataloader=dict(
                batch_size=batch,
                sampler=sampler,
                dataset=dict(type='hkd_mm.SkinDisease'),
                **more,
            )
        )
    )


def _dropped(cfg, monkeypatch, processes=1):
    for module in (
        'mmengine.dataset.sampler',
        'hkd_mm.datasets.samplers',
    ):
        monkeypatch.setattr(f'{module}.get_dist_info', lambda: (0, processes))
    summary = DataSummary('x', ('a', 'b', 'c'), None, train_counts=COUNTS)
    said = drop_singleton_batch(cfg, summary)
    assert bool(said) == (said.count('single image') == 1)
    dropped = bool(cfg.train_dataloader.get('drop_last'))
    assert bool(said) == dropped
    return dropped


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
def test_the_remainder_on_a_process_decides(
    batch, processes, dropped, monkeypatch
):
    assert _dropped(_config(batch), monkeypatch, processes) is dropped


def test_samplers_and_wrappers_are_counted_as_they_are(
    tiny_data, tmp_path, monkeypatch
):
    balanced = dict(type='hkd_mm.BalancedSampler', num_samples=101)
    assert _dropped(_config(20, balanced), monkeypatch)
    assert not _dropped(_config(19, balanced), monkeypatch)
    monkeypatch.chdir(tmp_path)
    cfg = _config(19)
    inner = dict(
        type='hkd_mm.SkinDisease',
        data_root=str(tiny_data),
        classes=['Acne', 'Benign', 'Eczema'],
        split_ratios=(0.5, 0.25, 0.25),
    )  # 18 images
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=inner
    )
    assert not _dropped(cfg, monkeypatch)  # 36 = 19 + 17
    cfg.train_dataloader.batch_size = 35
    assert _dropped(cfg, monkeypatch)
    cfg = _config(19)
    cfg.train_dataloader.dataset = dict(
        type='hkd_mm.PackedDataset', dataset=inner
    )
    assert _dropped(cfg, monkeypatch)


def test_loaders_that_say_what_they_want_are_left_alone(monkeypatch):
    for more in (
        dict(num_batch_per_epoch=3),
        dict(batch_sampler=dict(type='BatchSampler')),
    ):
        assert not _dropped(_config(19, **more), monkeypatch)


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
    assert (tmp_path / 'run/finished.json').is_file()
