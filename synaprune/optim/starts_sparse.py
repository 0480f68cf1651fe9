"""Masked methods that draw their first synapses.

With the initial weights of a dense layer a neuron with few inputs would get hardly any current, so that those drawn are
scaled by 1/√connectivity of their layer, which keeps the variance of the current (Evci et al., "Gradient Flow in Sparse
Neural Networks", AAAI 2022, arXiv 2010.03533).

Source: uniform and Erdős–Rényi(-kernel) densities: Mocanu et al. 2018, arXiv 1707.04780; Evci et al. 2020,
arXiv 1911.11134.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from synaprune.budget import ALLOCATIONS, largest
from synaprune.errors import UsageError
from synaprune.optim.draws import Draws
from synaprune.optim.groups import Group
from synaprune.optim.masked import Masked
from synaprune.optim.noise import generator, rand
from synaprune.optim.surroundings import CPU

__all__ = ["StartsSparse"]


class StartsSparse(Draws, Masked):
    """Base class of the masked methods that draw their first synapses when the optimizer is made.

    They have the group options `rescale` (scale the initial weights) and `seed` (of the lots).
    """

    shrinks = False  # does the network go on from those it drew to fewer?

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        if not self.shrinks and ALLOCATIONS[group["allocation"]] is None and not isinstance(group["sparsity"], Mapping):
            raise UsageError(
                f"allocation={group['allocation']!r} ranks what has been learned, and {type(self).__name__} draws its "
                "synapses before; take 'erk' or 'uniform'"
            )

    def _drawn(self, group: Group) -> list[int]:
        """Return how many synapses each layer of a group starts with."""
        return self.plan(group).layers or []

    def _draw(self, group: Group, new: list[Tensor]) -> None:
        counts = dict(zip(self._learning(group), self._drawn(group)))
        rows = [row for row in self._rows(group) if row[1] in set(new)]
        positions = {weight: position for position, (_, weight) in enumerate(self._rewired())}
        for _, weight, state in rows:
            count = counts[weight]
            # A plain generator of this seed may have drawn the weights too: the lots would then know them.
            source = generator(CPU, group["seed"], positions[weight])
            lots = rand(weight, source).to(weight.device) - (~state["mask"]).float()
            if group["rescale"] and count:
                factor = (state["initial"] / min(count, state["initial"])) ** 0.5
                state["latent"].mul_(factor)
                state["scale"] *= factor
            self._keep(state, largest(lots, count))
            state["initial"] = count
        self._put(rows)
