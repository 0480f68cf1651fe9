"""From a checkpoint's state back to a network and its optimizer, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from synaprune.errors import UsageError, short
from synaprune.optim.rewirer import Rewirer
from synaprune.reading import Fault, named
from synaprune.schema import LARGE
from synaprune.train.checkpoint import REMEDY, check_model

__all__ = ["check_optimizer", "restore"]

# What an optimizer may raise that is given the state of something else.
ODD = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def restore(network: nn.Module, optimizer: Rewirer, state: Mapping[str, Any], source: Path) -> None:
    """Give network and optimizer the state of a checkpoint.

    Raises:
        UsageError: it is of another model or method, or of no form that an optimizer's state has.

    """
    check_model(network, state["model"], source)
    with named(f"checkpoint '{source}'", REMEDY):
        check_optimizer(optimizer, state["optimizer"])
        network.load_state_dict(state["model"])
        try:
            optimizer.load_state_dict(state["optimizer"])
        except UsageError:
            raise
        except ODD as error:
            raise Fault(f"holds no state that this optimizer can have ({short(error)})") from error


def check_optimizer(optimizer: Rewirer, saved: Mapping[str, Any]) -> None:
    """Check the form of an optimizer's state: its options are of the kind of ours, and its tensors of one kind.

    Every tensor of synapses has the same things in its state: the latents, and what the method and the base keep.

    Raises:
        Fault: it has another form.

    """
    groups, states = saved["param_groups"], saved["state"]
    if len(groups) != len(optimizer.param_groups) or not isinstance(states, Mapping):
        raise Fault("holds the state of another optimizer")
    index = 0
    kinds: dict[object, object] = {}  # bases may keep other things for vectors than for matrices
    for mine, group in zip(optimizer.param_groups, groups):
        if not isinstance(group.get("params"), list) or len(group["params"]) != len(mine["params"]):
            raise Fault("holds the state of another optimizer")
        for option, value in mine.items():
            if option != "params" and option in group and not _alike(value, group[option]):
                raise Fault(f"holds {short(group[option])} where '{option}' of the optimizer is such as {short(value)}")
        for weight in mine["params"]:
            own = states.get(index, {})
            if not isinstance(own, Mapping) or (mine["rewire"] and not own):
                raise Fault(f"holds no state of the optimizer's tensor {index}")
            kind = _kind(own, weight)
            if own and kinds.setdefault((mine["rewire"], weight.ndim), kind) != kind:
                raise Fault(f"holds a state of the optimizer's tensor {index} that is unlike those of the others")
            index += 1


def _alike(mine: Any, value: Any) -> bool:
    """Whether two options are of one kind; what torch chooses by the device may be absent on another."""
    if mine is None:
        return value is None or isinstance(value, bool | str) or _number(value)
    if isinstance(mine, bool):
        return isinstance(value, bool) or value is None
    if isinstance(mine, Tensor | int | float):
        return _number(value) or isinstance(value, Tensor)
    if isinstance(mine, list | tuple):
        return isinstance(value, list | tuple) and len(mine) == len(value) and all(map(_alike, mine, value))
    if isinstance(mine, Mapping):
        return isinstance(value, Mapping) and all(key in value and _alike(mine[key], value[key]) for key in mine)
    return isinstance(value, str) or not isinstance(mine, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGE


def _kind(value: Any, weight: Tensor) -> object:
    """Return what values of one kind have in common."""
    if isinstance(value, Mapping):
        return {key: _kind(inner, weight) for key, inner in value.items()}
    if isinstance(value, Tensor):
        return value.dtype, "as the weight" if value.shape == weight.shape else value.ndim
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_kind(inner, weight) for inner in value]
    return "a number" if _number(value) else type(value)
