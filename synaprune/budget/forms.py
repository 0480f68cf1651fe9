"""How a budget is said: by the share of the synapses that is absent, by the share that is left, or by their number.

Inside there is one form, the share that is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from numbers import Integral, Real
from typing import Any

from synaprune.errors import UsageError, nearest

__all__ = ["FORMS", "absent", "matched", "one_form"]

FORMS = ("sparsity", "connectivity", "synapses")


def one_form(
    asked: Mapping[str, Any], names: Sequence[str], sizes: Sequence[int], known: Sequence[str] = ()
) -> float | dict[str, float] | None:
    """Return the sparsity that a budget asks for in whatever form, of all layers or by name; None if it asks for none.

    >>> one_form({"synapses": 30}, ["fc1", "fc2"], [100, 20])
    0.75
    >>> one_form({"connectivity": {"fc1": 0.05, "*": 0.5}}, ["fc1", "fc2"], [100, 20])
    {'fc1': 0.95, '*': 0.5}

    Args:
        asked: `sparsity`, `connectivity` or `synapses`, each a number or one per name pattern. A number of synapses is
            that of all layers together, one of a pattern that of each layer it names first.
        names: of the layers that share the budget.
        sizes: number of synapses of each.
        known: all names that a pattern may match without an error, those of frozen layers too.

    Raises:
        UsageError: two forms at once, a value out of range, a pattern without a layer or a layer without a pattern.
    """
    given = {form: value for form in FORMS if (value := asked.get(form)) is not None}
    if len(given) > 1:
        said = " and ".join(f"{form}={value!r}" for form, value in given.items())
        raise UsageError(f"{said} both say how many synapses are left; give one of them")
    for form, value in given.items():
        if form == "synapses":
            if isinstance(value, Mapping):
                counts = matched(value, names, known or names, form)
                return {name: _rest(count, size, name) for name, count, size in zip(names, counts, sizes)}
            return _rest(value, sum(sizes), "the network")
        convert: Callable[[Any], Any] = absent if form == "connectivity" else lambda sparsity: sparsity
        return {key: convert(v) for key, v in value.items()} if isinstance(value, Mapping) else convert(value)
    return None


def absent(connectivity: Any) -> float:
    """Return the share that is absent where this share is left, without a trace of binary fractions.

    >>> absent(0.0073)
    0.9927

    Raises:
        UsageError: it is no share in (0, 1].
    """
    if not isinstance(connectivity, Real) or isinstance(connectivity, bool) or not 0.0 < float(connectivity) <= 1.0:
        raise UsageError(f"connectivity={connectivity!r} is not a share in (0, 1]; 0.02 keeps 2 % of the synapses")
    return float(1 - Decimal(repr(float(connectivity))))


def matched(values: Mapping[str, Any], names: Sequence[str], known: Sequence[str], form: str) -> list[Any]:
    """Return the value of each layer: that of the first pattern which matches its name.

    Raises:
        UsageError: a pattern matches none of the `known` names, or none matches one of `names`.
    """
    for pattern in values:
        if not any(fnmatchcase(name, pattern) for name in known):
            whole = [f"{name.rpartition('.')[0]}.*" for name in known if "." in name]
            hint = nearest(pattern, [*whole, *known]) or f"; there are {', '.join(known)}"
            raise UsageError(f"{form}: no layer's name matches '{pattern}'{hint}")
    found = []
    for name in names:
        matching = [value for pattern, value in values.items() if fnmatchcase(name, pattern)]
        if not matching:
            raise UsageError(f"{form} names no budget for {name}; add '*' for all other layers")
        found.append(matching[0])
    return found


def _rest(count: Any, size: int, name: str) -> float:
    """Return the share of the synapses that is absent where so many of them are left."""
    if not isinstance(count, Integral) or isinstance(count, bool) or not 1 <= int(count) <= size:
        raise UsageError(f"synapses={count!r} is not a whole number from 1 to the {size:,} synapses of {name}")
    return 1.0 - int(count) / size
