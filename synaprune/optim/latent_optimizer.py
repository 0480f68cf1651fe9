"""An optimizer whose base, another torch optimizer, moves latents in place of weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.errors import UsageError
from synaprune.optim import bases, latents
from synaprune.optim.groups import Group, Params, groups_of

__all__ = ["LatentOptimizer", "State"]

State = dict[str, Any]


class LatentOptimizer(Optimizer):
    """Groups, states, saving and copying for an optimizer that works through a base optimizer.

    Hyper-parameters live once: this optimizer and its base share every group's dictionary, and only `params`,
    `weight_decay` and options of the same name are exchanged around the base step. A value changed in
    `param_groups` acts at the next step, whoever changes it. The state of a rewired tensor holds its latents
    (see `latents`) and, under `"base"`, the base's own state of them.
    """

    _sign_dtype: torch.dtype | None = None  # that of the latents

    def __init__(
        self,
        params: Params,
        defaults: dict[str, Any],
        base: type[Optimizer],
        base_options: dict[str, Any],
        exclude: Iterable[str] = (),
    ) -> None:
        groups = groups_of(params, exclude)
        members = [p[1] if isinstance(p, tuple) else p for group in groups for p in group["params"]]
        # Born with a stand-in, only to let torch check the options and fill in their defaults.
        renamed = {option.removeprefix("base_"): value for option, value in base_options.items()}
        self._base = bases.make_base(base, bases.with_fused_kernel(base, members, renamed))
        # Options that method and base both have (`alpha` of RMSprop and ASGD) stay apart under `base_<option>`.
        self._clashes = sorted(self._base.defaults.keys() & defaults.keys())
        for option in self._clashes:
            defaults[f"base_{option}"] = self._base.defaults[option]
        common = {"rewire": True, "synapses": True, "margin": None, "check_finite": True, "seed": 0}
        super().__init__(groups, {**self._base.defaults, **common, **defaults})
        self._share_with_base()

    def _check_group(self, group: Group) -> None:
        """Refuse values of a rewired group that make no sense to this method."""

    # -- groups and state ----------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as any torch optimizer does; its tensors are rewired unless it says `rewire=False`."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not group["rewire"]:
            return
        try:
            self._check_group(group)
            for weight in group["params"]:
                if weight.dtype == torch.float16 or not weight.is_floating_point():
                    raise UsageError(
                        f"{self._name(weight)} is {weight.dtype}, whose values near the threshold underflow; "
                        "keep float32 or bfloat16 weights and use autocast for speed"
                    )
        except UsageError:
            self.param_groups.pop()
            raise

    def _rewiring_groups(self) -> list[Group]:
        return [group for group in self.param_groups if group["rewire"]]

    def _rewired(self) -> Iterator[tuple[Group, Tensor]]:
        for group in self._rewiring_groups():
            for weight in group["params"]:
                yield group, weight

    def _plain(self) -> Iterator[tuple[Group, Tensor]]:
        return ((group, p) for group in self.param_groups if not group["rewire"] for p in group["params"])

    def _group_of(self, weight: Tensor) -> Group:
        for group, other in self._rewired():
            if other is weight:
                return group
        raise UsageError(f"a tensor of shape {tuple(weight.shape)} is not rewired by this {type(self).__name__}")

    def _name(self, weight: Tensor) -> str:
        tensors = [(p, group, i) for group in self.param_groups for i, p in enumerate(group["params"])]
        position, (_, group, i) = next((n, t) for n, t in enumerate(tensors) if t[0] is weight)
        return group["param_names"][i] if "param_names" in group else f"tensor {position}"

    def _state_of(self, weight: Tensor, group: Group) -> State:
        """Return a rewired tensor's state; it starts when it is first needed, from the weights of that moment."""
        state = self.state[weight]
        if not state:
            margin = group["margin"]
            if margin is None:
                margin = 10.0 * max(float(group.get(rate) or 0.0) for rate in ("lr", "initial_lr", "max_lr"))
            position = next(i for i, (_, other) in enumerate(self._rewired()) if other is weight)
            state.update(latents.start(weight, margin, group["seed"] + position, self._sign_dtype))
            state["base"] = self._state_of_base(state["latent"], group)
        return state

    def _state_of_base(self, tensor: Tensor, group: Group) -> State:
        """Return the base's own state of a tensor, as the base would have begun it (Adagrad's is not empty)."""
        if tensor not in self._base.state:
            options = {key: group.get(f"base_{key}", group[key]) for key in self._base.defaults}
            newborn = type(self._base)([{**options, "params": [tensor]}])  # type: ignore[call-arg]
            self._base.state[tensor] = newborn.state[tensor]
        return self._base.state[tensor]

    @contextmanager
    def _base_sees_latents(self) -> Iterator[None]:
        kept = [dict(group) for group in self.param_groups]
        try:
            for group in self.param_groups:
                for option in self._clashes:
                    group[option] = group[f"base_{option}"]
                if group["rewire"]:
                    group["params"] = [p if p.grad is None else self.state[p]["latent"] for p in group["params"]]
                    if "weight_decay" in group:
                        group["weight_decay"] = 0.0
            yield
        finally:
            for group, before in zip(self.param_groups, kept):
                group.update({key: before[key] for key in ("params", "weight_decay", *self._clashes) if key in before})

    # -- saving, loading, copying --------------------------------------------------------------------------

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state; latents and moments keep their own precision, whatever the weights have.

        Raises:
            UsageError: the state belongs to another method or to tensors of other shapes.
        """
        self._check_loadable(state_dict)
        # torch casts a state to the type of its tensor, which would round float32 latents of bfloat16 weights.
        # So it finds empty tensors of the latents' type in place of the weights while it loads.
        self._stand_ins: dict[Tensor, Tensor] = {}
        for group in self._rewiring_groups():
            empty = [torch.empty(0, dtype=latents.latent_dtype(p), device=p.device) for p in group["params"]]
            self._stand_ins.update(zip(empty, group["params"]))
            group["params"] = empty
        try:
            super().load_state_dict(state_dict)
        finally:
            self._return_stand_ins()

    def _return_stand_ins(self) -> None:
        weights = self.__dict__.pop("_stand_ins", None)
        if weights is None:
            return
        for group in self.param_groups:
            group["params"] = [weights.get(p, p) for p in group["params"]]
        loaded = {weights.get(p, p): state for p, state in self.state.items()}
        self.state = defaultdict(dict, {p: latents.own(p, state) for p, state in loaded.items()})
        for state in self.state.values():
            if "sign" in state:
                state["sign"] = state["sign"].to(self._sign_dtype or state["latent"].dtype)

    def _check_loadable(self, state_dict: dict[str, Any]) -> None:
        for mine, saved in zip(self.param_groups, state_dict["param_groups"]):
            if missing := sorted((self.defaults.keys() & mine.keys()) - saved.keys()):
                raise UsageError(
                    f"this optimizer state was not written by {type(self).__name__} with the base "
                    f"{type(self._base).__name__}: its groups lack {missing[0]!r}"
                )
        weights = dict(enumerate(p for group in self.param_groups for p in group["params"]))
        for index, state in state_dict["state"].items():
            weight = weights.get(index)
            if weight is not None and "latent" in state and state["latent"].shape != weight.shape:
                raise UsageError(
                    f"this optimizer state belongs to another model: {self._name(weight)} has shape "
                    f"{tuple(weight.shape)}, the saved latents have {tuple(state['latent'].shape)}"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_base": self._base, "_clashes": self._clashes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._return_stand_ins()
        self._share_with_base()

    def _share_with_base(self) -> None:
        self._base.param_groups = self.param_groups
        self._base.state.clear()
        for weight, state in self.state.items():
            if "base" in state:
                self._base.state[state["latent"]] = state["base"]
            elif state:
                self._base.state[weight] = state
