"""An optimizer whose base, another torch optimizer, moves latents in place of weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synaprune.errors import UsageError
from synaprune.optim import bases, handover, latents, loading
from synaprune.optim.groups import (
    Group,
    Params,
    State,
    check_numbers,
    check_type,
    groups_of,
    margin_of,
    moves,
    name_newcomers,
    own_values,
)
from synaprune.optim.surroundings import shield
from synaprune.plain import plain

__all__ = ["LatentOptimizer"]


class LatentOptimizer(Optimizer):
    """Groups, states, saving and copying for an optimizer that works through a base optimizer.

    Hyper-parameters live once: this optimizer and its base share every group's dictionary, and only `params`,
    `weight_decay` and options of the same name are exchanged around the base step. A value changed in
    `param_groups` acts at the next step, whoever changes it. The state of a rewired tensor holds its latents
    (see `latents`) and, under `"base"`, the base's own state of them.
    """

    _sign_dtype: torch.dtype | None = None  # that of the latents
    _forms: tuple[str, ...] = ()  # further options of the method, which stand for others

    def __init__(
        self,
        params: Params,
        defaults: dict[str, Any],
        base: type[Optimizer],
        base_options: dict[str, Any],
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> None:
        self._waiting: dict[Tensor, State] = {}
        groups = groups_of(params, include, exclude)
        defaults, base_options = plain(defaults), plain(base_options)
        members = [p[1] if isinstance(p, tuple) else p for group in groups for p in group["params"]]
        # Options that method and base both have (`alpha` of RMSprop and ASGD) stay apart under `base_<option>`.
        apart = {f"base_{option}": option for option in defaults}
        self._base_options = {apart.get(option, option): value for option, value in base_options.items()}
        # Born with a stand-in, only to let torch check the options and fill in their defaults.
        bases.check_options(type(self).__name__, base, self._base_options, [*defaults, *self._forms])
        self._base = bases.make_base(base, members, self._base_options)
        self._fused = "fused" not in self._base_options and bool(self._base.defaults.get("fused"))  # unasked
        self._named = isinstance(params, nn.Module)  # by us
        self._clashes = sorted(self._base.defaults.keys() & defaults.keys())
        self._decays: dict[tuple[Any, ...], str] = {}  # kinds of weight decay by the base's options
        for option in self._clashes:
            defaults[f"base_{option}"] = self._base.defaults[option]
        common = {"rewire": True, "counted": True, "margin": None, "check_finite": True, "seed": 0}
        written_by = {"method": f"{type(self).__name__} on {base.__name__}"}
        super().__init__(groups, {**self._base.defaults, **common, **defaults, **written_by})
        self._base.param_groups = self.param_groups

    def _complete(self, group: Group, new: bool = False) -> None:
        """Bring what a rewired group says into the one form that the method reads."""
        check_numbers(group)

    def _check_group(self, group: Group) -> None:
        """Refuse values of a rewired group that make no sense to this method."""

    # -- groups and state ----------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as any torch optimizer does; its tensors are rewired unless it says `rewire=False`."""
        if isinstance(param_group, dict) and isinstance(param_group.get("synapses"), bool):
            raise UsageError(
                f"synapses={param_group['synapses']} is no number of synapses; a group that shall not count for "
                "connectivity says counted=False"
            )
        asked = "fused" in param_group
        if self._named:
            name_newcomers(param_group, self.param_groups)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        own_values(group)
        if self._fused and not asked:
            group["fused"] = bases.takes_fused(type(self._base), group["params"])
        if not group["rewire"]:
            return
        try:
            self._complete(group, new=True)
            self._check_group(group)
            if group.get("weight_decay"):
                self._shrinkage(group)
            for weight in group["params"]:
                check_type(weight, self._name(weight))
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
        raise UsageError(
            f"a tensor of shape {tuple(weight.shape)} is not rewired by this {type(self).__name__}; "
            "only the tensors of its groups with rewire=True have latents"
        )

    def _name(self, weight: Tensor) -> str:
        tensors = [(p, group, i) for group in self.param_groups for i, p in enumerate(group["params"])]
        position, (_, group, i) = next((n, t) for n, t in enumerate(tensors) if t[0] is weight)
        return group["param_names"][i] if "param_names" in group else f"tensor {position}"

    def _state_of(self, weight: Tensor, group: Group) -> State:
        """Return a rewired tensor's state; it starts when it is first needed, from the weights of that moment.

        Until the next step it waits apart: `torch.distributed.checkpoint` asks that a new optimizer has no state.
        """
        state = self._known(weight)
        if state is None:
            state = self._waiting[weight] = {}
            if not torch.isfinite(weight).all():
                raise UsageError(f"{self._name(weight)} holds values that are not finite; initialise it first")
            position = next(i for i, (_, other) in enumerate(self._rewired()) if other is weight)
            with shield():
                state.update(self._start(weight, group, group["seed"] + position))
                state["base"] = self._born(state["latent"], group)
                state["frozen"] = 0
        return state

    def _known(self, weight: Tensor) -> State | None:
        """Return a rewired tensor's state if it has begun."""
        return self.state.get(weight) or self._waiting.get(weight)

    def _start(self, weight: Tensor, group: Group, seed: int) -> State:
        """Return the latents of a tensor that joins."""
        return latents.start(weight, self._margin(group), seed, self._sign_dtype)

    def _margin(self, group: Group) -> float:
        return margin_of(group, self.defaults["lr"])

    def _newborn(self, tensor: Tensor, group: Group) -> Optimizer:
        """Return a base of one tensor alone, with the options of a group."""
        options = {key: group.get(f"base_{key}", group[key]) for key in self._base.defaults if key in group}
        make: Any = type(self._base)
        return cast(Optimizer, make([{**options, "params": [tensor]}], **self._base_options))

    def _born(self, tensor: Tensor, group: Group) -> State:
        """Return a tensor's first state as the base would have begun it (Adagrad's is not empty)."""
        return handover.born(self._newborn(tensor, group), tensor, self.state)

    def _shrinkage(self, group: Group) -> float | None:
        """Return by which share the weights of a group decay in a step apart from their gradient; None: with it."""
        return bases.shrinkage(self._base, group, lambda p: self._newborn(p, group), self._decays)

    @contextmanager
    def _base_sees_latents(self) -> Iterator[None]:
        for group, weight in self._plain():
            if self._fused and weight.grad is not None and weight.grad.is_sparse:
                group["fused"] = False
            if moves(weight) and not self.state[weight]:
                self.state[weight] = self._born(weight, group)
        with handover.lent(self._base, self.state, self._clashes):
            yield

    # -- saving, loading, copying --------------------------------------------------------------------------

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state; latents and moments keep their own precision, whatever the weights have.

        Raises:
            UsageError: the state belongs to another method or to tensors of other shapes.
        """
        last = self.register_load_state_dict_pre_hook(cast(Any, LatentOptimizer._check_and_stand_in))
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
            self._return_weights()
        self._waiting.clear()

    def _check_and_stand_in(self, state_dict: dict[str, Any]) -> None:
        """Check a state that the user's hooks have seen, and put stand-ins in place of the weights.

        torch casts a state to the type of its tensor, which would round float32 latents of bfloat16 weights. So
        it finds empty tensors of the latents' type while it loads.
        """
        loading.in_order(state_dict, self.param_groups)
        loading.check(state_dict, self.param_groups, self._name)
        keys_of = partial(loading.keys_of, self._start, self._newborn)
        loading.check_whole(state_dict, self.param_groups, self._name, keys_of)
        # What an older version did not know yet has the value it has here.
        state_dict["param_groups"] = [
            {**mine, **saved} for mine, saved in zip(self.param_groups, state_dict["param_groups"])
        ]
        self._stand_ins: dict[Tensor, Tensor] = {}
        for group in self._rewiring_groups():
            empty = [torch.empty(0, dtype=latents.latent_dtype(p), device=p.device) for p in group["params"]]
            self._stand_ins.update(zip(empty, group["params"]))
            group["params"] = empty

    def _return_weights(self) -> dict[Tensor, Tensor]:
        weights: dict[Tensor, Tensor] = self.__dict__.pop("_stand_ins", {})
        for group in self.param_groups if weights else ():
            group["params"] = [weights.get(p, p) for p in group["params"]]
        return weights

    def __getstate__(self) -> dict[str, Any]:
        own = ("_base", "_base_options", "_clashes", "_decays", "_fused", "_named", "_waiting")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_stand_ins" in self.__dict__:
            weights = self._return_weights()
            loaded = {weights.get(p, p): state for p, state in self.state.items()}
            for p, value in loaded.items():
                if isinstance(p, Tensor):
                    loaded[p] = latents.own(p, value, self._sign_dtype)
            self.state = defaultdict(dict, loaded)
            torchs = bases.comes_with_torch(type(self._base))
            loading.complete(self.param_groups, self.defaults, loaded.values(), torchs)
        self._base.param_groups = self.param_groups
