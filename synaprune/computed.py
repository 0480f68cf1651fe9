"""Weights that a module computes from other tensors before it uses them, and that are no parameters therefore.

Three mechanisms of torch do so: `torch.nn.utils.prune` multiplies by a mask, `torch.nn.utils.parametrize` (spectral and
weight normalisation among others) calls any module, and the older normalisations compute in a hook, as pruning does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

__all__ = ["Computed", "computed_weights", "plain_weights"]


@dataclass(frozen=True, eq=False)
class Computed:
    """A weight that is computed: its dotted name, whose it is, what computes it, and the parameters it is made of."""

    name: str
    owner: nn.Module
    maker: Any
    sources: dict[str, nn.Parameter]

    @property
    def attribute(self) -> str:
        """Return the name by which its module knows it."""
        return self.name.rpartition(".")[2]

    @property
    def pruned(self) -> bool:
        """Tell whether it is what a mask of `torch.nn.utils.prune` leaves."""
        return isinstance(self.maker, prune.BasePruningMethod)

    @property
    def how(self) -> str:
        """Return what computes it, in a word."""
        if self.pruned:
            return "torch.nn.utils.prune"
        makers = self.maker if isinstance(self.maker, nn.ModuleList) else [self.maker]
        return ", ".join(type(maker).__name__.lstrip("_") for maker in makers)

    @property
    def remedy(self) -> str:
        """Return the function that makes it a parameter."""
        if self.pruned:
            return "synaprune.adopt_pruned"
        names = {WeightNorm: "remove_weight_norm", SpectralNorm: "remove_spectral_norm"}
        return f"torch.nn.utils.{names.get(type(self.maker), 'parametrize.remove_parametrizations')}"

    @torch.no_grad()
    def value(self) -> Tensor:
        """Return the weight as it would be used now in evaluation mode; nothing changes by that."""
        if isinstance(self.maker, prune.BasePruningMethod):
            return self.maker.apply_mask(self.owner)
        if isinstance(self.maker, WeightNorm):
            return torch.as_tensor(self.maker.compute_weight(self.owner))
        if isinstance(self.maker, SpectralNorm):
            return self.maker.compute_weight(self.owner, do_power_iteration=False)
        modes = [(module, module.training) for module in self.maker.modules()]
        self.maker.eval()  # spectral normalisation changes its state in training mode
        try:
            return torch.as_tensor(getattr(self.owner, self.attribute)).detach()
        finally:
            for module, training in modes:
                module.training = training


def computed_weights(module: nn.Module) -> list[Computed]:
    """Return all weights that modules inside of this one compute, whether they are synapses or not.

    >>> [weight.name for weight in computed_weights(prune.l1_unstructured(nn.Linear(4, 3), "weight", amount=0.5))]
    ['weight']
    """
    found = []
    for path, owner in module.named_modules():
        prefix = f"{path}." if path else ""
        for maker in owner._forward_pre_hooks.values():
            if isinstance(maker, prune.BasePruningMethod):
                name, suffixes = maker._tensor_name, ["_orig"]
            elif isinstance(maker, WeightNorm | SpectralNorm):
                name, suffixes = maker.name, ["_orig", "_g", "_v"]
            else:
                continue
            known = {f"{name}{suffix}": owner._parameters.get(f"{name}{suffix}") for suffix in suffixes}
            found.append((f"{prefix}{name}", owner, maker, {f"{prefix}{key}": p for key, p in known.items()}))
        if parametrize.is_parametrized(owner):
            for name, maker in owner.parametrizations.items():
                made_of = maker.named_parameters(f"{prefix}parametrizations.{name}")
                found.append((f"{prefix}{name}", owner, maker, dict(made_of)))
    return [
        Computed(name, owner, maker, {key: p for key, p in sources.items() if p is not None})
        for name, owner, maker, sources in found
    ]


@contextmanager
def plain_weights(module: nn.Module) -> Iterator[None]:
    """Make each computed weight a parameter of the value that it has now, until the block is over.

    >>> net = prune.l1_unstructured(nn.Linear(4, 3), "weight", amount=0.5)
    >>> with plain_weights(net):
    ...     print(sorted(net._parameters), int(torch.count_nonzero(net.weight)))
    ['bias', 'weight'] 6
    >>> sorted(net._parameters)
    ['bias', 'weight_orig']
    """
    found = [(weight, weight.value()) for weight in computed_weights(module)]
    owners = {weight.owner: type(weight.owner) for weight, _ in found}
    names = ("_parameters", "_buffers", "_modules", "_forward_pre_hooks")
    kept = [(part := getattr(owner, name), part.copy()) for owner in owners for name in names]
    attributes = [(w.owner, w.attribute, vars(w.owner)[w.attribute]) for w, _ in found if w.attribute in vars(w.owner)]
    try:
        for weight, value in found:
            owner = weight.owner
            if isinstance(owner._modules.get("parametrizations"), nn.ModuleDict):
                del owner._modules["parametrizations"]
                owner.__class__ = type(owner).__bases__[0]
            hooks = owner._forward_pre_hooks
            for key in [key for key, hook in hooks.items() if hook is weight.maker]:
                del hooks[key]
            for source in weight.sources:
                owner._parameters.pop(source.rpartition(".")[2], None)
            vars(owner).pop(weight.attribute, None)
            if weight.sources:
                owner._parameters[weight.attribute] = nn.Parameter(value, requires_grad=False)
            else:
                owner._buffers[weight.attribute] = value
        yield
    finally:
        for part, content in kept:
            part.clear()
            part.update(content)
        for owner, cls in owners.items():
            owner.__class__ = cls
        for owner, name, value in attributes:
            vars(owner)[name] = value
