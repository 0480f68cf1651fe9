"""Try a base that torch does not bring along on one tiny tensor: does it do for latents what it does for weights?

Nothing is taken from names or documentation. What a base does by itself is compared with what it does in our hands,
with the groups' members exchanged, its state handed over, and weight decay done for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.errors import UsageError
from synaprune.optim.quiet import quiet_step

__all__ = ["DECAYS", "Trial"]

RATES = (0.1, 0.05, 0.1)  # they change on the way: a decay may go with the square of the rate, or not with it at all
DECAY = 0.1

DECAYS: dict[str, Callable[[float, float], float] | None] = {
    "coupled": None,
    "decoupled": lambda rate, decay: rate * decay,
    "fixed": lambda rate, decay: decay,
}
"""Kinds of weight decay: by which share a weight shrinks in a step, of learning rate and decay; None: by its gradient.

"decoupled" is that of Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv 1711.05101.
"""


@dataclass(frozen=True)
class Trial:
    """A base on trial: its `name`, how to `make` one around a tensor, and on which device."""

    name: str
    make: Callable[[Tensor], Optimizer]
    device: torch.device

    def check(self) -> None:
        """Take some steps without weight decay.

        Raises:
            UsageError: a step needs a closure or evaluates it more than once, the base moves other tensors than those
                that its groups hold, or it keeps other weights for evaluation.
        """
        if callable(getattr(self.make(self._weight()), "eval", None)):
            raise self._refusal("keeps other weights for evaluation than for training, behind its eval()")
        try:
            alone = self._run(0.0)
        except Exception as error:
            reason = f"cannot take a step on its own, without a closure ({type(error).__name__}: {error})"
            raise self._refusal(reason) from error
        if not torch.allclose(alone, self._run(0.0, handed_over=True), rtol=1e-9, atol=1e-12):
            raise self._refusal("does not move just those tensors that its groups hold, whichever they are")
        if self._insists_on_the_loss():
            raise self._refusal("evaluates the loss several times within one step")

    def decay(self) -> str:
        """Return which of `DECAYS` is this base's weight decay.

        Raises:
            UsageError: it is none of them.
        """
        without = self._run(0.0)
        effect = self._run(DECAY) - without
        for kind in DECAYS:
            ours = self._run(DECAY, handed_over=True, kind=kind) - without
            if torch.allclose(ours, effect, rtol=1e-4, atol=1e-12):
                return kind
        raise UsageError(
            f"the weight decay of {self.name} is neither added to the gradient nor apart from it, so it cannot act on "
            "weights while the base moves latents; leave out weight_decay or take another base"
        )

    def _refusal(self, reason: str) -> UsageError:
        return UsageError(
            f"{self.name} cannot be the base of a rewiring method because it {reason}; use Adam, AdamW, SGD or another "
            "first-order optimizer"
        )

    def _weight(self) -> Tensor:
        values = [[0.5, -1.0, 2.0], [-0.25, 1.5, -3.0]]
        return torch.tensor(values, dtype=torch.float64, device=self.device)

    def _gradients(self) -> list[Tensor]:
        numbers = torch.linspace(-14.0, 14.0, 18, dtype=torch.float64, device=self.device)
        return list(torch.sin(numbers).view(3, 2, 3))

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Let a base that draws at random draw the same each time, and nobody else notice."""
        gpu = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[self.device] if gpu else []):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would reach devices that nobody asked for
            if gpu:
                torch.cuda.default_generators[self.device.index].manual_seed(0)
            yield

    @torch.no_grad()
    def _run(self, decay: float, handed_over: bool = False, kind: str | None = None) -> Tensor:
        """Return where a tensor is after each step: of a base alone, or handed over to one as latents are.

        With a `kind` of decay it is done for the base.
        """
        path = []
        with self._seeded():
            weight = self._weight()
            optimizer = self.make(weight)
            if handed_over:
                newborn, optimizer = optimizer, self.make(torch.zeros(1, device="cpu"))
                optimizer.param_groups[0]["params"] = [weight]
                optimizer.state = defaultdict(dict, newborn.state)
            shrink = DECAYS[kind] if kind else None
            for gradient, rate in zip(self._gradients(), RATES):
                before = weight.clone()
                if kind == "coupled":
                    gradient.add_(weight, alpha=-decay if optimizer.param_groups[0].get("maximize") else decay)
                weight.grad = gradient
                _set(optimizer, rate, 0.0 if kind else decay)
                quiet_step(optimizer)
                if shrink:
                    weight.sub_(before, alpha=shrink(rate, decay))
                path.append(weight.clone())
        return torch.stack(path)

    @torch.no_grad()
    def _insists_on_the_loss(self) -> bool:
        weight = self._weight()
        start, seen = weight.clone(), []

        def closure() -> Tensor:
            seen.append(weight.clone())
            return weight.new_ones(())

        optimizer = self.make(weight)
        _set(optimizer, RATES[0], 0.0)
        weight.grad = self._gradients()[0]
        try:
            with self._seeded():
                quiet_step(optimizer, closure)
        except TypeError:
            return False  # it takes none
        return len(seen) > 1 or any(not torch.equal(start, at) for at in seen)


def _set(optimizer: Optimizer, rate: float, decay: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = torch.full_like(group["lr"], rate) if isinstance(group["lr"], Tensor) else rate
        if "weight_decay" in group:
            group["weight_decay"] = decay
