"""Image data sets as uint8 tensors, and augmentation in batches on their device.

| name      | training / test  | image   | where its files are looked for                                     |
| --------- | ---------------- | ------- | ------------------------------------------------------------------ |
| `cifar10` | 50,000 / 10,000  | 3×32×32 | `<dir>/cifar10/`: six `.bin` or `.bin.delta.xz`, or the `.tar.gz`; |
|           |                  |         | `<dir>/cifar-10-batches-bin/`, `<dir>/cifar-10-batches-py/`        |
| `digits`  | 1,437 / 360      | 1×8×8   | inside scikit-learn                                                |
| `mnist`   | 60,000 / 10,000  | 1×28×28 | `<dir>/mnist/`, `<dir>/MNIST/raw/`: four IDX files, `.gz` or not   |

`<dir>` is the argument `data_dir`; without it the environment variable SYNAPRUNE_DATA; without that the
user's cache folder. The first two must exist. What is missing there is downloaded into it. The last folder of
each row is where torchvision has left its files if `<dir>` was its `root`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from synaprune.data import cifar10, digits, mnist
from synaprune.data.augment import CropFlip, RandomAffine
from synaprune.data.dataset import Dataset, batches, normalize
from synaprune.errors import UsageError, nearest, short

__all__ = ["DATASETS", "CropFlip", "Dataset", "RandomAffine", "batches", "load", "normalize"]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10.load,
    "digits": digits.load,
    "mnist": mnist.load,
}


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Return the data set `name`, on the CPU.

    Raises:
        UsageError: the name is unknown, `<dir>` is no folder, or a file found is not what its name says.
        MachineError: files are missing and cannot be downloaded, or cannot be read.

    """
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise UsageError(f"unknown data set {short(name)}; known are {known}{nearest(name, DATASETS)}")
    return DATASETS[name](data_dir)
