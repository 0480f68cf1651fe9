"""What values from a file must be: declared once, checked, and said in words where they are something else.

    LAYER = Record({"synapses": Number(1, whole=True)}, optional={"alpha": Number()})
    Table(LAYER).check({"fc1": {"synapses": "many"}})
    # Fault: holds 'many' where 'fc1/synapses' must be a whole number of at least 1

Names that a record does not declare are passed over: a later version may have written them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from synaprune.errors import short
from synaprune.reading import Fault, misfit

__all__ = ["ANYTHING", "LARGE", "TEXT", "TRUTH", "Form", "Kind", "List", "Maybe", "Number", "Record", "Table", "loose"]

LARGE = 1e30  # whose squares and sums are finite still
UNSAID = 2.0**53  # from which on a bound is none that anybody meets
F = TypeVar("F", bound="Form")


class Form(Protocol):
    """What a value must be."""

    @property
    def words(self) -> str:
        """What it must be in words: `a whole number of at least 1`."""

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless a value, which lies at a place in its file, is what it must be."""


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, no truth value; if it need not be finite, infinity and NaN too."""

    least: float = -LARGE
    most: float = LARGE
    whole: bool = dataclasses.field(default=False, kw_only=True)
    finite: bool = dataclasses.field(default=True, kw_only=True)

    @property
    def words(self) -> str:
        """What it must be."""
        bounds = [f"of at least {self.least:g}"] * (self.least > -LARGE) + [f"at most {self.most:g}"] * (
            self.most < UNSAID
        )
        return f"{'a whole number' if self.whole else 'a number'} {' and '.join(bounds)}".rstrip()

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is such a number."""
        if type(value) is float and not self.finite and not math.isfinite(value):
            return
        right = type(value) is int or (type(value) is float and not self.whole)
        if not right or not self.least <= value <= self.most:
            raise misfit(value, place, self.words)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A value of one type."""

    type: type
    words: str

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is of that type."""
        if not isinstance(value, self.type):
            raise misfit(value, place, self.words)


ANYTHING = Kind(object, "anything")
TEXT = Kind(str, "a text")
TRUTH = Kind(bool, "true or false")


@dataclasses.dataclass(frozen=True)
class Maybe:
    """A value of a form, or null."""

    form: Form

    @property
    def words(self) -> str:
        """What it must be."""
        return f"{self.form.words} or null"

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is one of the two."""
        if value is not None:
            self.form.check(value, place)


@dataclasses.dataclass(frozen=True)
class List:
    """A list of values of one form."""

    form: Form
    words: str = "a list"

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is such a list."""
        if not isinstance(value, list):
            raise misfit(value, place, self.words)
        for index, inner in enumerate(value):
            self.form.check(inner, (*place, str(index)))


@dataclasses.dataclass(frozen=True)
class Table:
    """An object of any names, at least `least` of them, with values of one form."""

    form: Form
    least: int = 0

    @property
    def words(self) -> str:
        """What it must be."""
        return "an object" + " that is not empty" * (self.least > 0)

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is such an object."""
        if not isinstance(value, dict) or len(value) < self.least:
            raise misfit(value, place, self.words)
        for name, inner in value.items():
            TEXT.check(name, (*place, "a name"))
            self.form.check(inner, (*place, name))


@dataclasses.dataclass(frozen=True)
class Record:
    """An object with these names, each with a value of its form; optional ones may be absent."""

    required: Mapping[str, Form]
    optional: Mapping[str, Form] = dataclasses.field(default_factory=dict)
    words = "an object"

    def check(self, value: Any, place: tuple[str, ...] = ()) -> None:
        """Raise `Fault` unless it is such an object."""
        if not isinstance(value, dict) and (place or not self.required):
            raise misfit(value, place, self.words)
        absent = next((name for name in self.required if not isinstance(value, dict) or name not in value), None)
        if absent is not None:
            raise Fault(f"holds no {absent}" + (f" in {short('/'.join(place))}" if place else ""))
        for forms in (self.required, self.optional):
            for name, form in forms.items():
                if name in value:
                    form.check(value[name], (*place, name))


def loose(form: F) -> F:
    """Return the same form with everything optional in it, for files of which some parts may be missing."""
    if isinstance(form, Record):
        names = {**form.required, **form.optional}
        return type(form)({}, {name: loose(inner) for name, inner in names.items()})
    if isinstance(form, Table):
        return type(form)(loose(form.form))
    return dataclasses.replace(form, form=loose(form.form)) if isinstance(form, List | Maybe) else form
