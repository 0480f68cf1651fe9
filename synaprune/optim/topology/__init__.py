"""Which synapses exist: numbers to be met, draws, exchanges, and what they are made of."""
