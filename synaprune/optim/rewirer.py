"""The contract all rewiring methods share: latents in any torch optimizer, weights in the network.

A method keeps a latent `z` and a frozen sign `s` for every synapse. The network holds the weight
`w = s·relu(s·z − d)`; the base optimizer runs on `z` with the plain dense gradient `∂L/∂w`, as if `z` were
the parameter. Because the direction of such a base turns around with the sign of its gradient, that is the
same as running it on the synaptic parameter `θ = s·z − d` with the redefined gradient `s·∂L/∂w`.

What a method adds, it adds in three places: `_before` and `_after` the base step, and at the start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synaprune.errors import NonFiniteGradientError, UsageError
from synaprune.measure.turnover import Turnover, turnover
from synaprune.optim import bases, latents
from synaprune.synapses import find_synapses

__all__ = ["Params", "Rewirer"]

Params = nn.Module | Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
State = dict[str, Any]
Group = dict[str, Any]


class Rewirer(Optimizer):
    """Base class of the rewiring methods; it is itself a `torch.optim.Optimizer`.

    Hyper-parameters live once: this optimizer and its base share every group's dictionary, and only `params`
    and `weight_decay` are exchanged around the base step. A value changed in `param_groups` acts at the next
    step, whoever changes it.

    Args:
        params: a module, whose synapses are found and rewired while all its other parameters are trained
            plainly by the same base optimizer; or what any torch optimizer takes, where each tensor is one of
            synapses unless its group says `rewire=False`.
        defaults: the method's own group options. `rewire` (does a group's topology change), `synapses` (do
            its tensors count for connectivity), `margin`, `check_finite` and `seed` are common to all.
        base: the torch optimizer class that moves the latents.
        base_options: its options, `lr` among them; one that the method has too is called `base_<option>`.
        exclude: name patterns of synapses in a module that shall be trained plainly.
        compile_projection: write the weights by one compiled kernel; pays for tens of millions of synapses.

    Raises:
        UsageError: a base that cannot serve, a tensor type that cannot be rewired, nothing to rewire.
    """

    def __init__(
        self,
        params: Params,
        defaults: dict[str, Any],
        base: type[Optimizer],
        base_options: dict[str, Any],
        exclude: Iterable[str] = (),
        compile_projection: bool = False,
    ) -> None:
        groups = _groups_of_module(params, exclude) if isinstance(params, nn.Module) else _groups_of_tensors(params)
        members = [p[1] if isinstance(p, tuple) else p for group in groups for p in group["params"]]
        # Born with a stand-in, only to let torch check the options and fill in their defaults.
        renamed = {option.removeprefix("base_"): value for option, value in base_options.items()}
        self._base = bases.make_base(base, bases.with_fused_kernel(base, members, renamed))
        # Options that method and base both have (`alpha` of RMSprop and ASGD) stay apart under `base_<option>`.
        self._clashes = sorted(self._base.defaults.keys() & defaults.keys())
        for option in self._clashes:
            defaults[f"base_{option}"] = self._base.defaults[option]
        self._compile_projection = compile_projection
        self._last_masks: dict[Tensor, Tensor] = {}
        common = {"rewire": True, "synapses": True, "margin": None, "check_finite": True, "seed": 0}
        super().__init__(groups, {**self._base.defaults, **common, **defaults})
        self._share_with_base()

    # -- what a method may override ------------------------------------------------------------------------

    def _check_group(self, group: Group) -> None:
        """Refuse values of a rewired group that make no sense to this method."""

    def _before(self, weight: Tensor, state: State, group: Group) -> Any:
        """Note what the method needs of θ as it is before the base step; `_after` gets it back."""

    def _after(self, weight: Tensor, state: State, group: Group, note: Any) -> None:
        """Move the latents after the base step: the prior's drift, noise, a floor."""

    # -- looking inside ------------------------------------------------------------------------------------

    def theta(self, weight: Tensor) -> Tensor:
        """Return the synaptic parameter θ = s·z − d of a rewired tensor, float64, in the tensor's shape."""
        state = self._state_of(weight, self._group_of(weight))
        return state["latent"].to(torch.float64, copy=True).mul_(state["sign"]).sub_(state["offset"])

    def mask(self, weight: Tensor) -> Tensor:
        """Return which synapses of a tensor exist: bool, in the tensor's shape."""
        return weight.detach() != 0

    def connectivity(self) -> float:
        """Return existing synapses over all synapses, counted over every tensor of synapses, rewired or not."""
        weights = [p for group in self.param_groups if group["synapses"] for p in group["params"]]
        left = sum(int(torch.count_nonzero(p.detach())) for p in weights)
        return left / sum(p.numel() for p in weights)

    def turnover(self) -> dict[str, Turnover]:
        """Count synapses pruned and regrown per rewired tensor since the last call; the first call starts it."""
        counts = {}
        for _, weight in self._rewired():
            mask = self.mask(weight)
            counts[self._name(weight)] = turnover(self._last_masks.get(weight, mask), mask)
            self._last_masks[weight] = mask
        return counts

    def freeze_topology(self, frozen: bool = True) -> None:
        """Keep absent synapses absent and let the method rest, for a phase of fine-tuning; False ends it."""
        for group, weight in self._rewired():
            state = self._state_of(weight, group)
            if frozen:
                state.setdefault("absent", ~self.mask(weight))
            elif (absent := state.pop("absent", None)) is not None:
                latents.bury(state, absent)

    # -- the step ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one step and return what `closure` returned, if there is one.

        A tensor without a gradient is left alone: no step, no drift.

        Raises:
            NonFiniteGradientError: a gradient on the CPU is NaN or infinite; nothing has changed then.
            UsageError: a sparse gradient, or a value in `param_groups` that makes no sense.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_gradients()
        moved = [
            (group, weight, self._state_of(weight, group))
            for group, weight in self._rewired()
            if weight.grad is not None
        ]
        for group in self._rewiring_groups():
            self._check_group(group)
        notes = [self._before(weight, state, group) for group, weight, state in moved]
        try:
            for group, weight in self._plain():
                if weight.grad is not None:
                    self.state[weight] = self._state_of_base(weight, group)
            for group, weight, state in moved:
                state["latent"].grad = self._pull(weight, state, group)
            with self._base_sees_latents():
                self._base.step()
        finally:
            for _, _, state in moved:
                state["latent"].grad = None
        for (group, weight, state), note in zip(moved, notes):
            state["steps"] += 1
            if group.get("weight_decay") and bases.decays_decoupled(self._base, group):
                state["latent"].sub_(weight, alpha=float(group["lr"]) * group["weight_decay"])
            if "absent" not in state:
                self._after(weight, state, group, note)
            latents.project(weight, state, compiled=self._compile_projection)
        return loss

    def _pull(self, weight: Tensor, state: State, group: Group) -> Tensor:
        """Return the gradient the latent receives: ∂L/∂w, with coupled weight decay on w added apart."""
        latent: Tensor = state["latent"]
        gradient = torch.as_tensor(weight.grad, dtype=latent.dtype)
        decay = group.get("weight_decay", 0.0)
        if decay and not bases.decays_decoupled(self._base, group):
            gradient = gradient.add(weight, alpha=-decay if group.get("maximize") else decay)
        if "absent" in state:
            gradient = gradient.masked_fill(state["absent"], 0.0)
        # Fused kernels walk through memory and would pair a gradient in another layout with wrong latents.
        return gradient if gradient.stride() == latent.stride() else latents.in_layout_of(latent, gradient)

    def _check_gradients(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = weight.grad
                if gradient is None:
                    continue
                if gradient.is_sparse:
                    raise UsageError(
                        f"the gradient of {self._name(weight)} is sparse; use a layer with dense gradients"
                    )
                if group["check_finite"] and gradient.device.type == "cpu" and not _is_finite(gradient):
                    raise NonFiniteGradientError(
                        f"the gradient of {self._name(weight)} is not finite, so the step was refused and nothing "
                        "changed; lower the learning rate, clip the gradients, or skip this batch"
                    )

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
            state.update(latents.start(weight, margin, seed=group["seed"] + position))
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
        self.state = defaultdict(dict, {p: _own(p, state) for p, state in loaded.items()})
        self._last_masks.clear()

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
        return {
            **super().__getstate__(),
            "_base": self._base,
            "_clashes": self._clashes,
            "_compile_projection": self._compile_projection,
            "_last_masks": self._last_masks,
        }

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


def _is_finite(values: Tensor) -> bool:
    # A finite sum has finite terms and costs a tenth of asking each; only where it is not, each is asked.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _own(weight: Tensor, state: State) -> State:
    """Return a loaded state with tensors of its own, in the memory layout of the weight."""
    owned: State = {}
    for key, value in state.items():
        if isinstance(value, dict):
            owned[key] = _own(weight, value)
        elif isinstance(value, Tensor):
            owned[key] = latents.in_layout_of(weight, value) if value.shape == weight.shape else value.clone()
        else:
            owned[key] = value
    if "absent" in owned:
        owned["absent"] = owned["absent"].bool()
    return owned


def _groups_of_module(module: nn.Module, exclude: Iterable[str]) -> list[Group]:
    """Return the rewired synapses, the excluded ones and everything else that is trained, as groups."""
    everything = find_synapses(module)
    rewired = find_synapses(module, exclude=tuple(exclude))
    if not len(rewired):
        raise UsageError(f"{type(module).__name__} has no synapses to rewire; print(find_synapses(model)) says why")
    chosen = {id(synapse.parameter) for synapse in rewired}
    spared = [(s.name, s.parameter) for s in everything if id(s.parameter) not in chosen]
    synapses = {id(synapse.parameter) for synapse in everything}
    rest = [(n, p) for n, p in module.named_parameters() if p.requires_grad and id(p) not in synapses]
    groups: list[Group] = [
        {"params": [(s.name, s.parameter) for s in rewired]},
        {"params": spared, "rewire": False},
        {"params": rest, "rewire": False, "synapses": False},
    ]
    return [group for group in groups if group["params"]]


def _groups_of_tensors(params: Params) -> list[Group]:
    """Return what any torch optimizer takes as a list of groups whose tensors are lists."""
    if isinstance(params, Tensor):
        raise UsageError("params is a single tensor; pass a module or a list of tensors")
    entries: list[Any] = list(params)  # type: ignore[arg-type]
    if not entries or not isinstance(entries[0], dict):
        entries = [{"params": entries}]
    groups = []
    for group in entries:
        members = group["params"]
        groups.append({**group, "params": [members] if isinstance(members, Tensor) else list(members)})
    return groups
