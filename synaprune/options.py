"""The options of the methods: what each of them does, and what it may be, once.

The optimizers' documentation and checks, the settings of a run, recipes and `--help` come from here; which method has
which is in `catalogue`, and its default in the signature of the method. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from synaprune.errors import UsageError, nearest, short

__all__ = ["ARGUMENTS", "OPTIONS", "Option", "check"]


@dataclass(frozen=True)
class Option:
    """An option of some methods.

    Args:
        help: what it does.
        example: said to somebody who gave a wrong value.
        choices: the words that it may be.
        whole: it is a whole number.
        switch: it is on or off.
        by_name: it may be one number for all layers, or one per name pattern.
        optional: it may be None, which is for the method to judge.
        tensor: it may be a tensor of one number, which is for the method to judge.
        at_least, above, at_most, below: bounds of a number.
    """

    help: str
    example: str = ""
    choices: tuple[str, ...] = ()
    whole: bool = False
    switch: bool = False
    by_name: bool = False
    optional: bool = False
    tensor: bool = False
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds by the names that they have here."""
        bounds = {name: getattr(self, name) for name in ("at_least", "above", "at_most", "below")}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    @property
    def said(self) -> str:
        """What it does, as documentation says it: more than a command line can ask for."""
        return self.help + (
            '; one number, or one per name pattern (`{"fc1.*": 0.99, "*": 0.9}`)' if self.by_name else ""
        )

    @property
    def words(self) -> str:
        """What a number must be: `a number in [0, 1)`, `a whole number of at least 1`."""
        low, high = (self.at_least, "[") if self.at_least is not None else (self.above, "(")
        top, end = (self.at_most, "]") if self.at_most is not None else (self.below, ")")
        if top is not None:
            return f"{'a whole number' if self.whole else 'a number'} in {high}{low:g}, {top:g}{end}"
        kind = "a whole number" if self.whole else "a finite number"
        if low is None:
            return kind
        return f"{kind} of at least {low:g}" if high == "[" else f"{kind} above {low:g}"

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that makes no sense.

        Raises:
            UsageError: naming option and value.
        """
        if self.by_name and isinstance(value, Mapping):
            for one in value.values():
                self.check(name, one)
        elif self.choices and not self.bounds:
            if value not in self.choices:
                hint = nearest(str(value), self.choices) or f"; there are {', '.join(self.choices)}"
                raise UsageError(f"there is no {name} {short(value)}{hint}")
        elif self.switch:
            if not isinstance(value, bool):
                raise UsageError(f"{name}={short(value)} is neither True nor False")
        elif not (isinstance(value, str) and value in self.choices) and not self._holds(value):
            hint = nearest(str(value), self.choices) or (self.example and f"; {self.example}")
            raise UsageError(f"{name}={short(value)} is not {self.words}{hint}")

    def _holds(self, value: Any) -> bool:
        if (
            isinstance(value, bool)
            or not isinstance(value, Integral if self.whole else Real)
            or not math.isfinite(value)
        ):
            return False
        low, high = (-math.inf if bound is None else bound for bound in (self.at_least, self.above))
        top, end = (math.inf if bound is None else bound for bound in (self.at_most, self.below))
        number = float(value)
        return low <= number <= top and high < number < end


OPTIONS = {
    # how many synapses, where, and by when
    "sparsity": Option(
        "share of the synapses that is absent in the end: 0.98 keeps 2 %; with a fixed alpha of grad_r, the prior's"
        " target",
        "0.98 keeps 2 % of the synapses",
        by_name=True,
        optional=True,
        tensor=True,
        at_least=0,
        below=1,
    ),
    "schedule": Option(
        "the course of training, from `synaprune.budget`, with its number of steps: `cubic(steps=10_000)`; the number"
        " of synapses follows it, or what else changes",
        optional=True,
    ),
    "allocation": Option(
        "where the synapses are: `global` ranks all layers together, `scaled` does so by sizes over the root mean"
        " square of a layer's initial weights, `uniform` and `erk` (small layers denser) give each layer a number",
        choices=("global", "scaled", "uniform", "erk"),
    ),
    "period": Option(
        "steps from one solve for the number of synapses, or exchange of some, to the next; the schedule's last step"
        " always solves",
        whole=True,
        at_least=1,
    ),
    "floor": Option(
        "share of the common connectivity below which no layer falls when all are ranked",
        "0 lets a layer lose all but one synapse",
        at_least=0,
        at_most=1,
    ),
    # how strongly, where no number is asked for
    "alpha": Option(
        "how strongly grad_r's prior, lats' threshold or deep_r's penalty presses: larger prunes more; `auto` solves"
        " for the strength with which grad_r meets the sparsity",
        "larger prunes more",
        optional=True,
        tensor=True,
        choices=("auto",),
        at_least=0,
    ),
    "beta": Option(
        "factor by which lats' strength grows in the course of the schedule (PGH)",
        "1 weights all learning rates alike",
        above=0,
    ),
    "threshold": Option(
        "soft threshold with which stds ends, in the unit of the weights: larger prunes more",
        "0 prunes nothing",
        optional=True,
        at_least=0,
    ),
    "threshold_decay": Option(
        "weight decay of str's learned thresholds: larger prunes more; what counts is its product with the sum of the"
        " learning rates",
        "0 prunes nothing",
        optional=True,
        at_least=0,
    ),
    "s_init": Option("logit with which str's thresholds begin", "thresholds start at σ(s_init)"),
    "gated": Option("take the true gradient in place of the straight-through one", switch=True),
    # how synapses come and go
    "temperature": Option(
        "temperature T of the synapses' diffusion, whose noise is √(2ηT) at a learning rate η",
        "larger exchanges more synapses",
        at_least=0,
    ),
    "noise": Option(
        "what soft_deep_r draws for the diffusion: `uniform`, of equal variance, costs a fraction",
        choices=("gaussian", "uniform"),
    ),
    "initial": Option(
        "granet's connectivity to begin with, drawn at random; 1 begins with all synapses",
        "1 begins with all synapses",
        above=0,
        at_most=1,
    ),
    "drop": Option(
        "share of a layer's synapses that is exchanged at first",
        "0.3 exchanges 30 % of them at first",
        above=0,
        below=1,
    ),
    "drop_end": Option(
        "share of training after which none is exchanged any more",
        "0.75 exchanges none in the last quarter",
        above=0,
        at_most=1,
    ),
    "annealing": Option(
        "shape along which the share that is exchanged falls from the first step to the last; `constant` for one that"
        " does not fall",
        choices=("constant", "linear", "cubic", "sine", "cosine"),
    ),
    "growth": Option(
        "which synapses are grown: at `random`, of the largest `gradient`, or of the base's largest moving average of"
        " it (`momentum`)",
        choices=("random", "gradient", "momentum"),
    ),
    "rescale": Option(
        "scale the initial weights of a layer by 1/√connectivity, which keeps the first currents but makes it hard for"
        " newborns to outgrow the synapses drawn",
        switch=True,
    ),
    # of all
    "margin": Option(
        "how far below the threshold a synapse starts that was absent before, or is cut by somebody else; ten learning"
        " rates if not given",
        "leave it out",
        optional=True,
        at_least=0,
    ),
    "check_finite": Option("refuse a step with non-finite gradients (on the CPU)", switch=True),
    "seed": Option(
        "seed of everything that is drawn at random", "every run needs one, so that it can be repeated", whole=True
    ),
}

ARGUMENTS = {
    "params": "a module, or what any torch optimizer takes (see `Rewirer`)",
    "lr": "learning rate η of the base optimizer",
    "base": "torch optimizer class that moves the weights or latents; all but LBFGS, Muon and SparseAdam serve",
    "include": "name patterns of tensors that are synapses though no rule of `find_synapses` says so",
    "exclude": "name patterns of synapses that shall be trained but not rewired",
    "compile_projection": "write the weights by one compiled kernel, and keep signs in one byte",
    "compile_motion": "let one compiled kernel do what comes after the base step, and keep signs in one byte",
    "base_options": "further options of the base, for instance `betas` or `weight_decay`; weight decay acts on w, never"
    " on a latent",
}
"""What methods are called with, beside options of their groups."""


def check(names: Iterable[str], values: Mapping[str, Any]) -> None:
    """Refuse values of options that make no sense.

    Raises:
        UsageError: naming option and value.
    """
    for name in names:
        option, value = OPTIONS[name], values.get(name)
        judged = (value is None and option.optional) or (option.tensor and getattr(value, "shape", None) == ())
        if name != "schedule" and not judged:
            option.check(name, value)
