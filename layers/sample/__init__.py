"""Normalization by statistics of each sample: training and inference are the same function."""
