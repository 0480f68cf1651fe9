"""MNIST: 70,000 handwritten digits, 28×28 grey pixels.

They are found as they were published, packed or not, and where torchvision leaves them: in `MNIST/raw`. Some copies
write a dot before `idx`.

An IDX file is two zero bytes, the type (8: uint8), the number of dimensions, each dimension as a big-endian
uint32, and the values. Files found are judged by this structure, not by a checksum: packing anew changes a
gzip file's.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synaprune.data import files
from synaprune.data.dataset import Dataset

__all__ = ["load"]

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MD5 = {  # of the .gz files there
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
MOST = 1_000_000  # images in a file; there are 402,953 in the largest of its kin, QMNIST
BEYOND = 65_536  # bytes up to which it is counted how many there are too many


def load(data_dir: str | Path | None = None, mirror: str = MIRROR) -> Dataset:
    """Return MNIST from the folders that `synaprune.data` names; download what is missing into the first of them.

    Raises:
        UsageError: a file is truncated or foreign.
        MachineError: a file is missing and cannot be downloaded, or cannot be read.

    """
    folder = files.folder_of("mnist", data_dir)
    places = [folder, *_of_torchvision(folder)]
    paths = [
        files.locate(places, _spellings(name)) or files.download(f"{mirror}{name}.gz", md5, folder)
        for name, md5 in MD5.items()
    ]
    return Dataset("mnist", *_pair(*paths[:2]), *_pair(*paths[2:]), classes=10, mean=(0.1307,), std=(0.3081,))


def _of_torchvision(folder: Path) -> list[Path]:
    """Return where torchvision may have left the files: in the folder above, or somewhere in the path to that."""
    root = folder.parent.absolute()
    roots = [root, folder, *(root.parents[index] for index, name in enumerate(root.parts[:-3:-1]) if name == "MNIST")]
    return [*(place / "MNIST" / "raw" for place in roots), folder / "raw"]


def _spellings(name: str) -> list[str]:
    """Return the names that a file may have."""
    dotted = name.replace("-idx", ".idx")
    return [f"{name}.gz", name, f"{dotted}.gz", dotted]


def _pair(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    """Return images [N, 1, 28, 28] and labels [N] that belong together."""
    images, labels = _idx(images_path, (28, 28)), _idx(labels_path)
    if not len(images):
        raise files.broken(images_path, "holds no images")
    if len(labels) != len(images):
        raise files.broken(
            labels_path, f"holds {len(labels)} labels for the {len(images)} images of {images_path.name}"
        )
    if labels.max(initial=0) > 9:
        raise files.broken(labels_path, f"holds the label {labels.max()}, above 9")
    return torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64))


def _idx(path: Path, size: tuple[int, ...] = ()) -> np.ndarray:
    """Return the uint8 array [N, *size] of an IDX file, of which no more is read than its header announces."""
    with files.opened(path) as file:
        start = file.read(8 + 4 * len(size))
        if len(start) < 8 + 4 * len(size) or start[:4] != bytes((0, 0, 8, 1 + len(size))):
            raise files.broken(path, f"is not an IDX file of bytes in {1 + len(size)}-D")
        count, *found = np.frombuffer(start[4:], ">u4").tolist()
        if tuple(found) != size:
            raise files.broken(path, f"holds images of {found[0]}×{found[1]}, not 28×28")
        if count > MOST:
            raise files.broken(path, f"claims {count:,} images, more than {MOST:,}")
        values = count * math.prod(size)
        content = bytearray(files.take(file, values + BEYOND))  # a bytearray, so that torch may own it
    if len(content) != values:
        held = len(content) if len(content) < values + BEYOND else f"more than {values}"
        raise files.broken(path, f"holds {held} values where its header says {'×'.join(map(str, (count, *size)))}")
    return np.frombuffer(content, np.uint8).reshape(count, *size)
