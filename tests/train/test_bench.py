"""A run and the file that it is exported to are the same network, on the same images."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from synaprune.engine import Linear, Network, Neuron, Weight
from synaprune.errors import MachineError, UsageError
from synaprune.export import write
from synaprune.train.bench import Agreement, agreement, bench, keep
from synaprune.train.bench_display import agreeing
from synaprune.train.export import export
from synaprune.train.loop import train
from synaprune.train.settings import Settings

NETWORK = Network((Linear(weight=Weight.from_dense(np.ones((10, 64)))), Neuron()), (64,), T=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "run"
    small = {"task": "digits", "method": "magnitude", "sparsity": 0.8, "width": 16, "time_steps": 4, "epochs": 1}
    train(Settings(**small, gain=3.0, lr=0.03, threads=1), folder)
    return folder


def test_a_run_and_its_file(run, tmp_path):
    file = export(run)
    here, there = (bench(place, batch=8, repeats=2) for place in (run, file.path))
    for measured in (here, there):
        assert [each.samples for each in measured.comparisons] == [1, 8]
        assert [len(each.milliseconds) for each in measured.comparisons] == [4, 4]
        assert (measured.synapses, measured.time_steps) == (file.synapses, 4)
    assert here.operations == there.operations
    assert here.operations.effective_acs > 0
    assert here.firing_rates == there.firing_rates
    keep(here, run, tmp_path / "speed.json")
    kept = json.loads((tmp_path / "speed.json").read_text())
    assert (kept["place"], kept["synapses"], kept["threads"]) == (str(run), file.synapses, 1)
    assert {"machine", "versions"} < kept.keys()


def test_engine_and_pytorch_agree_on_the_whole_test_part(run):
    found = agreement(run)
    assert found.images == 360
    assert found.same_class >= 359
    assert abs(found.spikes - found.spikes_in_torch) <= 1e-4 * found.spikes_in_torch
    assert found.spikes > 1000
    assert agreement(export(run).path) == found
    said = agreeing(Agreement(10_000, 9_999, 10_001, 10_000))
    assert said.endswith("the same class for 9,999 (99.99%), with 10,001 and 10,000 spikes (0.0100% apart)")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"batch": 361}, "batch must be at most 360, the images of digits, not 361"),
        ({"repeats": -1}, "repeats must be at least 1, not -1"),
        ({"threads": 0}, "threads must be a whole number from 1 to 1024, not 0"),
    ],
)
def test_numbers_out_of_range(run, change, said):
    with pytest.raises(UsageError, match=f"^{said}$"):
        bench(run, **change)


def test_places_that_hold_no_network(run, tmp_path):
    (tmp_path / "text").write_text("no network")
    for place, said in [
        (tmp_path / "absent", "there is no run and no sparse file '.*absent'$"),
        (tmp_path, "holds no run: there is no settings.json"),
        (tmp_path / "text", "'.*text' is no sparse file of synaprune, or is cut short"),
        (run / "checkpoint.safetensors", "is the checkpoint of a run; export the run"),
    ]:
        with pytest.raises(UsageError, match=said):
            bench(place)


def test_files_of_unknown_data(tmp_path):
    path = tmp_path / "n"
    for origin, said in [
        ({}, "'.*n' does not say on which data its network was trained; name the run, or export it"),
        ({"settings": {"task": "digit"}}, "setting 'task' must be cifar10, digits or mnist, not 'digit'; did you mean"),
        ({"settings": {"tusk": "digits"}}, f"unknown setting 'tusk' in '{re.escape(str(path))}'; did you mean 'task'"),
    ]:
        write(NETWORK, path, provenance=origin)
        with pytest.raises(UsageError, match=said):
            bench(path)
    write(Network(NETWORK.layers, (64,), 2, coding="spikes"), path, provenance={"settings": {"task": "digits"}})
    with pytest.raises(UsageError, match=r"the input must have the shape \[T, N, 64\], not \[1, 1, 8, 8\]"):
        bench(path, batch=1, repeats=1)


def test_without_a_compiler(run, monkeypatch):
    from synaprune.engine import build

    build.library.cache_clear()
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(MachineError, match="'no-such-cc' named by CC is not there"):
        bench(run)
    build.library.cache_clear()
