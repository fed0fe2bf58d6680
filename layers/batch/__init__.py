"""Normalization by statistics of the batch: one mean for each channel, over all samples and places."""
