"""The contract all rewiring methods share: latents in any torch optimizer, weights in the network.

A method keeps a latent `z` and a frozen sign `s` for every synapse. The network holds the weight
`w = s·relu(s·z − d)`; the base optimizer runs on `z` with the plain dense gradient `∂L/∂w`, as if `z` were
the parameter. Because the direction of such a base turns around with the sign of its gradient, that is the
same as running it on the synaptic parameter `θ = s·z − d` with the redefined gradient `s·∂L/∂w`.

What a method adds, it adds in three places: `_before` and `_after` the base step on each tensor, and `_rewire`
on all tensors of a group. One with other latents replaces the four that handle them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.optim import bases, latents
from synaprune.optim.fingerprint import fingerprint, same
from synaprune.optim.groups import Group, Params, State, moves
from synaprune.optim.inspection import Inspection
from synaprune.optim.quiet import quiet_step
from synaprune.optim.surroundings import shielded
from synaprune.plain import plain

__all__ = ["Rewirer", "Row"]

Row = tuple[Group, Tensor, State]


class Rewirer(Inspection):
    """Base class of the rewiring methods; it is itself a `torch.optim.Optimizer`.

    Latents start when a tensor is first stepped, from the weights of that moment. Weights that somebody else
    writes later, by whatever way (`load_state_dict` of the model, a mask, `.data`), are taken over at the next step.
    A tensor that does not require gradients stays as it is, synapses and all; a budget is one of the others.

    Args:
        params: a module, whose synapses are found and rewired while all its other parameters are trained
            plainly by the same base optimizer; or what any torch optimizer takes, where each tensor is one of
            synapses unless its group says `rewire=False`.
        defaults: the method's own group options. `rewire` (does a group's topology change), `synapses` (do
            its tensors count for connectivity), `margin`, `check_finite` and `seed` are common to all.
        base: the torch optimizer class that moves the latents.
        base_options: its options, `lr` among them; one that the method has too is called `base_<option>`.
        include, exclude: name patterns, in a module, of tensors that are synapses though no rule says so, and of
            synapses that shall be trained plainly.
        compile_projection: write the weights of all tensors by one compiled kernel, and keep signs in one byte.

    Raises:
        UsageError: a base that cannot serve, a tensor type that cannot be rewired, nothing to rewire.
    """

    def __init__(
        self,
        params: Params,
        defaults: dict[str, Any],
        base: type[Optimizer],
        base_options: dict[str, Any],
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        compile_projection: bool = False,
    ) -> None:
        super().__init__(params, defaults, base, base_options, include, exclude)
        self._compile_projection = compile_projection
        if compile_projection:
            self._sign_dtype = torch.int8  # a compiled kernel converts for free, eager ones would copy
        self._written: dict[Tensor, Tensor] = {}  # fingerprints of the weights as this optimizer knows them

    # -- what a method may override ------------------------------------------------------------------------

    def _before(self, weight: Tensor, state: State, group: Group) -> Any:
        """Note what the method needs of θ as it is before the base step; `_after` gets it back."""

    def _after(self, weight: Tensor, state: State, group: Group, note: Any) -> None:
        """Move the latents after the base step: the prior's drift, noise, a floor."""

    def _rewire(self, group: Group) -> None:
        """Let synapses come and go after all tensors of the group have moved, before weights are written."""

    def settle(self) -> None:
        """Bring the number of synapses to what the budget says for this moment, for methods that keep one.

        Between two solutions the number floats a little; call this before a network is measured or saved.
        """

    def finish(self) -> None:
        """Bring the number of synapses to what the budget says for the end of training; call it after the last step.

        Training may have had fewer steps than its schedule: `GradScaler` skips those whose gradients overflow.
        """
        self.settle()

    def _join(self) -> None:
        """Prepare tensors that have begun to learn since the last step."""

    # -- how latents are kept --------------------------------------------------------------------------------

    def _adopt(self, weight: Tensor, state: State, group: Group) -> None:
        """Take over weights that somebody else has written since the last step."""
        latents.adopt(weight, state, self._margin(group), self._compile_projection)

    def _thaw(self, state: State, absent: Tensor) -> None:
        """Let synapses that were frozen absent compete again."""
        latents.bury(state, absent)

    def _write(self, rows: Sequence[Row]) -> None:
        """Write the weights of these tensors."""
        latents.project([weight for _, weight, _ in rows], [state for *_, state in rows], self._compile_projection)

    def _state_of(self, weight: Tensor, group: Group) -> State:
        if self._known(weight) is None:
            self._written[weight] = fingerprint(weight)  # from which its latents start now
        return super()._state_of(weight, group)

    # -- the topology -------------------------------------------------------------------------------------

    @shielded
    def freeze_topology(self, frozen: bool = True) -> None:
        """Keep absent synapses of rewired tensors absent and let the method rest, to fine-tune; False ends it."""
        for group, weight in self._rewired():
            state = self._state_of(weight, group)
            state["frozen"] = int(frozen)
            if frozen:
                state.setdefault("absent", ~self.mask(weight))
            elif (absent := state.pop("absent", None)) is not None:
                self._thaw(state, absent)

    # -- the step ------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one step and return what `closure` returned, if there is one.

        A tensor without a gradient is left alone: no step, no drift.

        Raises:
            NonFiniteGradientError: a gradient on the CPU is NaN or infinite; nothing has changed then.
            UsageError: a sparse gradient, or a value in `param_groups` that makes no sense.
        """
        loss = None if closure is None else torch.enable_grad()(closure)()
        self._step()
        return loss

    @shielded
    def _step(self) -> None:
        """Do what a step does once the gradients are there."""
        self._finite.look(self.param_groups, self._name)
        for group in self._rewiring_groups():
            self._complete(group)
            self._check_group(group)
        self._join()
        moved = [(group, weight, self._state_of(weight, group)) for group, weight in self._rewired() if moves(weight)]
        self._end_waiting()
        self._take_over(moved)
        notes = [self._before(weight, state, group) for group, weight, state in moved]
        try:
            for group, weight, state in moved:
                state["latent"].grad = self._pull(weight, state, group)
            with self._base_sees_latents():
                quiet_step(self._base)
        finally:
            for _, _, state in moved:
                state["latent"].grad = None
        for (group, weight, state), note in zip(moved, notes):
            state["steps"] += 1
            if group.get("weight_decay") and (share := self._shrinkage(group)):
                state["latent"].sub_(weight, alpha=share)
            if "absent" not in state:
                self._after(weight, state, group, note)
            if state["steps"] % bases.flush_period(group) == 0:
                bases.flush(state["base"], state["latent"])
        for group in self._rewiring_groups():
            self._rewire(group)
        self._put(moved)

    def _take_over(self, rows: Sequence[Row]) -> None:
        """Take over what somebody else has written into these weights."""
        for group, weight, state in rows:
            if not same(self._written.get(weight), now := fingerprint(weight)):
                # Somebody may hold the tensors of a state_dict, which are these.
                state.update(latents.own(weight, state, self._sign_dtype))
                self._adopt(weight, state, group)
                self._written[weight] = now

    def _put(self, rows: Sequence[Row]) -> None:
        """Write weights, and remember them."""
        self._write(rows)
        self._written.update((weight, fingerprint(weight)) for _, weight, _ in rows)

    def _pull(self, weight: Tensor, state: State, group: Group) -> Tensor:
        """Return the gradient the latent receives: ∂L/∂w, with coupled weight decay on w added apart."""
        latent: Tensor = state["latent"]
        gradient = cast(Tensor, weight.grad).to(latent.dtype)
        decay = group.get("weight_decay", 0.0)
        if decay and self._shrinkage(group) is None:
            gradient = gradient.add(weight, alpha=-decay if group.get("maximize") else decay)
        if "absent" in state:
            gradient = gradient.masked_fill(state["absent"], 0.0)
        # Fused kernels walk through memory and would pair a gradient in another layout with wrong latents.
        return gradient if gradient.stride() == latent.stride() else latents.in_layout_of(latent, gradient)

    # -- saving and copying --------------------------------------------------------------------------------

    @shielded
    def state_dict(self) -> dict[str, Any]:
        """Return the state as any torch optimizer does, that of the weights as they are.

        Raises:
            NonFiniteGradientError: a gradient on a GPU was NaN or infinite since the start.
        """
        self._finite.report(self._name)
        self._end_waiting()
        self._take_over(self._begun())
        for group in self.param_groups:
            group.update(plain({option: value for option, value in group.items() if option != "params"}))
        return super().state_dict()

    @shielded
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, with the weights that belong to it; see `LatentOptimizer`."""
        super().load_state_dict(state_dict)
        self._last_masks.clear()
        self._finite.flags.clear()
        self._written.clear()
        self._put(self._begun())

    def _end_waiting(self) -> None:
        """Make what has begun part of the state."""
        self.state.update(self._waiting)
        self._waiting.clear()

    def _begun(self) -> list[Row]:
        """Return the tensors that learn and have latents."""
        rows = [(group, weight, self._known(weight)) for group, weight in self._rewired() if weight.requires_grad]
        return [(group, weight, state) for group, weight, state in rows if state]

    def __getstate__(self) -> dict[str, Any]:
        own = ("_compile_projection", "_sign_dtype", "_last_masks", "_finite")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}, "_written": {}}
