"""CIFAR-10: 60,000 colour photographs of ten kinds of things, 32×32 pixels.

Its binary version is six files of 10,000 records: one label byte, then the red, green and blue plane, row by
row. They are taken as they are (`data_batch_1.bin`), from the published `cifar-10-binary.tar.gz`, or packed
as `data_batch_1.bin.delta.xz`: all labels first, then all pixels, green and blue stored as difference to red,
and each value as difference to its left neighbour, modulo 256, under LZMA. That is 115 MB in place of 184 and
is unpacked in memory, 2 s per file and core.

torchvision leaves the Python version in `cifar-10-batches-py`: pickles, which `synaprune.data.pickled` reads and nobody
runs.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import io
import math
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synaprune.data import files
from synaprune.data.dataset import Dataset
from synaprune.data.pickled import pixels_and_labels
from synaprune.errors import UsageError
from synaprune.files import replacing

__all__ = ["load", "unpack"]

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
NAMES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
FOLDERS = ("bin", "py")  # as the archives call them
RECORDS = 10_000  # in each file
SHAPE = (3, 32, 32)
SIZE = 1 + math.prod(SHAPE)  # bytes of a record
ARCHIVE = 2**28  # bytes that an archive may hold: the six files are 184 million


def load(data_dir: str | Path | None = None, url: str = URL) -> Dataset:
    """Return CIFAR-10 from the folders that `synaprune.data` names, else download its archive.

    Raises:
        UsageError: a file is truncated or foreign.
        MachineError: files are missing and cannot be downloaded, or cannot be read.

    """
    folder = files.folder_of("cifar10", data_dir)
    paths = {name: _locate(folder, name) for name in NAMES}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        archive = files.locate([folder, folder.parent], [url.rsplit("/", 1)[-1]])
        parts = _read_archive(archive or files.download(url, MD5, folder, ", ".join(missing)))
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # LZMA lets go of the interpreter lock
            parts = list(pool.map(_read, paths.values()))
    images, labels = zip(*parts)
    return Dataset(
        "cifar10",
        torch.cat(images[:-1]),
        torch.cat(labels[:-1]),
        images[-1],
        labels[-1],
        classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        # As everybody uses them: the mean deviation within an image. Over all pixels it is .2470 .2435 .2616.
        std=(0.2023, 0.1994, 0.2010),
    )


def unpack(folder: str | Path) -> None:
    """Replace the packed files in a folder by plain ones, which are read at once.

    Raises:
        UsageError: a file is truncated or foreign.

    """
    for name in NAMES:
        packed, plain = Path(folder, f"{name}.delta.xz"), Path(folder, name)
        if packed.exists():
            images, labels = _read(packed)
            records = torch.cat([labels.to(torch.uint8)[:, None], images.flatten(1)], 1)
            with replacing(plain) as file:
                file.write(records.numpy().tobytes())
            packed.unlink()


def _locate(folder: Path, name: str) -> Path | None:
    """Return where one of the six files is, in whatever form."""
    binary, python = ([place / f"cifar-10-batches-{kind}" for place in (folder, folder.parent)] for kind in FOLDERS)
    found = files.locate([folder], [name, f"{name}.delta.xz"])
    return found or files.locate(binary, [name]) or files.locate(python, [name.removesuffix(".bin")])


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Return the images and labels of one file: plain, packed or pickled."""
    content = files.read(path, 2 * RECORDS * SIZE)
    if not path.suffix:
        try:
            pixels, labels = pixels_and_labels(content, RECORDS * (SIZE - 1))
        except UsageError as error:
            raise files.broken(path, str(error)) from error
        if len(labels) != RECORDS or not all(0 <= label < 256 for label in labels):
            raise files.broken(path, f"holds other labels than {RECORDS} numbers from 0 to 9")
        flat = np.frombuffer(pixels, np.uint8).reshape(RECORDS, -1)
        content = np.column_stack([np.array(labels, np.uint8), flat]).tobytes()
    return _parse(content, path, packed=path.suffix == ".xz")


def _read_archive(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Return the images and labels of the six files in the published archive; nothing is written."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(files.read(path, ARCHIVE)), mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member)  # None for what is no file
                if content and (name := member.name.rsplit("/", 1)[-1]) in NAMES:
                    found[name] = _parse(content.read(2 * RECORDS * SIZE), path, packed=False)
    except tarfile.TarError as error:
        raise files.broken(path, "is not a complete tar archive") from error
    if lacking := [name for name in NAMES if name not in found]:
        raise files.broken(path, f"lacks {', '.join(lacking)}")
    return [found[name] for name in NAMES]


def _parse(content: bytes, path: Path, packed: bool) -> tuple[Tensor, Tensor]:
    """Return images uint8 [RECORDS, 3, 32, 32] and labels int64 [RECORDS]; `path` is named in errors."""
    if len(content) != RECORDS * SIZE:
        raise files.broken(path, f"holds {len(content)} bytes where {RECORDS} records of {SIZE} bytes are expected")
    flat = np.frombuffer(content, np.uint8)
    if packed:
        labels, pixels = flat[:RECORDS], flat[RECORDS:].reshape(-1, *SHAPE)
        # Both differences are linear, so either may be undone first; uint8 sums are modulo 256 anyway.
        pixels = np.cumsum(pixels, axis=-1, dtype=np.uint8)
        pixels[:, 1:] += pixels[:, :1]
    else:
        records = flat.reshape(RECORDS, -1)
        labels, pixels = records[:, 0], records[:, 1:].copy().reshape(-1, *SHAPE)
    if labels.max() > 9:
        raise files.broken(path, f"holds the label {labels.max()}, above 9")
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))
