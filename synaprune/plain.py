"""Numbers of any kind as Python's own, which every checkpoint can hold and no option has to know."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Return NumPy's numbers, and whatever else is a number, as int, float or bool; in lists and mappings too.

    >>> import numpy as np
    >>> plain({"steps": np.int64(40), "betas": (np.float32(0.5), 1)})
    {'steps': 40, 'betas': (0.5, 1)}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():  # NumPy's truth is no number
        return plain(value.item())
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value
