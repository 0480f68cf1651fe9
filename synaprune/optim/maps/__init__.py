"""How latents become weights: one map per file."""
