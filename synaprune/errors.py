"""The two kinds of fault that a user meets, and the exit code of each.

The library raises them (or their built-in parents) with one sentence that names the culprit and the remedy;
the command line prints that sentence and ends with `exit_code`.
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable

__all__ = ["MachineError", "NonFiniteGradientError", "UsageError", "nearest", "short"]

QUOTED = 60  # characters of a value that a sentence shows at most


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
    close = difflib.get_close_matches(name, list(known), n=1) if len(name) <= QUOTED else []
    return f"; did you mean '{close[0]}'?" if close else ""


def short(value: object, most: int = QUOTED) -> str:
    r"""Return a value as a sentence quotes it, whatever it is: in one line of so many characters that moves no cursor.

    >>> print(short("fast"), short(["grad_r", 2]), short("\x1b[2J"), short(10**30))
    'fast' ['grad_r', 2] '\x1b[2J' a number of 31 digits
    >>> print(short("abc" * 1000))
    'abcabcabcabcabcabcabcabcabc…cabcabcabcabcabcabcabcabcabc'
    """
    text = " ".join(map(str.strip, _Quotes(most).repr(value).splitlines()))
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[1 - half :]}"


class _Quotes(reprlib.Repr):
    """`repr` that looks at no more of a value than is shown."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.fillvalue = 4, most, most, "…"

    def repr_int(self, number: int, _: int) -> str:
        """Return a number, or how long it is: Python refuses to write the longest."""
        if abs(number) < 10**20:
            return repr(number)
        return f"a number of {int(math.log10(abs(number))) + 1} digits"
