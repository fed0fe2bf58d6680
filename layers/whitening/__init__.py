"""Whitening: the channels of a batch are decorrelated, too.

    decorrelated_batch_norm.py    ZCA by an eigendecomposition, in three derivations
    pca_whitening.py              the same without turning back: into principal axes
    iter_norm.py                  the same by Newton and Schulz's iteration
    whiten_eval.py                at inference, by running statistics
    channel_groups.py             channels in groups, and their covariance
    cost.py                       multiply-adds of a convolution and of whitening
    square_roots.py               inverse square roots of matrices and their derivatives
    degenerate_whitening.py       where eigenvalues meet: which gradients stay right
"""
