"""The positions of the synapses that are left, in hardly more bits than their entropy.

`count` of `size` positions, left at random, hold `size · h(count / size)` bits, with `h` the entropy of a coin.

- Up to one position in seven, the gaps between them are written in Golomb's code: of `q, r = divmod(gap, m)`, `q` in
  unary and `r` in binary. With Rice's restriction of `m` to powers of two the code would take up to 2 % more than the
  entropy; with any `m` it takes at most 0.8 % more.
- Beyond that, gaps are so short that whole bits become too coarse (4.2 % at a connectivity of 38 %). The positions are
  cut in blocks of 56; of each block the number of its synapses is written in Golomb's code, as distance from the
  mean, and then, in binary, which of the blocks with that number it is. That takes at most 0.6 % more.

How the numbers themselves become bits is in `golomb.py`.

Sources: Golomb, "Run-length encodings", 1966; Cover, "Enumerative source encoding", 1973 (blocks).
"""

from __future__ import annotations

import math

import numpy as np

from synaprune.errors import UsageError
from synaprune.export import golomb
from synaprune.export.golomb import LARGEST, Bits, Ints

__all__ = ["decode", "encode", "entropy"]

SPARSE = 7  # with fewer than one synapse per so many positions, gaps are written; else blocks
BLOCK = 56  # the number of a block, at most C(56, 28) < 2⁵³, lies in eight bytes wherever its first bit is
CHOOSE: Ints = np.array([[math.comb(n, k) for k in range(BLOCK + 1)] for n in range(BLOCK + 1)])


def entropy(count: int, size: int) -> float:
    """Return the bits that `count` of `size` positions hold when all choices are equally likely.

    >>> entropy(5, 10)
    10.0
    """
    if count in (0, size):
        return 0.0
    p = count / size
    return -size * (p * math.log2(p) + (1 - p) * math.log1p(-p) / math.log(2))


def encode(positions: Ints, size: int) -> tuple[int, Bits]:
    """Return the parameter `m` and the code, in bytes, of `positions` that ascend from at least 0 to below `size`.

    >>> m, code = encode(np.array([3, 4, 17]), 30)
    >>> m, code.tobytes().hex()
    (4, 'c310')
    """
    count = len(positions)
    if count in (0, size):
        return 1, np.zeros(0, np.uint8)
    if count * SPARSE <= size:
        gaps: Ints = np.diff(positions, prepend=-1) - 1
        m = golomb.parameter(gaps)
        return m, np.packbits(golomb.code(gaps, m))
    ones, ranks = _blocks(positions, size)
    distances = ones - _mean(count, size)
    folded = np.where(distances > 0, 2 * distances - 1, -2 * distances)
    m = golomb.parameter(folded)
    return m, np.packbits(np.concatenate([golomb.code(folded, m), *golomb.binary(ranks, CHOOSE[BLOCK][ones])]))


def decode(code: Bits, m: int, count: int, size: int) -> Ints:
    """Return the `count` positions below `size` that `encode` has written.

    Whatever the arguments claim, memory is taken in proportion to the length of `code`; to `count` where all `size`
    positions are there, which takes no code.

    Raises:
        UsageError: the code is damaged, or that of other positions.

    """
    damaged = UsageError(f"{len(code)} bytes with parameter {m} are no code of {count} positions below {size}")
    if not 0 <= count <= size < LARGEST:
        raise damaged
    reader = golomb.Reader(code)
    try:
        if count in (0, size):
            positions = np.arange(count)
        elif count * SPARSE <= size:
            positions = np.cumsum(reader.golomb(count, m, size // count) + 1) - 1
        else:
            folded = reader.golomb(-(-size // BLOCK), m, 2 * BLOCK)
            ones = _mean(count, size) + np.where(folded % 2, (folded + 1) // 2, -(folded // 2))
            if ones.min() < 0 or ones.max() > BLOCK or ones.sum() != count:
                raise EOFError
            positions = _positions(ones, reader.binary(CHOOSE[BLOCK][ones]))
    except EOFError:
        raise damaged from None
    if -(-reader.at // 8) != len(code) or (count and positions[-1] >= size):
        raise damaged
    return positions


def _mean(count: int, size: int) -> int:
    """Return the mean number of synapses per block, rounded."""
    return (2 * BLOCK * count + size) // (2 * size)


def _blocks(positions: Ints, size: int) -> tuple[Ints, Ints]:
    """Return of each block how many synapses it has, and its number among the blocks with as many.

    A block with synapses at places a < b < c < … has the number C(a, 1) + C(b, 2) + C(c, 3) + …
    """
    bitmap = np.zeros(-(-size // BLOCK) * BLOCK, np.uint8)
    bitmap[positions] = 1
    ones = np.zeros(len(bitmap) // BLOCK, np.int64)
    ranks = np.zeros_like(ones)
    for place, bits in enumerate(bitmap.reshape(-1, BLOCK).T):
        ones += bits
        ranks += CHOOSE[place][ones] * bits
    return ones, ranks


def _positions(ones: Ints, ranks: Ints) -> Ints:
    """Return the positions of the synapses in blocks by their numbers."""
    bitmap = np.empty((len(ones), BLOCK), np.uint8)
    left, rest = ones.copy(), ranks.copy()
    for place in reversed(range(BLOCK)):
        number = CHOOSE[place][left]
        bitmap[:, place] = found = rest >= number
        rest -= number * found
        left -= found
    return np.flatnonzero(bitmap)
