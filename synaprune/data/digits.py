"""Digits: 1,797 handwritten digits, 8×8 grey pixels, inside scikit-learn; nothing to download.

Pixels are counts from 0 to 16 in the source and become round(255·v/16). The split is
`train_test_split(…, test_size=360, stratify=labels, random_state=0)`: shuffled, each digit in both parts in
proportion, the same for everyone. One test image is 0.28 points of accuracy.

Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998 (its test part).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from synaprune.data import files
from synaprune.data.dataset import Dataset

__all__ = ["load"]


def load(data_dir: str | Path | None = None) -> Dataset:
    """Return the digits; `data_dir` is not looked at.

    Raises:
        MachineError: scikit-learn is not installed.

    """
    datasets = files.require("sklearn.datasets", "the data set digits")
    selection = files.require("sklearn.model_selection", "the data set digits")
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    parts = selection.train_test_split(images, labels, test_size=360, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, parts)
    return Dataset(
        "digits",
        train_images,
        train_labels.long(),
        test_images,
        test_labels.long(),
        classes=10,
        mean=(0.3054,),
        std=(0.3760,),
    )
