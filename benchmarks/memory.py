"""Measure the memory that the engine takes for the CIFAR-10 network at 0.74 %, beyond an interpreter with NumPy.

usage: python benchmarks/memory.py [--threads N] [--check]

A new Python process imports NumPy and nothing else; then the engine; then it reads the network from a sparse file,
compiles it, and runs one sample and a batch of 32. What is printed is the peak of its resident memory up to each point,
as the system counts it, and by how much that is above what NumPy alone had taken. PyTorch is never loaded. Where the
engine is not in the cache yet, a compiler runs beside it, whose memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 20e6  # bytes beyond the interpreter with NumPy
CONNECTIVITIES = (0.0216, 0.0041, 0.0141, 0.0203, 0.0215, 0.0415, 0.0051, 0.2096)  # published, layer by layer

PROGRAM = """
import json, sys
peaks = {}
def peak(what):
    with open("/proc/self/status") as file:
        peaks[what] = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
peak("interpreter")
import numpy as np
np.random.default_rng(0)
peak("with NumPy")
from synaprune.engine import compile
import synaprune.export
peak("with the engine's modules")
engine = compile(sys.argv[1], threads=int(sys.argv[2]), backend="c")
peak("with the network, compiled")
x = np.random.default_rng(0).standard_normal((32, 3, 32, 32), np.float32)
engine(x[:1])
peak("after one sample")
engine(x)
peak("after a batch of 32")
assert "torch" not in sys.modules
print(json.dumps(peaks))
"""


def write_network(path: Path) -> None:
    """Write the CIFAR-10 network with synapses at random positions, and biases as normalisation leaves them."""
    import numpy as np

    from synaprune.engine import Conv, Flatten, Linear, MaxPool, Network, Neuron, Vote, Weight
    from synaprune.engine.layers import Layer
    from synaprune.export import write

    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Weight:
        size = int(np.prod(shape))
        positions = np.sort(rng.choice(size, round(size * next(left)), replace=False))
        return Weight(shape, positions, rng.standard_normal(len(positions)).astype(np.float32))

    left, layers = iter(CONNECTIVITIES), list[Layer]()
    for index, inputs in enumerate((3, *[256] * 5)):
        layers += [Conv(weight=weight(256, inputs, 3, 3), bias=rng.standard_normal(256), padding=(1, 1)), Neuron()]
        layers += [MaxPool()] if index in (2, 5) else []
    layers += [Flatten(), Linear(weight=weight(2048, 16384)), Neuron(), Linear(weight=weight(100, 2048)), Neuron()]
    write(Network((*layers, Vote()), (3, 32, 32), T=8), path)


def peaks(threads: int = 1) -> dict[str, int]:
    """Return the peaks of a new process, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cifar10.safetensors")
        write_network(path)
        command = [sys.executable, "-c", PROGRAM, str(path), str(threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="exit with 1 when the limit is exceeded")
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        parser.error("this system does not say how much memory a process takes in /proc/self/status")
    found = peaks(args.threads)
    base = found["with NumPy"]
    for what, peak in found.items():
        print(f"{what:<28}{peak / 1e6:8.1f} MB{(peak - base) / 1e6:+8.1f} MB")
    beyond = max(found.values()) - base
    print(f"limit {LIMIT / 1e6:.0f} MB beyond NumPy: {'met' if beyond < LIMIT else 'MISSED'}")
    return int(args.check and beyond >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
