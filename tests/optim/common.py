"""A small network, a short training, and the bases: shared by the tests of optim/."""

import torch
from torch import nn

BASES = {
    base.__name__: base
    for base in (
        torch.optim.Adadelta,
        torch.optim.Adafactor,
        torch.optim.Adagrad,
        torch.optim.Adam,
        torch.optim.Adamax,
        torch.optim.AdamW,
        torch.optim.ASGD,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.RMSprop,
        torch.optim.Rprop,
        torch.optim.SGD,
    )
}


def model(dtype=torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5))
    return net.to(dtype)


def train(net, optimizer, steps, seed=0, scheduler=None):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(net.parameters()).dtype
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 2, 6, 6, generator=generator).to(dtype)).square().mean().backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values()))
