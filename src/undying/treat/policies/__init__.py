"""Recycling as a network trains: policies that say which units, each from its paper, and what carries them out."""
