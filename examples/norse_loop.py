"""Grad R on a Norse network with a recurrent layer, whose weights no `isinstance(…, nn.Linear)` would find."""

import norse.torch as norse
import torch
from sklearn.datasets import load_digits
from torch import nn

from synaprune import GradR, find_synapses
from synaprune.budget import cubic

torch.manual_seed(0)
images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = (images.float() - 4.9) / 6.0

p = norse.LIFParameters(tau_mem_inv=torch.tensor(400.0), tau_syn_inv=torch.tensor(600.0), v_th=torch.tensor(0.5))
net = norse.SequentialState(
    norse.LIFRecurrentCell(64, 200, p=p),
    nn.Linear(200, 10, bias=False),
    norse.LIBoxCell(p=norse.LIBoxParameters(tau_mem_inv=torch.tensor(300.0))),
)


def present(x):
    """Return the mean output potential over 8 time steps of images `[N, 64]`, `[N, 10]`."""
    state, total = None, 0.0
    for _ in range(8):
        potential, state = net(x, state)
        total = total + potential
    return total / 8


print(find_synapses(net))
epochs, steps = 10, 10 * 23
# was: torch.optim.Adam(net.parameters(), lr=5e-3); a budget for each layer, by name
budget = {"0.recurrent_weights": 0.9, "*": 0.5}
optimizer = GradR(net, lr=5e-3, sparsity=budget, schedule=cubic(steps, flat=0.4))
for _ in range(epochs):
    for batch in torch.randperm(1437).split(64):
        loss = nn.functional.cross_entropy(present(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    correct = present(images[1437:]).argmax(1) == labels[1437:]
print(f"accuracy {correct.float().mean():.1%} at {optimizer.connectivity():.1%} connectivity")
