"""Measure the memory of Grad R per synapse: what it holds from step to step, and the peak of a step.

usage: python benchmarks/optimizer_memory.py [--synapses N]

Weights, gradients and all state count. Three equal tensors are trained by Adam in float32 on one thread; what is
printed is the resident memory of a new process, as the system counts it, beyond that before the network was made. Linux
only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

# With a fixed strength, with budgets over all layers and layer by layer, and with a base that has no fused kernels.
OPTIONS = {
    "alpha": "alpha=1e-2",
    "budget": "sparsity=0.9, schedule=cubic(3), period=1",
    "budget, erk": "sparsity=0.9, schedule=cubic(3), period=1, allocation='erk'",
    "alpha, base not fused": "alpha=1e-2, fused=False",
}
PROGRAM = """
import json, sys
from pathlib import Path
import torch
from synaprune import GradR
from synaprune.budget import cubic

def resident(peak=False):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM" if peak else "VmRSS"))

def steps(size):
    network = torch.nn.ModuleList(torch.nn.Linear(size // 300, 100, bias=False) for _ in range(3))
    for weight in network.parameters():
        weight.grad = torch.full_like(weight, 0.01)
    optimizer = GradR(network, lr=1e-3, OPTIONS)
    found = []
    for _ in range(3):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        optimizer.step()
        found.append((resident() - before, resident(peak=True) - before))
    return max(found)

before = 0
steps(3000)  # what torch loads at its first step is none of ours
before = resident()
print(json.dumps([value / int(sys.argv[1]) for value in steps(int(sys.argv[1]))]))
"""


def measured(options: str, synapses: int) -> tuple[float, float]:
    """Return the bytes per synapse that are held between steps, and the peak of a step."""
    # Every tensor is a mapping of its own, which goes back to the system at once.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM.replace("OPTIONS", options), str(synapses)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    held, peak = json.loads(done.stdout)
    return held, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--synapses", type=int, default=12_000_000, metavar="N", help="in all three tensors [12000000]")
    synapses = parser.parse_args().synapses
    for name, options in OPTIONS.items():
        held, peak = measured(options, synapses)
        print(f"{name:22} holds {held:5.1f} bytes per synapse, peak {peak:5.1f}")


if __name__ == "__main__":
    main()
