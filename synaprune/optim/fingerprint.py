"""Has a weight been written since? Version counters do not see what goes through `.data`, so values are compared.

A large tensor is not kept for that: its memory is read as a table of words, one row after the other, and the sums of
the columns tell it apart. A change of any one value changes its column. The number of columns is a prime, so that
neurons that change places do not lie in the same columns as before; what leaves all sums as they are would have to be
made for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

__all__ = ["Written", "fingerprint", "is_dense", "is_small", "same"]

COLUMNS = 4093
ROWS = 4  # fewer than these, and the tensor is rather kept than summed
SMALL = 4096
WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the size of an element


class Written:
    """The values of weights as an optimizer knows them.

    Those of small tensors lie side by side, so that one look tells whether any of them has been written.
    """

    def __init__(self) -> None:
        self._known: dict[Tensor, Tensor] = {}  # fingerprints
        self._small: list[Tensor] = []
        self._block: Tensor | None = None  # the values of these

    def remember(self, weights: list[Tensor]) -> None:
        """Know these weights as they are now."""
        small = [weight for weight in weights if is_small(weight)]
        if _members(small) != _members(self._small):
            self._break_up()
            self._small = small if len({(w.dtype, w.device) for w in small}) == 1 and len(small) > 1 else []
        if self._small:
            self._block = side_by_side(self._small)
        if len(self._small) < len(weights):
            block = {id(weight) for weight in self._small}
            self._known.update((w, fingerprint(w)) for w in weights if id(w) not in block)

    def changed(self, weights: list[Tensor]) -> list[Tensor]:
        """Return those of these weights that are not as they were known."""
        small = [weight for weight in weights if is_small(weight)]
        if small and self._small:
            if _members(small) == _members(self._small) and _equal(self._block, side_by_side(small)):
                weights = [weight for weight in weights if not is_small(weight)]
            else:
                self._break_up()
        return [weight for weight in weights if not same(self._known.get(weight), fingerprint(weight))]

    def clear(self) -> None:
        """Know nothing any more."""
        self._known.clear()
        self._small, self._block = [], None

    def _break_up(self) -> None:
        """Know each small tensor on its own."""
        if self._block is not None:
            for weight, values in zip(self._small, self._block.split([w.numel() for w in self._small])):
                like = torch.empty_like(weight.detach(), memory_format=torch.preserve_format)
                self._known[weight] = fingerprint(like.copy_(values.view(weight.shape)))
        self._small, self._block = [], None


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


def is_small(values: Tensor) -> bool:
    """Tell whether a tensor is so small that a call costs more than the work on it."""
    return values.numel() < SMALL


def side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """Return the values of several tensors as one vector."""
    with torch.no_grad():
        vector: Tensor = _flatten_dense_tensors(tensors)
    return vector


def _members(tensors: list[Tensor]) -> list[int]:
    return list(map(id, tensors))


def _equal(one: Tensor | None, other: Tensor) -> bool:
    """Compare bits: NaN is equal to itself."""
    whole = WHOLE[other.element_size()]
    return one is not None and torch.equal(one.view(whole), other.view(whole))
