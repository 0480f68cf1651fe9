"""Layers in the making: what the rules that convert modules have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from synaprune.engine.layers import Layer, Shape
from synaprune.errors import UsageError

__all__ = ["Draft", "array", "number", "require", "whole"]


class Draft(list[Layer]):
    """The layers so far, and what a normalisation has left for the layer that comes next.

    Attributes:
        input_shape: of one sample.
        norm: the name, factors and shifts, one for each channel, of a normalisation that waits for synapses.

    """

    def __init__(self, input_shape: Shape) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.norm: tuple[str, np.ndarray, np.ndarray] | None = None

    @property
    def shape(self) -> Shape:
        """The shape that the next layer gets."""
        shape = self.input_shape
        for layer in self:
            shape = layer.output(shape)
        return shape


def require(name: str, what: str, value: Any, *allowed: Any) -> None:
    """Refuse a module with an option that has no exact form."""
    if value not in allowed:
        raise UsageError(f"the engine cannot run '{name}' with {what}={value!r}; it needs {what}={allowed[0]!r}")


def array(tensor: Tensor, dtype: type = np.float32) -> np.ndarray:
    """Return the values of a tensor."""
    return tensor.detach().cpu().double().numpy().astype(dtype)


def number(name: str, what: str, value: Any) -> float:
    """Return an option that may be a tensor, and may not be one number for each neuron."""
    values = np.unique(array(value, np.float64)) if isinstance(value, Tensor) else np.array([value])
    if len(values) != 1:
        raise UsageError(f"the engine cannot run '{name}': its {what} is another for each neuron; give them one")
    return float(values[0])


def whole(numbers: int | Sequence[int], dims: int = 1) -> Shape:
    """Return one number for each dimension."""
    return (numbers,) * dims if isinstance(numbers, int) else tuple(map(int, numbers))
