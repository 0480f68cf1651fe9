import numpy as np

from synaprune.engine import AvgPool, Conv, Flatten, Linear, Network, Neuron, Weight
from synaprune.engine.reference import spike_trains


def neuron_on(current, steps=4, **settings):
    weight = Weight.from_dense(np.array([[1.0]]))
    network = Network((Linear(weight=weight), Neuron(**settings)), (1,), steps)
    (spikes,) = spike_trains(network, np.array([[current]]))
    return spikes.astype(int).ravel().tolist()


def test_neurons_step_by_step():
    assert neuron_on(1.5) == [0, 1, 0, 1]  # v = 0.75, 1.125: fires, 0.75, 1.125: fires
    assert neuron_on(0.75, decay_input=False) == [0, 1, 0, 1]  # v = 0.75, 1.125
    assert neuron_on(0.75, tau=None) == [0, 1, 0, 1]  # v = 0.75, 1.5: back to 0
    assert neuron_on(0.75, tau=None, reset=None) == [0, 1, 1, 1]  # v = 0.75, 1.5: 0.5, 1.25: 0.25, 1.0
    assert neuron_on(1.0, tau=None, reset=-0.5) == [0, 1, 0, 1]  # v = 0.5, 1.5: -0.5
    assert neuron_on(0.5, tau=None, threshold=0.5) == [1, 1, 1, 1]


def test_an_average_is_a_share_of_the_window():
    one, lone = Weight.from_dense(np.ones((1, 1, 1, 1))), Neuron(tau=None)
    third = Linear(weight=Weight.from_dense(np.array([[1.0]])))
    layers = (Conv(weight=one), lone, AvgPool(), Flatten(), third, Neuron(tau=None, threshold=0.75))
    network = Network(layers, (1, 2, 2), 1)
    for spikes, fires in ((2, False), (3, True)):
        x = (np.arange(4) < spikes).astype(np.float32).reshape(1, 1, 2, 2)
        assert spike_trains(network, x)[-1].item() is fires
