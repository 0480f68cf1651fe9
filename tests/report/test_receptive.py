"""Which inputs kept their synapses."""

from __future__ import annotations

import torch

from synaprune.report.receptive import receptive_map


def test_a_linear_layer_gives_a_picture():
    weight = torch.zeros(5, 64)
    weight[:3, 0] = 1.0
    weight[1, 63] = -2.0
    counts = receptive_map(weight, "digits")
    assert counts.shape == (8, 8)
    assert (counts[0, 0], counts[7, 7], counts.sum()) == (3, 1, 4)


def test_channels_of_a_picture_are_added():
    counts = receptive_map(torch.ones(2, 3 * 32 * 32), "cifar10")
    assert counts.shape == (32, 32)
    assert (counts == 6).all()


def test_a_convolution_gives_its_kernel_channel_by_channel():
    weight = torch.zeros(4, 3, 3, 3)
    weight[:, 2, 0, 1] = 1.0
    counts = receptive_map(weight, "cifar10")
    assert counts.shape == (3, 9)
    assert counts[0, 7] == counts.sum() == 4


def test_no_picture():
    assert receptive_map(torch.ones(2, 63), "digits") is None
    assert receptive_map(torch.ones(64), "digits") is None
