"""Which inputs kept their synapses."""

from __future__ import annotations

import pytest
import torch

from synaprune.report.receptive import receptive_map
from synaprune.train import checkpoint


@pytest.fixture
def saved(tmp_path):
    def save(weight):
        path = tmp_path / "checkpoint.safetensors"
        checkpoint.save({"model": {"first.weight": weight}}, path)
        return path

    return save


def test_a_linear_layer_gives_a_picture(saved):
    weight = torch.zeros(5, 64)
    weight[:3, 0] = 1.0
    weight[1, 63] = -2.0
    counts = receptive_map(saved(weight), "first.weight", "digits")
    assert counts.shape == (8, 8)
    assert (counts[0, 0], counts[7, 7], counts.sum()) == (3, 1, 4)


def test_channels_of_a_picture_are_added(saved):
    counts = receptive_map(saved(torch.ones(2, 3 * 32 * 32)), "first.weight", "cifar10")
    assert counts.shape == (32, 32)
    assert (counts == 6).all()


def test_a_convolution_gives_its_kernel_channel_by_channel(saved):
    weight = torch.zeros(4, 3, 3, 3)
    weight[:, 2, 0, 1] = 1.0
    counts = receptive_map(saved(weight), "first.weight", "cifar10")
    assert counts.shape == (3, 9)
    assert counts[0, 7] == counts.sum() == 4


def test_no_picture(saved, tmp_path):
    assert receptive_map(saved(torch.ones(2, 63)), "first.weight", "digits") is None
    assert receptive_map(saved(torch.ones(2, 64)), "other.weight", "digits") is None
    assert receptive_map(tmp_path / "nowhere", "first.weight", "digits") is None
