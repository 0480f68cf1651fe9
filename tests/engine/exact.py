"""Networks in which no sum is rounded, so that the engine must agree with every framework to the last spike."""

import norse.torch as norse
import numpy as np
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from synaprune.engine import Engine, from_torch
from synaprune.engine.reference import spike_trains

T = 24
SPIKING = (neuron.BaseNode, snntorch.Leaky, norse.LIFBoxCell, norse.IAFCell, norse.IAF)


def lif(kind=neuron.LIFNode, **settings):
    """Neurons of SpikingJelly."""
    return kind(step_mode="m", surrogate_function=surrogate.ATan(), **settings)


def eighths(tensor, scale=1.0):
    """Random multiples of 1/8."""
    return (torch.randn_like(tensor) * 8 * scale).round() / 8


@torch.no_grad()
def pruned(net, scale=0.7, density=0.5):
    """Draw weights and statistics as short binary fractions; half of the weights are absent."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.weight.copy_(eighths(module.weight, scale) * (torch.rand_like(module.weight) < density))
            if module.bias is not None:
                module.bias.copy_(eighths(module.bias, scale / 2))
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = 0.0
            module.running_var.copy_(4.0 ** torch.randint(-1, 2, module.running_var.shape))
            module.weight.copy_(2.0 ** torch.randint(-1, 2, module.weight.shape))
            module.running_mean.copy_(eighths(module.running_mean, 0.3))
            module.bias.copy_(eighths(module.bias, 0.3))
    return net.eval()


@torch.no_grad()
def enliven(net, trains):
    """Scale what leads to SpikingJelly's neurons by powers of two, and centre it, so that some fire and some do not."""
    synapses = None
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            synapses = module
        elif isinstance(module, neuron.BaseNode):
            for measure in (torch.std, torch.mean):
                found = []
                hook = module.register_forward_pre_hook(lambda _, inputs, found=found: found.append(inputs[0]))
                functional.reset_net(net)
                net(trains)
                hook.remove()
                value = measure(found[0])
                if measure is torch.std:
                    for parameter in synapses.parameters():
                        parameter.mul_(2.0 ** (2 / value).log2().round())
                elif synapses.bias is not None:
                    synapses.bias.sub_((8 * value).round() / 8)


def shown(coding, *shape, samples=20):
    """Return what a network is shown, and its trains."""
    x = eighths(torch.zeros(samples, *shape)) if coding == "static" else (torch.rand(T, samples, *shape) < 0.4).float()
    return x, x.expand(T, *x.shape) if coding == "static" else x


@torch.no_grad()
def presented(net, trains):
    """Return what a network answers in each time step, and how often each layer of neurons fired."""
    fired = {module: 0 for module in net.modules() if isinstance(module, SPIKING)}

    def count(module, inputs, answer):
        fired[module] += int((answer[0] if isinstance(answer, tuple) else answer).sum())

    hooks = [module.register_forward_hook(count) for module in fired]
    functional.reset_net(net)
    for module in fired:
        if isinstance(module, snntorch.Leaky):
            module.reset_mem()
    if any(isinstance(module, neuron.BaseNode) for module in fired):
        answers = net(trains)
    else:
        found, state = [], None
        for x in trains:
            answer = net(x, state) if isinstance(net, norse.SequentialState) else net(x)
            answer, state = answer if isinstance(answer, tuple) else (answer, None)
            found.append(answer)
        answers = torch.stack(found)
    for hook in hooks:
        hook.remove()
    return answers, list(fired.values())


def assert_exact(net, coding, *shape, samples=20, least=0.01):
    """Hold all three ways of running a network against its own framework; return the network."""
    x, trains = shown(coding, *shape, samples=samples)
    if any(isinstance(module, neuron.BaseNode) for module in net.modules()):
        enliven(net, trains)
    answers, fired = presented(net, trains)
    network = from_torch(net, T=T, input_shape=shape, coding=coding, readout="count")
    for backend in ("c", "torch"):
        engine = Engine(network, threads=2, backend=backend)
        assert np.array_equal(engine(x.numpy()), answers.sum(0).flatten(1).numpy())
        assert list(engine.spikes.values()) == fired
        assert all(least < rate < 0.95 for rate in engine.firing_rates.values())
    assert [int(train.sum()) for train in spike_trains(network, x.numpy())] == fired
    return network
