# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The study of DSP-KD: data, networks and schedule."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR

from hkd_mm.config.compose import load_config
from hkd_mm.report.network_tables import network_complexity

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'configs' / 'dspkd'
PAIR = 'res2net101_shufflenetv2_isic2019'
PAIRS = (
    PAIR,
    'convnext_base_shufflenetv2_isic2019',
    'effb4_shufflenetv2_isic2019',
    'res2net101_shufflenetv2_skin6_512',
)
METHODS = sorted(FOLDER.glob(f'*_{PAIR}.py'))
NETS = sorted(path for path in FOLDER.glob('[!_]*.py') if path not in METHODS)
# Table 1: M parameters, GFLOPs, and the classes they were counted with. The
# last three are the sizes with the 1000 classes of ImageNet: with 8 they
# would be 17.56, 4.02 and 2.23.
TABLE_1 = dict(
    res2net101=(43.174, 8.102, 8),
    convnext_base=(87.575, 15.383, 8),
    shufflenetv1=(0.912, 0.143, 8),
    shufflenetv2=(1.262, 0.148, 8),
    efficientnet_b4=(19.342, 1.543, 1000),
    efficientnet_b0=(5.289, 0.4, 1000),
    mbv2_100=(3.505, 0.313, 1000),
)


def composed(path, *options):
    return load_config(path, ['pretrained=False', *options], read_data=False)


def method(name):
    return FOLDER / f'{name}_{PAIR}.py'


def test_methods_are_those_of_the_paper():
    assert {path.stem.removesuffix(f'_{PAIR}') for path in METHODS} == {
        *('kd', 'wsld', 'fitnets', 'mgd', 'eml', 'ssdkd', 'dspkd'),
        *('mgd_hf', 'normkd', 'mgd_hf_kd'),
    }
    assert {path.stem.removesuffix('_isic2019') for path in NETS} == {
        *TABLE_1,
        *(
            f'{network}_skin6_512'
            for network in (
                *('res2net101', 'convnext_base', 'efficientnet_b4'),
                'shufflenetv2',
            )
        ),
    }
    for path in METHODS:
        assert len(path.read_text().splitlines()) <= 20


@pytest.mark.parametrize(
    'path, pair',
    [(path, None) for path in NETS]
    + [(path, PAIR) for path in METHODS]
    + [(METHODS[0], pair) for pair in PAIRS[1:]],
    ids=lambda part: getattr(part, 'stem', part),
)
def test_every_config_says_what_the_paper_says(path, pair):
    cfg = composed(path, *([f'pair={pair}'] if pair else []))
    small = 'skin6' in (pair or path.stem)
    size, classes = (512, 6) if small else (224, 8)
    assert cfg.max_epochs == (120 if pair else 100) == cfg.train_cfg.max_epochs
    assert cfg.param_scheduler[-1].end == cfg.max_epochs
    assert cfg.param_scheduler[-1].T_max == cfg.max_epochs - 20
    assert cfg.optim_wrapper.optimizer.momentum == 0.9
    assert cfg.optim_wrapper.optimizer.weight_decay == 5e-4
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    assert train.type == 'hkd_mm.PackedDataset' and train.size == size
    assert train.top_up == 'largest' and 'top_up' not in test
    assert train.hair_removal is test.hair_removal is True
    assert train.dataset.split_ratios == (0.7, 0.1, 0.2)
    assert len(train.dataset.classes) == classes
    if not small:
        assert train.dataset.type == 'hkd_mm.ISIC2019'
        paper = 'MEL NV BCC AK BKL DF VASC SCC'
        assert list(train.dataset.classes) == paper.split()
    operation = cfg.data_preprocessor.augment[-1]
    assert operation.type == 'hkd_mm.RandAugment' and operation.copies_only
    heads = str(cfg.model).count(f"'num_classes': {classes}")
    assert heads == str(cfg.model).count("'num_classes'") == 1 + bool(pair)


@pytest.mark.parametrize('name', TABLE_1)
def test_sizes_are_those_of_table_1(name):
    printed, gflops, classes = TABLE_1[name]
    network = composed(FOLDER / f'{name}_isic2019.py').model.to_dict()
    (network if 'num_classes' in network else network['head'])['num_classes'] = classes
    if 'backbone' in network:  # of the fast path; the same layers
        network['type'] = 'ImageClassifier'
    found = network_complexity(network, (224,))
    assert found['parameters'] / 1e6 == pytest.approx(printed, rel=0.02)
    # The paper adds norms and activations to what is counted here.
    assert found['gmacs'][0] == pytest.approx(gflops, rel=0.06)


def rates(max_epochs, steps=10):
    """The learning rate of every step, by mmengine's own schedulers."""
    cfg = composed(method('kd'), f'max_epochs={max_epochs}')
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=cfg.optim_wrapper.optimizer.lr)
    warm_up, cosine = (dict(part) for part in cfg.param_scheduler)
    assert (warm_up.pop('type'), cosine.pop('type')) == (
        'LinearLR',
        'CosineAnnealingLR',
    )
    schedulers = []
    for kind, part in ((LinearLR, warm_up), (CosineAnnealingLR, cosine)):
        assert part.pop('convert_to_iter_based')
        schedulers.append(
            kind.build_iter_from_epoch(optimizer, **part, epoch_length=steps)
        )
    found = []
    for _ in range(max_epochs * steps):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.parametrize('max_epochs', [100, 120, 60])
def test_rates_are_those_of_the_paper(max_epochs):
    found, steps = rates(max_epochs), 10
    assert found[0] == pytest.approx(1e-3)
    # a straight line from the first step to the last of epoch 19
    assert found[19 * steps] == pytest.approx(1e-3 + 9e-3 * 190 / 199)
    assert found[20 * steps - 1] == pytest.approx(0.01)
    assert found[20 * steps] == pytest.approx(0.01)
    assert max(found) == pytest.approx(0.01)
    middle = (max_epochs + 20) // 2  # cos(pi / 2): half way down
    assert found[middle * steps] == pytest.approx((0.01 + 1e-5) / 2)
    if max_epochs == 120:
        part = (1 + math.cos(math.pi * 40 / 100)) / 2
        assert found[60 * steps] == pytest.approx(1e-5 + (0.01 - 1e-5) * part)
        assert found[119 * steps] < 2e-5
    assert found[-1] == pytest.approx(1e-5, rel=0.02)
