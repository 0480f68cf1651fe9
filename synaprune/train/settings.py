"""Every knob of a training run, once: recipe keys, command-line flags and `--help` all come from `Settings`.

This file imports neither torch nor anything that does, so that `synaprune --help` answers at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from synaprune.catalogue import CATALOGUE
from synaprune.errors import UsageError, nearest, short
from synaprune.train.fields import LARGE, MANY, convert, option, setting

__all__ = ["FIELDS", "Settings", "methods_of"]

STRENGTH = {name: entry.strength for name, entry in CATALOGUE.items() if entry.strength}  # instead of a budget
BUDGETED = tuple(name for name, entry in CATALOGUE.items() if entry.number)  # methods that can be asked for a sparsity
SCHEDULED = tuple(name for name, entry in CATALOGUE.items() if entry.descends)  # methods that approach one
DESCENDING = tuple(name for name in SCHEDULED if CATALOGUE[name].begins == "dense")  # from all synapses
EXCHANGING = tuple(name for name, entry in CATALOGUE.items() if entry.exchanges)  # methods that drop and grow
COURSE = ("schedule", "schedule_pause", "schedule_flat")
FORMS = ("sparsity", "connectivity", "synapses")  # of saying how many synapses are left
BUDGET = ("allocation", *COURSE, "period", "floor")  # beside its number


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one training run.

    Values are converted and checked on construction: `Settings(lr="0.1").lr` is `0.1`, `Settings(lr=-1)` raises.

    Raises:
        UsageError: a value of the wrong kind or range, or two settings that contradict each other.

    """

    task: str = setting("digits", "data set", choices=("cifar10", "digits", "mnist"))
    model: str = setting(
        "mlp",
        "network: mlp has one hidden layer, cnn six convolutions and two linear layers",
        choices=("cnn", "mlp"),
    )
    width: int = setting(200, "hidden neurons of the mlp, channels of the cnn", at_least=1, at_most=MANY)
    time_steps: int = setting(8, "time steps for which each image is shown", at_least=1, at_most=MANY)
    gain: float = setting(1.0, "factor on torch's default initial weights", above=0, below=LARGE)
    dropout: float = setting(
        0.0,
        "dropout rate before the first linear layer of the cnn, one mask for all time steps",
        at_least=0,
        below=1,
    )

    method: str = setting(
        "grad_r",
        "how synapses come and go",
        choices=tuple(CATALOGUE),
    )
    alpha: float | str | None = option("alpha")
    beta: float | None = option("beta")
    threshold: float | None = option("threshold")
    threshold_decay: float | None = option("threshold_decay")
    s_init: float | None = option("s_init")
    gated: bool | None = option("gated")
    temperature: float | None = option("temperature")
    noise: str | None = option("noise")
    sparsity: float | None = option("sparsity")
    connectivity: float | None = setting(
        None,
        "the same as the share that is left: 0.02 keeps 2 % (kept as the sparsity)",
        above=0,
        at_most=1,
        methods=BUDGETED,
    )
    synapses: int | None = setting(None, "the same as a number: so many are left", at_least=1, methods=BUDGETED)
    allocation: str | None = option("allocation")
    schedule: str | None = setting(
        None,
        "course of the number of synapses towards a budget, of stds' threshold or of lats' beta",
        choices=("constant", "cosine", "cubic", "linear", "sine"),
        methods=SCHEDULED,
    )
    schedule_pause: float | None = setting(
        None, "share of training before the course begins", at_least=0, below=1, methods=SCHEDULED
    )
    schedule_flat: float | None = setting(
        None, "share of training after the course is over", at_least=0, below=1, methods=SCHEDULED
    )
    levels: tuple[float, ...] | None = setting(
        None,
        "sparsities at which the descent to a budget rests on the way, each at the end of an equal part of training;"
        " schedule_flat is then the share of that part",
        above=0,
        below=1,
        methods=DESCENDING,
    )
    tail: int | None = setting(
        None,
        "epochs that a copy of the network is trained on at the end of each level, with a learning rate that falls",
        at_least=1,
        at_most=MANY,
        methods=DESCENDING,
    )
    period: int | None = option("period")
    floor: float | None = option("floor")
    drop: float | None = option("drop")
    drop_end: float | None = option("drop_end")
    growth: str | None = option("growth")
    initial: float | None = option("initial")
    exclude: tuple[str, ...] = setting((), "name patterns of weights that are never rewired, separated by commas")

    base: str = setting("Adam", "optimizer of torch.optim that moves the weights or latents")
    lr: float = setting(1e-3, "learning rate", above=0, below=LARGE)
    weight_decay: float | None = setting(
        None, "weight decay; left to the base optimizer when not given", at_least=0, below=LARGE
    )
    lr_schedule: str = setting(
        "constant", "course of the learning rate after the warm-up", choices=("constant", "cosine")
    )
    warmup: float = setting(0.0, "epochs over which the learning rate rises linearly", at_least=0)
    batch_size: int = setting(128, "images per step", at_least=1, at_most=MANY)
    epochs: int = setting(30, "passes over the training set", at_least=1, at_most=MANY)
    loss: str = setting(
        "mse",
        "mse: firing rates against one-hot; ce: cross-entropy of the mean output current; mse+ce: their sum",
        choices=("ce", "mse", "mse+ce"),
    )
    clip_grad: float | None = setting(
        None, "largest norm of the gradient; longer ones are scaled", above=0, below=LARGE
    )

    augment: float = setting(
        0.0,
        "strength of the augmentation: random affine maps for mnist, crop and flip for cifar10",
        at_least=0,
        at_most=1,
    )
    augment_end: float | None = setting(
        None, "strength after the fade; same as augment when not given", at_least=0, at_most=1
    )
    fade_start: float = setting(0.0, "share of training after which the strength fades", at_least=0, at_most=1)
    fade_end: float = setting(1.0, "share of training at which the fade is over", at_least=0, at_most=1)

    holdout: int = setting(
        0, "validate on this many last training images; the test set is then not touched", at_least=0
    )
    limit: int = setting(0, "use this many first images of each part alone, to try things out; 0: all", at_least=0)
    seed: int = setting(0, "seed of everything random", at_least=0, below=2**63)
    precision: str = setting("fp32", "bf16 computes the network in bfloat16", choices=("bf16", "fp32"))
    compile: bool = setting(False, "compile the network with torch.compile")
    recompute: bool = setting(
        False, "compute the cnn's maps anew in backward instead of keeping them: less memory, more time", fixed=False
    )
    device: str = setting("auto", "cpu, cuda, cuda:1, …; auto takes a GPU where there is one", fixed=False)
    threads: int = setting(0, "CPU threads; 0 leaves the choice to torch", at_least=0, at_most=4096, fixed=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, convert(field, getattr(self, field.name)))
        for name, value in vars(self).items():
            owners = methods_of(name)
            if value is not None and owners and self.method not in owners:
                owners_named = " and ".join(filter(None, (", ".join(owners[:-1]), owners[-1])))
                raise UsageError(
                    f"setting '{name}' belongs to method{'s' * (len(owners) > 1)} {owners_named}, not to {self.method}"
                )
        self._settle_form()
        self._check_budget()
        if self.model == "mlp" and self.dropout:
            raise UsageError("setting 'dropout' belongs to model cnn; the mlp has none")
        if self.recompute and (self.model == "mlp" or self.compile):
            raise UsageError(
                "setting 'recompute' belongs to model cnn and goes without 'compile', which does so where it pays"
            )
        if self.task == "digits" and (self.augment or self.augment_end):
            raise UsageError("setting 'augment' must be 0 for task digits, which has no augmentation")
        if self.fade_start > self.fade_end:
            raise UsageError(f"setting 'fade_start' ({self.fade_start}) must not be above 'fade_end' ({self.fade_end})")
        if self.warmup > self.epochs:
            raise UsageError(f"setting 'warmup' ({self.warmup}) must not be above 'epochs' ({self.epochs})")

    def _settle_form(self) -> None:
        """Refuse a budget that is said twice, and say a connectivity as a sparsity."""
        given = [form for form in FORMS if getattr(self, form) is not None]
        if len(given) > 1:
            raise UsageError(f"settings '{given[0]}' and '{given[1]}' both say how many synapses are left; give one")
        if self.connectivity is not None:
            # In decimals, so that 0.0073 and a sparsity of 0.9927 are one.
            object.__setattr__(self, "sparsity", float(1 - Decimal(repr(self.connectivity))))
            object.__setattr__(self, "connectivity", None)

    def _check_budget(self) -> None:
        """Refuse a budget of which a part is missing, or parts of one where there is none."""
        strength = STRENGTH.get(self.method)
        if self.alpha == "auto" and self.method != "grad_r":
            raise UsageError(f"setting 'alpha' = auto belongs to method grad_r; give {self.method} a number or none")
        if self.alpha == "auto" and not self.asked:
            raise UsageError("setting 'alpha' = auto needs a 'sparsity' to solve for, for instance 0.98")
        if self.method in BUDGETED and not strength and not self.asked:
            raise UsageError(f"method {self.method} needs a 'sparsity', for instance 0.98")
        if strength and self.method != "grad_r" and (getattr(self, strength) is None) != self.asked:
            raise UsageError(
                f"method {self.method} needs one of two: a '{strength}', how strongly it prunes, or a 'sparsity', how "
                "many synapses it leaves"
            )
        if not self.budget:
            for name in BUDGET:
                if getattr(self, name) is not None and not (self.course and name in COURSE):
                    raise UsageError(
                        f"setting '{name}' belongs to a budget; give a 'sparsity', and {self.method} no number for "
                        f"'{strength}'"
                    )
        if self.tail is not None and self.levels is None:
            raise UsageError("setting 'tail' branches off at 'levels', of which there are none")
        if self.levels is not None:
            self._check_levels()
        if (self.schedule_pause or 0.0) + (self.schedule_flat or 0.0) >= 1.0:
            raise UsageError(
                f"settings 'schedule_pause' ({self.schedule_pause}) and 'schedule_flat' ({self.schedule_flat}) leave "
                "no time in between; their sum must be below 1"
            )

    def _check_levels(self) -> None:
        """Refuse levels that do not come down to the budget, or do not end with an epoch."""
        levels = [0.0, *(self.levels or ()), self.sparsity or 0.0]
        if not self.budget or self.sparsity is None:
            raise UsageError("setting 'levels' belongs to a budget; give a 'sparsity' and no strength")
        if levels != sorted(set(levels)):
            raise UsageError(f"settings 'levels' and 'sparsity' must rise, not go {levels[1:]}")
        if self.schedule is not None or self.schedule_pause:
            raise UsageError("setting 'levels' is a course of its own; leave out 'schedule' and 'schedule_pause'")
        if self.epochs % (len(levels) - 1):
            raise UsageError(
                f"setting 'epochs' ({self.epochs}) must be a multiple of the {len(levels) - 1} levels, the last of"
                " which is the sparsity"
            )

    @property
    def asked(self) -> bool:
        """Whether it is said how many synapses are left, in whatever form."""
        return self.sparsity is not None or self.synapses is not None

    @property
    def budget(self) -> bool:
        """Whether the run has a number of synapses to meet."""
        strength = getattr(self, STRENGTH[self.method]) if self.method in STRENGTH else None
        return self.method in BUDGETED and self.asked and strength in (None, "auto")

    @property
    def course(self) -> str | None:
        """The shape of what follows the training's progress: the number of synapses, a threshold or a strength."""
        if self.budget and self.method in SCHEDULED:
            return self.schedule or "cubic"
        if self.method == "stds":
            return self.schedule or "sine"
        return self.schedule or "linear" if self.beta is not None else None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "") -> Settings:
        """Build settings from names and values as a recipe, a run's `settings.json` or flags hold them.

        Raises:
            UsageError: also for an unknown name; the sentence ends with the nearest known one. It names the `source`.

        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"unknown setting {short(name)}{source and ' in ' + source}{nearest(name, known)}")
        try:
            return cls(**values)
        except UsageError as error:
            raise UsageError(f"{source}: {error}" if source else str(error)) from error

    def to_mapping(self) -> dict[str, Any]:
        """Return all settings as plain data that JSON can hold."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    def difference(self, other: Settings) -> str | None:
        """Name the first setting in which a resumed run would differ from `other`; None when there is none."""
        for field in dataclasses.fields(self):
            if field.metadata["fixed"] and getattr(self, field.name) != getattr(other, field.name):
                return field.name
        return None


FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def methods_of(name: str) -> tuple[str, ...]:
    """Return the methods to which a setting belongs; none for one that all have, and for unknown ones."""
    field = FIELDS.get(name)
    return () if field is None else field.metadata["methods"]
