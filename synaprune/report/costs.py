"""What the networks of a comparison cost: energy, all operations, or SOPs alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from synaprune.report.figure import Axis
from synaprune.report.records import Record

__all__ = ["COSTS", "ENERGY", "MACS", "SOPS", "Cost", "measured"]

# Where in the metrics they lie.
ENERGY = ("energy", "total_pj")
SOPS = ("operations", "total", "effective_acs")
MACS = ("operations", "total", "effective_macs")


class Cost(NamedTuple):
    """What an image costs, in one of several measures.

    Attributes:
        name: in the switch of the page.
        key: of its figure.
        axis: its axis.
        unit: after a number in the text.
        note: what it counts.
        nothing: what 0 of it means.
        value: its value for a run, None where it was not measured.
    """

    name: str
    key: str
    axis: Axis
    unit: str
    note: str
    nothing: str
    value: Callable[[Record], float | None]


def measured(record: Record, path: Sequence[str]) -> float | None:
    """Return what lies at a path into the metrics of a run, None where there is no number."""
    found: Any = record.metrics
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else None


def _operations(record: Record) -> float | None:
    sops, macs = measured(record, SOPS), measured(record, MACS)
    return None if sops is None or macs is None else sops + macs


def _nanojoules(record: Record) -> float | None:
    picojoules = measured(record, ENERGY)
    return None if picojoules is None else picojoules / 1e3


COSTS = (
    Cost(
        "energy",
        "accuracy-energy",
        Axis("energy per image, nJ", "log"),
        "nJ",
        "Energy of all operations, memory not counted, per image.",
        "costs no energy",
        _nanojoules,
    ),
    Cost(
        "all operations",
        "accuracy-operations",
        Axis("operations per image", "log", whole=True),
        "operations",
        "Additions by spikes (SOPs) and products with analog input (MACs), per image.",
        "needs no operation",
        _operations,
    ),
    Cost(
        "SOPs",
        "accuracy-sops",
        Axis("SOPs per image", "log", whole=True),
        "SOPs",
        "Additions that spikes cause on existing synapses, per image; products with analog input are left out.",
        "fired no spike",
        lambda record: measured(record, SOPS),
    ),
)
