"""Compiled engines and caches of them: shared by the tests of build.py and trust.py."""

import shutil

import numpy as np

from synaprune.engine import Engine, Linear, Network, Neuron, Weight, build

NETWORK = Network((Linear(weight=Weight.from_dense(np.eye(2) * 2)), Neuron()), (2,), T=2)


def runs(backend="c"):
    """Whether an engine that is made now computes what it should."""
    return Engine(NETWORK, backend=backend)(np.ones((1, 2))).tolist() == [[1.0, 1.0]]


def plant(library, cache, like):
    """Put a library into a cache under the name that one compiled here has, with its own digest."""
    cache.mkdir(mode=0o700, exist_ok=True)
    stem = like.stem.rpartition("-")[0]
    place = cache / f"{stem}-{build._digest(library)}.so"
    shutil.copy2(library, place)
    place.chmod(0o700)
    return place


def replaced(path, content):
    path.unlink()  # what is loaded in this process stays as it is
    path.write_bytes(content)
    path.chmod(0o700)
