"""Whole numbers as bits: Golomb's code for those that fall off geometrically, binary for those that are equally likely.

Of many numbers, first the fixed bits of all are written, then the unary parts of all, then the last bit of each that
has one bit more. So NumPy reads all numbers at once.

Source of the choice of `m`: Gallager and van Voorhis, "Optimal source codes for geometrically distributed integer
alphabets", IEEE Transactions on Information Theory 21, 1975.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "Bits", "Ints", "Reader", "binary", "code", "parameter"]

Ints = NDArray[np.int64]
Bits = NDArray[np.uint8]  # one per byte while they are put together, eight per byte in a file

LARGEST = 1 << 53  # integers below it are exact as floats
ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)  # bits that are 1
CHUNK = 1 << 16  # numbers that are read together, so that steps in between take little memory


def parameter(numbers: Ints) -> int:
    """Return the `m` that suits numbers which fall off geometrically, with the mean of these."""
    ratio = float(numbers.mean() / (1 + numbers.mean()))
    return math.ceil(math.log1p(ratio) / -math.log(ratio)) if ratio else 1


def code(numbers: Ints, m: int) -> Bits:
    """Return the bits of numbers of at least 0: of `q, r = divmod(number, m)`, `q` in unary and `r` in binary."""
    quotients, remainders = np.divmod(numbers, m)
    unary = np.zeros(int(quotients.sum()) + len(numbers), np.uint8)
    unary[np.cumsum(quotients + 1) - 1] = 1
    fixed, last = binary(remainders, np.full(len(numbers), m))
    return np.concatenate([fixed, unary, last])


def binary(numbers: Ints, limits: Ints) -> tuple[Bits, Bits]:
    """Return the bits of numbers that are equally likely from 0 to below their limits: the fixed and the last ones.

    A number below `limit` takes `w` or `w + 1` bits, where 2ʷ is the largest power of two up to `limit`.
    """
    widths, short = _widths(limits)
    long = numbers >= short
    shifted = numbers + short * long
    return _bits(shifted >> long, widths), (shifted[long] & 1).astype(np.uint8)


def _widths(limits: Ints) -> tuple[Ints, Ints]:
    """Return the number of fixed bits, and below which number they are all."""
    widths = np.frexp(limits)[1].astype(np.int64) - 1
    return widths, (2 << widths) - limits


def _bits(numbers: Ints, widths: Ints) -> Bits:
    """Return so many bits of each number, the highest first."""
    ends = np.cumsum(widths)
    bits = np.zeros(int(widths.sum()), np.uint8)
    for place in range(int(widths.max(initial=0))):
        chosen = widths > place
        bits[ends[chosen] - 1 - place] = numbers[chosen] >> place & 1
    return bits


class Reader:
    """Reads a code from its first bit on; raises `EOFError` where it ends too early or can be no code."""

    def __init__(self, code: Bits) -> None:
        self.code = np.concatenate([code, np.zeros(8, np.uint8)])  # a window on eight bytes may reach beyond the end
        self.length = 8 * len(code)
        self.at = 0

    def golomb(self, count: int, m: int, most: int) -> Ints:
        """Read `count` numbers in the code of `m`, which is from 1 to `most`."""
        if not 1 <= m <= most or count > self.length:  # each takes at least one bit
            raise EOFError
        limits = np.broadcast_to(m, count)
        numbers = self._fixed(limits)
        quotients = self._unary(count)
        if int(quotients.sum()) * m > LARGEST:
            raise EOFError
        self._last(numbers, limits)
        quotients *= m
        numbers += quotients
        return numbers

    def binary(self, limits: Ints) -> Ints:
        """Read one number below each limit."""
        numbers = self._fixed(limits)
        self._last(numbers, limits)
        return numbers

    def _fixed(self, limits: Ints) -> Ints:
        numbers = np.empty(len(limits), np.int64)
        for first in range(0, len(limits), CHUNK):
            widths, _ = _widths(limits[first : first + CHUNK])
            ends = self.at + np.cumsum(widths)
            if ends[-1] > self.length:
                raise EOFError
            starts, self.at = ends - widths, int(ends[-1])
            windows = np.lib.stride_tricks.sliding_window_view(self.code, 8)[starts >> 3].view(">u8")[:, 0]
            windows = windows << (starts & 7).astype(np.uint64) >> np.uint64(1)
            # The rest of the way in a second shift, as no number can be shifted by all its 64 bits at once.
            numbers[first : first + CHUNK] = windows.astype(np.int64) >> (63 - widths)
        return numbers

    def _unary(self, count: int) -> Ints:
        first, skipped = divmod(self.at, 8)
        code = self.code[first:-8].copy()
        code[:1] &= 0xFF >> skipped
        # How far to unpack is counted first: bits take eight times as much memory as bytes, their places 64 times.
        ones = np.cumsum(ONES[code], dtype=np.int64)
        if not len(ones) or ones[-1] < count:
            raise EOFError
        stop = int(np.searchsorted(ones, count)) + 1
        ends = np.flatnonzero(np.unpackbits(code[:stop]))[:count]
        self.at = 8 * first + int(ends[-1]) + 1
        numbers: Ints = np.diff(ends, prepend=skipped - 1)
        numbers -= 1
        return numbers

    def _last(self, numbers: Ints, limits: Ints) -> None:
        """Add the last bits to numbers of which only the fixed ones are read."""
        for first in range(0, len(limits), CHUNK):
            _, short = _widths(limits[first : first + CHUNK])
            fixed = numbers[first : first + CHUNK]
            long = fixed >= short
            start, self.at = self.at, self.at + int(long.sum())
            if self.at > self.length:
                raise EOFError
            bits = np.unpackbits(self.code[start >> 3 : (self.at >> 3) + 1])[start & 7 :]
            fixed[long] += fixed[long] + bits[: self.at - start] - short[long]
