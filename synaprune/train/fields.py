"""How one setting is declared, said in words, and read from a recipe or the command line."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

from synaprune.catalogue import owners
from synaprune.errors import UsageError, nearest, short
from synaprune.options import OPTIONS

__all__ = ["LARGE", "MANY", "Field", "convert", "expected", "metavar", "option", "setting", "switch"]

LONGEST_NAME = 200
LARGE = 1e30  # float32 ends at 3.4e38
MANY = 1_000_000
Field: TypeAlias = "dataclasses.Field[Any]"


def setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    fixed: bool = True,
    methods: tuple[str, ...] = (),
) -> Any:
    """Declare one setting: its default, help text and allowed values.

    `fixed` ones may not change on resume; one with `methods` has no meaning for others.
    """
    bounds = {"above": above, "of at least": at_least, "below": below, "at most": at_most}
    bounds = {words: bound for words, bound in bounds.items() if bound is not None}
    metadata = {"help": text, "choices": choices, "bounds": bounds, "fixed": fixed, "methods": methods}
    return dataclasses.field(default=default, metadata=metadata)


def option(name: str) -> Any:
    """Declare the setting for an option of some methods, which have their own default for it."""
    known = OPTIONS[name]
    text, choices = known.help.replace("`", ""), tuple(sorted(known.choices))
    bounds: dict[str, Any] = known.bounds
    if not known.switch and (bounds or not choices):  # it is a number, of which no file shall ask for a ridiculous one
        if not bounds.keys() & {"at_least", "above"}:
            bounds["above"] = -LARGE
        if not bounds.keys() & {"at_most", "below"}:
            bounds |= {"at_most": MANY} if known.whole else {"below": LARGE}
    return setting(None, text, choices=choices, methods=owners(name), **bounds)


def expected(field: Field) -> str:
    """Say in words what a setting may be: `a number of at least 0 and below 1`."""
    metadata, kinds = field.metadata, _kinds(field)
    bounds = " and ".join(f"{words} {bound}" for words, bound in metadata["bounds"].items())
    options = [
        words
        for kind, words in (
            ("bool", "true or false"),
            ("int", f"a whole number {bounds}"),
            ("float", f"a number {bounds}"),
            ("tuple", "a list of names" if field.name == "exclude" else f"a list of numbers {bounds}"),
        )
        if kind in kinds
    ]
    if metadata["choices"]:
        options += metadata["choices"]
    elif "str" in kinds:
        options.append("a name")
    if "None" in kinds:
        options.append("none")
    options = [option.strip() for option in options]
    return " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))


def metavar(field: Field) -> str:
    """Return the word that stands for the value of a setting in `--help`: `N`, `X`, `{cnn,mlp}`."""
    kinds = _kinds(field)
    for kind, word in (("int", "N"), ("float", "X"), ("tuple", "NAMES" if field.name == "exclude" else "X,X,…")):
        if kind in kinds:
            return word
    choices = field.metadata["choices"]
    return f"{{{','.join(choices)}}}" if choices else "NAME"


def switch(field: Field) -> bool:
    """Return whether a setting is on or off."""
    return "bool" in _kinds(field)


def convert(field: Field, value: object) -> Any:
    """Return `value` as the type of a setting; strings are read as the command line writes them.

    Raises:
        UsageError: it is of another kind, or outside the setting's bounds.

    """
    metadata, kinds = field.metadata, _kinds(field)
    if "None" in kinds and (value is None or value == "none"):
        return None
    if "tuple" in kinds:
        parts = value.split(",") if isinstance(value, str) else value
        if (
            isinstance(parts, (list, tuple))
            and field.name == "exclude"
            and all(isinstance(part, str) and _nameable(part) for part in parts)
        ):
            return tuple(part.strip() for part in parts if part.strip())
        if isinstance(parts, (list, tuple)) and field.name != "exclude":
            numbers = [_number(float, part) for part in parts]
            if all(number is not None and _within(number, metadata["bounds"]) for number in numbers):
                return tuple(numbers)
    if "bool" in kinds and (isinstance(value, bool) or value in ("true", "false")):
        return value in (True, "true")
    for kind in (int, float):
        if kind.__name__ in kinds:
            number = _number(kind, value)
            if number is not None and _within(number, metadata["bounds"]):
                return number
    if "str" in kinds and isinstance(value, str) and value in (metadata["choices"] or (value,)) and _nameable(value):
        return value
    hint = nearest(value, metadata["choices"]) if isinstance(value, str) else ""
    raise UsageError(f"setting '{field.name}' must be {expected(field)}, not {short(value)}{hint}")


def _kinds(field: Field) -> set[str]:
    """Return the names of a field's types: those of `tuple[float, ...] | None` are `tuple` and `None`."""
    assert isinstance(field.type, str)  # as it is where annotations are not evaluated
    return {kind.strip().partition("[")[0] for kind in field.type.split("|")}


def _nameable(text: str) -> bool:
    """Whether a text can be a name: one line, not too long."""
    return len(text) <= LONGEST_NAME and text.isprintable()


def _number(kind: type, value: object) -> Any:
    """Return `value` as a finite number of this kind, or None; an int setting takes no fraction."""
    if (
        not isinstance(value, str | int | float)
        or isinstance(value, bool)
        or (kind is int and isinstance(value, float))
    ):
        return None
    try:
        number = kind(value)
        return number if math.isfinite(number) else None
    except (ValueError, OverflowError):
        return None


def _within(number: float, bounds: Mapping[str, float]) -> bool:
    """Whether a number keeps its bounds."""
    tests = {"above": operator.gt, "of at least": operator.ge, "below": operator.lt, "at most": operator.le}
    return all(tests[words](number, bound) for words, bound in bounds.items())
