"""Grad R on SEW-ResNet-18, a deep spiking network with shortcuts, at a quarter of its width on the digits."""

from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from synaprune import GradR
from synaprune.budget import cubic


def lif():
    return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m")


def conv(inputs, outputs, kernel, stride=1, step_mode="m"):
    """Return a convolution that keeps the size but for the stride, and its normalisation."""
    return nn.Sequential(
        layer.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, step_mode=step_mode),
        layer.BatchNorm2d(outputs, step_mode=step_mode),
    )


class Block(nn.Module):
    """Two convolutions, each before its neurons, whose spikes are added to those that came in."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.lif1 = conv(inputs, outputs, 3, stride), lif()
        self.conv2, self.lif2 = conv(outputs, outputs, 3), lif()
        plain = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Sequential(*conv(inputs, outputs, 1, stride), lif())

    def forward(self, spikes):
        """Return the sum of the block's spikes and those that came in, `[T, N, C, H, W]`."""
        return self.lif2(self.conv2(self.lif1(self.conv1(spikes)))) + self.shortcut(spikes)


class SEWResNet18(nn.Module):
    """Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021, with spikes added.

    The first convolution is computed once and its result injected at each of the T time steps. `large` images, of
    224×224 pixels, are made smaller by a factor of 4 before the blocks.
    """

    def __init__(self, in_channels=3, classes=1000, width=64, T=4, large=True):
        super().__init__()
        self.T = T
        self.stem = conv(in_channels, width, 7 if large else 3, 2 if large else 1, step_mode="s")
        self.lif = lif()
        self.pool = layer.MaxPool2d(3, 2, 1, step_mode="m") if large else nn.Identity()
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(
            *(
                Block(inputs if first else outputs, outputs, 2 if first and inputs != outputs else 1)
                for inputs, outputs in pairwise(widths)
                for first in (True, False)
            )
        )
        self.average = layer.AdaptiveAvgPool2d(1, step_mode="m")
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, images):
        """Return the mean output over all time steps of images `[N, C, H, W]`, `[N, classes]`."""
        current = self.stem(images)
        spikes = self.blocks(self.pool(self.lif(current.expand(self.T, *current.shape))))
        return self.fc(self.average(spikes).flatten(2)).mean(0)


if __name__ == "__main__":
    torch.manual_seed(0)
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = (images.float() - 4.9).view(-1, 1, 8, 8) / 6.0
    net = SEWResNet18(in_channels=1, classes=10, width=16, T=2, large=False)

    epochs, steps = 8, 8 * 23
    # was: torch.optim.Adam(net.parameters(), lr=1e-2); the few weights of the output stay dense
    optimizer = GradR(net, lr=1e-2, sparsity=0.9, schedule=cubic(steps, flat=0.4), exclude=["fc.*"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(1437).split(64):
            functional.reset_net(net)
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()

    net.eval()
    with torch.no_grad():
        functional.reset_net(net)
        correct = net(images[1437:]).argmax(1) == labels[1437:]
    print(f"accuracy {correct.float().mean():.1%} at {optimizer.connectivity():.1%} connectivity")
