"""The blocked NumPy kernels behind every normalizer, against the formulas in float64: all ways to broadcast, to lie in memory, to split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.kernels import normalize, threads
from minigrad.kernels.normalize import Coefficients

LAYOUTS = {
    "C order": lambda a: a,
    "Fortran order": np.asfortranarray,
    "every second element": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "last axis first": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -1, 0)), 0, -1),
    "read-only": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
}


@pytest.fixture(params=[(1, 1 << 19), (1, 1), (3, 256), None], ids=["one block", "a block for each row", "three threads", "small"])
def split(request, monkeypatch):
    """One block, or many, or many in several threads: small arrays then take the way of large ones; and their own way."""
    if request.param is None:
        return
    count, size = request.param
    threads.num_threads()
    monkeypatch.setattr(threads, "_threads", count)
    monkeypatch.setattr(normalize, "_SMALL_BYTES", 0)
    monkeypatch.setattr(normalize, "_BLOCK_BYTES", size)
    monkeypatch.setattr(normalize, "_THREAD_BYTES", 1)
    monkeypatch.setattr(normalize, "_LONG", 4)


@st.composite
def problems(draw):
    """(generator, shape, axes, layouts of g and x, shapes of small arrays or None)."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
    axes = draw(st.sets(st.integers(0, len(shape) - 1)).map(lambda s: tuple(sorted(s))))
    def small():
        if draw(st.integers(0, 4)) == 0:
            return None
        full = tuple(draw(st.sampled_from([1, n])) for n in shape)
        return full[draw(st.integers(0, len(shape))) if draw(st.booleans()) else 0:]  # also with fewer axes
    layouts = [draw(st.sampled_from(sorted(LAYOUTS))) for _ in "gx"]
    return np.random.default_rng(draw(st.integers(0, 2**32))), shape, axes, layouts, [small() for _ in range(5)]


def large(rng, shape, layout):
    a = LAYOUTS[layout](rng.normal(size=shape).astype("float32"))
    assert a.shape == shape
    return a


def exact(a, default):
    return np.float64(default) if a is None else a.astype("float64")


def close(found, expected, size, terms):
    """Each of `terms` terms, the sum of whose absolute values is `size`, is rounded a few times."""
    assert found.shape == expected.shape and found.dtype == np.float32
    assert (np.abs(found - expected) <= np.finfo("float32").eps * (4 + terms**0.5) * size + 1e-30).all()


@pytest.mark.more
@given(problem=problems())
def test_moments_are_those_of_the_formula(problem, split):
    rng, shape, axes, (layout, _), _ = problem
    x = large(rng, shape, layout) + np.float32(3)
    mean, var = normalize.moments(np, x, axes)
    m, v = x.astype("float64").mean(axes, keepdims=True), x.astype("float64").var(axes, keepdims=True)
    terms = x.size / m.size
    close(mean, m, np.abs(x).mean(axes, keepdims=True), terms)
    close(var, v, v + 1e-5 * np.abs(m), terms)  # the rounding of a mean near 3 moves every x − mean


@pytest.mark.more
@given(problem=problems())
def test_paired_sums_are_those_of_the_formula(problem, split):
    rng, shape, axes, layouts, smalls = problem
    g, x = (large(rng, shape, layout) for layout in layouts)
    mu, w, r = (None if s is None else rng.normal(size=s).astype("float32") for s in smalls[:3])
    found = normalize.paired_sums(np, g, x, mu, w, r, axes)
    h, t = g * exact(w, 1), (x - exact(mu, 0)) * exact(r, 1)
    size = np.abs(h) * (np.abs(x) + np.abs(exact(mu, 0))) * np.abs(exact(r, 1))
    for a, terms, sizes in zip(found, (h, h * t), (np.abs(h), size), strict=True):
        close(a, terms.sum(axes, keepdims=True), sizes.sum(axes, keepdims=True), 1 + terms.size / max(a.size, 1))


@given(problem=problems(), with_g=st.booleans())
def test_combine_is_the_formula(problem, with_g, split):
    rng, shape, _, layouts, smalls = problem
    g, x = (large(rng, shape, layout) for layout in layouts)
    mu, w, c, a, b = (None if s is None else rng.normal(size=s).astype("float32") for s in smalls)
    a, b = (np.full((1,) * len(shape), 1.5, "float32") if s is None else s for s in (a, b))
    found = normalize.combine(np, g if with_g else None, x, Coefficients(b, mu, c, a if with_g else None, w))
    first = exact(a, 1) * exact(w, 1) * g if with_g else 0 * x.astype("float64")
    second = exact(b, 1) * (x - exact(mu, 0)) * (1 if with_g else exact(w, 1))
    size = np.abs(first) + np.abs(exact(b, 1)) * (np.abs(x) + np.abs(exact(mu, 0))) * (1 if with_g else np.abs(exact(w, 1))) + np.abs(exact(c, 0))
    close(found, first + second + exact(c, 0), size, 1)


@pytest.mark.parametrize("shape, axes", [((0, 3), (1,)), ((0, 3), (0,)), ((2, 0, 4), (2,)), ((0, 2, 3, 3), (2, 3))])
def test_empty_arrays_give_empty_results_and_sums_of_nothing(shape, axes):
    x = np.ones(shape, "float32")
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    one = np.ones((1,) * len(shape), "float32")
    for total in normalize.paired_sums(np, x, x, one, None, one, axes):
        assert total.shape == kept and not total.any()
    assert normalize.combine(np, x, x, Coefficients(one, one, a=one)).shape == shape


def test_large_means_cost_no_digits_of_the_variance(rng):
    for shape, axes in (((64, 8, 16, 16), (0, 2, 3)), ((64, 2048), (1,)), ((100000, 3), (0,)), ((3, 70000), (1,))):
        x = rng.normal(1e4, 1, shape).astype("float32")
        mean, var = normalize.moments(np, x, axes)
        exactly = x.astype("float64")
        assert np.abs(mean / exactly.mean(axes, keepdims=True) - 1).max() <= 1.5 * np.finfo("float32").eps
        assert np.abs(var / exactly.var(axes, keepdims=True) - 1).max() <= 2e-5


@pytest.mark.parametrize("mean", [0.0, 1.0, 1.7, 1.8, 3.9, 4.1, 8.0])
def test_near_where_the_way_to_compute_changes_nothing_is_lost(mean, rng):
    x = (rng.normal(size=(64, 5, 8, 8)) + mean).astype("float32")
    axes, eps = (0, 2, 3), np.finfo("float32").eps
    mu, var = normalize.moments(np, x, axes)
    np.testing.assert_allclose(var, x.astype("float64").var(axes, keepdims=True), rtol=16 * eps)  # sums of 64 rows of 64 products
    g = rng.normal(size=x.shape).astype("float32")
    _, products = normalize.paired_sums(np, g, x, mu, None, None, axes)
    terms = g * (x - mu.astype("float64"))
    np.testing.assert_allclose(products, terms.sum(axes, keepdims=True), rtol=0, atol=16 * eps * np.abs(terms).sum() / 5)


def test_a_misleading_sample_of_x_costs_few_digits(rng):
    x = np.full((64, 3, 16, 16), 100, "float32") + rng.normal(size=(64, 3, 16, 16)).astype("float32")
    x[::2] -= 50 * rng.normal(size=x[::2].shape).astype("float32")  # every second row deviates by more than the mean
    x[1::2] -= 0.5
    g = rng.normal(size=x.shape).astype("float32") * (np.abs(x - 100) < 5)
    mu = x.mean((0, 2, 3), keepdims=True)
    _, products = normalize.paired_sums(np, g, x, mu, None, None, (0, 2, 3))
    terms = g * (x - mu.astype("float64"))
    scale = np.sqrt((g.astype("float64") ** 2).sum() * ((x - mu.astype("float64")) ** 2).sum()) / 3
    assert (np.abs(products - terms.sum((0, 2, 3), keepdims=True)) <= 16 * np.finfo("float32").eps * scale).all()


@pytest.mark.parametrize("a, b, c", [(1, 0, 1), (0, 1, 1), (1e-30, 1, 1), (1, 1e-30, 1e10), (1, 1e-30, 0), (0, 0, 0), (1, -2, 1e4)])
def test_combine_has_no_coefficient_that_it_divides_by_in_vain(a, b, c, rng):
    g, x = rng.normal(size=(2, 8, 3, 4, 4)).astype("float32")
    mu = np.float32([0.2, -0.1, 0.0]).reshape(1, 3, 1, 1)
    a, b, c = (np.float32([k, 1, 0.5]).reshape(1, 3, 1, 1) for k in (a, b, c))
    for with_g in (True, False):
        found = normalize.combine(np, g if with_g else None, x, Coefficients(b, mu, c, a))
        terms = [a * g.astype("float64") * with_g, b * (x - mu.astype("float64")), c.astype("float64")]
        size = sum(np.abs(t) for t in terms) + np.abs(b * mu)
        assert (np.abs(found - sum(terms)) <= 4 * np.finfo("float32").eps * size).all()  # at most four roundings of each term


@pytest.mark.parametrize(("shape", "axes"), [((50000, 3), (0,)), ((512, 16), (0,)), ((4, 65536), (1,)), ((3, 70000), (1,)), ((256, 4, 8, 8), (0, 2, 3))])
def test_the_variance_of_a_constant_is_not_negative_and_below_its_rounding(shape, axes, rng):
    for constant in rng.uniform(0.1, 10, 10).astype("float32"):
        mean, var = normalize.moments(np, np.full(shape, constant), axes)
        assert np.abs(mean / constant - 1).max() <= 2 * np.finfo("float32").eps
        assert var.min() >= 0 and np.sqrt(var.max()) <= 4 * np.finfo("float32").eps * constant


def test_the_arguments_and_numpys_buffer_size_are_left_alone(rng):
    before = np.getbufsize()
    g, x = rng.normal(size=(2, 600, 1024)).astype("float32")
    mu, var = normalize.moments(np, x, (1,))
    copies = [a.copy() for a in (g, x, mu, var)]
    for axes in ((0,), (1,)):
        normalize.paired_sums(np, g, x, None, None, None, axes)
        normalize.paired_sums(np, g, x, mu, var, mu[:1], axes)
    normalize.combine(np, g, x, Coefficients(var, mu, mu, var, var))
    normalize.combine(np, None, x, Coefficients(var))
    assert all(np.array_equal(a, b) for a, b in zip((g, x, mu, var), copies, strict=True))
    assert np.getbufsize() == before
