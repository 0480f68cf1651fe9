"""What methods and settings are called in figures and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synaprune.catalogue import named
from synaprune.train.settings import BUDGET, STRENGTH

__all__ = ["FREE", "along", "asked_for", "has_budget", "labels", "layer_name", "method_name", "part_of"]

# What two runs of one point may differ in.
FREE = ("seed", "device", "threads")


def method_name(settings: Mapping[str, Any]) -> str:
    """Return what the method of some settings is called."""
    return named(settings.get("method"))


def along(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return the settings that move a run along the curve of its method: its strength, if it has one, and sparsity."""
    return STRENGTH.get(str(settings.get("method")), ""), "sparsity"


def has_budget(settings: Mapping[str, Any]) -> bool:
    """Tell whether a method that can have a strength was asked for a number of synapses instead."""
    return settings.get(along(settings)[0]) in (None, "auto")


def asked_for(settings: Mapping[str, Any]) -> str:
    """Return in words what a method that can have both was asked for: a number of synapses, or a strength."""
    return "budget" if has_budget(settings) else f"fixed {along(settings)[0].replace('_', ' ')}"


def layer_name(name: str) -> str:
    """Return the name of a layer without what all of them have."""
    return name.removesuffix(".weight")


def part_of(metrics: Mapping[str, Any]) -> str:
    """Return which images the accuracy is of."""
    return "validation" if "validation_accuracy" in metrics else "test"


def labels(many: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return for each settings of a comparison the name of its point and that of its curve.

    A point is all runs that differ in nothing but the seed; it is named by its method, and by the settings in which
    it differs from other points of that method. A curve is the points that differ only in how many synapses they keep.

    >>> labels([{"method": "dense"}, {"method": "grad_r", "alpha": 0.1}, {"method": "grad_r", "alpha": 0.2}])
    (['dense', 'Grad R, alpha 0.1', 'Grad R, alpha 0.2'], ['dense', 'Grad R', 'Grad R'])
    """
    of_method: dict[str, list[Mapping[str, Any]]] = {}
    for settings in many:
        of_method.setdefault(str(settings.get("method")), []).append(settings)
    varied = {method: _varied(members) for method, members in of_method.items()}
    points, curves = [], []
    for settings in many:
        names, strength = varied[str(settings.get("method"))], along(settings)[0]
        others = [name for name in names if name not in along(settings)]
        curve = [method_name(settings), *(_said(name, settings) for name in others)]
        if strength in names and "sparsity" in names:  # some have a budget, others a strength
            curve.append(asked_for(settings))
        kept = [
            _said(name, settings)
            for name in along(settings)
            if name in names and settings.get(name) not in (None, "auto")
        ]
        points.append(", ".join([curve[0], *kept, *curve[1:]]))
        curves.append(", ".join(curve))
    return points, curves


def _varied(many: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which these differ; one that a file does not know yet is not set."""
    names = dict.fromkeys(name for settings in many for name in settings if name not in FREE)
    values = {name: {repr(settings.get(name)) for settings in many} for name in names}
    # That a run has no budget is said by its strength; in what budgets differ counts among those that have one.
    values |= {name: values[name] - {"None"} for name in BUDGET if name in values}
    return [name for name in names if len(values[name]) > 1]


def _said(name: str, settings: Mapping[str, Any]) -> str:
    """Return a setting and its value in words."""
    value = settings.get(name)
    return f"{name.replace('_', ' ')} {'none' if value is None else value}"
