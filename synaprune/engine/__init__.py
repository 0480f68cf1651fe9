"""Fast inference of pruned spiking networks on an ordinary processor."""
