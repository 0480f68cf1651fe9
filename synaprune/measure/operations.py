"""Synaptic operations: the additions and multiplications that really happen, zeros in the weights seen.

An operation is effective where neither the input nor the weight is zero. Inputs that are -1, 0 or 1 are spikes and
cost an addition each (AC), others a multiplication too (MAC). The metrics and their conventions are NeuroBench's:
biases, normalisation (which folds into the weights at inference), pooling and what neurons compute inside
themselves are not counted.

Products are seen as torch is asked for them (`torch.overrides`), whichever module asks, with the weights that are
really used: masked, dropped or standardised ones too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from synaprune.errors import UsageError
from synaprune.measure.activity import SEQUENCE, STEP, _form
from synaprune.measure.connections import _as_it_was
from synaprune.measure.products import Product, Tally, countable, multiplies, products_of, tally
from synaprune.synapses import find_synapses, rules_for

__all__ = ["LayerOperations", "OperationCounter", "Operations", "operations"]

# Qualified class name (glob) → the method that brings a neuron to rest.
RESETS = {"spikingjelly.*.MemoryModule": "reset", "snntorch.*.SpikingNeuron": "reset_mem"}


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
        rows = [("tensor", "effective ACs", "effective MACs", "weight-blind", "dense", "zero inputs", "zero weights")]
        for name, layer in (*self.layers.items(), ("total", self.total)):
            blind = layer.weight_blind_acs + layer.weight_blind_macs
            counts = (layer.effective_acs, layer.effective_macs, blind, layer.dense)
            shares = (layer.activation_sparsity, layer.connection_sparsity)
            rows.append((name, *(f"{count:,.1f}" for count in counts), *(f"{share:.2%}" for share in shares)))
        wide = [max(map(len, column)) for column in zip(*rows)]
        lines = [f"{row[0]:<{wide[0]}}  " + "  ".join(map(str.rjust, row[1:], wide[1:])) for row in rows]
        lines.append(f"per sample, mean of {self.samples:,}")
        lines += [f"unknown: {name} ({reason}), not counted" for name, reason in self.unknown]
        lines += [f"unused: {name}" for name in self.unused]
        return "\n".join(lines)


def operations(
    model: nn.Module,
    x: Any,
    *,
    time_first: bool = False,
    samples: int | None = None,
    forward: Callable[[Any], Any] | None = None,
) -> Operations:
    """Count the synaptic operations of a model on one batch, per sample.

    The model runs once, in evaluation mode and without gradients. Neurons of SpikingJelly and snnTorch start at
    rest, and the model's mode, attributes and states are put back afterwards; a state of another framework that
    the model keeps between calls is taken as it is.

    Args:
        model: any module.
        x: what the model is called with, samples first: `[N, ...]`.
        time_first: `x` is `[T, N, ...]`.
        samples: how many samples `x` holds, where its shape does not tell.
        forward: how to present `x`, where `model(x)` is only one time step: `lambda x: [model(step) for step in x]`.

    Raises:
        UsageError: a model without weights, one that multiplied nothing, inputs or weights that are not finite,
            or a number of samples that cannot be read from `x` or is contradicted by the model's neurons.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.fill_(1.0)
    ...     _ = net[0].weight[0].zero_()
    >>> print(operations(net, torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])))
    tensor    effective ACs  effective MACs  weight-blind  dense  zero inputs  zero weights
    0.weight            3.0             0.0           4.5   12.0       62.50%        33.33%
    1.weight            0.0             6.0           6.0    6.0        0.00%         0.00%
    total               3.0             6.0          10.5   18.0       35.71%        22.22%
    per sample, mean of 2

    Source: Yik et al., "The neurobench framework for benchmarking neuromorphic computing algorithms and systems",
    Nature Communications 2025.
    """
    counter = OperationCounter(model, time_first=time_first)
    with _as_it_was(model), torch.no_grad():
        model.eval()
        for module in model.modules():
            for _, reset in rules_for(type(module), RESETS):
                getattr(module, reset, lambda: None)()
        with counter:
            (forward or model)(x)
    return counter.result(counter.samples_of(x) if samples is None else samples)


class OperationCounter:
    """Count the synaptic operations of all calls of a model that are made inside the `with` block.

    Gradients, mode and the neurons' states are the caller's affair: dropout in training mode makes spikes analog.
    A compiled model runs uncompiled inside the block.

    Args:
        model: any module.
        time_first: the model takes `[T, N, ...]` rather than `[N, ...]`; of use to `result` without a number.

    Raises:
        UsageError: a model without weights of two or more dimensions.

    >>> net = nn.Linear(4, 3, bias=False)
    >>> with OperationCounter(net) as counter:
    ...     for step in torch.tensor([[[1.0, 0, 0, 1]], [[0.0, 0, 1, 0]]]):  # two time steps of one sample
    ...         current = net(step)
    >>> counter.result(samples=1).total.sops
    9.0
    """

    def __init__(self, model: nn.Module, *, time_first: bool = False) -> None:
        found = find_synapses(model)
        self._model = model
        self._time_first = time_first
        self._barred = dict(found.excluded)
        self._weights = {synapse.name: synapse.parameter for synapse in found}
        self._weights |= {name: model.get_parameter(name) for name, _ in found.unknown}
        if not self._weights:
            raise UsageError(
                f"no weights in {type(model).__name__}, so that it has no synaptic operations; print "
                "find_synapses(model) to see what was found"
            )
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._layers: dict[str, _Layer] = {}
        self._unknown: dict[tuple[str, str], None] = {}
        self._used: set[str] = set()  # parameters that any function was given
        self._settled: set[str] = set()  # those whose products are counted, or named as unknown
        self._running: list[str] = []  # names of the modules that are being called, outermost first
        self._called: set[str] = set()
        self._shapes: list[torch.Size | None] = []  # of the input of each call of the model itself
        self._batches: set[int] = set()  # samples as neurons of known frameworks see them
        self._open = ExitStack()

    def __enter__(self) -> OperationCounter:
        for name, module in self._model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                before = module.register_forward_pre_hook(self._enter(name))
                after = module.register_forward_hook(self._leave, always_call=True)
                self._open.callback(before.remove)
                self._open.callback(after.remove)
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it takes a second
            self._open.enter_context(torch.compiler.set_stance("force_eager"))
        self._open.enter_context(_Watch(self._see))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._running.clear()

    def result(self, samples: int | None = None) -> Operations:
        """Return the operations per sample of all calls so far.

        `samples` is the number of samples in all calls together. It may be left out after a single call.

        Raises:
            UsageError: nothing was counted, or the number of samples is unclear, or an input or weight was not
                finite.
        """
        if not self._layers and not self._unknown:
            raise UsageError(
                f"no product of {type(self._model).__name__} was seen: call the model inside the `with` block, "
                "itself and not a TorchScript or replicated copy of it"
            )
        if samples is None:
            if len(self._shapes) != 1:
                raise UsageError(
                    f"the model was called {len(self._shapes)} times, for batches or for time steps; say how many "
                    "samples there were: result(samples=...)"
                )
            samples = self._checked(self._shapes[0])
        if samples < 1:
            raise UsageError(f"operations per sample need a number of samples of at least 1, not {samples!r}")
        layers = {name: layer.read(name) for name, layer in self._layers.items()}
        unseen = [name for name in self._weights if name not in self._settled]
        opaque = [name for name in unseen if name in self._used or self._was_called(name)]
        unknown = (*self._unknown, *((name, "used, but in no product that is known") for name in opaque))
        return Operations(
            {name: _per_sample([counts], samples) for name, counts in layers.items()},
            _per_sample(list(layers.values()), samples),
            samples,
            unknown,
            tuple(name for name in unseen if name not in opaque),
        )
