"""Energy: what synaptic operations cost by a table that somebody has measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from synaprune.errors import UsageError
from synaprune.measure.operation_counts import LayerOperations, Operations

__all__ = ["HOROWITZ_45NM", "CostTable", "Energy", "energy"]


@dataclass(frozen=True)
class CostTable:
    """What one operation costs, in picojoules (pJ); `dataclasses.replace` makes another one of it.

    Attributes:
        name: to print beside the energy.
        source: where the figures are from.
        ac_pj: one addition.
        mac_pj: one multiplication and one addition.
        byte_pj: one byte read from memory; None if the table has no memory.
    """

    name: str
    source: str
    ac_pj: float
    mac_pj: float
    byte_pj: float | None = None

    def __post_init__(self) -> None:
        for field in ("ac_pj", "mac_pj", "byte_pj"):
            cost = getattr(self, field)
            if cost is not None and not (isfinite(cost) and cost >= 0):
                raise UsageError(f"{field} of the cost table '{self.name}' must be a finite number of pJ, not {cost!r}")


HOROWITZ_45NM = CostTable(
    name="45 nm, 32-bit float",
    source=(
        "M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, "
        "doi:10.1109/ISSCC.2014.6757323"
    ),
    ac_pj=0.9,
    mac_pj=4.6,  # 3.7 for the multiplication and 0.9 for the addition
    byte_pj=1.25,  # 10 pJ for 64 bits from a cache of 8 KB, the smallest in the table
)


@dataclass(frozen=True)
class Energy:
    """Energy per sample in picojoules; print it for one line.

    Attributes:
        ac_pj: of the effective ACs.
        mac_pj: of the effective MACs.
        memory_pj: of reading the weights, or None where it was not asked for.
        layers: everything that was asked for, by the names of `Operations.layers`.
        table: what the operations were charged with.
        unknown: of `Operations`: modules whose energy is missing here.
    """

    ac_pj: float
    mac_pj: float
    memory_pj: float | None
    layers: Mapping[str, float]
    table: CostTable
    unknown: tuple[tuple[str, str], ...]

    @property
    def total_pj(self) -> float:
        """Return the sum of what was asked for."""
        return self.ac_pj + self.mac_pj + (self.memory_pj or 0.0)

    def to_mapping(self) -> dict[str, Any]:
        """Return the same as plain dictionaries, lists and numbers."""
        return {"total_pj": self.total_pj, **asdict(self), "unknown": [list(entry) for entry in self.unknown]}

    def __str__(self) -> str:
        parts = [f"ACs {_nj(self.ac_pj)}", f"MACs {_nj(self.mac_pj)}"]
        parts.append("memory not counted" if self.memory_pj is None else f"weight reads {_nj(self.memory_pj)}")
        bound = f"at least {_nj(self.total_pj)}" if self.unknown else _nj(self.total_pj)
        return f"{bound} per sample ({', '.join(parts)}; {self.table.name})"


def energy(operations: Operations, table: CostTable = HOROWITZ_45NM, memory: bool = False) -> Energy:
    """Charge the effective operations with the costs of a table.

        E = ACs · ac_pj + MACs · mac_pj (+ bytes of weights · byte_pj, with `memory`)

    With `memory` each effective operation reads its weight, in the type it is stored in, from memory once. Such a
    total must not be compared with the many papers that count operations alone. Reading inputs, neuron states and
    the indices of sparse weights is never counted, nor are neurons, and costs are the table's whatever the type.

    Args:
        operations: of `operations` or `OperationCounter`.
        table: costs in pJ.
        memory: charge the reading of weights too.

    Raises:
        UsageError: `memory` with a table that has no cost of a byte.

    >>> from synaprune.measure import operations
    >>> import torch
    >>> print(energy(operations(torch.nn.Linear(100, 10), torch.ones(1, 100))))
    0.900 nJ per sample (ACs 0.900 nJ, MACs 0.000 nJ, memory not counted; 45 nm, 32-bit float)
    """
    if memory and table.byte_pj is None:
        raise UsageError(f"the cost table '{table.name}' has no byte_pj, so that memory=True cannot be charged")
    byte_pj = (table.byte_pj or 0.0) if memory else 0.0

    def charge(counts: LayerOperations) -> float:
        return counts.effective_acs * table.ac_pj + counts.effective_macs * table.mac_pj + counts.weight_bytes * byte_pj

    total = operations.total
    return Energy(
        ac_pj=total.effective_acs * table.ac_pj,
        mac_pj=total.effective_macs * table.mac_pj,
        memory_pj=total.weight_bytes * byte_pj if memory else None,
        layers={name: charge(counts) for name, counts in operations.layers.items()},
        table=table,
        unknown=operations.unknown,
    )


def _nj(picojoules: float) -> str:
    return f"{picojoules / 1000:,.3f} nJ"
