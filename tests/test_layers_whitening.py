"""Whitening layers: what is exactly true of them, what happens where eigenvalues meet, and what their Modules do.

That forms agree with each other and with central differences is tested for all layers in test_layers.py.
"""

import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layers
import layers.whitening.decorrelated_batch_norm as dbn
import minigrad as mg
from layers.whitening.channel_groups import stacks
from layers.whitening.degenerate_whitening import as_markdown, degenerate_comparison, reference
from layers.whitening.iter_norm import iterates
from layers.whitening.square_roots import eigenbasis, inverse_root, root_lyapunov, whitener
from minigrad.check.relative import relative_error as relative

ZCA, ITER, EVAL = (layers.REGISTRY[name] for name in ("decorrelated_batch_norm", "iter_norm", "whiten_eval"))
STABLE = ZCA.derived["stable"]
WHITENING = {"decorrelated_batch_norm": STABLE, "iter_norm": ITER.derived["one_line"]}


def value_and_gradient(form, x, g, backend="numpy", **keywords):
    v = mg.tensor(x, requires_grad=True, backend=backend)
    y = form(v, **keywords)
    return y.numpy(), mg.grad(y, [v], mg.tensor(g, backend=backend))[0].numpy()


def gradient(form, x, g, **keywords):
    return value_and_gradient(form, x, g, **keywords)[1]


def drawn(seed, *shape):
    """x and a cotangent, with spread eigenvalues and a mean that is not 0."""
    rng = np.random.default_rng(seed)
    mix = np.eye(shape[1]) + 0.5 * rng.normal(size=(shape[1], shape[1]))
    x = np.moveaxis(np.tensordot(mix, rng.normal(size=shape), (1, 1)), 0, 1) + 3.0
    return x, rng.normal(size=shape)


def signs(rng, m, d):
    """(m, d) with orthogonal columns of ±1: mean 0, and a covariance that is exactly the identity, in every float dtype."""
    return 1.0 - 2.0 * (rng.permutation(m)[:, None] >> rng.permutation(d)[None] & 1)


# -- groups -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [ZCA, ITER], ids=lambda layer: layer.name)
@pytest.mark.parametrize(("channels", "size"), [(6, 2), (6, 3), (7, 3), (5, 4), (4, 9), (3, 1)])
def test_groups_are_whitened_each_on_its_own(layer, channels, size, backend):
    """Grouped = concatenation of whitened groups, the last one perhaps smaller; never one pooled covariance."""
    x, g = drawn(0, 5, channels, 2, 3)
    for form in (layer.composed, *layer.derived.values()):
        y, dx = value_and_gradient(form, x, g, backend, eps=1e-3, group_size=size)
        parts = [value_and_gradient(form, x[:, i:i + size], g[:, i:i + size], backend, eps=1e-3) for i in range(0, channels, size)]
        for whole, pieces in zip((y, dx), zip(*parts, strict=True), strict=True):
            assert relative(whole, np.concatenate(pieces, 1)) < 1e-12


def test_on_numpy_the_groups_are_cut_into_stacks_that_fit_the_cache():
    """The same numbers from many small stacks as from one; each channel is in exactly one stack of whole groups."""
    x, g = drawn(1, 64, 48, 24, 4)
    cut = stacks("dbn", x, 4)
    assert len(cut) > 2 and [c for s in cut for c in range(s.start, s.stop)] == [*range(48)] and all((s.stop - s.start) % s.d == 0 for s in cut)
    for form in WHITENING.values():
        y, dx = value_and_gradient(form, x, g, eps=1e-5, group_size=4)
        parts = [value_and_gradient(form, x[:, i:i + 4], g[:, i:i + 4], eps=1e-5) for i in range(0, 48, 4)]
        assert relative(y, np.concatenate([p[0] for p in parts], 1)) < 1e-13 and relative(dx, np.concatenate([p[1] for p in parts], 1)) < 1e-12


@given(st.integers(0, 999), st.sampled_from([0.0, 1e-5, 0.1]))
def test_groups_of_one_are_batch_norm(seed, eps):
    x, g = drawn(seed, 7, 3, 2)
    v = mg.tensor(x, requires_grad=True)
    y = layers.REGISTRY["batch_norm"].composed(v, mg.tensor(np.ones(3)), mg.tensor(np.zeros(3)), eps=eps)
    dx = mg.grad(y, [v], mg.tensor(g))[0].numpy()
    for form in ZCA.derived.values():
        assert all(relative(a, b) < 1e-11 for a, b in zip(value_and_gradient(form, x, g, eps=eps, group_size=1), (y.numpy(), dx), strict=True))


# -- exact properties: invariants 4, 15 to 18 (docs/invariants.md) -----------------------------------------------------

SEEDS, DIMENSIONS, EPS = st.integers(0, 999), st.integers(1, 5), st.sampled_from([0.0, 1e-5, 0.1])


@pytest.mark.parametrize("form", WHITENING.values(), ids=WHITENING)
@given(SEEDS, DIMENSIONS, EPS)
def test_the_gradient_sums_to_zero_over_the_samples(form, seed, d, eps):
    x, g = drawn(seed, 9, d)
    dx = gradient(form, x, g, eps=eps)
    assert np.abs(dx.sum(0)).max() < 1e-11 * np.abs(dx).sum()


@given(SEEDS, DIMENSIONS, EPS)
def test_the_covariance_of_the_output(seed, d, eps):
    """cov x̂ = Σ (Σ + ε)⁻¹."""
    x, _ = drawn(seed, 9, d)
    y, sigma = STABLE(x, eps=eps), np.cov(x.T, bias=True).reshape(d, d)
    assert relative(np.cov(y.T, bias=True).reshape(d, d), sigma @ np.linalg.inv(sigma + eps * np.eye(d))) < 1e-11
    assert np.abs(y.mean(0)).max() < 1e-12


@given(SEEDS, DIMENSIONS, EPS)
def test_the_backward_is_self_adjoint(seed, d, eps):
    """⟨h, B g⟩ = ⟨B h, g⟩."""
    x, g = drawn(seed, 9, d)
    h = np.random.default_rng([seed, 1]).normal(size=x.shape)
    bg, bh = gradient(STABLE, x, g, eps=eps), gradient(STABLE, x, h, eps=eps)
    assert abs((h * bg).sum() - (bh * g).sum()) < 1e-11 * np.linalg.norm(h) * np.linalg.norm(bg)


@given(SEEDS, DIMENSIONS, EPS)
def test_turning_the_data_turns_everything(seed, d, eps):
    """ZCA(XQ) = ZCA(X) Q for orthogonal Q, and the same for gradients."""
    x, g = drawn(seed, 9, d)
    q = np.linalg.qr(np.random.default_rng([seed, 2]).normal(size=(d, d)))[0]
    for turned, plain in zip(value_and_gradient(STABLE, x @ q, g @ q, eps=eps), value_and_gradient(STABLE, x, g, eps=eps), strict=True):
        assert relative(turned, plain @ q) < 1e-10


@given(SEEDS, st.integers(1, 4))
def test_a_white_batch_has_batch_norms_formula(seed, d):
    """Σ = I, ε = 0: dx = g − mean g − x sym F, F = gᵀx/m."""
    rng = np.random.default_rng(seed)
    x, g = signs(rng, 16, d), rng.normal(size=(16, d))
    f = g.T @ x / 16
    assert relative(gradient(STABLE, x, g, eps=0.0), g - g.mean(0) - x @ (f + f.T) / 2) < 1e-14


@pytest.mark.parametrize(("m", "d"), [(8, 3), (6, 2), (5, 1), (7, 4)])
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_jacobian_is_symmetric_positive_semidefinite_and_of_known_rank(m, d, eps):
    """md − d − d(d+1)/2 for ε = 0: means and the covariance of the output are given; md − d for ε > 0."""
    x, _ = drawn(m, m, d)
    j = mg.jacobian(lambda v: STABLE(v, eps=eps), mg.tensor(x)).numpy().reshape(m * d, m * d)
    assert relative(j, j.T) < 1e-12
    eigenvalues = np.linalg.eigvalsh(j)
    assert eigenvalues.min() > -1e-12 * eigenvalues.max()
    assert (eigenvalues > 1e-9 * eigenvalues.max()).sum() == m * d - d - (d * (d + 1) // 2 if eps == 0 else 0)


# -- where eigenvalues meet ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def errors():
    rows = degenerate_comparison()
    return {(row.batch, row.dtype, row.method): row.error for row in rows}, rows


DEGENERATE = ["gap 1e-12", "white up to rounding", "exactly white", "exactly equal pairs"]


@pytest.mark.more
@pytest.mark.parametrize("method", ["stable", "composed"])
def test_without_eigenvectors_every_batch_is_as_good_as_any_other(errors, method):
    """float64 to 1e-12, float32 (of rounded data, against the exact gradient there) to 1e-5: both with much to spare."""
    found = {key: error for key, error in errors[0].items() if key[2] == method}
    assert len(found) == 14 and max(e for (_, dtype, _), e in found.items() if dtype == "float64") < 1e-12
    assert max(e for (_, dtype, _), e in found.items() if dtype == "float32") < 1e-6


@pytest.mark.more
@pytest.mark.parametrize("method", ["staged", "simplified", "composed through eigh"])
def test_forms_that_divide_by_gaps_fail_where_eigenvalues_meet(errors, method):
    """So that the table in the report is true: errors as eps/gap, more than 1e-3 on a white batch, NaN at exact ties."""
    error = {batch: errors[0][batch, "float64", method] for batch, _, _ in errors[0]}
    assert error["gap 0.1"] < 1e-14 < error["gap 0.0001"] < 1e-10 < error["gap 1e-08"] < 1e-6 < error["gap 1e-12"]
    assert not error["white up to rounding"] < 1e-3
    assert np.isnan(error["exactly white"]) and np.isnan(error["exactly equal pairs"])
    assert np.isnan(errors[0]["exactly white", "float32", method])


@pytest.mark.parametrize("name", ["staged", "simplified"])
def test_setting_the_gaps_aside_is_wrong_too(name, monkeypatch, rng):
    """K = 0 for equal eigenvalues gives a finite gradient, a wrong one."""
    gaps = dbn.one_over_gaps
    monkeypatch.setattr(dbn, "one_over_gaps", lambda lam: np.nan_to_num(gaps(lam)))
    x, g = signs(rng, 16, 4) * (1, 1, 2, 2), rng.normal(size=(16, 4))
    assert 1e-2 < relative(gradient(ZCA.derived[name], x, g, eps=1e-5), reference(x, g, 1e-5).astype(float)) < 1


@pytest.mark.more
def test_the_comparison_as_a_table(errors):
    text = as_markdown(errors[1])
    assert text.count("\n") == 1 + 14 and "| exactly white | float64 | NaN | NaN | NaN |" in text


def test_another_method_can_join_the_comparison():
    rows = degenerate_comparison(trials=1, more={"nothing": lambda x, g, eps: 0.0 * x})
    assert {row.error for row in rows if row.method == "nothing"} == {1.0}


def test_the_reference_is_exact_where_the_gradient_is_known(rng):
    """White batch, ε: W = 1/√(1+ε), T = sym F."""
    x, g, eps = signs(rng, 16, 3), rng.normal(size=(16, 3)), 0.3
    f = g.T @ x / 16 / (1 + eps) ** 0.5
    xhat = x / (1 + eps) ** 0.5
    assert relative(reference(x, g, eps).astype(float), (g - g.mean(0) - xhat @ (f + f.T) / 2) / (1 + eps) ** 0.5) < 1e-15


def test_pytorch_agrees_away_from_equal_eigenvalues():
    torch = pytest.importorskip("torch")
    x, g = drawn(3, 6, 5, 2, 2)

    def whiten(a):
        rows = a.transpose(0, 1).flatten(1)
        xc = rows - rows.mean(1, keepdim=True)
        lam, d = torch.linalg.eigh(xc @ xc.T / xc.shape[1])
        return (d @ ((d.T @ xc) / torch.sqrt(lam + 1e-5)[:, None])).reshape(a.shape[1], a.shape[0], *a.shape[2:]).transpose(0, 1)
    v = torch.tensor(x, requires_grad=True)
    y = torch.cat([whiten(v[:, :3]), whiten(v[:, 3:])], 1)
    (dx,) = torch.autograd.grad(y, v, torch.tensor(g))
    for form in (ZCA.composed, dbn.composed_through_eigh, *ZCA.derived.values()):
        ours = value_and_gradient(form, x, g, eps=1e-5, group_size=3)
        assert relative(ours[0], y.detach().numpy()) < 1e-12 and relative(ours[1], dx.numpy()) < 1e-11


def second_derivative(form, x, g, u, eps, dtype="float64"):
    """∂⟨u, dx⟩/∂x and ∂⟨u, dx⟩/∂g."""
    v, c = (mg.tensor(a.astype(dtype), requires_grad=True) for a in (x, g))
    (dx,) = mg.grad(form(v, eps=eps), [v], c, create_graph=True)
    return [d.numpy() for d in mg.grad(dx, [v, c], mg.tensor(u.astype(dtype)))]


EXACT_TIES = {"white": (1, 1, 1, 1), "equal pairs": (1, 2, 2, 1), "three equal": (1, 1, 1, 3)}


@pytest.mark.more
@pytest.mark.parametrize("scales", EXACT_TIES.values(), ids=EXACT_TIES)
@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_second_derivatives_at_exact_ties(scales, eps, rng):
    """Against sixth-order differences of the gradient, which is right to 1e-15 (test above), so to about 1e-12."""
    x, g, u = signs(rng, 16, 4) * scales, rng.normal(size=(16, 4)), rng.normal(size=(16, 4))
    dxx, dxg = second_derivative(STABLE, x, g, u, eps)
    assert relative(dxg, gradient(STABLE, x, u, eps=eps)) < 1e-14  # the backward is self-adjoint
    for _ in range(5):
        h, step = rng.normal(size=x.shape), 2.0**-8
        at = {k: (u * gradient(STABLE, x + k * step * h, g, eps=eps)).sum() for k in (-3, -2, -1, 1, 2, 3)}
        quotient = (45 * (at[1] - at[-1]) - 9 * (at[2] - at[-2]) + at[3] - at[-3]) / (60 * step)
        assert abs((dxx * h).sum() - quotient) < 1e-9 * np.linalg.norm(dxx) * np.linalg.norm(h)
    assert bool(mg.gradcheck(lambda v: STABLE(v, eps=eps), [mg.tensor(x)], order=2))
    for a, b in zip(second_derivative(STABLE, x, g, u, eps, "float32"), (dxx, dxg), strict=True):
        assert a.dtype == np.float32 and relative(a, b) < 1e-5
    for a, b in zip(second_derivative(ZCA.composed, x, g, u, eps), (dxx, dxg), strict=True):
        assert relative(a, b) < 1e-12
    assert not np.isfinite(second_derivative(dbn.composed_through_eigh, x, g, u, eps)[0]).any()


def test_the_products_behind_it_can_be_differentiated_again_and_again(rng):
    """Their own second derivatives, where eigenvalues are equal, are third and fourth derivatives of the layer."""
    sigma = mg.tensor(np.diag([1.0, 1.0, 2.0]))
    x, c = mg.tensor(rng.normal(size=(3, 4))), mg.tensor(rng.normal(size=(3, 3)))

    def root(s, x):
        s = 0.5 * (s + s.mT)
        return inverse_root(s, x, *eigenbasis(s, eps=0.1))

    def lyapunov(s, c):
        s = 0.5 * (s + s.mT)
        return root_lyapunov(s, c, *eigenbasis(s, eps=0.1))
    report = mg.gradcheck(root, [sigma, x], order=2), mg.gradcheck(lyapunov, [sigma, c], order=2)
    assert all(report), report
    s, w = sigma.numpy() + 0.1 * np.eye(3), whitener(*eigenbasis(sigma.numpy(), eps=0.1))
    assert relative(w @ s @ w, np.eye(3)) < 1e-15
    assert relative(root(sigma, x).numpy(), w @ x.numpy()) < 1e-15
    t = lyapunov(sigma, c).numpy()
    assert relative(s @ w @ t + t @ s @ w, c.numpy()) < 1e-14


# -- more channels than samples, large means, ε = 0 ---------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.parametrize(("m", "d"), [(4, 6), (10, 12)])
@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-7])
def test_more_channels_than_samples(m, d, eps):
    """Rank-deficient covariance: the gradient is the small difference of terms of size 1/√ε. float32 inputs lose nothing."""
    x, g = drawn(m, m, d)
    bounds = {"float32": 1e-6, "float64": 1e-12 * (1e-5 / eps) ** 0.5 * 100}  # rounding enters with √(λ_max/ε)
    for dtype, bound in bounds.items():
        x_, g_ = x.astype(dtype), g.astype(dtype)
        exact = reference(x_.astype("float64"), g_.astype("float64"), eps).astype(float)
        assert relative(gradient(STABLE, x_, g_, eps=eps), exact) < bound


def test_the_textbook_product_in_float32_loses_what_this_form_keeps():
    """X_c W and a gradient from it, in float32 after a float64 eigendecomposition: rank-deficient batches lose most."""
    x, g = (a.astype("float32") for a in drawn(0, 10, 12))
    exact = reference(x.astype("float64"), g.astype("float64"), 1e-7).astype(float)
    xc = x - x.mean(0)
    lam, d = np.linalg.eigh(xc.T.astype(float) @ xc / 10)
    r = np.sqrt(np.maximum(lam, 0) + 1e-7)
    w = (d / r @ d.T).astype("float32")
    h = g.T.astype(float) @ xc / 10
    t = (d @ ((d.T @ (h + h.T) @ d) / (r[:, None] + r)) @ d.T).astype("float32")
    textbook = (g - g.mean(0) - xc @ w @ t) @ w
    assert relative(textbook, exact) > 1e-3 > 1e-6 > relative(gradient(STABLE, x, g, eps=1e-7), exact)


def test_float32_data_with_a_large_mean():
    x, g = (a.astype("float32") for a in drawn(5, 64, 4))
    x += np.float32(1e4)
    exact = reference(x.astype("float64"), g.astype("float64"), 1e-5).astype(float)
    assert relative(gradient(STABLE, x, g, eps=1e-5), exact) < 1e-6


def test_a_scale_at_which_eps_is_below_the_rounding_of_the_covariance():
    """Eigenvalues that rounding has made negative are taken for 0: huge inputs whiten, where A^(−1/2) of Σ + εI would be NaN."""
    x, g = drawn(6, 5, 8)
    y, dx = value_and_gradient(STABLE, 1e8 * x, g, eps=1e-5)
    assert np.isfinite(y).all() and np.isfinite(dx).all()


SINGULAR = {"fewer samples": np.random.default_rng(0).normal(size=(4, 4)), "constant channel": np.random.default_rng(1).normal(size=(9, 3)) * (1, 0, 1),
            "dependent channels": np.random.default_rng(2).normal(size=(9, 2)) @ np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]])}


@pytest.mark.parametrize("x", SINGULAR.values(), ids=SINGULAR)
def test_eps_0_with_a_singular_covariance_is_an_error_on_the_host_and_nan_on_a_gpu(x, backend):
    for form in (ZCA.composed, dbn.composed_through_eigh, *ZCA.derived.values()):
        v = mg.tensor(x, backend=backend)
        if backend == "numpy":
            with pytest.raises(ValueError, match="singular covariance"):
                form(v, eps=0.0)
        else:
            assert np.isnan(form(v, eps=0.0).numpy()).all()


def test_wrong_arguments_are_explained():
    x = np.ones((4, 3))
    for form in (*ZCA.derived.values(), ZCA.composed, ITER.composed, ITER.derived["one_line"]):
        with pytest.raises(ValueError, match="eps=-1"):
            form(x, eps=-1.0)
        with pytest.raises(ValueError, match="group_size=0"):
            form(x, eps=1e-5, group_size=0)
        for wrong in (x[0], x[:, :0]):
            with pytest.raises(ValueError, match=r"\(N, C\)"):
                form(wrong, eps=1e-5)
    for form in (ITER.composed, ITER.derived["one_line"]):
        with pytest.raises(ValueError, match="constant channels and eps=0"):
            form(x, eps=0.0)
        with pytest.raises(ValueError, match="iterations=0"):
            form(x, eps=1e-5, iterations=0)
    with pytest.raises(ValueError, match="G·d = C"):
        EVAL.composed(x, mean=np.zeros(3), projection=np.ones((2, 2)))


def test_one_sample_whitens_to_zero():
    for form in WHITENING.values():
        y, dx = value_and_gradient(form, np.ones((1, 3)), np.ones((1, 3)), eps=1e-5)
        assert not y.any() and not dx.any()


# -- what is kept -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "small"), [("decorrelated_batch_norm", 2 * 36 + 2 * 6), ("pca_whitening", 2 * 36 + 2 * 6), ("iter_norm", 12 * 36 + 6 + 1)])
def test_derived_keeps_x_and_small_matrices_only(name, small):
    """small: μ, Σ, D, λ; μ, Σ, tr A and the iterates. Composed keeps at least twice x in float64."""
    layer = layers.REGISTRY[name]
    x = mg.tensor(np.random.default_rng(0).normal(size=(20, 6, 4, 4)).astype("float32"), requires_grad=True)
    z = x * 1.0
    kept = mg.tape(layer.derived[layer.default](z, eps=1e-5)).kept_bytes
    assert kept == z.nbytes + 8 * small
    assert mg.tape(layer.composed(z, eps=1e-5)).kept_bytes > 2 * z.nbytes


def test_evaluation_keeps_nothing_of_x():
    x = mg.tensor(np.ones((20, 6)), requires_grad=True) * 1.0
    assert mg.tape(EVAL.derived["one_line"](x, mean=np.zeros(6), projection=np.eye(6))).kept_bytes == 36 * 8


@pytest.mark.parametrize("size", [None, 2])
def test_a_training_step_never_waits_for_the_device(fake_device, size):
    v = mg.tensor(np.random.default_rng(0).normal(size=(8, 5)), requires_grad=True, backend="fake")
    g = mg.tensor(np.random.default_rng(1).normal(size=(8, 5)), backend="fake")
    with mg.use("fake"):
        modules = [cls(5, size, dtype="float64") for cls in MODULES]
    with fake_device.no_sync():
        for module in modules:
            module(v).backward(g)
            module.eval()(v).backward(g)


# -- IterNorm -----------------------------------------------------------------------------------------------------------


def test_iter_norm_becomes_zca_with_more_steps():
    x, g = drawn(7, 40, 4)
    zca = value_and_gradient(STABLE, x, g, eps=1e-3)
    errors = [max(map(relative, value_and_gradient(ITER.derived["one_line"], x, g, eps=1e-3, iterations=n), zca)) for n in (1, 3, 5, 7, 10)]
    assert all(b < 0.8 * a for a, b in pairwise(errors)) and errors[-1] < 1e-12


def test_the_coupled_iteration_is_the_printed_one_and_survives_float32():
    """P ← ½(3P − P³Σ_N) in float32 is useless after fifteen steps; the coupled one is as good as after five."""
    x = np.random.default_rng(0).normal(size=(32, 64))
    sigma = np.cov(x, bias=True)

    def printed(steps, dtype):
        n = ((sigma + 1e-5 * np.eye(32)) / np.trace(sigma + 1e-5 * np.eye(32))).astype(dtype)
        p = np.eye(32, dtype=dtype)
        for _ in range(steps):
            p = (3 * p - p @ p @ p @ n) / 2
        return p.astype(float)
    for steps in (1, 3, 5, 7):
        assert relative(iterates(sigma, 1e-5, steps)[-1], printed(steps, "float64")) < 1e-14
    assert relative(printed(5, "float32"), iterates(sigma, 1e-5, 5)[-1]) < 1e-6
    assert relative(printed(15, "float32"), iterates(sigma, 1e-5, 15)[-1]) > 1e-3
    y, n = sigma.astype("float32"), np.eye(32, dtype="float32")
    y = (y + np.float32(1e-5) * n) / np.trace(y + np.float32(1e-5) * n)
    z = n
    for _ in range(15):
        step = (3 * n - z @ y) / 2
        y, z = y @ step, step @ z
    assert relative(z.astype(float), iterates(sigma, 1e-5, 15)[-1]) < 1e-5


# -- Modules ------------------------------------------------------------------------------------------------------------

MODULES = [layers.DecorrelatedBatchNorm1d, layers.PCAWhitening1d, layers.IterNorm1d]


def batch(seed, m, d):
    return mg.tensor(np.random.default_rng(seed).normal(size=(m, d)))


@pytest.mark.more
@pytest.mark.parametrize(("d", "m", "batches", "expected"), [(8, 16, 2000, 1.42), (16, 64, 1000, 1.13), (16, 4096, 100, 1.00)])
def test_averaged_projections_inflate_the_output_and_averaged_covariances_do_not(d, m, batches, expected):
    """The root mean square of the output in evaluation, for white data: the numbers of `Whitening`'s docstring, to 0.015."""
    projection, covariance = (layers.DecorrelatedBatchNorm1d(d, momentum=None, inference=mode, dtype="float64") for mode in ("projection", "covariance"))
    with mg.no_grad():
        for seed in range(batches):
            x = batch(seed, m, d)
            projection(x), covariance(x)
        white = batch([1, 2], 20000, d)
        scale = [float(np.sqrt(np.mean(np.square(f.eval()(white).numpy())))) for f in (projection, covariance)]
    assert scale[0] == pytest.approx(expected, abs=0.015) and scale[1] == pytest.approx(1.0, abs=0.015)


@pytest.mark.parametrize("cls", MODULES)
@pytest.mark.parametrize("inference", ["covariance", "projection"])
@pytest.mark.parametrize("size", [None, 2, 3])
def test_evaluation_uses_what_was_averaged(cls, inference, size, backend):
    """After one batch with momentum 1: its mean, and the projection of its unbiased covariance, or its own projection."""
    x = np.random.default_rng(0).normal(size=(12, 5)) @ np.random.default_rng(1).normal(size=(5, 5)) + 2
    module = cls(5, size, momentum=1.0, inference=inference, dtype="float64").to(backend)
    trained = module(mg.tensor(x, backend=backend)).numpy()
    y = module.eval()(mg.tensor(x, backend=backend)).numpy()
    if inference == "projection":
        assert relative(y, trained) < 1e-12
    else:  # the covariance is larger by m/(m − 1)
        plain = layers.REGISTRY[cls.layer].form("derived")(x, eps=1e-5 * 11 / 12, group_size=size)
        assert relative(y, plain * (11 / 12) ** 0.5) < 1e-12


@pytest.mark.parametrize("cls", MODULES)
def test_running_statistics_are_weighted_averages(cls):
    module = cls(3, 2, momentum=0.25, dtype="float64")
    x, y = batch(0, 10, 3), batch(1, 10, 3)
    module(x), module(y)
    mean = 0.75 * 0.25 * x.numpy().mean(0) + 0.25 * y.numpy().mean(0)
    cov = 0.75 * (0.75 * np.eye(3) + 0.25 * np.cov(x.numpy().T)) + 0.25 * np.cov(y.numpy().T)
    assert relative(module.running_mean.numpy(), mean) < 1e-14
    assert relative(module.running_covariance.numpy(), np.array([cov[0, :2], cov[1, :2], [cov[2, 2], 0]])) < 1e-14
    assert module.num_batches_tracked.item() == 2
    with mg.no_grad():
        module.eval()(x)
    mg.gradcheck(module.train(), [x])
    assert module.num_batches_tracked.item() == 2


@pytest.mark.parametrize("cls", MODULES)
def test_every_form_tracks_the_same_statistics(cls):
    x = batch(0, 10, 5)
    states = []
    for form in ("composed", "derived", *layers.REGISTRY[cls.layer].derived):
        module = cls(5, 2, form=form)
        y = module(x.astype("float32")).numpy()
        states.append([y, *(v.numpy() for v in module.state_dict().values()), module.eval()(x.astype("float32")).numpy()])
    assert all(relative(a, b) < 1e-6 for other in states[1:] for a, b in zip(other, states[0], strict=True))


def test_the_projection_is_computed_again_after_a_write_and_only_then():
    module, x = layers.DecorrelatedBatchNorm1d(3, dtype="float64"), batch(0, 10, 3)
    module.eval()(x)
    first = module._running_projection()
    assert module._running_projection() is first
    other = layers.DecorrelatedBatchNorm1d(3, dtype="float64")
    other(x)
    module.load_state_dict(other.state_dict())
    assert relative(module(x).numpy(), other.eval()(x).numpy()) == 0.0
    copied = copy.deepcopy(module)
    module.train()(batch(1, 10, 3))
    assert relative(module.eval()(x).numpy(), other(x).numpy()) > 1e-3
    assert relative(copied(x).numpy(), other(x).numpy()) == 0.0
    module.running_covariance.data[0, 0] += 1.0
    assert relative(module(x).numpy(), copied(x).numpy()) > 1e-3
    assert module.astype("float32")(x.astype("float32")).dtype == np.float32


@pytest.mark.parametrize("cls", MODULES)
def test_the_affine_map_comes_last_and_is_learned(cls):
    module, plain, x = cls(4, affine=True, dtype="float64"), cls(4, dtype="float64"), batch(0, 10, 4)
    assert [name for name, _ in module.named_parameters()] == ["weight", "bias"] and not list(plain.parameters())
    module.weight.data, module.bias.data = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, -1.0])
    assert relative(module(x).numpy(), plain(x).numpy() * module.weight.numpy() + module.bias.numpy()) < 1e-15
    module(x).backward(batch(1, 10, 4))
    assert module.weight.grad.shape == module.bias.grad.shape == (4,)


def test_modules_say_what_they_need():
    with pytest.raises(ValueError, match="axes and 4 channels"):
        layers.DecorrelatedBatchNorm2d(4)(batch(0, 10, 4))
    with pytest.raises(ValueError, match="more than 1 sample"):
        layers.DecorrelatedBatchNorm1d(4)(batch(0, 1, 4))
    with pytest.raises(ValueError, match="'covariance' or 'projection'"):
        layers.IterNorm2d(4, inference="both")
    with pytest.raises(ValueError, match="group_size=0"):
        layers.IterNorm2d(4, 0)
    with pytest.raises(ValueError, match="form='one'"):
        layers.DBN(4, form="one")
    with pytest.raises(mg.BackendError, match="numpy module"):
        layers.DBN(4)(mg.tensor(np.ones((3, 4)), backend="fake"))
    with layers.use_form("composed"):
        assert layers.IterNorm2d(4).form == "composed"
    assert layers.DBN2d is layers.DecorrelatedBatchNorm2d
    assert "group_size=2" in repr(layers.DBN2d(4, 2)) and "iterations=7" in repr(layers.IterNorm2d(4, iterations=7))
    untracked = layers.DBN(4, track_running_stats=False, dtype="float64").eval()
    assert not untracked.state_dict() and relative(untracked(batch(0, 10, 4)).numpy(), STABLE(batch(0, 10, 4), eps=1e-5).numpy()) == 0.0
