"""Published points, each with its source; shown beside own results of the same task and network.

Only what was read in a paper's own text, in its released code or its logs is here, and only where connectivity means
the same: non-zero weights over all weights of the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["POINTS", "Published", "published_for"]

STDS = (
    "STDS, final epoch of the authors' own logs (released with Chen et al., State Transition of Dendritic Spines"
    " Improves Learning of Sparse Spiking Neural Networks, ICML 2022), seed 2020"
)


class Published(NamedTuple):
    """Accuracy and connectivity as shares, and where they are from."""

    name: str
    accuracy: float
    connectivity: float
    source: str


CIFAR10_NETWORK = {"task": "cifar10", "model": "cnn", "width": 256, "time_steps": 8}
POINTS: list[tuple[Mapping[str, Any], Published]] = [
    (CIFAR10_NETWORK, Published(f"STDS, D = {d}", accuracy, connectivity, STDS))
    for d, accuracy, connectivity in (
        (1, 0.9249, 0.04641),
        (2, 0.9249, 0.02230),
        (3, 0.9164, 0.01400),
        (4, 0.9106, 0.00993),
        (5, 0.9021, 0.00746),
    )
]


def published_for(settings: Mapping[str, Any]) -> list[Published]:
    """Return the published points of the same task and network, judged on the test images."""
    if settings.get("holdout"):
        return []
    return [point for network, point in POINTS if all(settings.get(name) == value for name, value in network.items())]
