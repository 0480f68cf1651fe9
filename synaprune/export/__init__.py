"""A trained network out of PyTorch: sparse files."""
