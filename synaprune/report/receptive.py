"""Which inputs kept their synapses, counted in the first layer of a run's checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray

__all__ = ["IMAGES", "receptive_map"]

# Channels, rows and columns of the images of each task.
IMAGES = {"cifar10": (3, 32, 32), "digits": (1, 8, 8), "mnist": (1, 28, 28)}


def receptive_map(checkpoint: Path, layer: str, task: str) -> NDArray[np.int64] | None:
    """Return for each input the number of its synapses that exist, None where the inputs make no picture.

    A fully connected layer gives one number per pixel, over all channels; a convolution one per position in the
    kernel, its input channels side by side. Only the one tensor is read: a checkpoint may hold hundreds of megabytes.
    """
    try:
        with safetensors.safe_open(checkpoint, framework="pt") as file:
            weight = file.get_tensor(f"model/{layer}")
    except (OSError, safetensors.SafetensorError):
        return None
    counts = (weight != 0).sum(0)
    channels, rows, columns = IMAGES[task]
    if counts.ndim == 1 and len(counts) == channels * rows * columns:
        return counts.reshape(channels, rows, columns).sum(0).numpy()
    if counts.ndim == 3:
        return np.concatenate(list(counts.numpy()), axis=1)
    return None
