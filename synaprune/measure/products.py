"""How often a non-zero input meets a non-zero weight: the arithmetic of synaptic operations.

The weights that share one input form a column: of a fully connected layer those that leave one neuron, of a
convolution those of one input channel (within its group) and one tap of the kernel. Let met[c] say how many
non-zero inputs came to column c, over all samples, time steps and positions of one call. Then

    effective     Σ_c met[c] alive[c]    alive[c] non-zero weights in the column
    weight-blind  Σ_c met[c] fan         fan weights in the column, zero or not
    dense         the same, had no input been zero

so that nothing is multiplied or convolved a second time: inputs are counted once, and summed once per tap.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Product", "Tally", "count_nonzero", "countable", "multiplies", "products_of", "tally"]

# Functions that multiply what they are given, and that `products_of` does not know.
UNCOUNTED = re.compile(
    r"(add|badd)?bmm|(add|s|sparse_|hsp|sspadd)?mm|(add)?mv|addr|r?matmul|matrix_power|chain_matmul|multi_dot"
    r"|v?dot|vecdot|tensordot|inner|outer|ger|kron|einsum|bilinear|conv_tbc|convolution|lstm|gru|rnn_(relu|tanh)"
    r"|scaled_dot_product_attention|(native_)?multi_head_attention(_forward)?|transformer_encoder_layer_fwd"
)

LINEAR = ("input", "weight")
CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
CELLS = ("gru_cell", "lstm_cell", "rnn_relu_cell", "rnn_tanh_cell")
ROWS = 255  # as many ones as a byte can count
PIECE = 2**20  # values that stay in a processor's cache while they are looked at several times


class Taps(NamedTuple):
    """How a kernel joins a grid of positions to an image, one number per dimension.

    Tap t joins grid position j to image position j · stride - padding + t · dilation. A convolution reads the
    image and writes the grid, a transposed convolution reads the grid and writes the image.
    """

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    grid: Sequence[int]
    image: Sequence[int]
    groups: int
    transposed: bool


class Product(NamedTuple):
    """An input and the weight that it meets, in a convolution or, without `taps`, in a fully connected layer."""

    input: Tensor
    weight: Tensor
    taps: Taps | None = None


class Tally(NamedTuple):
    """What one product cost. The tensors are left on their device, so that nothing waits for a GPU.

    `counts` are effective operations, weight-blind operations, non-zero inputs, and three flags: an input is
    none of -1, 0 and 1; an input is not finite; a weight is not finite.
    """

    counts: Tensor  # int64 [6]
    alive: Tensor  # int64 [], the non-zero weights
    dense: int
    inputs: int


def products_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> list[Product]:
    """Return the products inside one call of the torch function `name`, as far as they are known."""
    if name == "linear":
        given = dict(zip(LINEAR, args)) | dict(kwargs)
        return [Product(given["input"], given["weight"])]
    if name in ("conv1d", "conv2d", "conv3d"):
        return [_convolution(dict(zip(CONVOLUTION, args)) | dict(kwargs), output, transposed=False)]
    if name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        return [_convolution(dict(zip(TRANSPOSED, args)) | dict(kwargs), output, transposed=True)]
    if name in CELLS:
        x, state, input_weight, state_weight = args[:4]
        return [Product(x, input_weight), Product(state[0] if name == "lstm_cell" else state, state_weight)]
    return []


def multiplies(name: str) -> bool:
    """Return whether the torch function `name` multiplies matrices in a way that `products_of` cannot count."""
    return bool(UNCOUNTED.fullmatch(name.strip("_").removeprefix("linalg_")))


def count_nonzero(x: Tensor) -> Tensor:
    """Return the number of non-zero values over the first dimension, as `torch.count_nonzero(x, 0)`.

    It takes a twentieth of the time: conversion to bool is vectorised, comparison is not, and bytes are summed.
    """
    return _sum_bits(x.bool().view(torch.uint8))


def countable(given: Product) -> bool:
    """Return whether both tensors are plain ones of real numbers."""
    return all(t.layout == torch.strided and not (t.is_complex() or t.is_quantized or t.is_nested) for t in given[:2])


@torch.no_grad()
def tally(given: Product) -> Tally:
    """Count the operations of one product, in whole numbers."""
    x, weight, taps = given
    if not x.numel() or not weight.numel():
        return Tally(x.new_zeros(6, dtype=torch.int64), (weight != 0).sum(), 0, x.numel())
    if taps is None:
        columns = weight.reshape(1, -1, weight.shape[-1])
        met, *flags = _scan(x.reshape(-1, x.shape[-1]))
        nonzero, pairs = met.sum(), x.numel()
    else:
        x = x if x.ndim == weight.ndim else x[None]
        columns = weight.flatten(2) if taps.transposed else weight.unflatten(0, (taps.groups, -1)).flatten(2)
        inputs, *flags = _scan(x)
        reached = _reached(taps)
        windows = itertools.product(*([slice(r.start, r.stop, r.step) for r in dim] for dim in reached))
        met = torch.stack([inputs[:, *window].flatten(1).sum(1) for window in windows], 1)
        nonzero, pairs = inputs.sum(), len(x) * x.shape[1] * prod(sum(map(len, dim)) for dim in reached)
    fan = columns.shape[1]
    alive = count_nonzero(columns.transpose(0, 1))
    sane = weight.amin().isfinite() & weight.amax().isfinite()
    counts = ((met.flatten() * alive.flatten()).sum(), met.sum() * fan, nonzero, *flags, ~sane)
    return Tally(torch.stack([count.long() for count in counts]), alive.sum(), pairs * fan, x.numel())


def _scan(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count the non-zero values over the first dimension; flag values that are no spikes, and that are not finite."""
    rows = max(1, PIECE * len(x) // x.numel()) if x.device.type == "cpu" else len(x)
    parts = []
    for piece in x.split(rows):
        counts = count_nonzero(piece)
        low, high = piece.amin(), piece.amax()
        # Within [-1, 1] the whole numbers are -1, 0 and 1, and the conversion makes a fraction 0.
        whole = _sum_bits(piece.to(torch.int8).view(torch.uint8).bitwise_and_(1)).sum()
        analog = (low < -1) | (high > 1) | (whole != counts.sum())
        parts.append((counts, analog, ~(low.isfinite() & high.isfinite())))
    counts, analog, wild = (torch.stack(part) for part in zip(*parts))
    return counts.sum(0), analog.any(), wild.any()


def _convolution(given: Mapping[str, Any], output: Tensor, transposed: bool) -> Product:
    """Read the arguments of a convolution; padding that is asked for by name is resolved as torch does."""
    x, weight = given["input"], given["weight"]
    kernel = weight.shape[2:]
    stride, dilation = (_each(given.get(name, 1), kernel) for name in ("stride", "dilation"))
    padding = given.get("padding", 0)
    if padding == "same":
        padding = [d * (k - 1) // 2 for d, k in zip(dilation, kernel)]
    padding = _each(0 if padding == "valid" else padding, kernel)
    inside, outside = (tensor.shape[-len(kernel) :] for tensor in (x, output))
    grid, image = (inside, outside) if transposed else (outside, inside)
    return Product(x, weight, Taps(kernel, stride, padding, dilation, grid, image, given.get("groups", 1), transposed))


def _each(value: Any, kernel: Sequence[int]) -> Sequence[int]:
    """Return one number per dimension; torch takes a single one for all of them."""
    values = [value] if isinstance(value, int) else list(value)
    return values * len(kernel) if len(values) == 1 else values


def _reached(taps: Taps) -> list[list[range]]:
    """Return for each dimension and each tap the input positions that it reaches; padding is none of them."""
    dims: list[list[range]] = []
    for kernel, stride, padding, dilation, grid, image in zip(*taps[:6]):
        dims.append([])
        for offset in range(-padding, kernel * dilation - padding, dilation):
            first, last = max(0, -(offset // stride)), min(grid - 1, (image - 1 - offset) // stride)
            if first > last:
                dims[-1].append(range(0))
            elif taps.transposed:
                dims[-1].append(range(first, last + 1))
            else:
                dims[-1].append(range(first * stride + offset, last * stride + offset + 1, stride))
    return dims


def _sum_bits(bits: Tensor) -> Tensor:
    """Sum bytes that are 0 or 1 over the first dimension, as many rows as it can within a byte."""
    blocks = len(bits) // ROWS
    inside = bits[: blocks * ROWS].unflatten(0, (blocks, ROWS)).sum(1, dtype=torch.uint8)
    return inside.sum(0, dtype=torch.int64) + bits[blocks * ROWS :].sum(0, dtype=torch.uint8)
