import ctypes
import re
import subprocess
import sys

import mutated_files
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import inputs, random_network

from synaprune import export
from synaprune.engine import Conv, Engine, Flatten, Linear, Network, Neuron, Vote, Weight, build, compile
from synaprune.engine.reference import spike_trains
from synaprune.engine.tail import read_out
from synaprune.errors import UsageError

FC = Linear("fc", weight=Weight.from_dense(np.array([[0.0, 1.5]])))
ONE = Network((FC, Neuron("lif")), (2,), T=4)
PATHS = ((), ("-DSYNAPRUNE_AVX2",), ("-DSYNAPRUNE_PORTABLE",))
seeds = st.integers(0, 2**32 - 1)


def through(network, x, options=(), threads=1):
    """Run an engine whose C side was compiled with options."""
    engine = Engine(network, threads)
    if options:
        engine._library = build.library(options)
        engine.__dict__.pop("_side_by_side", None)
        engine._single = engine._runs(lanes=False)
    return engine, engine(x)


def assert_same(network, samples, options=(), threads=1):
    x = inputs(network, samples)
    expected = spike_trains(network, x)
    engine, votes = through(network, x, options, threads)
    counts = read_out(network.tail, expected[-1].sum(0), network.T).reshape(samples, -1).astype(np.float64)
    assert (votes == (counts / (network.T if network.readout == "rate" else 1)).astype(np.float32)).all()
    assert list(engine.spikes.values()) == [int(train.sum()) for train in expected]
    return engine, x, expected


@pytest.mark.parametrize("options", PATHS, ids=["native", "avx2", "portable"])
@settings(deadline=None, max_examples=60)
@given(seed=seeds, newer=st.booleans())
def test_every_spike_is_the_one_of_a_plain_loop(options, seed, newer):
    network = random_network(seed, newer=newer)
    engine, x, expected = assert_same(network, 2, options)
    for ours, theirs in zip(engine.trains(x), expected):
        assert ours.shape == theirs.shape
        assert (ours == theirs).all()


@settings(deadline=None, max_examples=40)
@given(seed=seeds, samples=st.sampled_from([1, 3, 4, 31, 33, 70]), threads=st.sampled_from([1, 3]), newer=st.booleans())
def test_samples_side_by_side(seed, samples, threads, newer):
    assert_same(random_network(seed, linear_only=True, newer=newer), samples, threads=threads)


@settings(deadline=None, max_examples=20)
@given(seed=seeds, samples=st.sampled_from([1, 2, 5]), threads=st.sampled_from([2, 3, 8]), newer=st.booleans())
def test_threads_share_samples_or_channels(seed, samples, threads, newer):
    assert_same(random_network(seed, newer=newer), samples, threads=threads)


def test_large_layers_are_cut_into_slices():
    rng = np.random.default_rng(0)
    layers = []
    for out, inputs_ in ((300, 200), (400, 300), (10, 400)):
        layers += [Linear(weight=Weight.from_dense(rng.normal(size=(out, inputs_)) / 5)), Neuron()]
    assert_same(Network(tuple(layers), (200,), T=5), 1, threads=3)


def test_paths_are_what_they_are_called():
    names = []
    for options in PATHS[1:]:
        library = build.library(options)
        library.synaprune_path.restype = ctypes.c_char_p
        names.append(library.synaprune_path())
    assert names[-1] == b"portable"
    assert names[0] in (b"avx2", b"portable")


def test_one_neuron():
    engine = compile(ONE)
    assert engine(np.array([[9.0, 1.0], [0.0, 2.0]])).tolist() == [[0.5], [1.0]]
    assert engine.spikes == {"lif": 6}
    assert engine.firing_rates == {"lif": 0.75}
    assert engine(np.zeros((0, 2))).shape == (0, 1)


def test_a_sparse_file(tmp_path):
    export.write(ONE, tmp_path / "one.safetensors")
    assert compile(tmp_path / "one.safetensors")(np.array([[0.0, 2.0]])).tolist() == [[1.0]]
    assert compile(str(tmp_path / "one.safetensors")).network.T == 4
    with pytest.raises(UsageError, match="nothing"):
        compile(tmp_path / "nothing.safetensors")


def test_counts_and_votes():
    weight = Weight.from_dense(np.array([[2.0], [0.0], [1.0], [2.0]]))
    layers = (Linear(weight=weight), Neuron(), Vote(group=2))
    assert Engine(Network(layers, (1,), T=4, readout="count"))(np.ones((1, 1))).tolist() == [[2.0, 2.0]]
    assert Engine(Network(layers, (1,), T=4))(2 * np.ones((1, 1))).tolist() == [[0.5, 1.0]]


def test_neurons_without_names():
    engine = Engine(Network((FC, Neuron()), (2,), T=1))
    engine(np.ones((1, 2)))
    assert engine.spikes == {"1": 0}


def test_convolution_as_last_layer():
    conv = Conv(weight=Weight.from_dense(np.ones((1, 1, 1, 1))))
    x = np.array([[[[0.0, 1.0, 2.0], [2.0, 0.0, 0.5]]]])
    assert Engine(Network((conv, Neuron(tau=None)), (1, 2, 3), T=2))(x).tolist() == [[0.0, 1.0, 1.0, 1.0, 0.0, 0.5]]


TRAINS = Network((FC, Neuron(tau=None)), (2,), 3, "spikes", "count")
SHOWN = np.array([[3, 2], [1, 0], [0, 1], [7, 0]])
SENT = np.array([[[0, 1], [1, 0]], [[0, 1], [1, 1]], [[1, 0], [0, 0]]])


def unaligned(x):
    return np.frombuffer(b"." + x.astype(np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)


def read_only(x):
    x = x.astype(np.float32)
    x.flags.writeable = False
    return x


ARRAYS = {  # the same numbers, as anybody may hold them
    **{name: lambda x, name=name: x.astype(name) for name in "?bBhHiIlLqQefdg"},
    **{name: lambda x, name=name: x.astype(name) for name in (">f4", ">f8", ">i2", ">u4", "<f2")},
    "column by column": lambda x: np.asfortranarray(x.astype(np.float32)),
    "a view": lambda x: np.repeat(x.astype(np.float32), 3, -1)[..., ::3],
    "backwards": lambda x: x[..., ::-1].astype(np.float32).copy()[..., ::-1],
    "broadcast": lambda x: np.broadcast_to(x.astype(np.float32), x.shape),
    "unaligned": unaligned,
    "read-only": read_only,
    "lists": lambda x: x.tolist(),
    "a subclass": lambda x: x.view(type("Own", (np.ndarray,), {})),
    **{
        str(dtype): lambda x, dtype=dtype: torch.tensor(x).to(dtype)
        for dtype in (
            *(torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2),
            *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32),
        )
    },
    "with a gradient": lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True) * 1,
    "bfloat16 with a gradient": lambda x: torch.tensor(x, dtype=torch.bfloat16, requires_grad=True),
    "a parameter": lambda x: torch.nn.Parameter(torch.tensor(x, dtype=torch.float32)),
    "a strided tensor": lambda x: torch.tensor(x).float().mT.contiguous().mT,
    "sparse": lambda x: torch.tensor(x).float().to_sparse(),
    "negated by a bit": lambda x: torch.complex(torch.tensor(x).float(), -torch.tensor(x).float()).conj().imag,
}


@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize("network", [ONE, TRAINS], ids=["static", "spikes"])
@pytest.mark.parametrize("how", ARRAYS)
@pytest.mark.filterwarnings("error")
def test_input_of_any_type_and_layout(how, network, backend):
    x = SHOWN if network is ONE else SENT
    given = ARRAYS[how](x)
    expected = Engine(network)((x != 0 if how in ("?", "torch.bool") else x).astype(np.float32))
    engine = Engine(network, backend=backend)
    for _ in range(2):  # the second time the shape is known
        assert engine(given).tolist() == expected.tolist()
    assert expected.any()


@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize("seed", range(20))
def test_an_empty_batch(seed, backend):
    network = random_network(seed)
    engine = Engine(network, threads=1 + seed % 3, backend=backend)
    assert engine(inputs(network, 0)).shape == (0, network.outputs)
    assert not any(engine.spikes.values())
    assert not any(engine.firing_rates.values())


def test_images_into_a_network_that_flattens_them():
    engine = Engine(Network((Flatten(), FC, Neuron()), (2,), T=4))
    assert engine(np.array([[[[0.0, 2.0]]]])).tolist() == [[1.0]]


@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize(
    ("network", "x", "complaint"),
    [
        (ONE, np.zeros(2), r"must have the shape \[N, 2\], not \[2\]"),
        (ONE, np.zeros((1, 3)), r"not \[1, 3\]"),
        (ONE, np.array([["a", "b"]]), "array of numbers"),
        (ONE, np.array([[1j, 0]]), "array of numbers"),
        (ONE, None, "array of numbers"),
        (ONE, np.array([[1, 2]], object), "array of numbers, not of object"),
        (ONE, np.array([["2020-01-01", "2021-01-01"]], "M8[D]"), "array of numbers, not of datetime64"),
        (ONE, np.zeros((1, 2), "V4"), "array of numbers"),
        (ONE, [[1.0, 2.0], [3.0]], "array of numbers, but list is none: .*inhomogeneous"),
        (ONE, torch.zeros(1, 2, dtype=torch.complex64), "array of numbers, not of complex64"),
        (ONE, torch.zeros(1, 2, dtype=torch.complex64).conj(), "array of numbers"),
        (ONE, torch.zeros(1, 2, device="meta"), "array of numbers, but Tensor is none: .*meta"),
        (ONE, torch.full((1, 2), torch.inf, dtype=torch.bfloat16), "NaN or infinity"),
        (ONE, 3.0, r"not \[\]"),
        (ONE, np.array([[0.0, np.nan]]), "NaN or infinity"),
        (ONE, np.array([[np.inf, 0.0]]), "NaN or infinity"),
        (ONE, np.array([[1e300, 0.0]]), "NaN or infinity"),
        (Network((FC, Neuron()), (2,), 2, "spikes"), np.zeros((3, 1, 2)), "T = 2 time steps, not 3"),
        (Network((FC, Neuron()), (2,), 2, "spikes"), np.zeros((1, 2)), r"\[T, N, 2\]"),
        (Network((FC, Neuron()), (2,), 2, "spikes"), np.full((2, 1, 2), 0.5), "other values than 0 and 1"),
        (Network((FC, Neuron()), (2,), 2, "spikes"), np.full((2, 1, 2), 2, np.uint8), "other values than 0 and 1"),
        (Network((FC, Neuron()), (2,), 2, "spikes"), np.full((2, 1, 2), np.nan), "other values than 0 and 1"),
        *(
            (Network((FC, Neuron()), (2,), 2, "spikes"), np.full((2, 1, 2), value, kind), "other values than 0 and 1")
            for kind, value in [("i2", 256), ("i1", -1), ("i8", 2**32), ("u8", 257), ("f8", 256), ("f4", -255)]
        ),
        (
            Network((FC, Neuron()), (2,), 2, "spikes"),
            torch.full((2, 1, 2), 0.5).bfloat16(),
            "other values than 0 and 1",
        ),
    ],
)
def test_input_that_cannot_be_shown(backend, network, x, complaint):
    with pytest.raises(UsageError, match=complaint):
        Engine(network, backend=backend)(x)


def test_a_refused_sample_leaves_the_engine_fit():
    engine = compile(ONE, threads=2)
    with pytest.raises(UsageError):
        engine(np.array([[0.0, 2.0], [0.0, np.nan], [0.0, 2.0]]))
    assert engine(np.array([[0.0, 2.0]])).tolist() == [[1.0]]


def test_settings_that_are_none():
    with pytest.raises(UsageError, match="threads must be"):
        Engine(ONE, threads=0)
    with pytest.raises(UsageError, match="backend must be"):
        Engine(ONE, backend="cuda")
    with pytest.raises(UsageError, match="T is part of the network already"):
        compile(ONE, T=3)
    with pytest.raises(UsageError, match="call the engine first"):
        _ = Engine(ONE).spikes


def test_a_network_that_takes_too_much_memory():
    conv = Conv(weight=Weight((1, 1, 1, 2001), np.array([4]), np.ones(1)), padding=(0, 1000))
    with pytest.raises(UsageError, match="working memory"):
        Engine(Network((conv, Neuron()), (1, 2**18, 1), T=100, coding="spikes"))


def test_a_file_runs_without_torch(tmp_path):
    network = random_network(67)  # convolutions, a pool
    export.write(network, tmp_path / "n")
    x = inputs(network, 3)
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys\n"
        "for name in ('torch', 'spikingjelly', 'rich', 'matplotlib'): sys.modules[name] = None  # cannot be imported\n"
        "import numpy as np\n"
        "from synaprune.engine import compile\n"
        "engine = compile('n', threads=2, backend='c')\n"
        "print(engine(np.load('x.npy')).tolist(), list(engine.spikes.values()), len(engine.trains(np.load('x.npy'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    engine = Engine(network)
    assert done.stdout == f"{engine(x).tolist()} {list(engine.spikes.values())} {len(engine.spikes)}\n"


SANITIZED = """
import sys
from networks import inputs, random_network
from synaprune.engine import Engine, build
library = build.library(("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", *sys.argv[1:]))
for seed in range(30):
    network = random_network(seed, linear_only=seed % 5 == 0, newer=seed % 2 == 1)
    for threads in (1, 3):
        engine = Engine(network, threads)
        engine._library = library
        engine._single = engine._runs(lanes=False)
        for samples in (1, 5):
            engine(inputs(network, samples))
print("sound")
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", PATHS, ids=["native", "avx2", "portable"])
def test_under_sanitizers(options):
    command, environment = [sys.executable, "-c", SANITIZED, *options], mutated_files.sanitized_environment()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "sound\n", done.stderr[-3000:]


@pytest.mark.slow
def test_ten_thousand_damaged_files_under_sanitizers():
    command, environment = [sys.executable, mutated_files.__file__], mutated_files.sanitized_environment()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    found = re.match(r"10,000 files: (\d+) ran, ([\d,]+) ran as the loop does, ", done.stdout)
    assert found, done.stderr[-3000:]
    assert all(int(number.replace(",", "")) > 100 for number in found.groups())
