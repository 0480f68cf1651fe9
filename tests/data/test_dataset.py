from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pooch
import pytest
import torch

from synaprune.data import DATASETS, Dataset, batches, files, load, normalize
from synaprune.errors import UsageError


@pytest.fixture
def data() -> Dataset:
    images = torch.arange(20 * 3 * 2 * 2, dtype=torch.uint8).view(20, 3, 2, 2)
    labels = torch.arange(20) % 4
    return Dataset("toy", images, labels, images[:6] + 1, labels[:6], classes=4, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_unknown_name():
    assert list(DATASETS) == ["cifar10", "digits", "mnist"]
    with pytest.raises(UsageError) as caught:
        load("mnits")
    text = "unknown data set 'mnits'; known are cifar10, digits, mnist; did you mean 'mnist'?"
    assert str(caught.value) == text


def test_where_files_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNAPRUNE_DATA", "~/sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("here", "sets"):
        (tmp_path / name).mkdir()
    assert files.folder_of("mnist", "here") == Path("here/mnist")
    assert files.folder_of("mnist", None) == tmp_path / "sets" / "mnist"
    monkeypatch.setenv("SYNAPRUNE_DATA", "")
    assert files.folder_of("mnist", None) == Path(pooch.os_cache("synaprune")) / "mnist"


def test_a_mistyped_data_folder_is_not_made(monkeypatch, tmp_path):
    absent = tmp_path / "daat"
    with pytest.raises(UsageError, match=f"^there is no folder '{absent}', named by --data-dir; make it, or"):
        load("mnist", absent)
    monkeypatch.setenv("SYNAPRUNE_DATA", str(absent))
    with pytest.raises(UsageError, match="named by SYNAPRUNE_DATA;"):
        load("cifar10")
    assert not absent.exists()


def test_importing_needs_torch_and_numpy_only():
    code = (
        "import sys, synaprune.data; "
        "print({'pooch', 'requests', 'sklearn', 'scipy', 'PIL', 'spikingjelly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_to(data):
    moved = data.to("meta")
    assert {t.device.type for t in vars(moved).values() if isinstance(t, torch.Tensor)} == {"meta"}
    assert (moved.name, moved.classes, moved.mean) == ("toy", 4, data.mean)
    assert data.train_images.device.type == "cpu"


def test_holdout(data):
    part = data.holdout(5)
    assert torch.equal(part.train_images, data.train_images[:15])
    assert torch.equal(part.train_labels, data.train_labels[:15])
    assert torch.equal(part.test_images, data.train_images[15:])
    assert torch.equal(part.test_labels, data.train_labels[15:])
    assert (part.name, part.classes, part.mean, part.std) == (data.name, data.classes, data.mean, data.std)


@pytest.mark.parametrize("count", [-1, 0, 20, 21])
def test_holdout_refuses_an_empty_part(data, count):
    with pytest.raises(UsageError) as caught:
        data.holdout(count)
    text = f"cannot hold out {count} of the 20 training images of toy; choose from 1 to 19"
    assert str(caught.value) == text


def test_repr_has_no_pixels(data):
    assert repr(data) == "Dataset(name='toy', classes=4, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))"


def test_normalize():
    images = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8).view(1, 2, 1, 2)
    out = normalize(images, (0.5, 0.2), (0.25, 0.1))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor([[[[-2.0, 2.0]], [[0.0, 2.0]]]]))
    assert images.flatten().tolist() == [0, 255, 51, 102]


def test_batches_are_a_shuffle():
    parts = list(batches(10, 4, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [4, 4, 2]
    order = torch.cat(parts)
    assert order.sort().values.tolist() == list(range(10))
    assert order.tolist() != list(range(10))
    assert torch.equal(order, torch.cat(list(batches(10, 4, torch.Generator().manual_seed(0)))))
    assert not torch.equal(order, torch.cat(list(batches(10, 4, torch.Generator().manual_seed(1)))))


def test_batches_draw_when_called():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    batches(10, 4, generator)
    assert not torch.equal(generator.get_state(), before)
