"""Invariant 20, softmax cross-entropy's gradient, dz = (p − onehot)/N, for any logits and labels."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

import minigrad as mg


@given(seed=st.integers(0, 2**31), n=st.integers(1, 9), classes=st.integers(2, 12), scale=st.floats(0.01, 20))
def test_the_gradient_sums_to_zero_and_its_length_is_the_missing_probability(seed, n, classes, scale):
    """Σ_k dz_k = 0 and ‖dz‖₁ = 2(1 − p_target)/N for each sample. Tolerance: a few roundings of a sum of `classes` terms."""
    rng = np.random.default_rng(seed)
    z = mg.tensor(scale * rng.normal(size=(n, classes)), requires_grad=True)
    labels = rng.integers(0, classes, n)
    (dz,) = mg.grad(mg.cross_entropy(z, mg.tensor(labels)), [z])
    dz, eps = dz.numpy(), 8 * classes * np.finfo(float).eps
    p = mg.softmax(z.detach(), 1).numpy()[np.arange(n), labels]
    np.testing.assert_allclose(dz.sum(1), 0, atol=eps / n)
    np.testing.assert_allclose(np.abs(dz).sum(1), 2 * (1 - p) / n, atol=eps / n)
