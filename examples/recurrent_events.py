"""Grad R on a recurrent network that watches events `[T, N, …]`: which way does a dot move, and how fast?"""

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from synaprune import GradR
from synaprune.budget import cubic


def moving_dots(count, T=20, pixels=16):
    """Return events of dots on a ring, with noise, `[T, count, 2 × pixels]`, and which of four motions each has.

    A dot that moves on switches off one pixel and switches on another, so each has two channels. No single time
    step tells the motion.
    """
    motion = torch.randint(4, (count,))
    speed = torch.tensor([-1.0, -0.3, 0.3, 1.0])[motion]
    place = torch.rand(count) * pixels + speed * torch.arange(T + 1).view(-1, 1)
    dots = nn.functional.one_hot(place.floor().long() % pixels, pixels)
    change = dots[1:] - dots[:-1]
    events = torch.cat([change > 0, change < 0], 2)
    return (events ^ (torch.rand(events.shape) < 0.01)).float(), motion


class Recurrent(nn.Module):
    """Neurons that hear the input and one another's spikes of the last time step, and a linear readout."""

    def __init__(self, inputs, hidden, classes):
        super().__init__()
        self.input = nn.Linear(inputs, hidden, bias=False)
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        self.lif = neuron.LIFNode(tau=4.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True)
        self.readout = nn.Linear(hidden, classes, bias=False)

    def forward(self, events):
        """Return the sum of the output over all time steps of events `[T, N, inputs]`, `[N, classes]`."""
        spikes = events.new_zeros(events.shape[1], self.recurrent.in_features)
        total = 0.0
        for current in self.input(events):
            spikes = self.lif(current + self.recurrent(spikes))
            total = total + spikes
        return self.readout(total)


if __name__ == "__main__":
    torch.manual_seed(0)
    net = Recurrent(inputs=32, hidden=100, classes=4)
    with torch.no_grad():
        net.input.weight.mul_(3)  # torch's initial weights hardly let a neuron spike
    steps = 400
    # was: torch.optim.Adam(net.parameters(), lr=2e-2); a budget for each layer, by name
    budget = {"recurrent.*": 0.9, "*": 0.5}
    optimizer = GradR(net, lr=2e-2, sparsity=budget, schedule=cubic(steps, flat=0.4))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        events, motion = moving_dots(64)
        functional.reset_net(net)
        loss = nn.functional.cross_entropy(net(events), motion)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

    with torch.no_grad():
        functional.reset_net(net)
        events, motion = moving_dots(1000)
        correct = net(events).argmax(1) == motion
    print(f"accuracy {correct.float().mean():.1%} at {optimizer.connectivity():.1%} connectivity")
