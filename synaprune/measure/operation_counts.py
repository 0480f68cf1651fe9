"""What the counters of synaptic operations return: plain numbers per layer, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LayerOperations", "Operations"]


@dataclass(frozen=True)
class LayerOperations:
    """Operations of one tensor of synapses, or of all together, per sample and summed over its time steps.

    Attributes:
        effective_acs: additions that spikes caused on surviving synapses; these are the SOPs.
        effective_macs: products of an analog input and a weight, neither of them zero.
        weight_blind_acs: what `effective_acs` would be, were no weight zero: the SOPs of most other counters.
        weight_blind_macs: the same for `effective_macs`.
        dense: operations, were no input and no weight zero.
        activation_sparsity: zeros over all inputs.
        connection_sparsity: zeros over all weights.
        weight_bytes: bytes of weights read, were each effective operation to read its own.
    """

    effective_acs: float
    effective_macs: float
    weight_blind_acs: float
    weight_blind_macs: float
    dense: float
    activation_sparsity: float
    connection_sparsity: float
    weight_bytes: float

    @classmethod
    def per_sample(cls, counts: Sequence[int], samples: int) -> LayerOperations:
        """Make the figures of whole numbers over all samples, given in the order of the next line."""
        acs, macs, blind_acs, blind_macs, dense, zero_inputs, inputs, zero_weights, weights, weight_bytes = counts
        return cls(
            effective_acs=acs / samples,
            effective_macs=macs / samples,
            weight_blind_acs=blind_acs / samples,
            weight_blind_macs=blind_macs / samples,
            dense=dense / samples,
            activation_sparsity=zero_inputs / max(inputs, 1),
            connection_sparsity=zero_weights / max(weights, 1),
            weight_bytes=weight_bytes / samples,
        )

    @property
    def sops(self) -> float:
        """Return the effective ACs under their other name."""
        return self.effective_acs


@dataclass(frozen=True)
class Operations:
    """The synaptic operations of a network; print it as a table.

    Attributes:
        layers: by the dotted name of the tensor of synapses, as in `find_synapses`, in the order of first use.
        total: of all layers.
        samples: the number that the counts were divided by.
        unknown: (dotted name, reason) of every module and parameter with products that could not be counted. If
            there are any, the counts are lower bounds.
        unused: tensors of synapses that took no part, and so cost nothing.
    """

    layers: Mapping[str, LayerOperations]
    total: LayerOperations
    samples: int
    unknown: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Return the same as plain dictionaries, lists and numbers."""
        return {
            "samples": self.samples,
            "total": asdict(self.total),
            "layers": {name: asdict(layer) for name, layer in self.layers.items()},
            "unknown": [list(entry) for entry in self.unknown],
            "unused": list(self.unused),
        }

    def __str__(self) -> str:
        rows = [["tensor", "effective ACs", "effective MACs", "weight-blind", "dense", "zero inputs", "zero weights"]]
        for name, layer in (*self.layers.items(), ("total", self.total)):
            blind = layer.weight_blind_acs + layer.weight_blind_macs
            counts = (layer.effective_acs, layer.effective_macs, blind, layer.dense)
            shares = (layer.activation_sparsity, layer.connection_sparsity)
            rows.append([name, *(f"{count:,.1f}" for count in counts), *(f"{share:.2%}" for share in shares)])
        wide = [max(map(len, column)) for column in zip(*rows)]
        lines = [f"{row[0]:<{wide[0]}}  " + "  ".join(map(str.rjust, row[1:], wide[1:])) for row in rows]
        lines.append(f"per sample, mean of {self.samples:,}")
        lines += [f"unknown: {name} ({reason}), not counted" for name, reason in self.unknown]
        lines += [f"unused: {name}" for name in self.unused]
        return "\n".join(lines)
