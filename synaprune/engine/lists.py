"""Synapses in the orders in which engine.c visits them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from synaprune.engine.layers import Conv, Linear
from synaprune.engine.trains import LANES, Train
from synaprune.errors import UsageError

__all__ = ["Synapses", "by_sender", "int32", "side_by_side", "starts", "synapses_of"]

MAX_ROWS = 2**27  # entries of lists that are padded to the same length, and of their beginnings

Arrays = dict[str, np.ndarray]


class Synapses(NamedTuple):
    """One entry for each synapse: output channel, input channel, tap of the kernel, digit of a count, weight."""

    receiver: np.ndarray
    sender: np.ndarray
    tap: np.ndarray
    digit: np.ndarray
    value: np.ndarray


def synapses_of(layer: Linear | Conv, train: Train | None) -> Synapses:
    """List the synapses of a layer by output, input channel, digit and tap.

    A synapse onto a count becomes one for each of its binary digits, 2ᵈ × `scale` times as strong.
    """
    out, inputs, *kernel = layer.weight.shape
    rest, tap = np.divmod(layer.weight.positions, int(np.prod(kernel)) if kernel else 1)
    receiver, sender = np.divmod(rest, inputs)
    if isinstance(layer, Conv):
        sender = sender + receiver // (out // layer.groups) * inputs
    value, digits = layer.weight.values, 1 if train is None else train.bits
    if train is None or train.top == 1:
        return Synapses(receiver, sender, tap, np.zeros_like(tap), value)
    receiver, sender, tap, value = (np.repeat(x, digits) for x in (receiver, sender, tap, value))
    digit = np.tile(np.arange(digits), len(layer.weight))
    value = value * (2.0**digit * train.scale).astype(np.float32)
    order = np.lexsort((tap, digit, sender, receiver))
    return Synapses(*(x[order] for x in (receiver, sender, tap, digit, value)))


def starts(receiver: np.ndarray, out: int) -> np.ndarray:
    """Return where the list of each receiver begins, and the end of the last."""
    return int32(np.searchsorted(receiver, np.arange(out + 1)))


def by_sender(synapses: Synapses, row: np.ndarray, rows: int, words: int, slices: int) -> Arrays:
    """List the synapses by sender, `row` of `rows`, once for each slice of the `words` of outputs."""
    if slices * (rows + 1) > MAX_ROWS:
        raise UsageError("the network is too large for the engine: a fully connected layer has too many inputs")
    key = (np.searchsorted(_bounds(words, slices), synapses.receiver, "right") - 1) * rows + row
    order = np.argsort(key, kind="stable")  # by receiver they are in order already
    begin = np.searchsorted(key[order], np.arange(slices)[:, None] * rows + np.arange(rows + 1))
    return {
        "start": int32(begin.reshape(-1)),
        "where": int32(synapses.receiver[order]),
        "value": synapses.value[order],
    }


def side_by_side(synapses: Synapses, bias: np.ndarray | None, words: int, slices: int) -> Arrays:
    """Lay the lists of 32 outputs side by side, outputs sorted by the length of their lists within each slice."""
    length = np.bincount(synapses.receiver, minlength=words * LANES)
    part = np.searchsorted(_bounds(words, slices), np.arange(len(length)), "right")
    order = np.lexsort((-length, part))
    place = np.argsort(order)
    depth = length[order].reshape(words, LANES).max(1)
    start = np.concatenate(([0], np.cumsum(depth)))
    if start[-1] * LANES > MAX_ROWS:
        raise UsageError("the lists of synapses of the first layer are too long to be laid side by side")
    rank = np.arange(len(synapses.receiver)) - (np.cumsum(length) - length)[synapses.receiver]
    lane = place[synapses.receiver]
    entry = (start[lane // LANES] + rank) * LANES + lane % LANES
    where, value = np.zeros(start[-1] * LANES, np.int32), np.zeros(start[-1] * LANES, np.float32)
    where[entry], value[entry] = synapses.sender, synapses.value
    arrays = {"start": int32(start), "where": where, "value": value, "table": int32(place)}
    return arrays if bias is None else arrays | {"bias": bias[order]}


def int32(numbers: np.ndarray) -> np.ndarray:
    """Return the numbers as int32.

    Raises:
        UsageError: one is too large.

    """
    if numbers.size and (numbers.max() >= 2**31 or numbers.min() < -(2**31)):
        raise UsageError("the network is too large for the engine: a place in it does not fit 32 bits")
    return np.ascontiguousarray(numbers, np.int32)


def _bounds(words: int, slices: int) -> np.ndarray:
    """Return the output at which each slice begins, and the end; as engine.c cuts them."""
    return np.arange(slices + 1) * words // slices * LANES
