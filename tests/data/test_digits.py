from __future__ import annotations

import hashlib
import sys

import pytest
import torch

from synaprune.data import load
from synaprune.errors import MachineError

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_shapes_and_split(digits):
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert digits.train_images.dtype == torch.uint8
    assert digits.train_labels.dtype == torch.int64
    assert digits.train_labels.bincount().tolist() == [142, 146, 142, 146, 145, 145, 145, 143, 139, 144]
    assert digits.test_labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert digits.test_labels[:12].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3, 2, 6]


def test_pixels_use_the_whole_range(digits):
    assert digits.train_images.unique().tolist() == [round(255 * v / 16) for v in range(17)]


def test_every_image_is_in_one_part_with_its_label(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    key = {tuple(row): label for row, label in zip(source.data.astype(int).tolist(), source.target.tolist())}
    images = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    rows = [tuple(row) for row in (images.double() * 16 / 255).round().int().tolist()]
    assert sorted(rows) == sorted(map(tuple, source.data.astype(int).tolist()))
    assert [key[row] for row in rows] == torch.cat([digits.train_labels, digits.test_labels]).tolist()


def test_the_split_never_changes(digits):
    sums = [hashlib.sha256(t.numpy().tobytes()).hexdigest()[:16] for t in (digits.train_images, digits.test_images)]
    assert sums == ["c55533fa45b670a4", "ac6ada28192bd51a"]
    again = load("digits", "/nowhere")
    assert torch.equal(again.train_images, digits.train_images)
    assert torch.equal(again.test_labels, digits.test_labels)


def test_mean_and_std_are_those_of_the_training_part(digits):
    scaled = digits.train_images.double() / 255
    assert digits.mean == (round(scaled.mean().item(), 4),)
    assert digits.std == (round(scaled.std().item(), 4),)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MachineError) as caught:
        load("digits")
    assert str(caught.value) == "the data set digits needs scikit-learn; run pip install 'synaprune[train]'"
