"""The methods, one row each: what they are called, and what a user can ask of them.

Nothing here imports torch, so that `synaprune --help` answers at once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["CATALOGUE", "Entry", "named", "owners"]


class Entry(NamedTuple):
    """A method.

    Args:
        name: of recipes, records and the command line.
        optimizer: its class in `synaprune.optim`.
        shown: its name in tables and figures.
        begins: with which synapses: all, about half, or as few as it ends with; what is not dense is drawn at random.
        number: is the number of synapses that is asked for met exactly or on average; None, none can be asked for.
        page: of the documentation, in docs/methods.
        options: of its own, all of them in `options.OPTIONS`.
        strength: the one that says how strongly it prunes, in place of a number.
    """

    name: str
    optimizer: str
    shown: str
    begins: Literal["dense", "half", "sparse"]
    number: Literal["exact", "average"] | None
    page: str
    options: tuple[str, ...] = ()
    strength: str | None = None

    @property
    def exchanges(self) -> bool:
        """Whether synapses are dropped and grown every so many steps."""
        return "drop" in self.options

    @property
    def diffuses(self) -> bool:
        """Whether synapses move by random noise."""
        return "temperature" in self.options

    @property
    def descends(self) -> bool:
        """Whether the number of synapses comes down along a schedule."""
        return self.number is not None and self.begins != "sparse"


COMMON = ("check_finite",)
NUMBER = ("sparsity", "schedule", "allocation", "period", "floor", *COMMON)  # of synapses, to which training descends
DRAWN = ("sparsity", "allocation", "rescale", "seed", *COMMON)
EXCHANGED = ("schedule", "drop", "drop_end", "period", "growth", *DRAWN)
REGENERATED = ("initial", "annealing", "floor", *EXCHANGED)
DIFFUSING = ("alpha", "temperature", *DRAWN)
LATENT = (*NUMBER, "margin", "seed")
LEARNED = ("threshold_decay", "s_init", *LATENT)

CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry("deep_r", "DeepR", "Deep R", "sparse", "exact", "deep_r.md", DIFFUSING),
        Entry("dense", "Dense", "dense", "dense", None, "README.md", COMMON),
        Entry("grad_r", "GradR", "Grad R", "dense", "exact", "grad_r.md", ("alpha", *LATENT), "alpha"),
        Entry("granet", "GraNet", "GraNet", "half", "exact", "granet.md", REGENERATED),
        Entry("lats", "LATS", "LATS", "dense", "exact", "lats.md", ("alpha", "beta", "gated", *LATENT), "alpha"),
        Entry("magnitude", "Magnitude", "magnitude", "dense", "exact", "magnitude.md", NUMBER),
        Entry("magnitude_ste", "MagnitudeSTE", "straight-through magnitude", "dense", "exact", "magnitude.md", NUMBER),
        Entry("rigl", "RigL", "RigL", "sparse", "exact", "rigl.md", EXCHANGED),
        Entry("set", "SET", "SET", "sparse", "exact", "set.md", EXCHANGED),
        Entry("soft_deep_r", "SoftDeepR", "soft Deep R", "sparse", "average", "deep_r.md", ("noise", *DIFFUSING)),
        Entry("static", "Static", "static random", "sparse", "exact", "static.md", DRAWN),
        Entry("stds", "STDS", "STDS", "dense", "exact", "stds.md", ("threshold", "gated", *LATENT), "threshold"),
        Entry("str", "STR", "STR", "dense", "exact", "str.md", LEARNED, "threshold_decay"),
    )
}


def owners(option: str) -> tuple[str, ...]:
    """Return the methods that have an option."""
    return tuple(entry.name for entry in CATALOGUE.values() if option in entry.options)


def named(method: object) -> str:
    """Return what a method is called in tables and figures; one that is not known here, as it is."""
    entry = CATALOGUE.get(str(method))
    return str(method) if entry is None else entry.shown
