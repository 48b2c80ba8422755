# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Parameters and MACs are held against counts made by hand."""

import pytest
import timm
import torch
from torch import nn

from hkd_mm.models.networks.complexity import complexity


def test_counts_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    found = complexity(net, 10)
    assert found['parameters'] == (3 * 4 * 9 + 4) + 8 + 8 * 9 + (8 * 5 + 5)
    macs = 100 * 4 * 3 * 9 + 25 * 8 * 1 * 9 + 8 * 5
    assert found['gmacs'] == pytest.approx(macs / 1e9, rel=1e-12)


def test_height_and_width_may_differ():
    net = nn.Conv2d(3, 1, 1, bias=False)
    assert complexity(net, (4, 6))['gmacs'] == pytest.approx(72 / 1e9)


def test_state_and_statistics_of_the_net_are_kept():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train()
    net[1].eval()
    complexity(net, 4)
    assert net.training and net[0].training and not net[1].training
    assert int(net[1].num_batches_tracked) == 0


# Table 4 of the Hybrid KD paper counts normalisation and activations too.
@pytest.mark.parametrize(
    'name, table',
    [
        ('wide_resnet50_2', 11.45),
        ('resnet152', 11.60),
        ('efficientnet_b0', 0.39),
        ('darknet53', 7.12),
    ],
)
def test_the_papers_gflops_are_macs_at_224(name, table):
    with torch.device('meta'):
        net = timm.create_model(name, num_classes=6)
    assert complexity(net, 224)['gmacs'] == pytest.approx(table, rel=0.015)
