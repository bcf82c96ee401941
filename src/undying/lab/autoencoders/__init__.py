"""Sparse autoencoders, and what has been done about their dead latents: baselines of the lab."""
