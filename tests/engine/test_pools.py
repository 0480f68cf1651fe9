"""Adaptive pools, and windows that hang over an edge, compared with torch to the last spike."""

import pytest
import torch
from exact import assert_exact, lif, pruned
from networks import inputs
from spikingjelly.activation_based import layer
from torch import nn
from torch.nn import functional as F

from synaprune.engine import Conv, Engine, MaxPool, Network, Neuron, Weight, from_torch
from synaprune.engine.reference import spike_trains
from synaprune.errors import UsageError

every_coding = pytest.mark.parametrize("coding", ["static", "spikes"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


POOLS = {
    "adaptive, all": nn.AdaptiveAvgPool2d(1),
    "adaptive, divides": nn.AdaptiveAvgPool2d((2, 4)),
    "adaptive, one side": nn.AdaptiveAvgPool2d((None, 2)),
    "adaptive, as it is": nn.AdaptiveAvgPool2d((None, None)),
    "adaptive, largest": nn.AdaptiveMaxPool2d((4, 8)),
    "adaptive, SpikingJelly's": layer.AdaptiveAvgPool2d((2, 2), step_mode="m"),
    "ceil, fits": nn.MaxPool2d(2, ceil_mode=True),
    "ceil, fits with padding": nn.AvgPool2d(2, padding=1, ceil_mode=True),
    "ceil, hangs over": nn.MaxPool2d(3, ceil_mode=True),
    "ceil, hangs over far": nn.MaxPool2d((5, 3), (4, 2), ceil_mode=True),
    "ceil, hangs over padding": nn.MaxPool2d(4, 3, (2, 1), ceil_mode=True),
    "ceil, begins beyond": nn.MaxPool2d(2, 5, 1, ceil_mode=True),
    "ceil, larger than the map": nn.MaxPool2d((9, 17), (4, 4), ceil_mode=True),
}


@every_coding
@pytest.mark.parametrize("pool", POOLS)
def test_pools(pool, coding):
    inner = POOLS[pool] if "Jelly" in pool else layer.SeqToANNContainer(POOLS[pool])
    net = nn.Sequential(
        *(layer.Conv2d(2, 5, 3, step_mode="m"), lif(), inner, layer.Conv2d(5, 4, 1, step_mode="m"), lif()),
        *(layer.Flatten(step_mode="m"), nn.LazyLinear(10)),
    )
    net(torch.zeros(1, 1, 2, 10, 18))
    network = assert_exact(pruned(net), coding, 2, 10, 18)
    ceil = [entry.get("ceil", False) for entry in network.plain()[0]["layers"] if "pool" in entry["kind"]]
    assert ceil == ["hangs" in pool or "larger" in pool]


@every_coding
def test_pools_of_one_dimension(coding):
    net = nn.Sequential(
        *(layer.Conv1d(2, 5, 3, step_mode="m"), lif(), layer.SeqToANNContainer(nn.MaxPool1d(3, 2, ceil_mode=True))),
        *(layer.Conv1d(5, 4, 1, step_mode="m"), lif(), layer.SeqToANNContainer(nn.AdaptiveAvgPool1d(2))),
    )
    assert_exact(pruned(net), coding, 2, 18)


@pytest.mark.parametrize("size", range(1, 9))
def test_as_many_windows_as_torch_has(size):
    for kernel in range(1, 5):
        for stride in range(1, 6):
            for padding in range(kernel // 2 + 1):
                pool = MaxPool(kernel=(kernel,), stride=(stride,), padding=(padding,), ceil=True)
                try:
                    expected = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, ceil_mode=True).shape[2]
                except RuntimeError:
                    with pytest.raises(UsageError, match="larger than its input"):
                        pool.output((1, size))
                    continue
                assert pool.output((1, size)) == (1, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_windows_that_hang_over_under_threads_and_between_pools(threads):
    weight = Weight.from_dense(torch.randn(3, 1, 1, 1).numpy())
    pools = [MaxPool(kernel=(3, 4), stride=(2, 3), ceil=True), MaxPool(kernel=(2, 2), ceil=True)]
    network = Network(
        (Conv(weight=weight), Neuron(), *pools, Conv(weight=pointwise(), groups=3), Neuron()), (1, 9, 37), 5
    )
    x = inputs(network, 4)
    engine = Engine(network, threads)
    engine(x)
    assert list(engine.spikes.values()) == [int(train.sum()) for train in spike_trains(network, x)]


def pointwise():
    return Weight.from_dense(2 * torch.ones(3, 1, 1, 1).numpy())


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (nn.AdaptiveAvgPool2d(5), r"'2': windows of one size do not make \(5, 5\) of \(8, 12\)"),
        (nn.AdaptiveMaxPool2d(2, return_indices=True), "return_indices"),
        (nn.AdaptiveAvgPool1d(2), r"'2': windows of one size do not make"),
        (nn.AvgPool2d(3, ceil_mode=True), r"'2' with ceil_mode=True, which here makes windows that hang over the edge"),
        (nn.MaxPool2d(3, return_indices=True), "return_indices"),
    ],
)
def test_pools_without_an_exact_form(pool, words):
    with pytest.raises(UsageError, match=words):
        from_torch(
            nn.Sequential(nn.Conv2d(2, 5, 3), lif(), pool, nn.Flatten(), nn.Linear(9, 2), lif()),
            T=2,
            input_shape=(2, 10, 14),
        )
