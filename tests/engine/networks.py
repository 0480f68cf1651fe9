"""Small random networks with every kind of layer, and inputs for them: shared by the tests of engine/."""

import numpy as np

from synaprune.engine import AvgPool, Conv, Flatten, Linear, MaxPool, Network, Neuron, Weight
from synaprune.errors import UsageError


def weight(rng, *shape, density=0.5):
    return Weight.from_dense((rng.random(shape) < density) * (1.5 * rng.normal(size=shape) + 0.4))


def neuron(rng, name="", newer=False):
    if newer:
        leak = [{"rate": 0.3}, {"keep": 0.8}, {}][rng.integers(3)]
        reset = [{}, {"reset": None, "drop": 0.9}, {"reset": None, "late": True}][rng.integers(3)]
        return Neuron(name, tau=None, threshold=1.0, decay_input=bool(rng.integers(2)), **leak, **reset)
    return Neuron(
        name,
        tau=rng.choice([2.0, 3.0, 1.5, None]),
        threshold=float(rng.choice([1.0, 0.7])),
        reset=rng.choice([0.0, -0.25, None]),
        decay_input=bool(rng.integers(2)),
    )


def linear(rng, out, inputs, name=""):
    bias = 0.3 * rng.normal(size=out) if rng.integers(2) else None
    return Linear(name, weight=weight(rng, out, inputs, density=min(1, 20 / inputs)), bias=bias)


def conv(rng, shape, name=""):
    dims, groups = len(shape) - 1, int(rng.choice([1, shape[0]]))
    out = groups * int(rng.integers(1, 4))

    def some(*choices):
        return tuple(int(n) for n in rng.choice(choices, dims))

    return Conv(
        name,
        weight=weight(rng, out, shape[0] // groups, *some(1, 2, 3)),
        bias=0.3 * rng.normal(size=out) if rng.integers(2) else None,
        stride=some(1, 1, 2, 3),
        padding=some(0, 1, 2),
        dilation=some(1, 1, 2),
        groups=groups,
    )


def pool(rng, dims, newer=False):
    kernel = tuple(int(n) for n in rng.integers(1, 4, dims))
    kind = (MaxPool, AvgPool)[rng.integers(2)]
    return kind(
        kernel=kernel,
        stride=tuple(int(n) for n in rng.integers(1, 4, dims)),
        padding=tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel),
        **({"ceil": True} if newer and kind is MaxPool else {}),
    )


def tail(rng, shape):
    """Return layers that read spikes of a shape out: currents, and averages of them or for them."""
    sides = len(shape) - 1
    average = AvgPool(kernel=(2,) * sides, stride=(1,) * sides, padding=(1,) * sides) if sides else Flatten()
    layers = []
    for current in rng.permutation([True, False]):
        try:
            link = (conv(rng, shape) if sides else linear(rng, 6, *shape)) if current else average
            shape = link.output(shape)
        except UsageError:  # larger than what is left of the image
            break
        layers.append(link)
    return layers


def random_network(seed, linear_only=False, newer=False):
    """Return a network whose every choice is drawn; convolutions first, then fully connected layers.

    With `newer`, it has what a sparse file of the first version could not say.
    """
    rng = np.random.default_rng(seed)
    T, coding = int(rng.choice([1, 3, 4, 8, 10, 17])), str(rng.choice(["static", "spikes"]))
    shape = [(int(rng.integers(1, 300)),), (2, int(rng.integers(4, 90)))][rng.integers(2)]
    if rng.random() < 0.8 and not linear_only:
        shape = (int(rng.integers(1, 4)), int(rng.integers(4, 16)), int(rng.integers(4, 40)))
    if linear_only:
        shape = (int(rng.integers(1, 300)),)
    input_shape, layers = shape, []
    for _ in range(rng.integers(1, 4) if len(shape) > 1 else 0):
        for make in (
            lambda shape: [conv(rng, shape), neuron(rng, newer=newer)],
            lambda shape: [pool(rng, len(shape) - 1, newer)],
        ):
            try:
                links = make(shape)
                after = links[0].output(shape)
            except UsageError:  # larger than what is left of the image
                break
            layers, shape = layers + links, after
            if rng.integers(2):
                break
    if not layers or not isinstance(layers[-1], Neuron) or rng.random() < 0.8:
        hidden = int(rng.integers(1, 80))
        layers += [Flatten(), linear(rng, hidden, int(np.prod(shape))), neuron(rng, newer=newer)]
        layers += [linear(rng, 10, hidden), neuron(rng, newer=newer)]
        shape = (10,)
    if newer and rng.random() < 0.7:
        layers += tail(rng, shape)
    return Network(tuple(layers), input_shape, T, coding, str(rng.choice(["rate", "count"])))


def inputs(network, samples, seed=0):
    rng = np.random.default_rng(seed)
    if network.coding == "static":
        return rng.normal(size=(samples, *network.input_shape)).astype(np.float32)
    return (rng.random((network.T, samples, *network.input_shape)) < 0.3).astype(np.uint8)
