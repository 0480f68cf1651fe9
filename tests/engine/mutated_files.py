"""Read damaged files and run what comes out of them, the C side under sanitizers.

usage: python tests/engine/mutated_files.py [--count N] [--seed N] [--options FLAG …]

A third of the files have one field of the description replaced by a wild value, no field by the same one twice. The
others have bytes flipped, lengths changed, tensors cut and exchanged, settings altered. Each must be refused in a
sentence or hold a network that runs, and that gives, where a loop in NumPy is fast enough to say so, the spikes of that
loop. A file has 20 seconds, the process 3 GiB; what is wrong in C ends it with the sanitizer's report.

The sanitizer must be there before Python is: the process starts itself anew with it.
"""

import argparse
import contextlib
import copy
import faulthandler
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import cycle
from math import prod
from pathlib import Path

import numpy as np
from mutations import (
    each_field,
    exchange,
    mutate_bytes,
    mutate_container,
    mutate_content,
    mutate_settings,
    packed,
    replace_field,
)
from networks import inputs, random_network

from synaprune.engine import Conv, Engine, Linear, build
from synaprune.engine.reference import spike_trains
from synaprune.errors import UsageError
from synaprune.export import read, sparse, write
from synaprune.export.values import VALUES

HERE = Path(__file__).parent
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
OPTIONS = (
    "detect_leaks=0:quarantine_size_mb=16:hard_rss_limit_mb=3072:max_allocation_size_mb=2300"
    ":allocator_may_return_null=1"
)
KINDS = ("bytes", "container", "exchange", "content", "content", "settings", "settings", "settings")
PATIENCE = 20  # seconds for one file
WORTH_RUNNING = 2**24  # neurons and synapses visited, over all time steps; larger networks are set up only
WORTH_COMPARING = 2**17
# Networks with layers of each kind; where no fully connected layer asks for one size, more damaged ones still fit.
SEEDS = {
    "linear": (0, 4),
    "mixed": (1, 2, 3, 5),
    "maps": (13, 36, 50, 51, 58, 66, 67, 75, 80, 97),
    "newer": (1, 2, 13, 42, 64, 66, 75, 92, 103, 143),
}


def sanitized_environment():
    """Return the environment in which Python can load a library with sanitizers, and find what it finds here."""
    found = [*build.compiler(), "-print-file-name=libasan.so"]
    runtime = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(runtime).is_absolute(), "this compiler has no address sanitizer"
    places = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    return os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": OPTIONS,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": places,
    }


def damaged(rng, count, folder):
    """Yield so many damaged files, with the kind of damage."""
    originals, path = [], folder / "original"
    seeds = [(kind, seed) for kind, seeds in SEEDS.items() for seed in seeds]
    for (kind, seed), values in zip(seeds, cycle(VALUES)):
        write(random_network(seed, kind == "linear", kind == "newer"), path, values=values)
        originals.append((path.read_bytes(), *sparse._open(path)))
    fields = [(index, *field) for index, (_, header, _) in enumerate(originals) for field in each_field(header)]
    fields = rng.sample(fields, min(len(fields), count // 3))
    for index in range(count):
        which, *field = fields[index] if index < len(fields) else (index % len(originals),)
        content, header, arrays = originals[which]
        header, arrays = copy.deepcopy(header), dict(arrays)
        kind = "field" if field else rng.choice(KINDS)
        match kind:
            case "bytes":
                content = mutate_bytes(rng, content)
            case "container":
                content = mutate_container(rng, content)
            case "field":
                replace_field(header, *field)
            case "exchange":
                exchange(rng, header, arrays)
            case "content":
                mutate_content(rng, header, arrays)
            case "settings":
                mutate_settings(rng, header)
        yield kind, content if kind in ("bytes", "container") else packed(header, arrays)


def outcome(path, rng):
    """What becomes of a file: refused, set up, ran, or ran as the loop does."""
    try:
        network = read(path)
        engine = Engine(network, rng.choice([1, 1, 2]), backend="c")
    except UsageError as error:
        return _refused(str(error))
    pixels = [prod(shape[1:]) for shape in network.shapes()]
    synapses = [
        (len(layer.weight), size) for layer, size in zip(network.layers, pixels) if isinstance(layer, Linear | Conv)
    ]
    work = network.T * (sum(map(prod, network.shapes())) + sum(count * size for count, size in synapses))
    work += network.T * prod(network.input_shape)
    if work > WORTH_RUNNING:
        return "set up"
    samples = rng.choice([1, 5]) if work < WORTH_COMPARING else 1
    x = inputs(network, samples)
    votes = engine(x)
    assert votes.shape == (samples, network.outputs)
    dense = sum(prod(layer.weight.shape) for layer in network.layers if isinstance(layer, Linear | Conv))
    if work > WORTH_COMPARING or dense > 5000 or not _tame(network):
        return "ran"
    with np.errstate(all="ignore"):
        expected = spike_trains(network, x)
    assert list(engine.spikes.values()) == [int(train.sum()) for train in expected]
    return "ran as the loop does"


def _refused(sentence):
    assert "\n" not in sentence
    assert len(sentence) < 600
    return "refused"


def _tame(network):
    """Whether no sum overflows, after which infinity times nothing would not be nothing in the loop."""
    numbers = [layer.weight.values for layer in network.layers if isinstance(layer, Linear | Conv)]
    numbers += [layer.bias for layer in network.layers if isinstance(layer, Linear | Conv) and layer.bias is not None]
    return all(np.abs(each).max(initial=0) < 1e9 for each in numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", nargs="*", default=[], help="of the compiler, such as DSYNAPRUNE_PORTABLE")
    args = parser.parse_args()
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        os.execve(sys.executable, [sys.executable, *sys.argv], sanitized_environment())
    library = build.library((*SANITIZE, *(f"-{option}" for option in args.options)))
    build.library = lambda: library
    faulthandler.register(signal.SIGALRM, chain=True)
    rng, found = random.Random(args.seed), Counter()
    with tempfile.TemporaryDirectory() as folder:
        before, path = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Path(folder, "file")
        for index, (kind, content) in enumerate(damaged(rng, args.count, Path(folder))):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # some file systems take milliseconds to empty a file
            path.write_bytes(content)
            signal.alarm(PATIENCE)  # without a handler it ends the process, whatever runs in C
            try:
                found[outcome(path, random.Random(index))] += 1
            except BaseException:
                kept = Path(tempfile.gettempdir(), "synaprune-damaged")
                kept.write_bytes(content)
                print(f"file {index} ({kind}) is kept as {kept}", file=sys.stderr)
                raise
    most = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{args.count:,} files: " + ", ".join(f"{n:,} {what}" for what, n in sorted(found.items())), end="")
    print(f"; {most:,.0f} MiB at most")


if __name__ == "__main__":
    main()
