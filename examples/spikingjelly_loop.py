"""Grad R in a plain PyTorch loop around a SpikingJelly network, on the digits that scikit-learn ships."""

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from synaprune import GradR, find_synapses
from synaprune.budget import cubic

torch.manual_seed(0)
images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = (images.float() - 4.9) / 6.0

lif = {"tau": 2.0, "surrogate_function": surrogate.ATan(), "detach_reset": True, "step_mode": "m"}
net = nn.Sequential(nn.Linear(64, 200, bias=False), neuron.LIFNode(**lif))
net.extend([nn.Linear(200, 10, bias=False), neuron.LIFNode(**lif)])
with torch.no_grad():
    for synapse in find_synapses(net):
        synapse.parameter.mul_(3)  # torch's initial weights hardly let a neuron spike

epochs, steps = 12, 12 * 23
# was: torch.optim.Adam(net.parameters(), lr=1e-2)
optimizer = GradR(net, lr=1e-2, sparsity=0.9, schedule=cubic(steps, flat=0.4))
for _ in range(epochs):
    for batch in torch.randperm(1437).split(64):
        functional.reset_net(net)
        rate = net(images[batch].expand(8, -1, -1)).mean(0)  # 8 time steps of the same image
        loss = nn.functional.mse_loss(rate, nn.functional.one_hot(labels[batch], 10).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    functional.reset_net(net)
    correct = net(images[1437:].expand(8, -1, -1)).mean(0).argmax(1) == labels[1437:]
print(f"accuracy {correct.float().mean():.1%} at {optimizer.connectivity():.1%} connectivity")
