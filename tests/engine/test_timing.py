import json

import numpy as np
import pytest
import torch
from torch import nn

from synaprune.engine import Linear, Network, Neuron, Weight, compile, to_torch
from synaprune.engine.timing import Comparison, alternate, ceiling, compare, measure, rivals

WEIGHT = Weight.from_dense(np.array([[0.0, 1.5], [0.0, 0.0]]))
NETWORK = Network((Linear("fc", weight=WEIGHT, bias=np.ones(2)), Neuron("lif", tau=None)), (2,), T=4)
SPEED = Comparison(4, {"engine": [1.0, 2.0, 9.0], "dense fp32": [30.0, 40.0, 31.0]})


def test_all_take_turns():
    calls = []
    times = alternate({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert "".join(calls) == "ab" * 5
    assert [len(found) for found in times.values()] == [2, 2]
    calls.clear()
    alternate({"a": lambda: calls.append("a")}, 20, before=1)
    assert len(calls) == 21


def test_ratios_are_of_medians():
    assert (SPEED.median(), SPEED.median("dense fp32"), SPEED.ratio("dense fp32")) == (2.0, 31.0, 15.5)
    assert (SPEED.throughput(), SPEED.rounds) == (2000.0, 3)


class Listener(nn.Module):
    """Takes note of what it is shown, and of the number of threads."""

    threads = 1

    def __init__(self):
        super().__init__()
        self.heard = []

    def forward(self, x):
        self.heard.append((x[:, 0].tolist(), torch.get_num_threads()))


def test_all_see_the_same_samples_with_as_many_threads():
    engine, rival, before = Listener(), Listener(), torch.get_num_threads()
    engine.threads = before + 1
    found = compare(engine, {"dense": rival}, torch.tensor([[1.0], [2.0], [3.0]]), samples=2, repeats=3)
    turns = 4 * 50  # calls of four rounds, at least; before them each is called to see how long it takes
    assert engine.heard[-turns:] == rival.heard[-turns:]
    assert engine.heard[:3] == [([1.0, 2.0], before + 1), ([3.0], before + 1), ([1.0, 2.0], before + 1)]
    assert [len(times) for times in found.milliseconds.values()] == [3, 3]
    assert torch.get_num_threads() == before


def test_rivals_compute_the_same():
    x = torch.tensor([[0.0, 1.0], [3.0, 2.0]])
    found = rivals(to_torch(NETWORK).eval())
    assert list(found) == ["dense fp32", "dense bf16", "CSR fp32"]
    expected = compile(NETWORK)(x.numpy())
    with torch.no_grad():
        for model in found.values():
            kind = next(model.parameters()).dtype
            assert model(x.to(kind)).rate.tolist() == expected.tolist()
    assert list(rivals(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1)))) == ["dense fp32", "dense bf16"]


@pytest.mark.parametrize("options", [(), ("-DSYNAPRUNE_AVX2",), ("-DSYNAPRUNE_PORTABLE",)])
def test_the_additions_of_the_ceiling_are_made(options):
    import ctypes

    from synaprune.engine import build

    sums = np.arange(256, dtype=np.float32)
    add = build.library((*options, "-DSYNAPRUNE_CEILING")).synaprune_add
    lanes = add(5, ctypes.c_float(3), ctypes.c_void_p(sums.ctypes.data))
    assert lanes in (32, 64, 256)
    assert (sums == np.arange(256) + 15 * (np.arange(256) < lanes)).all()


def test_measure():
    found = measure(compile(NETWORK, threads=2), to_torch(NETWORK).eval(), torch.tensor([[1.0, 2.0]] * 3), repeats=2)
    assert [each.samples for each in found.comparisons] == [1, 3]
    assert (found.synapses, found.connectivity, found.time_steps, found.threads) == (1, 0.25, 4, 2)
    assert found.firing_rates == {"lif": 1.0}
    assert (found.operations.effective_macs, found.work) == (1.0, 1.0)
    latency = found.comparisons[0]
    assert found.speed(latency) == pytest.approx(1e3 / latency.median())
    assert 1e8 < found.ceiling < 1e13
    plain = json.loads(json.dumps(found.to_mapping()))
    assert plain["comparisons"][1]["times"]["engine"]["ratio_to_engine"] == 1.0
    assert plain["comparisons"][1]["share_of_ceiling"] == found.speed(found.comparisons[1]) / found.ceiling


def test_a_batch_of_one_is_measured_once():
    found = measure(compile(NETWORK), to_torch(NETWORK).eval(), torch.tensor([[1.0, 2.0]]), repeats=1)
    assert [each.samples for each in found.comparisons] == [1]


def test_more_threads_add_no_less():
    assert ceiling(2) > 0.5 * ceiling(1)
