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
from torch import nn

from synaprune.computed import plain_weights
from synaprune.engine.draft import Draft, array, require, whole
from synaprune.engine.graph import Network
from synaprune.engine.layers import Conv, Flatten, Layer, Linear, Shape, Vote, Weight
from synaprune.engine.neurons import box, fire, leaky, lif
from synaprune.engine.norms import fold_forward, norm
from synaprune.engine.pools import adaptive_pool, pool
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
        model: `SpikingMLP`, `SpikingCNN`, what `to_torch` returns, or an `nn.Sequential` or Norse's
            `SequentialState`, nested or not, of torch's or SpikingJelly's Linear, Conv1d, Conv2d, BatchNorm1d,
            BatchNorm2d, MaxPool, AvgPool, adaptive pools, Flatten, Dropout, of SpikingJelly's LIFNode,
            ParametricLIFNode, IFNode, ThresholdDependentBatchNorm and VotingLayer, of snnTorch's Leaky, Norse's
            LIFBoxCell and synaprune's LIF. A last Linear without neurons reads out its currents.
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
        raise UsageError(
            f"the engine does not know the model {type(model).__name__}; it takes {known}: give its modules in an "
            "nn.Sequential, in the order in which they act"
        )
    modules, given = read(model)
    asked: dict[str, Any] = {"T": T, "input_shape": None if input_shape is None else tuple(input_shape)}
    asked |= {"coding": coding, "readout": readout}
    settings = given | {name: value for name, value in asked.items() if value is not None}
    for name in ("T", "input_shape"):
        if settings.get(name) is None:
            raise UsageError(f"{name} cannot be read from this {type(model).__name__}; give {name}=…")
    with plain_weights(model):
        return Network(tuple(_layers(modules, settings["input_shape"])), **settings)


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
    "norse.torch.module.sequential.SequentialState": _read_sequence,
}
CONTAINERS = (
    "torch.nn.modules.container.Sequential",
    "spikingjelly.*.container.*Container",
    "norse.torch.module.sequential.SequentialState",
    "norse.torch.module.lift.Lift",
)


def _chain(prefix: str, model: nn.Module) -> Iterator[Named]:
    """Yield the modules of a chain by their dotted names, those of nested sequences in their place."""
    for name, module in model._modules.items():
        if module is None:
            continue
        if any(fnmatchcase(_class(module), pattern) for pattern in CONTAINERS):
            yield from _chain(f"{prefix}{name}.", module)
        else:
            yield f"{prefix}{name}", module


def _layers(modules: Sequence[Named], input_shape: Shape) -> list[Layer]:
    layers = Draft(input_shape)
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
        before = len(layers)
        waiting = layers.norm
        rule(name, module, layers)
        if waiting and layers.norm is waiting and len(layers) > before:
            fold_forward(waiting, layers)
    if layers.norm:
        raise UsageError(f"the engine cannot run '{layers.norm[0]}': no synapses follow it, nor does it follow any")
    return layers


def _is(module: nn.Module, patterns: str) -> bool:
    return any(fnmatchcase(_class(module), pattern) for pattern in patterns.split())


# Each rule adds the layer of one module to those before it.


def _linear(name: str, module: Any, layers: Draft) -> None:
    layers.append(Linear(name, weight=Weight.from_dense(array(module.weight)), bias=_bias(module)))


def _conv(name: str, module: Any, layers: Draft) -> None:
    require(name, "padding_mode", module.padding_mode, "zeros")
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size)]
    padding = module.padding
    if isinstance(padding, str):
        if padding == "same" and any(r % 2 for r in reach):
            raise UsageError(f"the engine cannot run '{name}': its padding is not the same on both sides")
        padding = [r // 2 if padding == "same" else 0 for r in reach]
    layers.append(
        Conv(
            name,
            weight=Weight.from_dense(array(module.weight)),
            bias=_bias(module),
            stride=whole(module.stride),
            padding=whole(padding),
            dilation=whole(module.dilation),
            groups=module.groups,
        )
    )


def _flatten(name: str, module: Any, layers: Draft) -> None:
    require(name, "start_dim", module.start_dim, 1)
    require(name, "end_dim", module.end_dim, -1)
    layers.append(Flatten(name))


def _vote(name: str, module: Any, layers: Draft) -> None:
    layers.append(Vote(name, group=module.voting_size))


def _nothing(name: str, module: Any, layers: Draft) -> None:
    """Add no layer: the module does nothing in evaluation mode."""


# Qualified class names (globs) → rule.
RULES: dict[str, Callable[[str, Any, Draft], None]] = {
    "torch.nn.modules.linear.Linear spikingjelly.*.layer.*.Linear": _linear,
    "torch.nn.modules.conv.Conv[12]d spikingjelly.*.layer.*.Conv[12]d": _conv,
    "torch.nn.modules.batchnorm.BatchNorm[12]d spikingjelly.*.layer.*.BatchNorm[12]d"
    " spikingjelly.*.layer.*.ThresholdDependentBatchNorm[12]d": norm,
    "spikingjelly.*.neuron.*.LIFNode spikingjelly.*.neuron.*.IFNode spikingjelly.*.neuron.*.ParametricLIFNode"
    " synaprune.models.lif.LIF": lif,
    "torch.nn.modules.pooling.MaxPool[12]d spikingjelly.*.layer.*.MaxPool[12]d": pool,
    "torch.nn.modules.pooling.AvgPool[12]d spikingjelly.*.layer.*.AvgPool[12]d": pool,
    "torch.nn.modules.pooling.Adaptive*Pool[12]d spikingjelly.*.layer.*.Adaptive*Pool[12]d": adaptive_pool,
    "snntorch.*.Leaky": leaky,
    "norse.torch.module.lif_box.LIFBoxCell": box,
    "norse.torch.module.iaf.IAF norse.torch.module.iaf.IAFCell": fire,
    "torch.nn.modules.flatten.Flatten spikingjelly.*.layer.*.Flatten": _flatten,
    "spikingjelly.*.layer.*.VotingLayer": _vote,
    "torch.nn.modules.dropout.Dropout* spikingjelly.*.layer.*.Dropout*": _nothing,
    "torch.nn.modules.linear.Identity": _nothing,
}


def _bias(module: Any) -> np.ndarray | None:
    return None if module.bias is None else array(module.bias)
