import numpy as np
import pytest

from synaprune.engine import Conv, Flatten, Linear, MaxPool, Network, Neuron, Weight, lists
from synaprune.engine import plan as planning
from synaprune.engine.plan import KINDS, plan
from synaprune.engine.trains import Train
from synaprune.errors import UsageError


def sparse(rng, *shape, density):
    positions = np.unique(rng.integers(0, np.prod(shape), int(np.prod(shape) * density)))
    return Weight(shape, positions, np.ones(len(positions), np.float32))


def test_the_cifar_10_network_fits_into_a_cache():
    rng, layers = np.random.default_rng(0), []
    for index, inputs in enumerate((3, *[256] * 5)):
        layers += [Conv(weight=sparse(rng, 256, inputs, 3, 3, density=0.02), padding=(1, 1)), Neuron()]
        layers += [MaxPool()] * (index in (2, 5))
    layers += [Flatten(), Linear(weight=sparse(rng, 2048, 16384, density=0.005)), Neuron()]
    layers += [Linear(weight=sparse(rng, 100, 2048, density=0.2)), Neuron()]
    made = plan(Network(tuple(layers), (3, 32, 32), T=8))
    assert made.memory < 8e6
    # Rows share their padding, and no convolution needs its input rearranged but those behind a pool.
    assert [train.pitch for train in made.trains] == [33, 33, 33, 17, 17, 17, 2048, 100]
    assert [step.kind for step in made.steps].count("gather") == 2
    assert {step.kind for step in made.steps} <= set(KINDS)


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        (Train(1, 1, 5, 5), [0b11111]),
        (Train(1, 2, 3, 5), [0b11100111]),
        (Train(1, 2, 20, 21), [0xFFFFFFFF & ~(1 << 20), 0b111111111]),
    ],
)
def test_gaps_are_no_pixels(train, valid):
    assert train.valid().tolist() == valid


ONE = Conv(weight=Weight((1, 1, 1, 1), np.array([0]), np.ones(1))), Neuron()
POOLS = MaxPool(kernel=(100, 100), stride=(1, 1), padding=(50, 50))


@pytest.mark.parametrize(
    ("layers", "T", "limit", "said"),
    [
        ((*ONE, *[POOLS] * 4, *ONE), 2**13, {}, "minutes for one sample"),
        ((*ONE, *[POOLS] * 2, *ONE), 1, {"MAX_MEMORY": 100_000}, "of lists and tables"),
        ((*ONE, *[POOLS] * 2, *ONE), 1000, {"MAX_MEMORY": 100_000}, "of working memory"),
    ],
)
def test_a_small_file_cannot_ask_for_much(layers, T, limit, said, monkeypatch):
    for name, value in limit.items():
        monkeypatch.setattr(planning, name, value)
    with pytest.raises(UsageError, match=f"{said}.*; it is too large"):
        plan(Network(layers, (1, 64, 64), T))


def test_a_layer_with_too_many_inputs(monkeypatch):
    monkeypatch.setattr(lists, "MAX_ROWS", 64)
    fc = Linear(weight=Weight((2, 64), np.array([0]), np.ones(1)))
    with pytest.raises(UsageError, match="a fully connected layer has too many inputs"):
        plan(Network((*ONE, Flatten(), fc, Neuron()), (1, 8, 8), T=1))
