from __future__ import annotations

import gzip
import hashlib
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import torch

from synaprune.data import load, mnist
from synaprune.errors import MachineError, UsageError

COUNTS = {"train": 12, "t10k": 5}


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def small():
    """The four files of a small MNIST, unpacked: name → content."""
    rng = np.random.default_rng(0)
    contents = {}
    for part, count in COUNTS.items():
        contents[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        contents[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8) % 10)
    return contents


@pytest.fixture
def folder(tmp_path, small):
    """A data folder with a small MNIST in it, packed."""
    (tmp_path / "mnist").mkdir()
    for name, content in small.items():
        (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))
    return tmp_path


def test_packed_and_unpacked_files_are_read(tmp_path, folder, small):
    for name in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (folder / "mnist" / f"{name}.gz").unlink()
        (folder / "mnist" / name).write_bytes(small[name])
    data = load("mnist", folder)
    assert data.train_images.shape == (12, 1, 28, 28)
    assert data.test_images.shape == (5, 1, 28, 28)
    assert data.train_images.dtype == torch.uint8
    assert data.train_images.numpy().tobytes() == small["train-images-idx3-ubyte"][16:]
    assert data.test_images.numpy().tobytes() == small["t10k-images-idx3-ubyte"][16:]
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.test_labels.tolist() == [0, 1, 2, 3, 4]
    assert data.test_labels.dtype == torch.int64
    data.train_images.zero_()  # the memory is the data set's own


def pack(content: bytes) -> bytes:
    return gzip.compress(content)


IMAGES = np.zeros((12, 28, 28), np.uint8)
NOT_IDX = "is not an IDX file of bytes in 3-D"
FAULTS = {
    "not gzip": ("train-images-idx3-ubyte", b"<html>sorry</html>", "is not a complete .gz file"),
    "empty": ("train-images-idx3-ubyte", b"", NOT_IDX),
    "gzip cut": ("train-images-idx3-ubyte", pack(idx(IMAGES))[:-30], "is not a complete .gz file"),
    "gzip damaged": ("train-images-idx3-ubyte", pack(idx(IMAGES))[:-5] + b"12345", "is not a complete .gz file"),
    "other magic": ("t10k-images-idx3-ubyte", pack(b"PNG" + bytes(50)), NOT_IDX),
    "labels as images": ("train-images-idx3-ubyte", pack(idx(IMAGES[:, 0, 0])), NOT_IDX),
    "cut inside": ("train-images-idx3-ubyte", pack(idx(IMAGES)[:-1]),
        "holds 9407 values where its header says 12×28×28"),
    "too long": ("train-labels-idx1-ubyte", pack(idx(np.zeros(12, np.uint8)) + b"x"),
        "holds 13 values where its header says 12"),
    "other size": ("train-images-idx3-ubyte", pack(idx(IMAGES[:, :8])), "holds images of 8×28, not 28×28"),
    "no images": ("t10k-images-idx3-ubyte", pack(idx(IMAGES[:0])), "holds no images"),
    "fewer labels": ("t10k-labels-idx1-ubyte", pack(idx(np.zeros(4, np.uint8))),
        "holds 4 labels for the 5 images of t10k-images-idx3-ubyte.gz"),
    "label 10": ("train-labels-idx1-ubyte", pack(idx(np.full(12, 10, np.uint8))), "holds the label 10, above 9"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_named_with_the_remedy(folder, fault):
    name, content, message = FAULTS[fault]
    path = folder / "mnist" / f"{name}.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load("mnist", folder)
    assert str(caught.value) == f"{path} {message}; replace it, or delete it and it is downloaded anew"


IMAGES_HEADER, LABELS_HEADER = idx(IMAGES)[:16], idx(np.zeros(12, np.uint8))[:8]
BOMB = gzip.compress(bytes(10**7)) * 50  # half a gigabyte
MANY = IMAGES_HEADER[:4] + b"\xff" * 4 + IMAGES_HEADER[8:]
LARGE = IMAGES_HEADER[:8] + b"\0\0\xff\xff" * 2
BOMBS = {
    "images": ("train-images-idx3-ubyte.gz", gzip.compress(IMAGES_HEADER) + BOMB,
        "holds more than 9408 values where its header says 12×28×28"),
    "labels": ("t10k-labels-idx1-ubyte.gz", gzip.compress(LABELS_HEADER) + BOMB,
        "holds more than 12 values where its header says 12"),
    "no header": ("train-images-idx3-ubyte.gz", BOMB, NOT_IDX),
    "large header": ("train-images-idx3-ubyte.gz", gzip.compress(MANY) + BOMB,
        "claims 4,294,967,295 images, more than 1,000,000"),
    "large images": ("train-images-idx3-ubyte.gz", gzip.compress(LARGE) + BOMB,
        "holds images of 65535×65535, not 28×28"),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_unpacks_without_end_takes_no_memory_and_is_named(bomb, folder):
    name, content, message = BOMBS[bomb]
    path = folder / "mnist" / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError) as caught:
            load("mnist", folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value) == f"{path} {message}; replace it, or delete it and it is downloaded anew"
    assert peak < 2e6


@pytest.mark.parametrize("header", [b"", IMAGES_HEADER])
def test_a_plain_file_without_end_is_not_read_to_its_end(header, folder):
    (folder / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    with (folder / "mnist" / "train-images-idx3-ubyte").open("wb") as file:
        file.write(header)
        file.truncate(2**38)  # of which the disk holds nothing
    with pytest.raises(UsageError, match="holds more than 9408 values" if header else NOT_IDX):
        load("mnist", folder)


def test_a_file_for_which_the_memory_is_too_small_is_named(folder, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(gzip.GzipFile, "read", full)
    with pytest.raises(MachineError, match=r"not enough memory to read .*/mnist/train-images-idx3-ubyte.gz; free"):
        load("mnist", folder)


def test_an_unreadable_file_is_the_machines_fault(folder, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    path = folder / "mnist" / "train-images-idx3-ubyte.gz"
    with pytest.raises(MachineError) as caught:
        load("mnist", folder)
    assert str(caught.value) == f"{path} cannot be read (Permission denied); check its permissions"


@pytest.fixture
def mirror(served, small, monkeypatch):
    """A server with a small MNIST whose checksums are the expected ones."""
    root, address = served
    sums = {}
    for name, content in small.items():
        packed = gzip.compress(content)
        (root / f"{name}.gz").write_bytes(packed)
        sums[name] = hashlib.md5(packed).hexdigest()
    monkeypatch.setattr(mnist, "MD5", sums)
    return root, address


def test_missing_files_are_downloaded_once(mirror, tmp_path, folder, capfd):
    served, address = mirror
    kept = folder / "mnist" / "train-images-idx3-ubyte.gz"
    for path in (folder / "mnist").iterdir():
        if path != kept:
            path.unlink()
    kept.write_bytes(gzip.compress(gzip.decompress(kept.read_bytes()), compresslevel=1))  # another checksum
    before = kept.read_bytes()

    data = mnist.load(folder, mirror=address)
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert capfd.readouterr().err.count("100%") == 3
    assert kept.read_bytes() == before
    assert sorted(p.name for p in (folder / "mnist").iterdir()) == sorted(f"{name}.gz" for name in mnist.MD5)

    for path in served.iterdir():
        path.unlink()
    again = mnist.load(folder, mirror=address)
    assert torch.equal(again.test_images, data.test_images)


def test_the_folder_in_the_data_folder_is_made_where_it_is_missing(mirror, tmp_path):
    assert len(mnist.load(tmp_path, mirror=mirror[1]).test_labels) == 5
    assert (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").is_file()


def message_of(tmp_path, mirror: str) -> str:
    with pytest.raises(MachineError) as caught:
        mnist.load(tmp_path, mirror=mirror)
    return str(caught.value)


def expected(tmp_path, mirror: str, reason: str) -> str:
    name, folder = "train-images-idx3-ubyte.gz", tmp_path / "mnist"
    return (
        f"{name} is missing in {folder} and cannot be downloaded from {mirror}{name} ({reason}); try again online, "
        "or name the folder that holds mnist/ with --data-dir or SYNAPRUNE_DATA"
    )


def test_offline_and_absent(nobody, tmp_path, capfd):
    assert message_of(tmp_path, nobody) == expected(tmp_path, nobody, "ConnectionError")
    assert capfd.readouterr() == ("", "")


def test_a_file_that_the_server_lacks(served, tmp_path):
    address = served[1]
    assert message_of(tmp_path, address) == expected(tmp_path, address, "the server answers 404 File not found")


def test_a_download_with_the_wrong_checksum_is_not_kept(mirror, tmp_path):
    served, address = mirror
    (served / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    text = message_of(tmp_path, address)
    assert "(MD5 hash of downloaded file (train-images-idx3-ubyte.gz) does not match the known hash" in text
    assert "\n" not in text
    assert list((tmp_path / "mnist").iterdir()) == []


def test_a_download_that_is_cut_off_is_not_kept(served, tmp_path):
    address = served[1] + "cut/"
    assert message_of(tmp_path, address) == expected(tmp_path, address, "ChunkedEncodingError")
    assert list((tmp_path / "mnist").iterdir()) == []


def test_a_folder_that_cannot_be_made(served, tmp_path):
    (tmp_path / "mnist").write_bytes(b"")
    address = served[1]
    assert message_of(tmp_path, address) == expected(tmp_path, address, "Not a directory")


def test_a_folder_that_cannot_be_written(served, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "mnist").mkdir()
    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    address = served[1]
    assert message_of(tmp_path, address) == expected(tmp_path, address, "the folder cannot be written")


@pytest.mark.parametrize("package", ["pooch", "tqdm"])
def test_absent_without(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert message_of(tmp_path, "http://127.0.0.1/") == (
        f"train-images-idx3-ubyte.gz is missing in {tmp_path / 'mnist'} and downloading it needs {package}; "
        "run pip install 'synaprune[train]'"
    )


def test_the_real_files(real_data):
    data = load("mnist", real_data)
    images, labels = bytes((0, 0, 8, 3)), bytes((0, 0, 8, 1))
    parts = [
        (images + struct.pack(">3I", 60000, 28, 28), data.train_images, "6bbc9ace898e44ae57da46a324031adb"),
        (labels + struct.pack(">I", 60000), data.train_labels, "a25bea736e30d166cdddb491f175f624"),
        (images + struct.pack(">3I", 10000, 28, 28), data.test_images, "2646ac647ad5339dbf082846283269ea"),
        (labels + struct.pack(">I", 10000), data.test_labels, "27ae3e4e09519cfbb04c329615203637"),
    ]
    for header, values, md5 in parts:
        assert hashlib.md5(header + values.to(torch.uint8).numpy().tobytes()).hexdigest() == md5
    assert data.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    pixels = data.train_images.flatten().bincount(minlength=256).double() / data.train_images.numel()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (pixels * values).sum()
    assert data.mean == (round(mean.item(), 4),)
    assert data.std == (round((pixels * (values - mean) ** 2).sum().sqrt().item(), 4),)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize(
    ("left", "named"),
    [
        ("MNIST/raw", "."),
        ("MNIST/raw", "MNIST"),
        ("MNIST/raw", "MNIST/raw"),
        ("mnist/MNIST/raw", "."),
        ("mnist/raw", "."),
        ("mnist", "."),
    ],
)
def test_files_are_found_where_torchvision_left_them(nobody, tmp_path, small, left, named, spelling, suffix):
    (tmp_path / left).mkdir(parents=True)
    for name, content in small.items():
        path = tmp_path / left / (name.replace("-idx", spelling) + suffix)
        path.write_bytes(gzip.compress(content) if suffix else content)
    data = mnist.load(tmp_path / named, mirror=nobody)
    assert (len(data.train_labels), data.test_labels.tolist()) == (12, [0, 1, 2, 3, 4])
    assert not (tmp_path / "MNIST" / "raw" / "mnist").exists()


def test_files_of_its_kin_are_not_taken_for_mnist(nobody, tmp_path, small):
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    for name, content in small.items():
        (tmp_path / "FashionMNIST" / "raw" / name).write_bytes(content)
    for place in (tmp_path, tmp_path / "FashionMNIST", tmp_path / "FashionMNIST" / "raw"):
        with pytest.raises(MachineError, match=r"train-images-idx3-ubyte\.gz is missing in"):
            mnist.load(place, mirror=nobody)
