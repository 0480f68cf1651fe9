import numpy as np
import pytest
from networks import inputs, random_network

from synaprune.engine import Engine


@pytest.mark.parametrize("seed", range(40))
def test_the_same_spikes_as_the_engine(seed):
    network = random_network(seed)
    x = inputs(network, 3)
    ours, theirs = Engine(network, backend="c"), Engine(network, backend="torch")
    # Sums in another order: a current close to the threshold may fall on its other side.
    assert np.isclose(ours(x), theirs(x)).mean() > 0.99
    assert theirs.spikes == pytest.approx(ours.spikes, rel=0.002, abs=2)
