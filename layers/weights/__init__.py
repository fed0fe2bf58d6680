"""Normalizations of weights: each filter of a Linear or Conv2d; filters.py is what they share."""
