"""The methods, one row each: what they are called, and what a user can ask of them.

Nothing here imports torch, so that `synaprune --help` answers at once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["CATALOGUE", "Entry", "named"]


class Entry(NamedTuple):
    """A method.

    Args:
        name: of recipes, records and the command line.
        optimizer: its class in `synaprune.optim`.
        shown: its name in tables and figures.
        begins: with which synapses: all, about half, or as few as it ends with; what is not dense is drawn at random.
        number: is the number of synapses that is asked for met exactly or on average; None, none can be asked for.
        strength: the option that says how strongly it prunes, in place of a number.
        exchanges: synapses are dropped and grown every so many steps.
        diffuses: synapses move by random noise.
        page: of the documentation, in docs/methods.
    """

    name: str
    optimizer: str
    shown: str
    begins: Literal["dense", "half", "sparse"]
    number: Literal["exact", "average"] | None
    page: str
    strength: str | None = None
    exchanges: bool = False
    diffuses: bool = False

    @property
    def descends(self) -> bool:
        """Whether the number of synapses comes down along a schedule."""
        return self.number is not None and self.begins != "sparse"


CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry("deep_r", "DeepR", "Deep R", "sparse", "exact", "deep_r.md", diffuses=True),
        Entry("dense", "Dense", "dense", "dense", None, "README.md"),
        Entry("grad_r", "GradR", "Grad R", "dense", "exact", "grad_r.md", strength="alpha"),
        Entry("granet", "GraNet", "GraNet", "half", "exact", "granet.md", exchanges=True),
        Entry("lats", "LATS", "LATS", "dense", "exact", "lats.md", strength="alpha"),
        Entry("magnitude", "Magnitude", "magnitude", "dense", "exact", "magnitude.md"),
        Entry("magnitude_ste", "MagnitudeSTE", "straight-through magnitude", "dense", "exact", "magnitude.md"),
        Entry("rigl", "RigL", "RigL", "sparse", "exact", "rigl.md", exchanges=True),
        Entry("set", "SET", "SET", "sparse", "exact", "set.md", exchanges=True),
        Entry("soft_deep_r", "SoftDeepR", "soft Deep R", "sparse", "average", "deep_r.md", diffuses=True),
        Entry("static", "Static", "static random", "sparse", "exact", "static.md"),
        Entry("stds", "STDS", "STDS", "dense", "exact", "stds.md", strength="threshold"),
        Entry("str", "STR", "STR", "dense", "exact", "str.md", strength="threshold_decay"),
    )
}


def named(method: object) -> str:
    """Return what a method is called in tables and figures; one that is not known here, as it is."""
    entry = CATALOGUE.get(str(method))
    return str(method) if entry is None else entry.shown
