"""Use the installed wheel where none of the extras is: run by `make wheel` in an environment of its own."""

import importlib.util
import time

import numpy as np
import torch

begin = time.perf_counter()
from synaprune import GradR  # noqa: E402

seconds = time.perf_counter() - begin

for extra in ("spikingjelly", "rich", "matplotlib", "sklearn", "pooch", "tensorboard"):
    assert importlib.util.find_spec(extra) is None, f"{extra} is installed: this environment is not empty"
home = importlib.util.find_spec("synaprune").origin
assert "site-packages" in home, f"{home} is not the installed wheel"
net = torch.nn.Linear(5, 3)
optimizer = GradR(net, lr=0.1, alpha=0.1)
net(torch.ones(2, 5)).sum().backward()
optimizer.step()
from synaprune.engine import Linear, Network, Neuron, Weight, compile  # noqa: E402

engine = compile(Network((Linear(weight=Weight.from_dense(np.eye(2))), Neuron()), (2,), T=2), backend="c")
assert engine(np.full((1, 2), 2.0)).tolist() == [[1.0, 1.0]], "the wheel's engine computes something else"
print(f"wheel: GradR works without extras; import synaprune adds {seconds:.3f} s to import torch")
assert seconds < 0.2, f"import synaprune takes {seconds:.2f} s on top of torch, which is above 0.2 s"
