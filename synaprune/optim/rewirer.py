"""The one optimizer behind all rewiring methods: a base moves latents, a rule makes weights of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synaprune import options
from synaprune.budget import FORMS, Plan
from synaprune.errors import UsageError
from synaprune.measure.turnover import Turnover, turnover
from synaprune.optim import bases, groups, rewinding, saving
from synaprune.optim.documented import with_arguments
from synaprune.optim.driver import Driver
from synaprune.optim.fingerprint import Written
from synaprune.optim.finite import FiniteCheck
from synaprune.optim.groups import Group, moves
from synaprune.optim.quiet import quiet_step
from synaprune.optim.row import Row, State, in_layout_of
from synaprune.optim.rule import Rule
from synaprune.optim.surroundings import shield, shielded
from synaprune.optim.topology import budget
from synaprune.plain import plain

__all__ = ["Rewirer"]

log = logging.getLogger("synaprune")


class Rewirer(Optimizer):
    """A `torch.optim.Optimizer` under which synapses come and go as a `Rule` says.

    Latents start when a tensor is first stepped, from the weights of that moment. Weights that somebody else
    writes later, by whatever way (`load_state_dict` of the model, a mask, `.data`), are taken over at the next step.
    A tensor that does not require gradients stays as it is, synapses and all; a budget is one of the others.

    This optimizer and its base share every group's dictionary, so that a value changed in `param_groups` acts at the
    next step, whoever changes it. The state of a rewired tensor is a `row.State`.

    Args:
        rule: the method.
        given: what its class has been called with. `params` is a module, whose synapses are found and rewired while
            all its other parameters are trained plainly by the same base optimizer; or what any torch optimizer takes,
            where each tensor is one of synapses unless its group says `rewire=False`. `include` and `exclude` are name
            patterns, in a module, of tensors that are synapses though none of our rules says so, and of synapses that
            shall be trained plainly. `base` is the torch optimizer class that moves the latents, `base_options` are
            its options beside `lr`; one that the method has too is called `base_<option>`. Everything else is a group
            option of the method; `rewire` (does a group's topology change), `counted` (do its tensors count for
            connectivity), `margin`, `check_finite` and `seed` are common to all.

    Raises:
        UsageError: a base that cannot serve, a tensor type that cannot be rewired, nothing to rewire.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__doc__ and "__init__" in vars(cls):
            cls.__doc__ = with_arguments(cls.__doc__, cls.__init__)

    def __init__(self, rule: Rule, given: dict[str, Any]) -> None:
        method = rule.method = type(self).__name__
        self.rule = rule
        self._finite = FiniteCheck()
        self._waiting: dict[Tensor, State] = {}
        self._written = Written()
        self._seen: dict[int, Any] = {}  # of groups that have been checked: what they said
        self._last_masks: dict[Tensor, Tensor] = {}
        self._report = budget.Report()
        params, base = given["params"], given["base"]
        found = groups.groups_of(params, given["include"], given["exclude"])
        members = [p[1] if isinstance(p, tuple) else p for group in found for p in group["params"]]
        base_options = plain({"lr": given["lr"], **given["base_options"]})
        if ignored := [key for key in rule.ignores if base_options.pop(key, None) is not None]:
            log.info("%s takes no notice of %s, which has no meaning for it", method, " and ".join(ignored))
        rule.options = tuple(key for key in given if key in options.OPTIONS)
        own = plain({**rule.fixed, **{key: given[key] for key in rule.options}})
        if unknown := sorted(rule.fixed.keys() & base_options.keys()):
            raise UsageError(f"{method} knows no {unknown[0]}; leave it out")
        if rule.keeps_a_number:  # a method names `sparsity` among its arguments, and the others arrive with the base's
            own |= {form: base_options.pop(form) for form in FORMS if form in base_options}
            own |= {"clock": 0}  # steps in which a tensor of the group had a gradient: where its schedule stands
        self._driver = Driver(method, base, members, base_options, own, FORMS if rule.keeps_a_number else ())
        self._named = isinstance(params, nn.Module)  # by us
        common = {"rewire": True, "counted": True, "margin": None, "check_finite": True, "seed": 0}
        written_by = {"method": f"{method} on {base.__name__}"}
        super().__init__(found, {**self._driver.defaults(), **common, **own, **written_by})
        self._driver.optimizer.param_groups = self.param_groups
        self._made = True
        self._join()

    # -- groups and rows -------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as any torch optimizer does; its tensors are rewired unless it says `rewire=False`.

        A budget of its own takes the place of the optimizer's.
        """
        if isinstance(param_group, dict) and isinstance(param_group.get("synapses"), bool):
            raise UsageError(
                f"synapses={param_group['synapses']} is no number of synapses; a group that shall not count for "
                "connectivity says counted=False"
            )
        groups.check_names(param_group, [*self.defaults, *FORMS], self.rule.method)
        asked = "fused" in param_group
        if self.rule.keeps_a_number and any(form in param_group for form in FORMS):
            param_group = {**dict.fromkeys(FORMS), **param_group}
        if self._named:
            groups.name_newcomers(param_group, self.param_groups)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        groups.own_values(group)
        if self._driver.fused and not asked:
            group["fused"] = bases.takes_fused(type(self._driver.optimizer), group["params"])
        try:
            if group["rewire"]:
                self._check(group, new=True)
                if group.get("weight_decay"):
                    self._driver.shrinkage(group)
                names = self._names()
                for weight in group["params"]:
                    groups.check_type(weight, names[weight])
        except UsageError:
            self.param_groups.pop()
            raise
        for form in FORMS[1:]:
            group.pop(form, None)  # of a group that is not rewired
        if hasattr(self, "_made"):
            self._join()

    def _check(self, group: Group, new: bool = False) -> bool:
        """Bring what a rewired group says into the one form that a rule reads, and refuse what makes no sense.

        Tell whether it may say something else than the last time.
        """
        if not new and self._seen.get(id(group)) == _said(group) and type(group["lr"]) in (int, float, Tensor):
            return False
        groups.check_numbers(group)
        if self.rule.keeps_a_number:
            budget.say_as_sparsity(group, self._layers(group, self._learning(group) or group["params"]), new)
        options.check(self.rule.options, group)
        self.rule.check(group, self._layers(group))
        said = _said(group)
        if not any(isinstance(value, Tensor) for value in said.values()):  # which may change in its place
            self._seen[id(group)] = plain(said)
        return True

    def _layers(self, group: Group, weights: list[Tensor] | None = None) -> budget.Layers:
        """Return what a budget has to know of some tensors of a group: those that learn, if it is not said which."""
        weights, names = self._learning(group) if weights is None else weights, self._names()
        shapes = [weight.shape for weight in weights]
        return budget.Layers([names[w] for w in weights], shapes, [names[w] for w in group["params"]])

    def _rewiring_groups(self) -> list[Group]:
        return [group for group in self.param_groups if group["rewire"]]

    def _rewired(self) -> list[tuple[Group, Tensor]]:
        return [(group, weight) for group in self._rewiring_groups() for weight in group["params"]]

    def _learning(self, group: Group) -> list[Tensor]:
        """Return the tensors of a group that its budget counts: those that are not frozen."""
        return [weight for weight in group["params"] if weight.requires_grad]

    def _rows(self, choose: Callable[[Group, Tensor], bool]) -> list[Row]:
        """Return the chosen ones of the rewired tensors; a state starts when it is first needed."""
        chosen = enumerate(self._rewired())
        return [self._row(weight, group, n) for n, (group, weight) in chosen if choose(group, weight)]

    def _rows_of(self, group: Group) -> list[Row]:
        return self._rows(lambda other, weight: other is group and weight.requires_grad)

    def _row_of(self, weight: Tensor) -> Row:
        for position, (group, other) in enumerate(self._rewired()):
            if other is weight:
                return self._row(weight, group, position)
        raise UsageError(
            f"a tensor of shape {tuple(weight.shape)} is not rewired by this {type(self).__name__}; "
            "only the tensors of its groups with rewire=True have latents"
        )

    def _row(self, weight: Tensor, group: Group, position: int) -> Row:
        t = Row(weight, group, self._known(weight) or State(), position, self._driver)
        if not t.state:
            if not torch.isfinite(weight).all():
                raise UsageError(f"{self._name(weight)} holds values that are not finite; initialise it first")
            with shield():
                self._start(t)
                t.state["base"] = self._driver.born(t.state["latent"], group, self.state)
                t.state["frozen"] = 0
            # Until the next step it waits apart: torch.distributed.checkpoint asks that a new optimizer has no state.
            self._waiting[weight] = t.state
            self._written.remember([weight])  # from which its latents start now
        return t

    def _start(self, t: Row) -> None:
        self.rule.start(t)
        if self.rule.keeps_a_number:
            t.state.update(budget.begin(t.weight))
        if self.rule.draws and not t.weight.requires_grad:
            t.state["undrawn"] = True  # somebody looks at it while it is frozen

    def _known(self, weight: Tensor) -> State | None:
        """Return a rewired tensor's state if it has begun."""
        return cast(State | None, self.state.get(weight) or self._waiting.get(weight))

    def _names(self) -> dict[Tensor, str]:
        names: dict[Tensor, str] = {}
        for group in self.param_groups:
            for i, weight in enumerate(group["params"]):
                names[weight] = group["param_names"][i] if "param_names" in group else f"tensor {len(names)}"
        return names

    def _name(self, weight: Tensor) -> str:
        return self._names()[weight]

    # -- the step --------------------------------------------------------------------------------------------------

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
        rule = self.rule
        self._finite.look(self.param_groups, self._name)
        changed = [group for group in self._rewiring_groups() if self._check(group)]
        self._join()
        rows = self._rows(lambda _, weight: moves(weight))
        self._end_waiting()
        self._take_over(rows)
        for group in changed:
            if known := self._rows_of(group):
                rule.changed(known, self._layers(group))
        notes = [rule.before(t) for t in rows]
        self._move([(t, rule.pull(t, self._gradient(t))) for t in rows])
        periods = {id(group): bases.flush_period(group) for group in self._rewiring_groups()}
        for t, note in zip(rows, notes):
            t.state["steps"] += 1
            if t.group.get("weight_decay") and (share := self._driver.shrinkage(t.group)):
                t.state["latent"].sub_(t.weight, alpha=share)
            rule.landed(t)
            if not t.rests:
                rule.after(t, note)
            if t.state["steps"] % periods[id(t.group)] == 0:
                bases.flush(t.state["base"], t.state["latent"])
        for group in self._rewiring_groups():
            self._rewire(group, [t for t in rows if t.group is group])
        self._put(rows)

    def _gradient(self, t: Row) -> Tensor:
        """Return ∂L/∂w as the latents' own kind of tensor, with coupled weight decay on w added."""
        latent = t.state["latent"]
        gradient = cast(Tensor, t.weight.grad)
        if gradient.dtype != latent.dtype:
            gradient = gradient.to(latent.dtype)
        decay = t.group.get("weight_decay", 0.0)
        if decay and self._driver.shrinkage(t.group) is None:
            gradient = gradient.add(t.weight, alpha=-decay if t.group.get("maximize") else decay)
        if t.rests:
            gradient = gradient.masked_fill(t.state["absent"], 0.0)
        # Fused kernels walk through memory and would pair a gradient in another layout with wrong latents.
        return gradient if gradient.stride() == latent.stride() else in_layout_of(latent, gradient)

    def _move(self, pulls: list[tuple[Row, dict[str, Tensor]]]) -> None:
        """Let the base move latents by these gradients, and plain parameters by theirs."""
        for group in self.param_groups:
            for weight in () if group["rewire"] else group["params"]:
                if self._driver.fused and weight.grad is not None and weight.grad.is_sparse:
                    group["fused"] = False
                if moves(weight) and not self.state[weight]:
                    self.state[weight] = self._driver.born(weight, group, self.state)
        latents = [(t.state[name], pull) for t, pulled in pulls for name, pull in pulled.items()]  # type: ignore[literal-required]
        try:
            for latent, pull in latents:
                latent.grad = pull
            with self._driver.lent(pulls, self.rule.latents, self.state):
                quiet_step(self._driver.optimizer)
        finally:
            for latent, _ in latents:
                latent.grad = None

    def _rewire(self, group: Group, moved: list[Row]) -> None:
        """Let synapses come and go after all tensors of the group have moved, before weights are written."""
        if moved:
            group["clock"] += 1
            if unmoved := [t for t in self._meet(group) if t.weight.grad is None]:
                self._put(unmoved)
            self.rule.exchange(moved)

    @shielded
    def _join(self) -> None:
        """Draw the synapses of tensors that are new, or learn for the first time."""
        for group in self._rewiring_groups() if self.rule.draws else ():
            new = {w for w in self._learning(group) if not (state := self._known(w)) or "undrawn" in state}
            if new:
                rows = self._rows_of(group)
                drawn = [t for t in rows if t.weight in new]
                self.rule.draw(drawn, rows, self._layers(group))
                self._put(drawn)
                for t in drawn:
                    t.state.pop("undrawn", None)

    def _take_over(self, rows: list[Row]) -> None:
        """Take over what somebody else has written into these weights."""
        if changed := set(map(id, self._written.changed([t.weight for t in rows]))):
            taken = [t for t in rows if id(t.weight) in changed]
            for t in taken:
                # Somebody may hold the tensors of a state_dict, which are these.
                t.state.update(saving.own(t.weight, t.state, self.rule.sign_dtype))
                self.rule.adopt(t)
            self._written.remember([t.weight for t in taken])

    def _put(self, rows: list[Row]) -> None:
        """Write weights, and remember them."""
        if rows:
            self.rule.write(rows)
            self._written.remember([t.weight for t in rows])

    # -- a budget --------------------------------------------------------------------------------------------------

    def plan(self, group: Group) -> Plan:
        """Return the numbers behind the budget of a group of `param_groups`.

        Raises:
            UsageError: the budget makes no sense for these layers.
        """
        return self._layers(group).plan(group, [t.state["initial"] for t in self._rows_of(group)])

    @shielded
    def settle(self) -> None:
        """Bring the number of synapses to exactly what the budget says for this moment, for methods that keep one.

        Between two solves the number floats a little; call this before a network is measured or saved.
        """
        for group in self._rewiring_groups():
            if rows := self._meet(group, always=True):
                self._put(rows)

    def finish(self) -> None:
        """Bring the number of synapses to what the budget says for the end of training; call it after the last step.

        Training may have had fewer steps than its schedule: `GradScaler` skips those whose gradients overflow. Then a
        warning says how many synapses go at once.
        """
        for group in self._rewiring_groups():
            weights = self._learning(group)
            if not self.rule.has_budget(group) or not weights or group["clock"] >= (end := group["schedule"]["steps"]):
                continue
            done, group["clock"] = group["clock"], end
            before = sum(int(torch.count_nonzero(weight.detach())) for weight in weights)
            after, size = self.plan(group).count(end), sum(weight.numel() for weight in weights)
            if before != after:
                warnings.warn(
                    f"training made {done} of the {end} steps of its schedule (skipped ones do not count), and left "
                    f"{before / size:.2%} of the synapses in place of {after / size:.2%}; the difference is made up "
                    "now, without training after it",
                    stacklevel=2,
                )
        self.settle()

    def _meet(self, group: Group, always: bool = False) -> list[Row]:
        """Make the number of synapses exact where it is due, and return the tensors whose synapses have changed."""
        if not self.rule.due(group, always):
            return []
        rows = self._rows_of(group)
        if not rows or any(t.rests for t in rows):
            return []
        # A step has already taken over what others have written into the weights that it moves.
        self._take_over([t for t in rows if always or t.weight.grad is None])
        return self.rule.meet(rows, self.plan(group), self._report)

    def solved(self) -> dict[str, budget.Solved]:
        """Return, per tensor whose threshold presses between solves, what those since the last call have found."""
        names = self._names()
        return {names[weight]: solved for weight, solved in self._report.taken().items()}

    # -- looking inside --------------------------------------------------------------------------------------------

    def theta(self, weight: Tensor) -> Tensor:
        """Return what decides which synapses of a rewired tensor exist, float64, in its shape.

        The synaptic parameter θ = s·z − d of signed latents, |z| − d behind a soft threshold, z itself under a mask.
        """
        self._finite.report(self._name)
        return self.rule.theta(self._row_of(weight))

    def mask(self, weight: Tensor) -> Tensor:
        """Return which synapses of a tensor exist: bool, in the tensor's shape."""
        return self.rule.mask(self._row_of(weight))

    def connectivity(self) -> float:
        """Return existing synapses over all synapses, counted over every tensor of synapses, rewired or not."""
        self._finite.report(self._name)
        weights = [p for group in self.param_groups if group["counted"] for p in group["params"]]
        count = sum(p.numel() for p in weights)
        if not count:
            raise UsageError("no group holds synapses to count; one with counted=True would be counted")
        return sum(int(torch.count_nonzero(p.detach())) for p in weights) / count

    @shielded
    def turnover(self) -> dict[str, Turnover]:
        """Count synapses pruned and regrown per rewired tensor since the last call; the first call starts it."""
        self._finite.report(self._name)
        counts = {}
        for t in self._rows(lambda *_: True):
            mask = self.rule.mask(t)
            counts[self._name(t.weight)] = turnover(self._last_masks.get(t.weight, mask), mask)
            self._last_masks[t.weight] = mask
        return counts

    @shielded
    def freeze_topology(self, frozen: bool = True) -> None:
        """Keep absent synapses of rewired tensors absent and let the method rest, to fine-tune; False ends it."""
        for t in self._rows(lambda *_: True):
            t.state["frozen"] = int(frozen)
            if frozen:
                t.state.setdefault("absent", ~self.rule.mask(t))
            elif "absent" in t.state:
                self.rule.thaw(t, t.state.pop("absent"))

    @shielded
    def snapshot(self) -> dict[str, Any]:
        """Return a point of training to come back to with `rewind`, as plain data."""
        return rewinding.snapshot(self)

    @shielded
    def rewind(self, snapshot: dict[str, Any]) -> None:
        """Give the synapses that are left their weights of a snapshot, and the base its state; absent ones stay so.

        Options, schedules and learning rates stay as they are.

        Raises:
            UsageError: it is no snapshot, or one of other tensors.
        """
        rewinding.rewind(self, snapshot)
        self._take_over(rows := self._begun())
        self._put(rows)  # as the latents can hold them, so that a saved state leads to the same weights

    # -- saving, loading, copying ----------------------------------------------------------------------------------

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
        """Continue from a saved state, with the weights that belong to it.

        Latents and moments keep their own precision, whatever the weights have.

        Raises:
            UsageError: the state belongs to another method or to tensors of other shapes.
        """
        with saving.standing_in(self):
            super().load_state_dict(state_dict)
        for kept in (self._waiting, self._last_masks, self._finite.flags, self._written, self._seen):
            kept.clear()
        self.rule.forget()
        self._put(self._begun())

    def _end_waiting(self) -> None:
        """Make what has begun part of the state."""
        self.state.update(self._waiting)
        self._waiting.clear()

    def _begun(self) -> list[Row]:
        """Return the tensors that learn and have latents."""
        return self._rows(lambda _, weight: weight.requires_grad and bool(self._known(weight)))

    def __getstate__(self) -> dict[str, Any]:
        own = ("rule", "_driver", "_named", "_made", "_finite", "_waiting", "_last_masks", "_report")
        kept = {name: getattr(self, name) for name in own}
        return {**super().__getstate__(), **kept, "_written": Written(), "_seen": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        saving.take_home(self)
        self._driver.optimizer.param_groups = self.param_groups


def _said(group: Group) -> dict[str, Any]:
    """Return what a check of a group depends on."""
    said = {option: value for option, value in group.items() if option not in ("params", "lr", "clock")}
    said["params"] = [id(weight) for weight in group["params"] if weight.requires_grad]
    return said
