"""Has a weight been written since? Version counters do not see what goes through `.data`, so values are compared.

A large tensor is not kept for that: its memory is read as a table of 64-bit words, whose row and column sums tell
it apart. A change of any one value changes both; what leaves all sums as they are would have to be made for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fingerprint", "is_dense", "same"]

SMALL = 2**13  # values of a tensor that is rather kept than summed
WORDS = 512  # of a row
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(weight: Tensor) -> Tensor:
    """Return what tells the values of a tensor apart from others, at most 2 % of its size if it is large."""
    values = weight.detach()
    if values.numel() < SMALL:
        return values.clone()
    flat = values.as_strided((values.numel(),), (1,)) if is_dense(values) else values.flatten()
    size = flat.element_size()
    per_word = 8 // size
    first = -flat.storage_offset() % per_word  # a view into a shared buffer may begin in the middle of a word
    last = first + (flat.numel() - first) // (per_word * WORDS) * per_word * WORDS
    table = flat[first:last].view(torch.int64).view(-1, WORDS)
    rest = torch.cat([flat[:first], flat[last:]]).view(BITS[size])
    return torch.cat([table.sum(0), table.sum(1), rest.long()])


def same(one: Tensor | None, other: Tensor) -> bool:
    """Tell whether two fingerprints of a tensor are equal; None is that of none."""
    return one is not None and one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def is_dense(t: Tensor) -> bool:
    """Tell whether the elements fill their memory without a gap, in whatever order."""
    return sum((size - 1) * stride for size, stride in zip(t.shape, t.stride())) + 1 == t.numel()
