"""The two kinds of fault that a user meets, and the exit code of each.

The library raises them (or their built-in parents) with one sentence that names the culprit and the remedy;
the command line prints that sentence and ends with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["MachineError", "NonFiniteGradientError", "UsageError", "nearest"]


class UsageError(ValueError):
    """Something asked for, or handed in, that cannot be served: a setting, a file, a model."""

    exit_code = 2


class NonFiniteGradientError(UsageError, ArithmeticError):
    """A gradient that is NaN or infinite; on the CPU raised before the step has changed anything."""


class MachineError(OSError):
    """A fault of the machine, such as a full disk or a missing network."""

    exit_code = 1


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest known name, or an empty string when none is close.

    >>> nearest("grad-r", ["dense", "grad_r"])
    "; did you mean 'grad_r'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
