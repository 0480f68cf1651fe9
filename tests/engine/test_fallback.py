import numpy as np
import pytest
from networks import inputs, random_network

from synaprune.engine import Engine, engine
from synaprune.errors import MachineError


@pytest.mark.parametrize("seed", range(40))
def test_the_same_spikes_as_the_engine(seed):
    network = random_network(seed)
    x = inputs(network, 3)
    ours, theirs = Engine(network, backend="c"), Engine(network, backend="torch")
    # Sums in another order: a current close to the threshold may fall on its other side.
    assert np.isclose(ours(x), theirs(x)).mean() > 0.99
    assert theirs.spikes == pytest.approx(ours.spikes, rel=0.002, abs=2)


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (None, r"no C compiler.*; or install torch, in which networks run slowly"),
        ("torch", "backend 'torch' needs torch, which is not installed here"),
    ],
)
def test_with_nothing_to_run_it_the_remedy_is_named_at_once(backend, words, monkeypatch):
    def library():
        raise MachineError("there is no C compiler; install one")

    monkeypatch.setattr(engine.build, "library", library)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=words):
        Engine(random_network(0), backend=backend)
