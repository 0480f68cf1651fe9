"""Layers, gradients and counts: shared by the tests of methods with a budget."""

import pytest
import torch
from common import state_of
from torch import nn

from synaprune.optim import GradR, Magnitude, MagnitudeSTE

METHODS = (GradR, Magnitude, MagnitudeSTE)
methods = pytest.mark.parametrize("method", METHODS)


def layers(dtype=torch.float32):
    """A convolution, channels last, and two fully connected layers: 1,152, 6,000 and 1,000 synapses."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Linear(60, 100), nn.Linear(100, 10))
    net = net.to(dtype=dtype, memory_format=torch.channels_last)
    return list(zip(("conv.weight", "fc1.weight", "fc2.weight"), (layer.weight for layer in net)))


def weights(optimizer):
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def reached(optimizer):
    return [int(torch.count_nonzero(weight)) for weight in weights(optimizer)]


def noise(generator, weight, optimizer):
    return torch.randn(weight.shape, generator=generator)


def nothing(generator, weight, optimizer):
    return torch.zeros(weight.shape)


def equal(generator, weight, optimizer):
    return torch.ones(weight.shape)


def births(generator, weight, optimizer):
    """Noise, and a pull on every absent synapse to come back."""
    away = torch.where(optimizer.theta(weight) < 0, 1.0, -1.0)  # of a masked latent, from 0
    sign = -state_of(optimizer, weight)["sign"].float() if isinstance(optimizer, GradR) else away
    return torch.where(optimizer.mask(weight), noise(generator, weight, optimizer), 3.0 * sign)


def deaths(generator, weight, optimizer):
    """A pull on every synapse towards absence: only a threshold that goes down can keep the number."""
    return weight.detach().sign().float()


def train(optimizer, steps, gradient=noise, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for weight in weights(optimizer):
            weight.grad = gradient(generator, weight, optimizer).to(weight.dtype)
        optimizer.step()
