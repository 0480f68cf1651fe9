"""Grad R on an snnTorch network, with gradient clipping and accumulation over two batches."""

import snntorch
import torch
from sklearn.datasets import load_digits
from snntorch import surrogate
from torch import nn

from synaprune import GradR, find_synapses

torch.manual_seed(0)
images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = (images.float() - 4.9) / 6.0


class Net(nn.Module):
    """64-200-10 with a recurrent hidden layer; its recurrent weights are synapses too."""

    def __init__(self):
        super().__init__()
        spike = {"beta": 0.7, "spike_grad": surrogate.atan(), "reset_mechanism": "zero"}
        self.fc1, self.lif1 = nn.Linear(64, 200, bias=False), snntorch.RLeaky(linear_features=200, **spike)
        self.fc2, self.lif2 = nn.Linear(200, 10, bias=False), snntorch.Leaky(**spike)

    def forward(self, x):
        """Return output spikes per time step of images `[N, 64]`, `[N, 10]`."""
        spikes, potential1 = self.lif1.init_rleaky()
        potential2, count = self.lif2.init_leaky(), 0.0
        for _ in range(8):
            spikes, potential1 = self.lif1(self.fc1(x), spikes, potential1)
            output, potential2 = self.lif2(self.fc2(spikes), potential2)
            count = count + output
        return count / 8


net = Net()
print(find_synapses(net))
optimizer = GradR(net, lr=5e-3, alpha=0.1)  # was: torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(8):
    for n, batch in enumerate(torch.randperm(1437).split(32)):
        target = nn.functional.one_hot(labels[batch], 10).float()
        (nn.functional.mse_loss(net(images[batch]), target) / 2).backward()
        if n % 2:  # a step for every second batch
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

with torch.no_grad():
    correct = net(images[1437:]).argmax(1) == labels[1437:]
print(f"accuracy {correct.float().mean():.1%} at {optimizer.connectivity():.1%} connectivity")
