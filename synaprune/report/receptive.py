"""Which inputs kept their synapses, counted in the first layer of a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["IMAGES", "receptive_map"]

# Channels, rows and columns of the images of each task.
IMAGES = {"cifar10": (3, 32, 32), "digits": (1, 8, 8), "mnist": (1, 28, 28)}


def receptive_map(weight: Tensor, task: str) -> NDArray[np.int64] | None:
    """Return for each input the number of its synapses that exist, None where the inputs make no picture.

    A fully connected layer gives one number per pixel, over all channels; a convolution one per position in the
    kernel, its input channels side by side.
    """
    counts = (weight != 0).sum(0)
    channels, rows, columns = IMAGES[task]
    if counts.ndim == 1 and len(counts) == channels * rows * columns:
        return counts.reshape(channels, rows, columns).sum(0).numpy()
    if counts.ndim == 3:
        return np.concatenate(list(counts.numpy()), axis=1)
    return None
