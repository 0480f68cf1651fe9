"""What a rewiring method has to know of the torch optimizer that moves its latents."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaprune.catalogue import CATALOGUE, owners
from synaprune.errors import UsageError, nearest
from synaprune.optim.surroundings import shield
from synaprune.optim.trial import DECAYS, Trial

__all__ = [
    "bias_correction",
    "check_options",
    "comes_with_torch",
    "device_of",
    "flush",
    "longest_move",
    "make_base",
    "reset",
    "shrinkage",
    "takes_fused",
]

# Their direction does not turn around with the sign of a weight, or needs the loss again and again.
REFUSED: dict[type[Optimizer], str] = {
    torch.optim.LBFGS: "evaluates the loss several times within one step",
    torch.optim.SparseAdam: "takes sparse gradients only",
    **({torch.optim.Muon: "mixes the signs of a whole matrix"} if hasattr(torch.optim, "Muon") else {}),
}
# These divide their first moment by 1 − β₁ⁿ; Grad R's prior is scaled with it (released code, `gradrewire.py`).
BIAS_CORRECTED = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
)


def make_base(base: type[Optimizer], members: Iterable[Any], options: dict[str, Any]) -> Optimizer:
    """Construct the base optimizer around a stand-in, or say in one sentence why it cannot serve.

    The fused kernel is switched on where torch has one for all `members` and the options do not say otherwise. A base
    that torch does not bring along is tried.

    Raises:
        UsageError: `base` is not an optimizer class, is one of the three that cannot be a base, does not take these
            options, or has not stood its trial.
    """
    members = list(members)
    if not (isinstance(base, type) and issubclass(base, Optimizer)):
        raise UsageError(f"base={base!r} is not a torch optimizer class; pass one such as torch.optim.Adam")
    for refused, reason in REFUSED.items():
        if issubclass(base, refused):
            raise UsageError(
                f"torch.optim.{base.__name__} cannot be the base of a rewiring method because it {reason}; "
                "use Adam, AdamW, SGD or another first-order optimizer"
            )
    if options.get("differentiable"):
        raise UsageError("differentiable=True cannot be served: latents are moved in place; leave it out")
    if takes_fused(base, members) and not {"fused", "foreach"} & options.keys():
        options = {**options, "fused": True}
    try:
        made = base([torch.zeros(1, dtype=torch.float32, device="cpu")], **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"the base optimizer {base.__name__} refuses its options: {error}") from error
    if "lr" not in made.defaults:
        raise UsageError(f"{base.__name__} cannot be the base of a rewiring method because it has no learning rate lr")
    if not comes_with_torch(base):
        with shield():
            Trial(base.__name__, lambda weight: base([weight], **options), device_of(members)).check()
    return made


def comes_with_torch(base: type[Optimizer]) -> bool:
    """Tell whether a base is one of torch's own."""
    return base.__module__.startswith("torch.optim.")


def device_of(members: Iterable[Any]) -> torch.device:
    """Return where to try a base that shall move these tensors."""
    kinds = [p.device for p in members if isinstance(p, Tensor) and p.device.type != "meta"]
    return kinds[0] if kinds else torch.device("cpu")


def check_options(method: str, base: type[Optimizer], options: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that neither method nor base has, before the base alone is blamed for them.

    Raises:
        UsageError: naming the option and the nearest of those that there are.
    """
    if not (isinstance(base, type) and issubclass(base, Optimizer)):
        return
    taken = inspect.signature(base).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    for option in options:
        if option not in taken:
            if has := [CATALOGUE[name].optimizer for name in owners(option)]:
                raise UsageError(f"'{option}' is an option of {', '.join(has)}, not of {method}; leave it out")
            hint = nearest(option, [*known, *taken])
            raise UsageError(f"neither {method} nor its base {base.__name__} has an option '{option}'{hint}")


def takes_fused(base: type[Optimizer], members: Iterable[Any]) -> bool:
    """Tell whether torch has a fused kernel of a base for all these tensors."""
    devices = {"cpu"} if base is torch.optim.Adagrad else {"cpu", "cuda"}
    known = comes_with_torch(base) and "fused" in inspect.signature(base).parameters
    return known and all(isinstance(p, Tensor) and p.is_floating_point() and p.device.type in devices for p in members)


def bias_correction(base: Optimizer, group: dict[str, Any], steps: int) -> float:
    """Return 1 − β₁ⁿ after `steps` steps for bases that correct their first moment, 1 for all others."""
    return 1.0 - float(group["betas"][0]) ** steps if isinstance(base, BIAS_CORRECTED) else 1.0


def shrinkage(
    base: Optimizer, group: dict[str, Any], make: Callable[[Tensor], Optimizer], known: dict[tuple[Any, ...], str]
) -> float | None:
    """Return by which share the weights of a group decay in a step apart from their gradient; None: with it.

    Where that has to be tried, with what `make` makes, `known` keeps the answer.

    Raises:
        UsageError: they decay in another way.
    """
    shrink = DECAYS[_decay_of(base, group, make, known)]
    return None if shrink is None else shrink(float(group["lr"]), float(group["weight_decay"]))


def _decay_of(
    base: Optimizer, group: dict[str, Any], make: Callable[[Tensor], Optimizer], known: dict[tuple[Any, ...], str]
) -> str:
    if comes_with_torch(type(base)):
        apart = isinstance(base, torch.optim.Adafactor) or group.get("decoupled_weight_decay")
        return "decoupled" if apart else "coupled"
    options = (group[option] for option in base.defaults if option in group)
    switches = tuple(value if isinstance(value, bool | str) else bool(value) for value in options)
    if switches not in known:
        known[switches] = Trial(type(base).__name__, make, device_of(group["params"])).decay()
    return known[switches]


def longest_move(base: Optimizer, group: dict[str, Any]) -> float:
    """Bound the distance, in learning rates, that one step of the base can move one latent.

    For Adam, Cauchy-Schwarz on the two moments gives |m̂|/√v̂ ≤ (1−β₁)/√((1−β₂)(1−β₁²/β₂)); three times that
    leaves room for schedulers that move the betas on the way. Without such a bound the answer is infinity.
    """
    if type(base) not in (torch.optim.Adam, torch.optim.AdamW):
        return math.inf
    beta1, beta2 = map(float, group["betas"])
    if beta1**2 >= beta2:
        return math.inf
    return 3.0 * max(1.0, (1.0 - beta1) / math.sqrt((1.0 - beta2) * (1.0 - beta1**2 / beta2)))


def reset(state: dict[str, Any], places: Tensor, latent: Tensor, group: dict[str, Any]) -> None:
    """Let the base begin anew with the latents at these places in memory: as in a first step, it has seen nothing."""
    first = {"sum": "initial_accumulator_value", "step_size": "lr"}  # Adagrad's and Rprop's; all others begin at 0
    for key, moment in _moments(state, latent):
        value = float(group[first[key]]) if key in first else 0.0
        if moment.stride() == latent.stride():
            moment.as_strided((moment.numel(),), (1,)).index_fill_(0, places, value)
        else:
            strides = (max(stride, 1) for stride in latent.stride())
            moment[tuple(places // stride % size for size, stride in zip(latent.shape, strides))] = value


def flush_period(group: dict[str, Any]) -> int:
    """Return after how many steps to flush, so that nothing falls from 2⁻¹⁰⁰ to a denormal number in between."""
    return 64 if min(group.get("betas", (0.0,))) >= 0.8 else 16


def flush(state: dict[str, Any], latent: Tensor) -> None:
    """Set what has all but decayed to 0: the denormal numbers on its way there slow a processor thirtyfold.

    Moments decay where a synapse learns nothing: it is absent, or its neuron has no way to the output any more.
    """
    for _, moment in _moments(state, latent):
        torch.ops.aten.hardshrink.out(moment, 2.0**-100, out=moment)


def _moments(state: dict[str, Any], latent: Tensor) -> list[tuple[str, Tensor]]:
    """Return the tensors of a base's state that hold one number for each latent."""
    return [
        (key, value)
        for key, value in state.items()
        if isinstance(value, Tensor) and value.shape == latent.shape and value.is_floating_point() and key != "step"
    ]
