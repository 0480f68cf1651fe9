"""What a user hands to a rewiring method, as parameter groups."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from synaprune.errors import UsageError
from synaprune.options import check
from synaprune.plain import plain
from synaprune.synapses import find_synapses

__all__ = [
    "Group",
    "Params",
    "Sparsity",
    "check_names",
    "check_numbers",
    "check_type",
    "groups_of",
    "margin_of",
    "moves",
    "name_newcomers",
    "own_values",
]

log = logging.getLogger("synaprune")

Params = nn.Module | Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Group = dict[str, Any]
Sparsity = float | Mapping[str, float]


def moves(weight: Tensor) -> bool:
    """Tell whether the next step moves a tensor: it learns, and has a gradient to learn from."""
    return weight.requires_grad and weight.grad is not None


def groups_of(params: Params, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> list[Group]:
    """Return parameter groups whose members are lists.

    Of a module these are the rewired synapses, the excluded ones, and everything else that is trained. Weights
    that no rule knows are trained plainly, and a warning in the log names them.

    Raises:
        UsageError: nothing at all, a module without synapses, patterns without names.
        TypeError: a single tensor.
    """
    if isinstance(params, nn.Module):
        return _of_module(params, *(p if isinstance(p, str) else tuple(p) for p in (include, exclude)))
    if include or exclude:
        raise UsageError(
            "include and exclude take names, so they need a module; in a list, give a group rewire=False instead"
        )
    return _of_tensors(params)


def _of_module(module: nn.Module, include: Iterable[str], exclude: Iterable[str]) -> list[Group]:
    everything = find_synapses(module, include=include)
    rewired = find_synapses(module, include=include, exclude=exclude)
    for name, owner in rewired.unknown:
        log.warning(
            "no rule knows whether '%s' in %s is synapses; it is trained plainly (include=, exclude=)", name, owner
        )
    for weight in rewired.computed:
        if weight.pruned:
            raise UsageError(
                f"'{weight.name}' is pruned by torch.nn.utils.prune, whose mask would hide what regrows; "
                "synaprune.adopt_pruned(model) makes it a parameter, with absent synapses absent"
            )
        log.warning(
            "'%s' is computed by %s and so cannot be rewired; what it is made of (%s) is trained plainly",
            *(weight.name, weight.how, ", ".join(weight.sources)),
        )
    if not len(rewired):
        why = "print(find_synapses(model)) says why"
        if rewired.computed:
            first = rewired.computed[0]
            why = f"'{first.name}' is computed by {first.how}; {first.remedy} makes it a parameter"
        raise UsageError(f"{type(module).__name__} has no synapses to rewire; {why}")
    chosen = {id(synapse.parameter) for synapse in rewired}
    spared = [(s.name, s.parameter) for s in everything if id(s.parameter) not in chosen]
    synapses = {id(synapse.parameter) for synapse in everything}
    rest = [(n, p) for n, p in module.named_parameters() if p.requires_grad and id(p) not in synapses]
    groups: list[Group] = [
        {"params": [(s.name, s.parameter) for s in rewired]},
        {"params": spared, "rewire": False},
        {"params": rest, "rewire": False, "counted": False},
    ]
    return [group for group in groups if group["params"]]


def _of_tensors(params: Params) -> list[Group]:
    if isinstance(params, Tensor):
        raise TypeError(
            "params argument given to the optimizer should be an iterable of Tensors or dicts, or a module, but got "
            f"{torch.typename(params)}"
        )
    entries: list[Any] = list(params)  # type: ignore[arg-type]
    if not entries:
        raise UsageError("there is nothing to train: params is empty (a generator can be used only once)")
    if not isinstance(entries[0], dict):
        entries = [{"params": entries}]
    groups = []
    for group in entries:
        members = group["params"]
        if not isinstance(members, set):  # torch refuses a set, because its order is not stable
            members = [members] if isinstance(members, Tensor) else list(members)
            if group.get("rewire", True):
                _warn_of_vectors([member[1] if isinstance(member, tuple) else member for member in members])
        groups.append({**group, "params": members})
    return groups


def _warn_of_vectors(tensors: list[Any]) -> None:
    """Warn of biases and normalisations among the synapses: torch's habit, `model.parameters()`, brings them along."""
    vectors = [n for n, t in enumerate(tensors) if isinstance(t, Tensor) and t.ndim < 2]
    if 0 < len(vectors) < len(tensors):
        log.warning(
            "tensors %s have fewer than two dimensions, as biases and normalisations do, and are rewired and counted "
            "like synapses; pass the module in place of its parameters, or put them into a group with rewire=False and "
            "counted=False",
            ", ".join(map(str, vectors)),
        )


def check_names(group: Group, known: Iterable[str], method: str) -> None:
    """Refuse an option of a group whose name is a slip of the pen; notes of somebody's own are none of our business.

    Raises:
        UsageError: naming the option that is meant.
    """
    known = {"params", *known}
    for name in group.keys() - known if isinstance(group, dict) else ():
        if not name.endswith("_lr") and (close := difflib.get_close_matches(name, known, n=1, cutoff=0.85)):
            raise UsageError(f"{method} has no option '{name}' of a group; did you mean '{close[0]}'?")


def own_values(group: Group) -> None:
    """Give a group tensors of its own as values: a scheduler writes into a learning rate, once for each group."""
    for option, value in group.items():
        if isinstance(value, Tensor):
            group[option] = value.clone()


def check_numbers(group: Group) -> None:
    """Bring a group's numbers into Python's own types, and refuse those that no method can do anything with.

    Raises:
        UsageError: naming the option.
    """
    for option, value in group.items():
        if option not in ("params", "param_names"):
            group[option] = value = plain(value)
            if getattr(value, "shape", ()) != ():
                raise UsageError(f"{option} is an array of shape {tuple(value.shape)}; give one number")
            if type(value) is int and value.bit_length() > 62:
                raise UsageError(f"{option} is a whole number of {value.bit_length()} bits, and 62 is the most")
    check(("margin", "seed"), group)


def check_type(weight: Tensor, name: str) -> None:
    """Refuse tensors that cannot be rewired.

    Raises:
        UsageError: the tensor is one of many processes, was made in inference mode, or is of 16-bit floats with few
            exponents, of integers or of complex numbers.
    """
    if type(weight).__module__.startswith("torch.distributed.tensor"):
        raise UsageError(
            f"{name} is a DTensor, of which each process has a part, and synapses are ranked in whole tensors; train "
            "with DistributedDataParallel in place of fully_shard, or give its group rewire=False"
        )
    if weight.is_inference():
        raise UsageError(f"{name} was made in inference mode and cannot be trained; make the model outside of it")
    if not weight.is_floating_point():
        kind = "complex numbers, which have no sign" if weight.is_complex() else "whole numbers, which have no gradient"
        raise UsageError(f"{name} holds {kind}; leave it out, or give its group rewire=False")
    if weight.dtype == torch.float16:
        raise UsageError(
            f"{name} is {weight.dtype}, whose values near the threshold underflow; "
            "keep float32 or bfloat16 weights and use autocast for speed"
        )


def name_newcomers(group: Group, groups: list[Group]) -> None:
    """Give names to the tensors of a group that comes without, to groups that have taken theirs from a module."""
    if not isinstance(group, dict) or isinstance(group["params"], set):
        return  # which torch refuses
    members = group["params"]
    group["params"] = members = [members] if isinstance(members, Tensor) else list(members)
    if not any(isinstance(member, tuple) for member in members):
        before = sum(len(other["params"]) for other in groups)
        group["params"] = [(f"tensor {before + i}", member) for i, member in enumerate(members)]


def margin_of(group: Group, rate: Any) -> float:
    """Return how far below the threshold an absent synapse starts: ten learning rates if the group does not say."""
    if group["margin"] is not None:
        return float(group["margin"])
    # A warm-up may have made the rate of this very step tiny.
    return 10.0 * max(float(value or 0.0) for value in (rate, *map(group.get, ("lr", "initial_lr", "max_lr"))))
