"""Training: settings and recipes, the loop, checkpoints, one folder per run."""
