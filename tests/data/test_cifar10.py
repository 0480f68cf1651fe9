from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import pickle
import struct
import tarfile
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch

from synaprune.data import cifar10, load
from synaprune.errors import MachineError, UsageError

RECORDS = 7  # per file here


@pytest.fixture
def small(monkeypatch):
    """The six files of a small CIFAR-10: name → records [7, 3073]."""
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    rng = np.random.default_rng(0)
    records = {name: rng.integers(0, 256, (RECORDS, 3073), dtype=np.uint8) for name in cifar10.NAMES}
    for part in records.values():
        part[:, 0] %= 10
    return records


def delta(records: np.ndarray) -> bytes:
    """Pack as the format says, value by value."""
    planes = records[:, 1:].reshape(-1, 3, 32, 32).astype(int)
    coded = planes.copy()
    coded[:, 1:] -= planes[:, :1]
    coded[..., 1:] -= coded[..., :-1].copy()
    return lzma.compress(records[:, 0].tobytes() + (coded % 256).astype(np.uint8).tobytes())


def archive(records: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        contents = {"readme.html": b"<html>", **{name: part.tobytes() for name, part in records.items()}}
        for name, content in reversed(contents.items()):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cifar10").mkdir()
    return tmp_path / "cifar10"


def check(data, small):
    train = np.concatenate([small[name] for name in cifar10.NAMES[:5]])
    test = small["test_batch.bin"]
    assert data.train_images.shape == (35, 3, 32, 32)
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    assert np.array_equal(data.train_images.flatten(1).numpy(), train[:, 1:])
    assert np.array_equal(data.test_images.flatten(1).numpy(), test[:, 1:])
    assert data.train_labels.tolist() == train[:, 0].tolist()
    assert data.test_labels.tolist() == test[:, 0].tolist()
    assert data.train_labels.dtype == torch.int64
    data.test_images.zero_()  # the memory is the data set's own


def test_plain_and_packed_files_are_read(folder, small):
    for name, records in small.items():
        if name in ("data_batch_2.bin", "test_batch.bin"):
            (folder / name).write_bytes(records.tobytes())
        else:
            (folder / f"{name}.delta.xz").write_bytes(delta(records))
    check(load("cifar10", folder.parent), small)


def test_packed_files_are_unpacked_to_the_plain_ones(folder, small):
    for name in cifar10.NAMES[:4]:
        (folder / f"{name}.delta.xz").write_bytes(delta(small[name]))
    (folder / cifar10.NAMES[4]).write_bytes(small[cifar10.NAMES[4]].tobytes())
    cifar10.unpack(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(cifar10.NAMES[:5])
    assert all((folder / name).read_bytes() == small[name].tobytes() for name in cifar10.NAMES[:5])
    damaged = folder / f"{cifar10.NAMES[5]}.delta.xz"
    damaged.write_bytes(delta(small[cifar10.NAMES[5]][:3]))
    with pytest.raises(UsageError):
        cifar10.unpack(folder)
    assert damaged.exists()
    assert not (folder / cifar10.NAMES[5]).exists()


def test_the_published_archive_is_read_where_it_lies(folder, small):
    (folder / "cifar-10-binary.tar.gz").write_bytes(archive(small))
    check(load("cifar10", folder.parent), small)
    assert [path.name for path in folder.iterdir()] == ["cifar-10-binary.tar.gz"]


def test_the_archive_is_downloaded_once(served, tmp_path, small, monkeypatch, capfd):
    root, address = served
    packed = archive(small)
    (root / "cifar-10-binary.tar.gz").write_bytes(packed)
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(packed).hexdigest())
    url = f"{address}cifar-10-binary.tar.gz"
    check(cifar10.load(tmp_path, url=url), small)
    assert "100%" in capfd.readouterr().err
    (root / "cifar-10-binary.tar.gz").unlink()
    check(cifar10.load(tmp_path, url=url), small)


def test_offline_and_incomplete(nobody, folder, small):
    for name, records in list(small.items())[:4]:
        (folder / name).write_bytes(records.tobytes())
    url = f"{nobody}cifar-10-binary.tar.gz"
    with pytest.raises(MachineError) as caught:
        cifar10.load(folder.parent, url=url)
    assert str(caught.value) == (
        f"data_batch_5.bin, test_batch.bin is missing in {folder} and cannot be downloaded from {url} "
        "(ConnectionError); try again online, or name the folder that holds cifar10/ with --data-dir or SYNAPRUNE_DATA"
    )


def fault_of(folder) -> str:
    with pytest.raises(UsageError) as caught:
        load("cifar10", folder.parent)
    text = str(caught.value)
    assert text.endswith("; replace it, or delete it and it is downloaded anew")
    return text.split("; ")[0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("records", [3, 8])
def test_too_few_or_too_many_records(folder, small, packed, records):
    for name, part in small.items():
        (folder / name).write_bytes(part.tobytes())
    wrong = np.resize(small["data_batch_3.bin"], (records, 3073))
    path = folder / ("data_batch_3.bin.delta.xz" if packed else "data_batch_3.bin")
    (folder / "data_batch_3.bin").unlink()
    path.write_bytes(delta(wrong) if packed else wrong.tobytes())
    assert fault_of(folder) == f"{path} holds {records * 3073} bytes where 7 records of 3073 bytes are expected"


@pytest.mark.parametrize("packed", [False, True])
def test_a_label_above_9(folder, small, packed):
    small["test_batch.bin"][4, 0] = 200
    suffix, pack = (".delta.xz", delta) if packed else ("", np.ndarray.tobytes)
    for name, part in small.items():
        (folder / (name + suffix)).write_bytes(pack(part))
    assert fault_of(folder) == f"{folder / 'test_batch.bin'}{suffix} holds the label 200, above 9"


@pytest.mark.parametrize("keep", [0, 100, -20])
def test_a_packed_file_cut_short(folder, small, keep):
    for name, part in small.items():
        (folder / f"{name}.delta.xz").write_bytes(delta(part))
    path = folder / "data_batch_1.bin.delta.xz"
    path.write_bytes(path.read_bytes()[:keep])
    assert fault_of(folder) == f"{path} is not a complete .xz file"


def test_an_archive_of_something_else(folder, small):
    path = folder / "cifar-10-binary.tar.gz"
    path.write_bytes(archive(small)[:-50])
    assert fault_of(folder) == f"{path} is not a complete .gz file"
    path.write_bytes(gzip.compress(b"no archive" * 100))
    assert fault_of(folder) == f"{path} is not a complete tar archive"
    path.write_bytes(gzip.compress(gzip.decompress(archive(small))[:30000]))
    assert fault_of(folder) == f"{path} is not a complete tar archive"
    del small["data_batch_2.bin"]
    path.write_bytes(archive(small))
    assert fault_of(folder) == f"{path} lacks data_batch_2.bin"


def peak_of(folder, message):
    """The memory that is taken until a fault is said."""
    tracemalloc.start()
    try:
        assert fault_of(folder) == message
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["", ".delta.xz"])
def test_a_file_without_end_takes_no_memory_and_is_named(suffix, folder, small):
    for name, part in small.items():
        (folder / name).write_bytes(part.tobytes())
    path = folder / f"data_batch_4.bin{suffix}"
    (folder / "data_batch_4.bin").unlink()
    if suffix:
        path.write_bytes(lzma.compress(bytes(10**7)) * 50)
    else:
        with path.open("wb") as file:
            file.truncate(2**38)
    assert peak_of(folder, f"{path} holds more than 43,022 bytes, which no such file does") < 20e6


def test_an_archive_without_end_takes_no_memory_and_is_named(folder, small, monkeypatch):
    path = folder / "cifar-10-binary.tar.gz"
    monkeypatch.setattr(cifar10, "ARCHIVE", 10**6)
    path.write_bytes(archive(small) + gzip.compress(bytes(10**7)) * 50)
    assert peak_of(folder, f"{path} holds more than 1,000,000 bytes, which no such file does") < 5e6


def test_a_hole_in_an_archive_takes_no_memory_and_is_named(folder, small):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("data_batch_1.bin")
        member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40), "GNU.sparse.numblocks": "1"}
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    path = folder / "cifar-10-binary.tar.gz"
    path.write_bytes(buffer.getvalue())
    assert peak_of(folder, f"{path} holds 43022 bytes where 7 records of 3073 bytes are expected") < 5e6


def pickled(records: np.ndarray, protocol: int) -> bytes:
    """A batch as torchvision leaves it."""
    content = {"labels": records[:, 0].tolist(), "data": records[:, 1:].copy(), "batch_label": "training batch"}
    return pickle.dumps(content, protocol)


def by_python_2(records: np.ndarray) -> bytes:
    """A batch in the words of Python 2, with which the published ones were written."""
    pixels, labels = records[:, 1:].tobytes(), records[:, 0].tobytes()
    whole = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(" + whole + b"eU\x04dataq\x04T" + struct.pack("<i", len(pixels)) + (
        pixels + b"q\x05u."
    )  # fmt: skip


@pytest.mark.parametrize("write", [by_python_2, *(partial(pickled, protocol=protocol) for protocol in (2, 4, 5))])
@pytest.mark.parametrize("place", ["cifar-10-batches-py", "cifar10/cifar-10-batches-py"])
def test_batches_are_found_where_torchvision_left_them(tmp_path, small, write, place):
    (tmp_path / place).mkdir(parents=True)
    for name, records in small.items():
        (tmp_path / place / name.removesuffix(".bin")).write_bytes(write(records))
    check(load("cifar10", tmp_path), small)


@pytest.mark.parametrize("place", ["cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_the_unpacked_archive_is_found(tmp_path, small, place):
    (tmp_path / place).mkdir(parents=True)
    for name, records in small.items():
        (tmp_path / place / name).write_bytes(records.tobytes())
    check(load("cifar10", tmp_path), small)


class Hostile:
    def __reduce__(self):
        return open, ("victim", "w")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (lambda records: by_python_2(records)[:-9], "is not a complete pickle"),
        (lambda records: b"<html>", "is not a complete pickle"),
        (lambda records: b"", "is not a complete pickle"),
        (lambda records: by_python_2(records[:3]), "holds no 21,504 pixels in one piece"),
        (lambda records: pickled(records[:, :2], 2), "holds no 21,504 pixels in one piece"),
        (lambda records: pickle.dumps(Hostile(), 2), "holds no 21,504 pixels in one piece"),
        (lambda records: pickle.dumps([bytes(21504)], 4), "holds other labels than 7 numbers from 0 to 9"),
        (lambda records: pickle.dumps([bytes(21504), b"labels", *[300] * 7], 4), "holds other labels than 7 numbers"),
        (lambda records: pickle.dumps([bytes(21504), b"labels", *[17] * 7], 4), "holds the label 17, above 9"),
    ],
)
def test_no_pickle_is_run_and_odd_ones_are_named(tmp_path, small, content, fault, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, records in small.items():
        (folder / name.removesuffix(".bin")).write_bytes(by_python_2(records))
    (folder / "data_batch_3").write_bytes(content(small["data_batch_3.bin"]))
    assert fault_of(tmp_path / "cifar10").startswith(f"{folder / 'data_batch_3'} {fault}")
    assert not (tmp_path / "victim").exists()


@pytest.mark.slow
def test_the_real_files(real_data):
    data = load("cifar10", real_data)
    assert data.train_labels.bincount().tolist() == [5000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10
    # Facts that do not depend on the order of the images.
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel, (mean, std) in enumerate(zip(data.mean, (0.2470, 0.2435, 0.2616))):
        share = data.train_images[:, channel].flatten().bincount(minlength=256) / (50_000 * 1024)
        centre = (share * values).sum()
        assert centre.item() == pytest.approx(mean, abs=6e-5)
        assert (share * (values - centre) ** 2).sum().sqrt().item() == pytest.approx(std, abs=6e-5)
    within = torch.cat([part.float().flatten(2).std(2) for part in data.train_images.split(5000)]).mean(0) / 255
    assert within.tolist() == pytest.approx(data.std, abs=1e-4)

    if (real_data / "cifar10" / "test_batch.bin.delta.xz").exists():
        records = torch.cat([data.test_labels[:, None].to(torch.uint8), data.test_images.flatten(1)], 1)
        sha = "1bc491430da5dd94e2034967e2cf61e2a5d9bcb0c2ce71755e0cd49492b7b980"
        assert hashlib.sha256(records.numpy().tobytes()).hexdigest() == sha
