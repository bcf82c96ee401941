"""Sparse autoencoders: dead latents towards what is reconstructed badly."""

from undying.treat.resample import resample_

__all__ = ["resample_"]
