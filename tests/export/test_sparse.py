"""Sparse files: the same network comes back, in few bytes, and no file can do harm."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import random
import subprocess
import sys
import tracemalloc
from math import prod

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutate_bytes, mutate_content, packed
from torch import nn

from synaprune.engine import from_torch
from synaprune.engine.graph import Network
from synaprune.engine.layers import AvgPool, Conv, Flatten, Linear, MaxPool, Neuron, Vote, Weight
from synaprune.errors import MachineError, UsageError
from synaprune.export import provenance, read, rice, sparse, write
from synaprune.models import LIF, SpikingMLP

VALUE_BITS = {"fp32": 32, "fp16": 16, "int8": 8}


def weight(*shape, connectivity=0.2, seed=0, gain=1.0):
    """Weights at random positions, normally distributed."""
    rng = np.random.default_rng(seed)
    positions = np.flatnonzero(rng.random(prod(shape)) < connectivity)
    return Weight(shape, positions, gain * rng.standard_normal(len(positions)).astype(np.float32))


def small(connectivity=0.2, seed=0):
    """A network with a layer of each kind."""
    return Network(
        (
            Conv("conv", weight=weight(4, 1, 3, 3, connectivity=connectivity, seed=seed), padding=(1, 1)),
            Neuron("lif", tau=2.0, threshold=0.5),
            MaxPool("pool"),
            Conv("deep", weight=weight(4, 2, 3, 3, connectivity=connectivity, seed=seed), bias=np.ones(4), groups=2),
            Neuron("if", tau=None, reset=None),
            AvgPool("mean", kernel=(2, 2)),
            Flatten(),
            Linear("fc", weight=weight(6, 4, connectivity=0.5, seed=seed), bias=np.arange(6.0)),
            Neuron("out", tau=3.5, decay_input=False, reset=-0.25),
            Vote("vote", group=3),
        ),
        (1, 8, 8),
        T=5,
        coding="spikes",
        readout="count",
    )


def cifar10():
    """The CIFAR-10 network with the connectivities of a published run, 0.75 % in all, at random positions."""
    convolutions = zip([3, *[256] * 5], [0.0216, 0.0041, 0.0141, 0.0203, 0.0215, 0.0415])
    layers = []
    for index, (inputs, connectivity) in enumerate(convolutions):
        kernels = weight(256, inputs, 3, 3, connectivity=connectivity, seed=index, gain=0.1)
        layers += [Conv(f"conv{index + 1}", weight=kernels, bias=np.ones(256), padding=(1, 1)), Neuron()]
        layers += [MaxPool()] if index in (2, 5) else []
    layers += [Flatten(), Linear("fc1", weight=weight(2048, 16384, connectivity=0.0051, seed=6)), Neuron()]
    layers += [Linear("fc2", weight=weight(100, 2048, connectivity=0.2096, seed=7)), Neuron(), Vote()]
    return Network(tuple(layers), (3, 32, 32), T=8)


def assert_same(a, b):
    """Check that two networks are equal, their weights to the bit."""
    (plain_a, arrays_a), (plain_b, arrays_b) = a.plain(), b.plain()
    assert plain_a == plain_b
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        assert array.dtype == arrays_b[name].dtype
        assert array.tobytes() == arrays_b[name].tobytes()


def weights(network):
    """The dense weights of all layers of synapses."""
    return [layer.weight.dense() for layer in network.layers if isinstance(layer, Linear | Conv)]


@pytest.mark.parametrize("connectivity", [0, 0.01, 0.2, 0.5, 1])
def test_the_same_network_comes_back(connectivity, tmp_path):
    network = small(connectivity)
    write(network, tmp_path / "n")
    assert_same(read(tmp_path / "n"), network)
    assert [path.name for path in tmp_path.iterdir()] == ["n"]


@given(st.integers(0, 2**32), st.floats(0, 1))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path, seed, connectivity):
    network = small(connectivity, seed)
    for values in VALUE_BITS:
        write(network, tmp_path / "n", values=values)
        once = read(tmp_path / "n")
        write(once, tmp_path / "n", values="fp32" if values == "int8" else values)
        assert_same(read(tmp_path / "n"), once)


def test_float16_is_the_nearest(tmp_path):
    write(small(), tmp_path / "n", values="fp16")
    for there, here in zip(weights(read(tmp_path / "n")), weights(small())):
        assert np.array_equal(there, here.astype(np.float16))


def test_integers_are_within_half_a_step_of_their_channel(tmp_path):
    write(small(), tmp_path / "n", values="int8")
    for there, here in zip(weights(read(tmp_path / "n")), weights(small())):
        largest = np.abs(here).reshape(len(here), -1).max(1)
        step = (largest / 127 * (1 + 2**-7)).reshape(-1, *[1] * (here.ndim - 1))
        assert (np.abs(there - here) <= step / 2).all()
        assert len(np.unique(there[0] / step[0])) <= 255


def test_integers_by_hand(tmp_path):
    # The factors 127 / 127 and 2 / 127, the latter rounded up to eight bits: 129 / 2¹³.
    network = Network(
        (Linear(weight=Weight.from_dense(np.array([[-127, 1.4, 0.4], [2, 0, -0.5]]))), Neuron()), (3,), T=1
    )
    write(network, tmp_path / "n", values="int8")
    step = 130 / 2**13
    assert step >= 2 / 127
    assert weights(read(tmp_path / "n"))[0].tolist() == [[-127, 1, 0], [126 * step, 0, -32 * step]]


def test_synapses_that_are_rounded_to_0_are_left_out(tmp_path):
    network = Network((Linear(weight=Weight.from_dense(np.array([[1, 1e-9, 0, 3e-3]]))), Neuron()), (4,), T=1)
    for values, left in [("fp32", 3), ("fp16", 2), ("int8", 1)]:
        write(network, tmp_path / "n", values=values)
        assert read(tmp_path / "n").synapses == left


@pytest.mark.parametrize("largest", [1e-45, 1e-38, 3.4e38])
def test_integers_of_any_size(largest, tmp_path):
    network = Network((Linear(weight=Weight.from_dense(np.array([[largest, 0]], np.float32))), Neuron()), (2,), T=1)
    write(network, tmp_path / "n", values="int8")
    if largest > 1e-40:
        assert weights(read(tmp_path / "n"))[0][0, 0] == pytest.approx(largest, rel=0.005)


def test_a_weight_too_large_for_float16_is_refused(tmp_path):
    network = Network((Linear("fc", weight=Weight.from_dense(np.array([[1e5]]))), Neuron()), (1,), T=1)
    with pytest.raises(UsageError, match=r"linear 'fc' has a weight of 100000, too large for fp16; give fp32 or int8"):
        write(network, tmp_path / "n", values="fp16")
    with pytest.raises(UsageError, match="values must be fp32, fp16 or int8, not 'fp64'"):
        write(network, tmp_path / "n", values="fp64")
    assert list(tmp_path.iterdir()) == []


def test_provenance(tmp_path):
    write(small(), tmp_path / "n", provenance={"epoch": 3, "settings": {"task": "digits"}})
    found = provenance(tmp_path / "n")
    assert found.pop("synaprune")
    assert found == {"epoch": 3, "settings": {"task": "digits"}}


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    write(small(), tmp_path / "n")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"no space left on the disk for '.*n'; free some space"):
        write(small(0.5), tmp_path / "n")
    assert_same(read(tmp_path / "n"), small())
    assert len(list(tmp_path.iterdir())) == 1


def test_sizes_of_the_cifar10_network(tmp_path):
    network = cifar10()
    assert sum(array.size for array in weights(network)) == 36_715_264
    for values, most in [("fp32", 1_400_000), ("fp16", 850_000), ("int8", 580_000)]:
        write(network, tmp_path / "n", values=values, provenance={"settings": dict.fromkeys(map(str, range(60)), 0)})
        size, found = (tmp_path / "n").stat().st_size, read(tmp_path / "n")
        left = [layer.weight for layer in found.layers if isinstance(layer, Linear | Conv)]
        bits = sum(len(w) * VALUE_BITS[values] + rice.entropy(len(w), prod(w.shape)) for w in left)
        assert size < most
        assert 8 * size < 1.05 * bits
        if values == "fp32":
            assert_same(found, network)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "n"
    write(small(), path)
    whole = path.read_bytes()
    for content in [b"", b"{}", whole[:7], whole[:100], whole[:-1], whole + b"\0", bytes(1000), b"\xff" * 1000]:
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"'.*n' is no sparse file of synaprune, or is cut short; export the netw"):
            read(path)
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match=f"there is no file '{place}'; make one with synaprune export"):
            read(place)


def test_a_changed_byte_is_found(tmp_path):
    path = tmp_path / "n"
    write(small(), path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for reader in (read, provenance):
        with pytest.raises(UsageError, match="is damaged: its checksum is another; export the network again"):
            reader(path)


def test_a_file_of_a_later_version(tmp_path):
    (tmp_path / "n").write_bytes(packed({"format": 3}, {"new": np.zeros(3)}))
    with pytest.raises(
        UsageError, match=r"has format 3, this version of synaprune reads 2 and before; use the version that wrote it"
    ):
        read(tmp_path / "n")


def test_a_checkpoint_is_no_network(tmp_path):
    (tmp_path / "n").write_bytes(packed({"format": 1, "state": {}}, {"model/fc1.weight": np.zeros(3)}))
    with pytest.raises(UsageError, match="is the checkpoint of a run; export the run"):
        read(tmp_path / "n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plain, arrays: plain["layers"][0].update(shape=[2**31 - 1] * 2), r"are no code of \d+ positions below"),
        (lambda plain, arrays: plain["layers"][0].update(shape=[2**62]), "the shape of the weights must be whole"),
        (lambda plain, arrays: plain["layers"][0].update(shape=["x", 10**9]), "the shape of the weights must be whole"),
        (lambda plain, arrays: plain["layers"][0].update(m=10**9), "with parameter 1000000000 are no code of"),
        (lambda plain, arrays: plain["layers"][0].update(m="2"), "layer 0 has no shape, or no parameter of its code"),
        (lambda plain, arrays: plain["layers"][0].update(name=[0] * 10**5), "the name of a layer must be a text"),
        (lambda plain, arrays: plain["layers"][1].update(kind="synapse"), "layer 1 is of the unknown kind 'synapse'"),
        (lambda plain, arrays: plain["layers"][1].update(threshold=1e39), "threshold of neuron 'lif' must be a finite"),
        (lambda plain, arrays: plain.update(T=2**30), r"is too large to be run"),
        (lambda plain, arrays: plain.update(layers={}), "tensor 0.code belongs to no layer"),
        (lambda plain, arrays: plain.pop("layers"), "KeyError: 'layers'"),
        (lambda plain, arrays: arrays.update({"1.bias": np.zeros(3, np.float32)}), "tensor 1.bias belongs to no layer"),
        (lambda plain, arrays: arrays.pop("0.code"), "KeyError: '0.code'"),
        (lambda plain, arrays: arrays.pop("0.scale"), "KeyError: '0.scale'"),
        (lambda plain, arrays: arrays.update({"0.scale": np.ones(3, np.uint16)}), "3 factors are not those of 4"),
        (lambda plain, arrays: arrays.update({"0.scale": np.full(4, 0x7F80, np.uint16)}), "a weight is not finite"),
        (lambda plain, arrays: arrays.update({"0.values": arrays["0.values"][1:]}), "are no code of"),
        (lambda plain, arrays: arrays.update({"0.values": arrays["0.values"][None]}), "are no lists of numbers"),
    ],
)
def test_numbers_that_make_no_network(change, said, tmp_path):
    write(small(), tmp_path / "n", values="int8")
    header, arrays = sparse._open(tmp_path / "n")
    change(header["network"], arrays)
    (tmp_path / "n").write_bytes(packed(header, arrays))
    with pytest.raises(UsageError, match=said) as raised:
        read(tmp_path / "n")
    assert str(raised.value).startswith(f"'{tmp_path / 'n'}' holds no network that synaprune can run: ")
    assert len(str(raised.value)) < 500


def test_json_too_deep_and_tensors_of_other_types(tmp_path):
    text = '{"format": 1, "network": ' + "[" * 10**5 + "]" * 10**5 + "}"
    safetensors.numpy.save_file({}, tmp_path / "deep", metadata={"synaprune": text, "crc32": "0"})
    (tmp_path / "type").write_bytes(packed({"format": 1, "network": {}}, {"0.code": np.zeros(3)}))
    for name in ("deep", "type"):
        with pytest.raises(UsageError, match="is no sparse file of synaprune"):
            read(tmp_path / name)


def mutated(tmp_path, count):
    """Read so many damaged files; return how many were networks all the same."""
    rng, path, networks = random.Random(count), tmp_path / "n", 0
    originals = []
    for values in VALUE_BITS:
        write(small(), path, values=values, provenance={"task": "digits"})
        originals.append((path.read_bytes(), sparse._open(path)))
    for index in range(count):
        content, (header, arrays) = originals[index % len(originals)]
        if rng.random() < 0.3:
            content = mutate_bytes(rng, content)
        else:
            header, arrays = copy.deepcopy(header), dict(arrays)
            mutate_content(rng, header, arrays)
            content = packed(header, arrays)
        path.unlink()  # some file systems take milliseconds to empty a file
        path.write_bytes(content)
        with contextlib.suppress(UsageError):
            network = read(path)
            write(network, path)
            assert read(path).synapses <= network.synapses
            networks += 1
    return networks


def test_hundreds_of_damaged_files_take_little_memory(tmp_path):
    tracemalloc.start()
    try:
        networks = mutated(tmp_path, 300)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert 0 < networks < 150


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    assert 0 < mutated(tmp_path, 10_000) < 5000


def test_reading_needs_no_torch(tmp_path):
    write(small(), tmp_path / "n")
    code = "import sys; from synaprune.export import read; read(sys.argv[1]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "n")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
def test_the_same_network_is_the_same_file_in_every_process(values, tmp_path):
    program = (
        "import sys; from synaprune import export; network = export.read(sys.argv[1])\n"
        "export.write(network, sys.argv[2], values=sys.argv[3], provenance={'settings': {'task': 'digits', 'lr': 1}})"
    )
    write(small(), tmp_path / "network")
    files = [tmp_path / f"{seed}" for seed in (0, 1, 2)]
    for seed, file in enumerate(files):
        command = [sys.executable, "-c", program, tmp_path / "network", file, values]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)})
    assert len({file.read_bytes() for file in files}) == 1


# -- models of PyTorch -------------------------------------------------------------------------------------------


def test_a_model_is_written_as_the_network_that_it_computes(tmp_path):
    model = SpikingMLP(8, 6, 3, T=4)
    write(model, tmp_path / "model")
    write(from_torch(model), tmp_path / "network")
    assert (tmp_path / "model").read_bytes() == (tmp_path / "network").read_bytes()
    chain = nn.Sequential(nn.Linear(8, 3), LIF())
    write(chain, tmp_path / "chain", T=5, coding="spikes", values="int8")
    assert (read(tmp_path / "chain").T, read(tmp_path / "chain").coding) == (5, "spikes")


@pytest.mark.parametrize(
    ("model", "form", "words"),
    [
        (nn.Sequential(nn.Linear(8, 3)), {}, "T cannot be read from this Sequential; give T=…"),
        (3, {}, "the engine does not know the model int"),
        (small(), {"T": 4}, "T is part of the network already; leave it out"),
    ],
)
def test_a_model_that_cannot_be_written_is_named_and_nothing_is_written(model, form, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        write(model, tmp_path / "file", **form)
    assert list(tmp_path.iterdir()) == []
