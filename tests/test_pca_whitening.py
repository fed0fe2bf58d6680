"""PCA whitening: what is exactly true of it, and where it has no derivative. That its forms agree is tested for all layers in test_layers.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layers
import minigrad as mg
from layers.whitening.pca_whitening import gaps, principal_axes
from minigrad.check.relative import relative_error as relative

PCA, ZCA = (layers.REGISTRY[name] for name in ("pca_whitening", "decorrelated_batch_norm"))
FORMS = [PCA.composed, PCA.derived["one_line"]]
SEEDS, DIMENSIONS, EPS = st.integers(0, 999), st.integers(1, 5), st.sampled_from([0.0, 1e-5, 0.1])


def drawn(seed, m, d):
    """x (m, d) with eigenvalues that keep their distance, and a cotangent."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)) * 1.7 ** np.arange(d) @ np.linalg.qr(rng.normal(size=(d, d)))[0] + 3.0, rng.normal(size=(m, d))


def value_and_gradient(form, x, g, backend="numpy", **keywords):
    v = mg.tensor(x, requires_grad=True, backend=backend)
    y = form(v, **keywords)
    return y.numpy(), mg.grad(y, [v], mg.tensor(g, backend=backend))[0].numpy()


@pytest.mark.parametrize("form", FORMS)
@given(SEEDS, DIMENSIONS, EPS)
def test_channels_are_uncorrelated_and_ordered_by_variance(form, seed, d, eps):
    """cov y = Λ (Λ + ε)⁻¹, which is diagonal, ascending."""
    x, _ = drawn(seed, 12, d)
    cov, lam = np.cov(form(mg.tensor(x), eps=eps).numpy().T, bias=True).reshape(d, d), np.linalg.eigvalsh(np.cov(x.T, bias=True).reshape(d, d))
    assert relative(cov, np.diag(lam / (lam + eps))) < 1e-10


@pytest.mark.parametrize("form", FORMS)
@given(SEEDS, DIMENSIONS, EPS)
def test_turned_back_it_is_zca_with_its_gradient(form, seed, d, eps):
    """x̂ = D x̃. ZCA's gradient is that of PCA for the cotangent Dᵀĝ, and what goes through D itself: D's own cotangent is ĝ x̃ᵀ."""
    x, g = drawn(seed, 12, d)

    def turned(v, **keywords):
        xc = (v - mg.mean(v, 0, keepdims=True)).mT
        return (principal_axes(xc @ xc.mT / len(x), eps=eps)[1] @ form(v, **keywords).mT).mT
    for ours, zca in zip(value_and_gradient(turned, x, g, eps=eps), value_and_gradient(ZCA.form("derived"), x, g, eps=eps), strict=True):
        assert relative(ours, zca) < 1e-8


@pytest.mark.parametrize("form", FORMS)
@given(SEEDS, EPS)
def test_turning_the_data_changes_only_signs(form, seed, eps):
    """PCA(XQ) = PCA(X) S for orthogonal Q, with S of ±1: it forgets the channels, where ZCA keeps them."""
    x, _ = drawn(seed, 12, 3)
    q = np.linalg.qr(np.random.default_rng([seed, 2]).normal(size=(3, 3)))[0]
    y, turned = (form(mg.tensor(a), eps=eps).numpy() for a in (x, x @ q))
    assert relative(turned * np.sign((turned * y).sum(0)), y) < 1e-9


@pytest.mark.parametrize("form", FORMS)
@given(SEEDS, EPS)
def test_groups_of_one_are_batch_norm(form, seed, eps):
    x, g = drawn(seed, 12, 3)
    v = mg.tensor(x, requires_grad=True)
    y = layers.REGISTRY["batch_norm"].composed(v, mg.tensor(np.ones(3)), mg.tensor(np.zeros(3)), eps=eps)
    expected = y.numpy(), mg.grad(y, [v], mg.tensor(g))[0].numpy()
    assert all(relative(a, b) < 1e-11 for a, b in zip(value_and_gradient(form, x, g, eps=eps, group_size=1), expected, strict=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("channels", "size"), [(6, 3), (7, 3), (4, 9)])
def test_groups_are_whitened_each_on_its_own(form, channels, size, backend):
    x, g = drawn(1, 30, channels)
    whole = value_and_gradient(form, x, g, backend, eps=1e-3, group_size=size)
    parts = [value_and_gradient(form, x[:, i:i + size], g[:, i:i + size], backend, eps=1e-3) for i in range(0, channels, size)]
    for a, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert relative(a, np.concatenate(pieces, 1)) < 1e-10


def test_signs_follow_the_largest_component(backend):
    sigma = mg.tensor(np.cov(drawn(0, 12, 4)[0].T)[None] * np.array([1.0, 2.0])[:, None, None], backend=backend)
    lam, d = (a.numpy() for a in principal_axes(sigma, eps=0.0))
    assert (np.take_along_axis(d, np.abs(d).argmax(-2)[:, None], -2) > 0).all()
    assert relative(d * lam[:, None] @ d.swapaxes(-1, -2), sigma.numpy()) < 1e-13


# -- the hole -----------------------------------------------------------------------------------------------------------


def nearly_white(rng, gap):
    """(16, 2) with the eigenvalues 1 and 1 + gap exactly, up to rounding, in random directions."""
    q = np.linalg.qr(rng.normal(size=(16, 3)) * [0, 1, 1] + [1, 0, 0])[0][:, 1:]
    return 4 * q * np.sqrt([1, 1 + gap]) @ np.linalg.qr(rng.normal(size=(2, 2)))[0]


def test_the_gradient_grows_as_the_gap_closes(rng):
    """As 1/gap, for a cotangent that tells the axes apart; ZCA's does not grow."""
    sizes, g = {}, rng.normal(size=(16, 2))
    for form in (*FORMS, ZCA.form("derived")):
        batches = [nearly_white(np.random.default_rng(0), gap) for gap in (1e-3, 1e-5)]
        sizes[form] = [np.linalg.norm(value_and_gradient(form, x, g, eps=0.1)[1]) for x in batches]
    (a, b), (c, d), (e, f) = sizes.values()
    assert b / a == pytest.approx(100, rel=0.05) and d / c == pytest.approx(b / a, rel=1e-3) and f / e == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_at_equal_eigenvalues_the_output_is_white_and_the_gradient_nan(form, rng, backend):
    x = 1.0 - 2.0 * (rng.permutation(16)[:, None] >> np.arange(3)[None] & 1)          # orthogonal columns of ±1
    y, dx = value_and_gradient(form, x, rng.normal(size=x.shape), backend, eps=0.0)
    assert relative(y.T @ y / 16, np.eye(3)) < 1e-14 and np.isnan(dx).all()
    y, dx = value_and_gradient(form, np.ones((1, 3)), np.ones((1, 3)), backend, eps=1e-5)
    assert not y.any() and np.isnan(dx).all()


def test_gaps_are_those_of_eigh():
    """Where `eigh`'s own derivative gives up, this one does, too."""
    found = gaps(np.array([1.0, 2.0, 2.0 + 1e-15]))
    assert np.allclose(found, [[np.inf, -1, -1], [1, np.inf, np.nan], [1, np.nan, np.inf]], equal_nan=True)


@pytest.mark.parametrize("form", FORMS)
def test_wrong_arguments_are_explained(form):
    x = np.ones((4, 3))
    for keywords, words in (({"eps": -1.0}, "eps=-1"), ({"eps": 1e-5, "group_size": 0}, "group_size=0"),
                            ({"eps": 0.0}, "pca_whitening: got eps=0 and a singular")):
        with pytest.raises(ValueError, match=words):
            form(x, **keywords)
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        form(x[0], eps=1e-5)
