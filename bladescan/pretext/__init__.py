"""Pretext examples and the mathematics of their losses. It runs no training."""
