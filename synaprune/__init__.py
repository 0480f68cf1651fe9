"""Train spiking neural networks that keep only the synapses they need."""
