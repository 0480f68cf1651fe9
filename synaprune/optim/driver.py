"""The base: the torch optimizer that moves latents in place of weights, and how groups and states are lent to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer

from synaprune.optim import bases
from synaprune.optim.groups import Group, moves
from synaprune.optim.row import Row, base_key

__all__ = ["Driver"]

States = MutableMapping[Any, Any]


class Driver:
    """A base optimizer, and what is known of it.

    Hyper-parameters live once: an optimizer and its base share every group's dictionary, and only `params`,
    `weight_decay` and options of the same name are exchanged around the base step.

    Args:
        method: name of the rewiring optimizer, for sentences.
        kind: class of the base.
        members: the tensors to be trained.
        options: those of the base; one that the method has too (`alpha` of RMSprop and ASGD) is `base_<option>`.
        own: the options of the method, with their defaults.
        forms: further options of the method, which stand for others.

    Raises:
        UsageError: a base that cannot serve, or an option that neither it nor the method has.
    """

    def __init__(
        self,
        method: str,
        kind: type[Optimizer],
        members: list[Any],
        options: dict[str, Any],
        own: dict[str, Any],
        forms: Iterable[str] = (),
    ) -> None:
        apart = {f"base_{option}": option for option in own}
        self.options = {apart.get(option, option): value for option, value in options.items()}
        # Born with a stand-in, only to let torch check the options and fill in their defaults.
        bases.check_options(method, kind, self.options, [*own, *forms])
        self.optimizer = bases.make_base(kind, members, self.options)
        self.fused = "fused" not in self.options and bool(self.optimizer.defaults.get("fused"))  # unasked
        self.clashes = sorted(self.optimizer.defaults.keys() & own.keys())
        self.decays: dict[tuple[Any, ...], str] = {}  # kinds of weight decay by the base's options

    def defaults(self) -> dict[str, Any]:
        """Return the base's own defaults as group options."""
        return {f"base_{o}" if o in self.clashes else o: value for o, value in self.optimizer.defaults.items()}

    def born(self, tensor: Tensor, group: Group, states: States) -> dict[str, Any]:
        """Return a tensor's first state as the base would have begun it (Adagrad's is not empty).

        What the base keeps for all tensors goes to `states`.
        """
        newborn = self.newborn(tensor, group)
        for key, value in newborn.state.items():
            if not isinstance(key, Tensor) and key not in states:
                states[key] = value
        return cast(dict[str, Any], newborn.state.get(tensor, {}))

    def newborn(self, tensor: Tensor, group: Group) -> Optimizer:
        """Return a base of one tensor alone, with the options of a group."""
        options = {key: group.get(f"base_{key}", group[key]) for key in self.optimizer.defaults if key in group}
        make: Any = type(self.optimizer)
        return cast(Optimizer, make([{**options, "params": [tensor]}], **self.options))

    def shrinkage(self, group: Group) -> float | None:
        """Return by which share the weights of a group decay in a step apart from their gradient; None: with it."""
        return bases.shrinkage(self.optimizer, group, lambda p: self.newborn(p, group), self.decays)

    @contextmanager
    def lent(self, moved: Iterable[tuple[Row, Iterable[str]]], names: Iterable[str], states: States) -> Iterator[None]:
        """Let the base work on its groups with latents in place of weights and no weight decay, and with their states.

        Args:
            moved: the tensors that have something to learn from, each with the names of the latents that have.
            names: of all latents.
            states: the optimizer's.
        """
        groups = self.optimizer.param_groups
        kept = [dict(group) for group in groups]
        latents: dict[int, list[Any]] = {id(group): [] for group in groups}
        for row, keys in moved:
            latents[id(row.group)] += (row.state[key] for key in keys)  # type: ignore[literal-required]
        try:
            for group in groups:
                for option in self.clashes:
                    group[option] = group[f"base_{option}"]
                # What has been frozen may have an old gradient.
                group["params"] = latents[id(group)] if group["rewire"] else [p for p in group["params"] if moves(p)]
                if group["rewire"] and "weight_decay" in group:
                    group["weight_decay"] = 0.0
            with self._states_lent(names, states):
                yield
        finally:
            for group, before in zip(groups, kept):
                group.update({key: before[key] for key in ("params", "weight_decay", *self.clashes) if key in before})

    @contextmanager
    def _states_lent(self, names: Iterable[str], states: States) -> Iterator[None]:
        base_state: States = defaultdict(dict)
        hidden = []
        for key, state in states.items():
            if isinstance(key, Tensor) and isinstance(state, dict) and "latent" in state:
                for name in names:
                    if name in state:
                        hidden.append((state[name], state, base_key(name)))
                        base_state[state[name]] = state[base_key(name)]
            else:
                base_state[key] = state
        self.optimizer.state = cast(Any, base_state)
        yield
        # Some bases put new states in their place at every step, or add their own.
        base_state = self.optimizer.state
        for latent, owner, name in hidden:
            owner[name] = base_state.pop(latent)
        states.update(base_state)
