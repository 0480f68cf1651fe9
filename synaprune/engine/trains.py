"""Where spikes are in working memory, and the arithmetic of rows, pitches and words.

What a spike train looks like in memory is said at the head of engine.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synaprune.engine.layers import Conv, Shape

__all__ = ["LANES", "Train", "as_maps", "grid", "taps", "two", "words_of"]

LANES = 32  # pixels in a word


@dataclass(frozen=True)
class Train:
    """The spikes of a layer: `channels` × `bits` planes of `height` × `width` pixels, at a byte `offset`.

    With more than one bit the planes of a channel are the digits of a number, from 0 to `top`, of which 1 stands for
    `scale`.
    """

    channels: int
    height: int
    width: int
    pitch: int
    lead: int = 0
    stride: int = 0
    bits: int = 1
    top: int = 1
    scale: float = 1.0
    offset: int = 0

    @property
    def words(self) -> int:
        """Words from the first pixel of a plane to the last."""
        return words_of(self.height, self.width, self.pitch)

    @property
    def planes(self) -> int:
        """Planes of all channels."""
        return self.channels * self.bits

    def pixels(self) -> np.ndarray:
        """Return the bit of each pixel in its plane, row by row."""
        return grid(self.height, self.width, self.pitch) + self.lead * LANES

    def all_pixels(self) -> np.ndarray:
        """Return the bit of each pixel of each channel, channels in a row."""
        return (np.arange(self.channels)[:, None] * (self.stride * LANES) + self.pixels()).reshape(-1)

    def valid(self) -> np.ndarray:
        """Return for each word which of its bits are pixels."""
        bit = np.arange(self.words * LANES)
        inside = (bit % self.pitch < self.width) & (bit // self.pitch < self.height)
        return np.packbits(inside.reshape(-1, LANES), axis=1, bitorder="little").view("<u4").reshape(-1)


def words_of(height: int, width: int, pitch: int) -> int:
    """Return how many words hold rows that begin `pitch` bits apart."""
    return -(-((height - 1) * pitch + width) // LANES)


def grid(height: int, width: int, pitch: int) -> np.ndarray:
    """Return the place of each pixel, row by row, where rows begin `pitch` places apart."""
    row, column = np.divmod(np.arange(height * width), width)
    return row * pitch + column


def two(numbers: Sequence[int], first: int) -> np.ndarray:
    """Return numbers for height and width; a signal is an image of height 1, whose number is `first`."""
    return np.array((first, *numbers) if len(numbers) == 1 else numbers)


def as_maps(shape: Shape) -> Shape:
    """Return channels, height and width; a vector is one row, a signal an image of height 1."""
    return (1, 1, *shape) if len(shape) == 1 else (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def taps(layer: Conv) -> np.ndarray:
    """Return row and column that each tap of the kernel reaches, dilation included, `[taps, 2]`."""
    height, width = two(layer.kernel, 1)
    return np.stack(np.divmod(np.arange(height * width), width), 1) * two(layer.dilation, 1)
