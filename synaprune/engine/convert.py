"""PyTorch models to networks of the engine.

Rules go by the qualified name of a module's own class, not of its bases: a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import isqrt
from typing import Any

import numpy as np
from torch import Tensor, nn

from synaprune.computed import plain_weights
from synaprune.engine.graph import Network
from synaprune.engine.layers import AvgPool, Conv, Flatten, Layer, Linear, MaxPool, Neuron, Shape, Vote, Weight
from synaprune.errors import UsageError

__all__ = ["from_torch"]

Named = tuple[str, Any]


def from_torch(
    model: nn.Module,
    *,
    T: int | None = None,
    input_shape: Sequence[int] | None = None,
    coding: str | None = None,
    readout: str | None = None,
) -> Network:
    """Return the network that a model computes in evaluation mode, batch normalisation folded into its weights.

    Args:
        model: `SpikingMLP`, `SpikingCNN`, what `to_torch` returns, or an `nn.Sequential`, nested or not, of torch's
            or SpikingJelly's Linear, Conv1d, Conv2d, BatchNorm1d, BatchNorm2d, MaxPool, AvgPool, Flatten, Dropout,
            of SpikingJelly's LIFNode, ParametricLIFNode, IFNode, ThresholdDependentBatchNorm and VotingLayer, and of
            synaprune's LIF.
        T: time steps; needed for an `nn.Sequential`, the other models know theirs.
        input_shape: of one sample; needed for an `nn.Sequential` that does not begin with a Linear.
        coding: "static" or "spikes", as in `Network`; default: static.
        readout: "rate" or "count", as in `Network`; default: rate.

    Raises:
        UsageError: for a module that cannot be converted, by its name, and where `T` or `input_shape` is missing.

    >>> from spikingjelly.activation_based import layer, neuron
    >>> model = nn.Sequential(layer.Linear(784, 10, step_mode="m"), neuron.LIFNode(step_mode="m"))
    >>> [str(layer) for layer in from_torch(model, T=8).layers]
    ["linear '0'", "neuron '1'"]
    """
    read = next((read for pattern, read in MODELS.items() if fnmatchcase(_class(model), pattern)), None)
    if read is None:
        known = ", ".join(pattern.rpartition(".")[2] for pattern in MODELS)
        raise UsageError(f"the engine does not know the model {type(model).__name__}; it takes {known}")
    modules, given = read(model)
    asked: dict[str, Any] = {"T": T, "input_shape": None if input_shape is None else tuple(input_shape)}
    asked |= {"coding": coding, "readout": readout}
    settings = given | {name: value for name, value in asked.items() if value is not None}
    for name in ("T", "input_shape"):
        if settings.get(name) is None:
            raise UsageError(f"{name} cannot be read from this {type(model).__name__}; give {name}=…")
    with plain_weights(model):
        return Network(tuple(_layers(modules)), **settings)


def _class(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


# How each model is read: its modules in the order in which they act, and what it knows of T, shape and coding.


def _read_mlp(model: Any) -> tuple[list[Named], dict[str, Any]]:
    return [("flatten", nn.Flatten()), *_chain("", model)], {"T": model.T, "input_shape": (model.fc1.in_features,)}


def _read_cnn(model: Any) -> tuple[list[Named], dict[str, Any]]:
    size = 4 * isqrt(model.fc1.in_features // model.stem[0].out_channels)
    shape = (model.stem[0].in_channels, size, size)
    return [*_chain("", model), ("vote", Vote(group=10))], {"T": model.T, "input_shape": shape}


def _read_chain(model: Any) -> tuple[list[Named], dict[str, Any]]:
    settings = {name: getattr(model, name) for name in ("T", "input_shape", "coding", "readout")}
    return list(_chain("", model.layers)), settings


def _read_sequence(model: Any) -> tuple[list[Named], dict[str, Any]]:
    modules = list(_chain("", model))
    first = modules[0][1] if modules else None
    return modules, {"input_shape": (first.in_features,)} if isinstance(first, nn.Linear) else {}


MODELS: dict[str, Callable[[Any], tuple[list[Named], dict[str, Any]]]] = {
    "synaprune.models.mlp.SpikingMLP": _read_mlp,
    "synaprune.models.cnn.SpikingCNN": _read_cnn,
    "synaprune.engine.chain.Chain": _read_chain,
    "torch.nn.modules.container.Sequential": _read_sequence,
}
CONTAINERS = ("torch.nn.modules.container.Sequential", "spikingjelly.*.container.*Container")


def _chain(prefix: str, model: nn.Module) -> Iterator[Named]:
    """Yield the modules of a chain by their dotted names, those of nested sequences in their place."""
    for name, module in model._modules.items():
        if module is None:
            continue
        if any(fnmatchcase(_class(module), pattern) for pattern in CONTAINERS):
            yield from _chain(f"{prefix}{name}.", module)
        else:
            yield f"{prefix}{name}", module


def _layers(modules: Sequence[Named]) -> list[Layer]:
    layers: list[Layer] = []
    seen: dict[int, str] = {}
    for name, module in modules:
        if (first := seen.setdefault(id(module), name)) != name:
            raise UsageError(f"'{name}' is the same module as '{first}'; the engine needs one for each place")
        if isinstance(module, Layer):
            layers.append(replace(module, name=name))
            continue
        rule = next((rule for patterns, rule in RULES.items() if _is(module, patterns)), None)
        if rule is None:
            raise UsageError(f"the engine cannot run '{name}', a {_class(module)}")
        rule(name, module, layers)
    return layers


def _is(module: nn.Module, patterns: str) -> bool:
    return any(fnmatchcase(_class(module), pattern) for pattern in patterns.split())


# Each rule adds the layer of one module to those before it.


def _linear(name: str, module: Any, layers: list[Layer]) -> None:
    layers.append(Linear(name, weight=Weight.from_dense(_array(module.weight)), bias=_bias(module)))


def _conv(name: str, module: Any, layers: list[Layer]) -> None:
    _require(name, "padding_mode", module.padding_mode, "zeros")
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size)]
    padding = module.padding
    if isinstance(padding, str):
        if padding == "same" and any(r % 2 for r in reach):
            raise UsageError(f"the engine cannot run '{name}': its padding is not the same on both sides")
        padding = [r // 2 if padding == "same" else 0 for r in reach]
    layers.append(
        Conv(
            name,
            weight=Weight.from_dense(_array(module.weight)),
            bias=_bias(module),
            stride=_whole(module.stride),
            padding=_whole(padding),
            dilation=_whole(module.dilation),
            groups=module.groups,
        )
    )


def _norm(name: str, module: Any, layers: list[Layer]) -> None:
    before = layers[-1] if layers else None
    if not isinstance(before, Linear | Conv):
        raise UsageError(
            f"the engine cannot run '{name}': normalisation must directly follow a Linear or a convolution"
        )
    if module.running_mean is None:
        raise UsageError(f"the engine cannot run '{name}': it normalises by the batch and has no running statistics")
    mean, scale = (
        _array(module.running_mean, np.float64),
        1 / np.sqrt(_array(module.running_var, np.float64) + module.eps),
    )
    shift = np.zeros_like(mean)
    if module.affine:
        scale, shift = scale * _array(module.weight, np.float64), _array(module.bias, np.float64)
    if len(scale) != before.weight.shape[0]:
        raise UsageError(f"'{name}' normalises {len(scale)} channels, but {before} has {before.weight.shape[0]}")
    size = int(np.prod(before.weight.shape[1:]))
    values = (before.weight.values * scale[before.weight.positions // size]).astype(np.float32)
    bias = (0 if before.bias is None else before.bias) * scale + shift - mean * scale
    weight = Weight(before.weight.shape, before.weight.positions, values)
    layers[-1] = replace(before, weight=weight, bias=bias.astype(np.float32))


def _neuron(name: str, module: Any, layers: list[Layer]) -> None:
    if not module.surrogate_function.spiking:
        raise UsageError(f"the engine cannot run '{name}': its surrogate function does not spike")
    settings: dict[str, Any] = {"tau": None}
    if hasattr(module, "decay_input"):
        # A learned 1 / tau is the sigmoid of a parameter.
        tau = module.tau if hasattr(module, "tau") else 1 + (-module.w.detach().double()).exp()
        settings = {"tau": float(tau), "decay_input": bool(module.decay_input)}
    reset = None if module.v_reset is None else float(module.v_reset)
    layers.append(Neuron(name, threshold=float(module.v_threshold), reset=reset, **settings))


def _pool(name: str, module: Any, layers: list[Layer]) -> None:
    largest = "MaxPool" in type(module).__name__
    _require(name, "ceil_mode", module.ceil_mode, False)
    if largest:
        _require(name, "dilation", module.dilation, 1, (1,), (1, 1))
        _require(name, "return_indices", module.return_indices, False)
    else:
        if any(_whole(module.padding)):
            _require(name, "count_include_pad", module.count_include_pad, True)
        _require(name, "divisor_override", getattr(module, "divisor_override", None), None)
    dims = int(type(module).__name__[-2])
    kernel, stride, padding = (_whole(n, dims) for n in (module.kernel_size, module.stride, module.padding))
    layers.append((MaxPool if largest else AvgPool)(name, kernel=kernel, stride=stride, padding=padding))


def _flatten(name: str, module: Any, layers: list[Layer]) -> None:
    _require(name, "start_dim", module.start_dim, 1)
    _require(name, "end_dim", module.end_dim, -1)
    layers.append(Flatten(name))


def _vote(name: str, module: Any, layers: list[Layer]) -> None:
    layers.append(Vote(name, group=module.voting_size))


def _nothing(name: str, module: Any, layers: list[Layer]) -> None:
    """Add no layer: the module does nothing in evaluation mode."""


# Qualified class names (globs) → rule.
RULES: dict[str, Callable[[str, Any, list[Layer]], None]] = {
    "torch.nn.modules.linear.Linear spikingjelly.*.layer.*.Linear": _linear,
    "torch.nn.modules.conv.Conv[12]d spikingjelly.*.layer.*.Conv[12]d": _conv,
    "torch.nn.modules.batchnorm.BatchNorm[12]d spikingjelly.*.layer.*.BatchNorm[12]d"
    " spikingjelly.*.layer.*.ThresholdDependentBatchNorm[12]d": _norm,
    "spikingjelly.*.neuron.*.LIFNode spikingjelly.*.neuron.*.IFNode spikingjelly.*.neuron.*.ParametricLIFNode"
    " synaprune.models.lif.LIF": _neuron,
    "torch.nn.modules.pooling.MaxPool[12]d spikingjelly.*.layer.*.MaxPool[12]d": _pool,
    "torch.nn.modules.pooling.AvgPool[12]d spikingjelly.*.layer.*.AvgPool[12]d": _pool,
    "torch.nn.modules.flatten.Flatten spikingjelly.*.layer.*.Flatten": _flatten,
    "spikingjelly.*.layer.*.VotingLayer": _vote,
    "torch.nn.modules.dropout.Dropout* spikingjelly.*.layer.*.Dropout*": _nothing,
    "torch.nn.modules.linear.Identity": _nothing,
}


def _require(name: str, what: str, value: Any, *allowed: Any) -> None:
    if value not in allowed:
        raise UsageError(f"the engine cannot run '{name}' with {what}={value!r}; it needs {what}={allowed[0]!r}")


def _array(tensor: Tensor, dtype: type = np.float32) -> np.ndarray:
    return tensor.detach().cpu().double().numpy().astype(dtype)


def _bias(module: Any) -> np.ndarray | None:
    return None if module.bias is None else _array(module.bias)


def _whole(numbers: int | Sequence[int], dims: int = 1) -> Shape:
    return (numbers,) * dims if isinstance(numbers, int) else tuple(map(int, numbers))
