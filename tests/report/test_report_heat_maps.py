# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Grad-CAM, its overlap, and which images are looked at."""

import numpy as np
import pytest
import torch
from torch import nn

from hkd_mm.datasets.splits import balanced_choice
from hkd_mm.models.networks.heat_maps import (
    heat_maps,
    last_layer,
    overlap,
)


class Net(nn.Module):
    """Score 0 is the mean of channel 0, score 1 of channel 1."""

    def __init__(self):
        super().__init__()
        self.early = nn.Identity()
        self.last = nn.Conv2d(3, 2, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            self.last.weight[:] = torch.eye(2, 3)[:, :, None, None]

    def forward(self, images):
        return self.pool(self.last(self.early(images))).flatten(1)


def test_overlap_by_hand():
    one = np.array([[[1.0, 0.5], [0, 0]]] * 3)
    other = np.array([one[0], [[0, 0], [1, 1]], [[0.5, 1], [0.5, 0]]])
    # minima 0.5 + 0.5, maxima 1 + 1 + 0.5
    assert overlap(one, other) == pytest.approx([1, 0, 1 / 2.5])
    assert np.isnan(overlap(one * 0, one * 0)).all()


def test_images_come_from_the_classes_in_turn():
    labels = np.array([0] * 10 + [1] * 3 + [2])
    found = balanced_choice(labels, 5)
    assert labels[found].tolist() == [0, 1, 2, 0, 1]
    assert len(set(balanced_choice(labels, 99).tolist())) == 14


def test_the_map_is_where_the_true_class_is():
    pytest.importorskip('pytorch_grad_cam')
    network = Net().eval()
    assert last_layer(network, torch.zeros(1, 3, 4, 4)) is network.last
    images = torch.zeros(2, 3, 4, 4)
    images[:, 0, 0, 0] = images[:, 1, 3, 3] = 1
    found = heat_maps(network, images, np.array([0, 1]))
    assert found.shape == (2, 4, 4)
    for heat, place in zip(found, (0, 15)):
        expected = np.zeros(16)
        expected[place] = 1
        assert heat.ravel() == pytest.approx(expected, abs=1e-5)
