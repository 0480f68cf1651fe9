"""Has a weight been written since? Version counters do not see what goes through `.data`, so values are compared.

A large tensor is not kept for that: its memory is read as a table of words, one row after the other, and the sums of
the columns tell it apart. A change of any one value changes its column. The number of columns is a prime, so that
neurons that change places do not lie in the same columns as before; what leaves all sums as they are would have to be
made for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fingerprint", "is_dense", "same"]

COLUMNS = 4093
ROWS = 4  # fewer than these, and the tensor is rather kept than summed
WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the size of an element


def fingerprint(weight: Tensor) -> Tensor:
    """Return what tells the values of a tensor apart from others, at most a quarter of its size if it is large."""
    values = weight.detach()
    flat = values.as_strided((values.numel(),), (1,)) if is_dense(values) else values.flatten().contiguous()
    words = flat.view(WHOLE[flat.element_size()])
    per_word = 8 // flat.element_size()
    if words.numel() % per_word == 0 and words.storage_offset() % per_word == 0:
        words = words.view(torch.int64)  # of several values, which are read at once
    rows = words.numel() // COLUMNS
    if rows < ROWS:
        return words.clone()
    whole = rows * COLUMNS
    sums = words[:whole].view(rows, COLUMNS).sum(0, dtype=words.dtype)
    sums[: words.numel() - whole] += words[whole:]
    return sums


def same(one: Tensor | None, other: Tensor) -> bool:
    """Tell whether two fingerprints of a tensor are equal; None is that of none."""
    return one is not None and one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def is_dense(t: Tensor) -> bool:
    """Tell whether the elements fill their memory without a gap, in whatever order."""
    return sum((size - 1) * stride for size, stride in zip(t.shape, t.stride())) + 1 == t.numel()
