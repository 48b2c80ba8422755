# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Parameters and MACs are held against counts made by hand."""

import pytest
import timm
import torch
from torch import nn

from hkd_mm.models.networks.complexity import complexity


def test_counts_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    found = complexity(network, 10)
    assert found['parameters'] == (3 * 4 * 9 + 4) + 8 + 8 * 9 + (8 * 5 + 5)
    macs = 100 * 4 * 3 * 9 + 25 * 8 * 1 * 9 + 8 * 5
    assert found['gmacs'] == pytest.approx(macs / 1e9, rel=1e-12)


def test_height_and_width_may_differ():
    network = nn.Conv2d(3, 1, 1, bias=False)
    assert complexity(network, (4, 6))['gmacs'] == pytest.approx(72 / 1e9)


def test_state_and_statistics_of_the_network_are_kept():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train()
    network[1].eval()
    complexity(network, 4)
    assert network.training and network[0].training and not network[1].training
    assert int(network[1].num_batches_tracked) == 0


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
        network = timm.create_model(name, num_classes=6)
    assert complexity(network, 224)['gmacs'] == pytest.approx(table, rel=0.015)
