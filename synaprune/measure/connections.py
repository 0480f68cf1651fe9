"""Connections: the real links from a sending to a receiving neuron, a kernel weight once at each place it touches.

A network is run once on NaNs. A value is NaN where it depends on the input and finite where nothing reaches it;
what stands between layers (sums, pooling, flattening, residual branches) carries a NaN on by the rules of
arithmetic. Only modules that would swallow or smear it are taken over: layers with synapses, which also count, and
spiking neurons and normalisations, which hand it on place by place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from synaprune.computed import plain_weights
from synaprune.errors import UsageError, nearest
from synaprune.measure.activity import NEURONS
from synaprune.synapses import STANDARDISED, Synapses, find_synapses, rules_for

__all__ = ["as_it_was", "connections"]

# Qualified class name (glob) → dimensions of one sample, without time and batch; the most derived class counts.
LAYERS: dict[str, int] = {
    "norse.*.LConv2d": 3,
    "spikingjelly.*.DropConnectLinear": 1,
    "torch.nn.modules.linear.Linear": 1,
    "torch.nn.modules.conv.*1d": 2,
    "torch.nn.modules.conv.*2d": 3,
    "torch.nn.modules.conv.*3d": 4,
}

# The same → its synapses from the layer before and those among its own neurons, where it has them.
CELLS: dict[str, tuple[str, str]] = {
    "torch.nn.modules.rnn.RNNCellBase": ("weight_ih", "weight_hh"),
    "snntorch.*.RLeaky": ("", "recurrent.weight"),
    "snntorch.*.RSynaptic": ("", "recurrent.weight"),
    "snntorch.*.SLSTM": ("lstm_cell.weight_ih", "lstm_cell.weight_hh"),
    "snntorch.*.LinearLeaky": ("linear.weight", ""),
    "snntorch.*.LeakyParallel": ("rnn.weight_ih_l0", "rnn.weight_hh_l0"),
    "snntorch.*.LeakyKernel": ("rnn.weight_ih_l0", "rnn.weight_hh_l0"),
    "norse.*.SNNRecurrent*": ("input_weights", "recurrent_weights"),
    "norse.*.CobaLIFCell": ("input_weights", "recurrent_weights"),
    "norse.*.LILinearCell": ("input_weights", ""),
}

# Every output depends on the input at its own place; time may come in front of the output.
ELEMENTWISE: dict[str, None] = dict.fromkeys(
    [
        *NEURONS,
        "spikingjelly.*.SurrogateFunctionBase",
        "spikingjelly.*.encoding.*",
        "norse.*.encode.*",
        # The mean and variance that neurons share are no synapses.
        "torch.nn.modules.batchnorm._NormBase",
        "torch.nn.modules.normalization.*",
        "spikingjelly.*.*Norm*",
    ]
)

# What refuses a batch of another size until it is reset.
STATEFUL: dict[str, None] = {"spikingjelly.*.MemoryModule": None}

# Functions that make a number of a NaN, beside those whose result is no floating-point tensor at all.
COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal", "not_equal"}
DECISIONS = {"item", "tolist", "numpy", "equal", "allclose", "__array__", "__bool__", "__int__", "__float__"}
QUANTISERS = COMPARISONS | DECISIONS | {"sign", "sgn", "heaviside", "nan_to_num", "bernoulli", "poisson"}
CREATORS = {"zeros_like", "ones_like", "empty_like", "full_like", "randint_like", "new_zeros", "new_ones", "new_full"}

Call = Callable[..., Any]


def connections(
    model: nn.Module,
    x: Tensor,
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    neurons: Iterable[str] = (),
) -> dict[str, tuple[int, int]]:
    """Return for each tensor of synapses how many connections are left, and how many there are without any zero.

    A connection joins one sending to one receiving neuron: a kernel weight makes one at each output position where
    it touches the map before it, and none at padding zeros. A neuron without incoming connections is dead, its
    outgoing ones do not count, and so on from layer to layer; its bias does not revive it. Input pixels are alive.
    Recurrent weights are connections too. A module used several times counts once, with every input it ever gets.

    Args:
        model: any module; its weights, the states of its neurons and its mode stay as they are.
        x: a batch of floating-point numbers as the model takes it, of which only the shape matters.
        include: of `find_synapses`.
        exclude: of `find_synapses`.
        neurons: glob patterns on the names of spiking modules of your own, in which each output depends on the
            input at the same place alone; those of SpikingJelly, snnTorch and Norse are known.

    What stands before the features of a linear layer is taken for time steps and samples, which make no
    connections of their own; positions in a sequence of tokens would.

    Raises:
        UsageError: naming the module or tensor where a signal cannot be followed: a threshold outside a spiking
            module, weights that no rule knows or that no known layer uses (attention, `nn.LSTM`).

    >>> net = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    >>> connections(net, torch.zeros(1, 1, 4))  # 4 positions × 3 weights, less the two that touch padding
    {'0.weight': (10, 10), '3.weight': (8, 8)}

    Source: Shi, Ding, Hao and Yu, "Towards Energy Efficient Spiking Neural Networks: An Unstructured Pruning
    Framework", ICLR 2024.
    """
    with plain_weights(model):
        return _connections(model, x, find_synapses(model, include=include, exclude=exclude), neurons)


def _connections(model: nn.Module, x: Tensor, synapses: Synapses, neurons: Iterable[str]) -> dict[str, tuple[int, int]]:
    if synapses.unknown:
        name, owner = synapses.unknown[0]
        raise UsageError(
            f"no rule knows '{name}' of {owner}, so that its connections cannot be counted; "
            f"exclude='{name}' says that it is no tensor of synapses"
        )
    if not x.is_floating_point():
        raise UsageError(f"connections are followed from floating-point inputs, not {x.dtype}; convert x first")
    names = _names(model, neurons)
    whole = _Pass(model, synapses, names, dense=True).count(x)
    for synapse in synapses:
        if not whole[synapse.name]:
            raise UsageError(
                f"the input was not seen to reach '{synapse.name}' of {synapse.module} through layers whose "
                f"connections can be counted; exclude='{synapse.name}' leaves it out"
            )
    left = _Pass(model, synapses, names, dense=False).count(x)
    return {name: (left[name], whole[name]) for name in synapses.names}


class _Pass(TorchFunctionMode):
    """One run of a network on NaNs. `dense` takes every weight as present, `neurons` names modules of the user's."""

    def __init__(self, model: nn.Module, synapses: Synapses, neurons: set[str], dense: bool) -> None:
        super().__init__()
        self.model = model
        self.neurons = neurons
        self.dense = dense
        self.synapses = {id(synapse.parameter): synapse.name for synapse in synapses}
        reasons = dict(synapses.excluded)
        self.never_absent = {
            id(parameter)
            for name, parameter in model.named_parameters()
            if reasons.get(name, "").endswith(STANDARDISED)
        }
        self.running: list[tuple[str, nn.Module]] = []  # the modules being called, outermost first
        self.taken_over = False  # inside a module whose own arithmetic does not matter
        self.counts: dict[tuple[nn.Module, str], int] = {}
        self.inputs: dict[nn.Module, Tensor] = {}  # of one sample: what was alive in any call so far
        self.outputs: dict[nn.Module, Tensor] = {}  # of one sample: what that reaches

    def count(self, x: Tensor) -> Counter[str]:
        """Return the number of connections of each tensor of synapses."""
        with as_it_was(self.model), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            self.model.eval()
            for name, module in self.model.named_modules():
                if any(rules_for(type(module), STATEFUL)):
                    module.reset()  # its state may be that of a batch of another size
                if not isinstance(module, torch.jit.ScriptModule):
                    module.forward = self._instead_of(module.forward, name, module)
            with torch.compiler.set_stance("force_eager"), self:
                self.model(torch.full_like(x, torch.nan))
        total: Counter[str] = Counter()
        for (_, name), count in self.counts.items():
            total[name] += count
        return total

    def _instead_of(self, original: Call, name: str, module: nn.Module) -> Call:
        """Return the forward function that the module has during the pass."""
        tables: list[tuple[Mapping[str, Any], Call]] = [
            (LAYERS, self._layer),
            (CELLS, self._cell),
            (ELEMENTWISE, self._elementwise),
        ]
        found = [(method, rule) for table, method in tables for _, rule in rules_for(type(module), table)]
        if name in self.neurons:
            found = [(self._elementwise, None)]

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.taken_over:
                return original(*args, **kwargs)
            self.running.append((name, module))
            if found:
                method, rule = found[0]
                x, *rest = args or (kwargs.pop(next(iter(kwargs))),)
                self.taken_over = True
                result = method(rule, module, original, x, *rest, **kwargs)
                self.taken_over = False
            else:
                result = original(*args, **kwargs)
            self.running.pop()
            return result

        return forward

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.taken_over:
            return func(*args, **kwargs)
        name = func.__name__ if func.__name__.startswith("__") else func.__name__.rstrip("_")
        if name in QUANTISERS:
            self._refuse_signals(name, args, kwargs)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and not result.is_floating_point() and name not in CREATORS:
            self._refuse_signals(name, args, kwargs)
        return result

    def _refuse_signals(self, function: str, args: Any, kwargs: Any) -> None:
        if any(isinstance(arg, Tensor) and arg.isnan().any() for arg in (*args, *kwargs.values())):
            raise self._refusal(f"calls '{function}' on a signal; neurons= names spiking modules of your own")

    def _refusal(self, reason: str) -> UsageError:
        name, module = self.running[-1]
        place = f"'{name}' ({type(module).__name__})" if name else type(module).__name__
        return UsageError(f"connections cannot be followed through {place}, which {reason}")

    def _layer(self, dims: int, layer: nn.Module, original: Call, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Count a linear layer or a convolution, and mark the neurons that it reaches."""
        alive, news = self._alive(layer, x, dims)
        lead = x.shape[: x.ndim - dims]
        if news:
            weight = layer._parameters.get("weight")
            if weight is None:
                raise self._refusal("computes its weights from other tensors")
            reached = self._reach(layer, weight, alive.reshape(*[1] * len(lead), *alive.shape), *args, **kwargs)
            self.outputs[layer] = reached.reshape(reached.shape[len(lead) :])
        return _mark(self.outputs[layer], (*lead, *self.outputs[layer].shape), x)

    def _cell(
        self, paths: tuple[str, str], cell: nn.Module, original: Call, x: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """Count neurons that have synapses of their own, and mark those that are reached or wake one another."""
        result = original(torch.zeros_like(x), *args, **kwargs)
        feed, back = (_owned(cell, path) for path in paths)
        dims = 1 if back is None or back[1].ndim == 2 else back[1].ndim - 1
        alive, news = self._alive(cell, x, dims)
        if news:
            shape = next(_tensors(result)).shape[-dims:]
            # The weights of a gated cell stand below one another, gate by gate.
            awake = self._reach(*feed, alive).reshape(-1, *shape).any(0) if feed else alive
            while back:
                woken = self._reach(*back, awake).reshape(-1, *shape).any(0) & ~awake
                if not woken.any():
                    break
                awake = awake | woken
            self.outputs[cell] = awake
        return _marked(result, self.outputs[cell], x)

    def _elementwise(self, rule: None, module: nn.Module, original: Call, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the module on zeros, for the form of what it returns, and mark that like the input."""
        result = original(torch.zeros_like(x), *args, **kwargs)
        shape = next(_tensors(result)).shape
        if x.shape not in (shape, shape[1:]):
            raise self._refusal(f"made {tuple(shape)} of {tuple(x.shape)} and not an output for each input")
        return _marked(result, x.isnan(), x)

    def _alive(self, module: nn.Module, x: Tensor, dims: int) -> tuple[Tensor, bool]:
        """Return which inputs of the module were alive in any call, of one sample, and whether that is new."""
        lead, shape = x.shape[: x.ndim - dims], x.shape[x.ndim - dims :]
        if x.ndim < dims or len(lead) > 2:
            raise self._refusal(
                f"got {tuple(x.shape)}: {dims} dimensions and in front of them time and sample are known"
            )
        alive = x.isnan().reshape(-1, *shape).any(0)
        known = self.inputs.get(module)
        if known is not None:
            if known.shape != alive.shape:
                raise self._refusal(
                    f"was given {tuple(known.shape)} and {tuple(shape)}: what it connects must be one thing"
                )
            alive = alive | known
        self.inputs[module] = alive
        return alive, known is None or not known.equal(alive)

    def _reach(self, owner: nn.Module, weight: Tensor, alive: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Count the connections that living inputs of one sample make by `weight`; return which neurons they reach."""
        whole = self.dense or id(weight) in self.never_absent
        present = torch.ones_like(weight, dtype=torch.bool) if whole else weight != 0
        # With ones for weights and inputs an output is the number of its connections: in float32 exact below 2^24.
        most = max(weight.shape[1:].numel(), weight.numel() // weight.shape[1])
        dtype = torch.float32 if most < 2**24 else torch.float64
        ones, kernel = alive.to(dtype), present.to(dtype)
        if weight.ndim == 2:
            sums = F.linear(ones, kernel)
        else:  # the layer itself knows its stride, padding, groups and output size
            tensors = {name: torch.zeros_like(bias, dtype=dtype) for name, bias in owner.named_parameters()}
            sums = functional_call(owner, tensors | {"weight": kernel}, (ones, *args), kwargs)
        sums = sums.round()  # a fast algorithm for convolutions may miss by a little
        if id(weight) in self.synapses:
            self.counts[owner, self.synapses[id(weight)]] = int(sums.long().sum())
        return sums > 0


def _mark(alive: Tensor, shape: Iterable[int], x: Tensor) -> Tensor:
    """Return NaN where a neuron is alive and 0 elsewhere, in the type of `x`."""
    marks = x.new_zeros(alive.shape).masked_fill(alive, torch.nan)
    return marks.expand(*shape).contiguous()  # so that it may be written to in place


def _marked(result: Any, alive: Tensor, x: Tensor) -> Any:
    """Return the output of a module with each of its tensors that has a place for every neuron marked."""
    if isinstance(result, Tensor):
        fits = result.shape[result.ndim - alive.ndim :] == alive.shape
        return _mark(alive, result.shape, x) if fits else result
    if isinstance(result, tuple | list):
        parts = [_marked(part, alive, x) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    return result


def _tensors(result: Any) -> Iterator[Tensor]:
    """Yield the tensors in the output of a module, its spikes first."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors(part)


def _owned(cell: nn.Module, path: str) -> tuple[nn.Module, Tensor] | None:
    """Return the module that owns a tensor of synapses, and the tensor."""
    *parents, name = path.split(".")
    owner = cell.get_submodule(".".join(parents))
    weight = getattr(owner, name, None)
    return None if weight is None else (owner, weight)


def _names(model: nn.Module, neurons: Iterable[str]) -> set[str]:
    """Return the names of the modules that the patterns match; each must match one."""
    patterns = (neurons,) if isinstance(neurons, str) else tuple(neurons)
    known = [name for name, _ in model.named_modules()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(f"neurons: no module's name matches '{pattern}'{nearest(pattern, known)}")
    return {name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)}


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Give every module back its attributes, and what its dictionaries and lists held."""
    saved = []
    for module in model.modules():
        parts = [vars(module), *vars(module).values()]
        saved += [(part, part.copy()) for part in parts if isinstance(part, dict | list)]
    try:
        yield
    finally:
        for part, content in saved:
            part.clear()
            part.extend(content) if isinstance(part, list) else part.update(content)
