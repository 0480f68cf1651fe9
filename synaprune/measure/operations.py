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
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from synaprune.computed import computed_weights, plain_weights
from synaprune.errors import UsageError
from synaprune.measure.activity import SEQUENCE, STEP, form_of
from synaprune.measure.connections import as_it_was
from synaprune.measure.operation_counts import LayerOperations, Operations
from synaprune.measure.products import Product, Tally, countable, multiplies, products_of, tally
from synaprune.synapses import NEURON, RULES, find_synapses, rules_for

__all__ = ["OperationCounter", "operations"]

# Qualified class name (glob) → the method that brings a neuron to rest.
RESETS = {"spikingjelly.*.MemoryModule": "reset", "snntorch.*.SpikingNeuron": "reset_mem"}


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
    with as_it_was(model), plain_weights(model), torch.no_grad():
        counter = OperationCounter(model, time_first=time_first)
        model.eval()
        for module in model.modules():
            for _, reset in rules_for(type(module), RESETS):
                getattr(module, reset, lambda: None)()
        with counter:
            (forward or model)(x)
        if samples is None:
            samples = counter._samples(x.shape if isinstance(x, Tensor) else None)
    return counter.result(samples)


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
        self._model = model
        self._time_first = time_first
        self._excluded = dict(find_synapses(model).excluded)
        self._look_up_names()
        if not self._weights:
            raise UsageError(
                f"{type(model).__name__} has no weights of two or more dimensions, and so no synaptic operations "
                "that could be counted"
            )
        self._layers: dict[str, _Layer] = {}
        self._unknown: dict[tuple[str, str], None] = {}
        self._used: set[str] = set()  # parameters that torch was given
        self._settled: set[str] = set()  # parameters whose products are counted, or named as unknown
        self._running: list[str] = []  # names of the modules that are being called, outermost first
        self._called: set[str] = set()
        self._shapes: list[torch.Size | None] = []  # of the input, for each call of the model itself
        self._batches: set[int] = set()  # numbers of samples that neurons of known frameworks saw
        self._open = ExitStack()

    def __enter__(self) -> OperationCounter:
        self._look_up_names()
        self._neurons = {name for name, module in self._model.named_modules() if _is_neuron(module)}
        for name, module in self._model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # it takes no hooks
                before = module.register_forward_pre_hook(self._entering(name))
                after = module.register_forward_hook(self._leaving(form_of(module)), always_call=True)
                self._open.callback(before.remove)
                self._open.callback(after.remove)
        if "torch._dynamo" in sys.modules:  # without it nothing is compiled, and to import it takes a second
            self._open.enter_context(torch.compiler.set_stance("force_eager"))
        self._open.enter_context(_Watch(self._see))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._running.clear()

    def result(self, samples: int | None = None) -> Operations:
        """Return the operations of all calls so far, per sample.

        Args:
            samples: in all calls together; may be left out if the model was called once.

        Raises:
            UsageError: nothing was counted, an input or weight was not finite, or the number of samples is not
                clear.
        """
        if not self._layers and not self._unknown:
            raise UsageError(
                f"no product of {type(self._model).__name__} was seen: call the model inside the `with` block, and "
                "not in a TorchScript form or a copy of it"
            )
        if samples is None and len(self._shapes) != 1:
            raise UsageError(
                f"the model was called {len(self._shapes)} times, for batches or for time steps: say how many samples "
                "that were, result(samples=...)"
            )
        samples = self._samples(self._shapes[0]) if samples is None else samples
        if not isinstance(samples, int) or samples < 1:
            raise UsageError(f"samples must be a whole number of at least 1, not {samples!r}")
        counts = {name: layer.read(name) for name, layer in self._layers.items()}
        total = [sum(column) for column in zip(*counts.values())] or [0] * 10
        rest = [name for name in self._weights if name not in self._settled and name not in self._excluded]
        opaque = [name for name in rest if name in self._used or self._may_have_run(name)]
        return Operations(
            layers={name: LayerOperations.per_sample(count, samples) for name, count in counts.items()},
            total=LayerOperations.per_sample(total, samples),
            samples=samples,
            unknown=(*self._unknown, *((name, "in no product that is known") for name in opaque)),
            unused=tuple(name for name in rest if name not in opaque),
        )

    def _look_up_names(self) -> None:
        """Map tensors to their names; they are held, so that no other takes the place of one that is freed."""
        tensors = (*self._model.named_buffers(), *self._model.named_parameters())
        self._tensors = {name: tensor for name, tensor in tensors if tensor.ndim >= 2}
        self._names = {id(tensor): name for name, tensor in self._tensors.items()}
        self._weights = {name: each for name, each in self._tensors.items() if isinstance(each, nn.Parameter)}
        self._made = {source: weight.name for weight in computed_weights(self._model) for source in weight.sources}

    def _samples(self, shape: torch.Size | None) -> int:
        """Return the number of samples in an input of that shape, unless the neurons saw another."""
        axis = int(self._time_first)
        if shape is None or len(shape) <= axis:
            raise UsageError("the number of samples cannot be read from the model's input; say samples=...")
        other = shape[1 - axis] if len(shape) > 1 else None
        if self._batches and shape[axis] not in self._batches and other in self._batches:
            raise UsageError(
                f"dimension {axis} of the input would be {shape[axis]} samples, but the neurons saw {other}, as in "
                f"dimension {1 - axis}; say time_first={not self._time_first}, or samples=..."
            )
        return shape[axis]

    def _may_have_run(self, weight: str) -> bool:
        """Return whether the module that owns a weight was called, which of TorchScript is not known."""
        path = weight.split(".")[:-1]
        owners = [".".join(path[:depth]) for depth in range(len(path) + 1)]
        scripted = any(isinstance(self._model.get_submodule(o), torch.jit.ScriptModule) for o in owners)
        return scripted or owners[-1] in self._called

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._running.append(name)
            self._called.add(name)
            if not name:
                self._shapes.append(args[0].shape if args and isinstance(args[0], Tensor) else None)

        return hook

    def _leaving(self, form: str) -> Callable[..., None]:
        axis = {STEP: 0, SEQUENCE: 1}.get(form)

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._running.pop()
            spikes = output[0] if isinstance(output, tuple | list) else output
            if axis is not None and isinstance(spikes, Tensor) and spikes.ndim > axis:
                self._batches.add(spikes.shape[axis])

        return hook

    def _see(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Count one call of a torch function, or note that it cannot be counted."""
        name = getattr(function, "__name__", "")
        if not self._running or name in ("__get__", "__set__"):
            return
        used = {self._names[id(value)] for value in _flat((*args, *kwargs.values())) if id(value) in self._names}
        self._used |= used
        if "parametrizations." in self._running[-1]:
            return  # a weight that is made of others is made once, not for each sample
        products = products_of(name, args, kwargs, output)
        if products and all(map(self._countable, products)):
            for each in products:
                self._add(each)
        elif products or multiplies(name):
            self._unknown[self._running[-1] or type(self._model).__name__, name] = None
            self._settled |= used

    def _countable(self, given: Product) -> bool:
        """Return whether the numbers can be counted, and are not just a neuron's own dynamics."""
        return countable(given) and (id(given.weight) in self._names or self._running[-1] not in self._neurons)

    def _add(self, given: Product) -> None:
        """Count one product under the name of its weight."""
        name = self._names.get(id(given.weight))
        if name in self._excluded:
            self._unknown[name, self._excluded[name]] = None
            return
        if name is None:  # made of parameters of the running module, which have no product of their own
            prefix = f"{self._running[-1]}." if self._running[-1] else ""
            sources = [other for other in self._weights if other.startswith(prefix) and other in self._used]
            self._settled.update(sources)
            alike = [other for other in sources if self._weights[other].shape == given.weight.shape]
            name = self._made.get(alike[0], alike[0]) if len(alike) == 1 else f"{prefix}computed weight"
        self._settled.add(name)
        self._layers.setdefault(name, _Layer()).add(tally(given), given.weight)


class _Watch(TorchFunctionMode):
    """Show each call of a torch function to `see`, after it has been made."""

    def __init__(self, see: Callable[..., None]) -> None:
        super().__init__()
        self.see = see

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.see(func, args, kwargs or {}, output)
        return output


class _Layer:
    """The sums over all products of one weight, on its device until they are read."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.dense = self.inputs = 0

    def add(self, tally: Tally, weight: Tensor) -> None:
        # Not in place: a count that began under inference_mode may go on outside it.
        self.sums = tally.counts if self.sums is None else self.sums + tally.counts
        self.dense += tally.dense
        self.inputs += tally.inputs
        self.alive, self.synapses, self.itemsize = tally.alive, weight.numel(), weight.element_size()

    def read(self, name: str) -> list[int]:
        """Return whole numbers, in the order of `LayerOperations.per_sample`."""
        assert self.sums is not None
        effective, blind, nonzero, analog, bad_input, bad_weight = self.sums.tolist()
        if bad_input or bad_weight:
            raise UsageError(
                f"{'an input to' if bad_input else 'a value of'} '{name}' is NaN or infinite, so that its operations "
                "mean nothing; mend the weights or the data"
            )
        acs, macs = int(not analog), int(bool(analog))
        kinds = [effective * acs, effective * macs, blind * acs, blind * macs]
        zeros = [self.inputs - nonzero, self.inputs, self.synapses - int(self.alive), self.synapses]
        return [*kinds, self.dense, *zeros, effective * self.itemsize]


def _is_neuron(module: nn.Module) -> bool:
    """Return whether all parameters of the module itself are a neuron's."""
    return any(rule.get("*") == NEURON for _, rule in rules_for(type(module), RULES))


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the arguments of a torch function, those inside lists and tuples too."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flat(value)
        else:
            yield value
