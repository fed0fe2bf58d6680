"""Linear algebra: values against NumPy, both orders of derivative against central differences, and the hard matrices."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from helpers import relative_error, to_host
from minigrad import backend as backends
from minigrad.ops import linalg

# -- cases: every op with inputs that it accepts ------------------------------------------------------------------------


def normal(*shapes):
    return lambda rng: [rng.standard_normal(s) for s in shapes]


def spd(*shape):
    """One symmetric positive definite matrix (a stack of them), with eigenvalues evenly spread over [0.5, 3]."""
    def prepare(rng):
        q = np.linalg.qr(rng.standard_normal(shape))[0]
        return [(q * np.linspace(0.5, 3.0, shape[-1])) @ q.swapaxes(-1, -2)]
    return prepare


def well(*shape):
    """One invertible matrix (a stack of them): singular values in [0.5, 3], and not symmetric."""
    def prepare(rng):
        u, v = (np.linalg.qr(rng.standard_normal(shape))[0] for _ in range(2))
        return [(u * np.linspace(0.5, 3.0, shape[-1])) @ v]
    return prepare


def both(first, second):
    return lambda rng: first(rng) + second(rng)


def eigen_function(a):
    """A smooth function of both outputs of eigh that does not depend on the signs of the eigenvectors."""
    w, v = mg.eigh(a)
    return v[..., :1, :] * v * mg.expand_dims(mg.sin(w), -2)


CASES = {
    "matmul": (mg.matmul, normal((3, 4), (4, 2))),
    "matmul vectors": (mg.matmul, normal((4,), (4,))),
    "matmul matrix vector": (mg.matmul, normal((3, 4), (4,))),
    "matmul vector matrix": (mg.matmul, normal((4,), (4, 3))),
    "matmul batch matrix": (mg.matmul, normal((2, 3, 4), (4, 2))),
    "matmul batch vector": (mg.matmul, normal((2, 3, 4), (4,))),
    "matmul vector batch": (mg.matmul, normal((4,), (2, 4, 3))),
    "matmul matrix batch": (mg.matmul, normal((3, 4), (2, 4, 2))),
    "matmul batch batch": (mg.matmul, normal((2, 1, 2, 3), (3, 3, 2))),
    "matmul transposed": (lambda a, b: mg.matmul(mg.swapaxes(a, -1, -2), mg.swapaxes(b, 0, 1)), normal((2, 4, 3), (2, 4))),
    "outer": (mg.outer, normal((3,), (4,))),
    "outer of matrices": (mg.outer, normal((2, 2), (3, 1))),
    "einsum product": (lambda a, b: mg.einsum("ij,kj->ik", a, b), normal((3, 4), (2, 4))),
    "einsum elementwise": (lambda a, b: mg.einsum("ij,ij->ij", a, b), normal((3, 4), (3, 4))),
    "einsum batch": (lambda a, b: mg.einsum("bij,bjk->bki", a, b), normal((2, 3, 4), (2, 4, 2))),
    "einsum rows": (lambda a, b: mg.einsum("ij,ij->i", a, b), normal((3, 4), (3, 4))),
    "einsum summed out": (lambda a, b: mg.einsum("ij,kl->lj", a, b), normal((3, 2), (2, 4))),
    "einsum diagonal": (lambda a: mg.einsum("iji->j", a), normal((3, 4, 3))),
    "einsum diagonals": (lambda a, b: mg.einsum("iij,jk->ik", a, b), normal((3, 3, 2), (2, 2))),
    "einsum ellipsis": (lambda a, b: mg.einsum("...ij,jk...->k...i", a, b), normal((2, 1, 3, 2), (2, 3, 4))),
    "einsum three": (lambda a, b, c: mg.einsum("ij,jk,ki->k", a, b, c), normal((2, 3), (3, 4), (4, 2))),
    "einsum implicit": (lambda a, b: mg.einsum("ba,bc", a, b), normal((2, 3), (2, 4))),
    "norm": (mg.norm, normal((3, 4))),
    "norm axis": (lambda a: mg.norm(a, axis=-1), normal((2, 3, 4))),
    "norm frobenius": (lambda a: mg.norm(a, "fro", axis=(0, -1), keepdims=True), normal((2, 3, 4))),
    "diagonal": (mg.diagonal, normal((3, 4))),
    "diagonal below": (lambda a: mg.diagonal(a, -1, -2, 0), normal((3, 2, 4))),
    "diagonal above": (lambda a: mg.diagonal(a, 2, 0, 2), normal((3, 2, 4))),
    "trace": (mg.trace, normal((3, 3))),
    "trace batch": (lambda a: mg.trace(a, 1, -2, -1), normal((2, 3, 4))),
    "tril": (mg.tril, normal((3, 4))),
    "tril below": (lambda a: mg.tril(a, -1), normal((2, 3, 3))),
    "triu": (mg.triu, normal((2, 3, 4))),
    "triu above": (lambda a: mg.triu(a, k=1), normal((3, 3))),
    "inv": (mg.inv, well(3, 3)),
    "inv batch": (mg.inv, well(2, 3, 3)),
    "solve vector": (mg.solve, both(well(3, 3), normal((3,)))),
    "solve matrix": (mg.solve, both(well(3, 3), normal((3, 2)))),
    "solve batch": (mg.solve, both(well(2, 3, 3), normal((2, 3, 3)))),
    "solve broadcast": (mg.solve, both(well(3, 3), normal((2, 3, 2)))),
    "solve batch vector": (mg.solve, both(well(2, 3, 3), normal((3,)))),
    "det": (mg.det, well(3, 3)),
    "det batch": (mg.det, well(2, 4, 4)),
    "det of one number": (mg.det, normal((1, 1))),
    "cholesky": (mg.cholesky, spd(4, 4)),
    "cholesky batch": (mg.cholesky, spd(2, 3, 3)),
    "eigh": (eigen_function, spd(4, 4)),
    "eigh batch": (eigen_function, spd(2, 3, 3)),
    "eigvalsh": (mg.eigvalsh, spd(2, 4, 4)),
    "inv_sqrtm": (mg.inv_sqrtm, spd(4, 4)),
    "inv_sqrtm batch": (mg.inv_sqrtm, spd(2, 3, 3)),
    "lyapunov": (mg.lyapunov, both(spd(3, 3), normal((3, 3)))),
    "lyapunov broadcast": (mg.lyapunov, both(spd(3, 3), normal((2, 3, 3)))),
}
each_case = pytest.mark.parametrize("case", CASES)


def variables(arrays, backend, dtype=np.float64):
    return [mg.tensor(a.astype(dtype), requires_grad=True, backend=backend) for a in arrays]


def gradients(f, arrays, cotangent, backend, dtype=np.float64):
    xs = variables(arrays, backend, dtype)
    return mg.grad(f(*xs), xs, mg.tensor(cotangent.astype(dtype), backend=backend))


def central_differences(phi, arrays, h=1e-5):
    """Gradient of the number `phi(arrays)`: truncation h²|phi'''| and rounding 1e-16/h are both ~1e-10 here."""
    out = []
    for i, a in enumerate(arrays):
        d = np.empty_like(a)
        for at in np.ndindex(a.shape):
            ends = []
            for step in (h, -h):
                moved = [b.copy() for b in arrays]
                moved[i][at] += step
                ends.append(phi(moved))
            d[at] = (ends[0] - ends[1]) / (2 * h)
        out.append(d)
    return out


def check_first_order(f, arrays, backend, rng, tolerance=1e-8):
    constants = [mg.tensor(a, backend=backend) for a in arrays]
    c = rng.standard_normal(f(*constants).shape)
    def phi(moved):
        return float((to_host(f(*[mg.tensor(a, backend=backend) for a in moved])) * c).sum())
    for got, wanted in zip(gradients(f, arrays, c, backend), central_differences(phi, arrays), strict=True):
        assert relative_error(got, wanted) < tolerance


def check_second_order(f, arrays, backend, rng, tolerance=1e-7):
    """The gradient of Σ d·(vᵀJ), also with respect to the cotangent v, against differences of first-order gradients."""
    n = len(arrays)
    v = rng.standard_normal(f(*[mg.tensor(a, backend=backend) for a in arrays]).shape)
    ds = [rng.standard_normal(a.shape) for a in arrays]
    def phi(moved):
        return float(sum((to_host(g) * d).sum() for g, d in zip(gradients(f, moved[:n], moved[n], backend), ds, strict=True)))
    xs, u = variables(arrays, backend), mg.tensor(v, requires_grad=True, backend=backend)
    first = mg.grad(f(*xs), xs, u, create_graph=True)
    second = mg.grad(first, [*xs, u], [mg.tensor(d, backend=backend) for d in ds], allow_unused=True)
    for got, wanted in zip(second, central_differences(phi, [*arrays, v]), strict=True):
        if got is None:
            assert np.abs(wanted).max() == 0, "a linear function: no second derivative"
        elif np.linalg.norm(wanted) < 1e-9:  # linear up to rounding
            assert np.linalg.norm(to_host(got)) < 1e-9
        else:
            assert relative_error(got, wanted) < tolerance


@each_case
def test_first_order_agrees_with_central_differences(case, backend, rng):
    f, prepare = CASES[case]
    check_first_order(f, prepare(rng), backend, rng)


@pytest.mark.more
@each_case
def test_second_order_agrees_with_central_differences(case, backend, rng):
    f, prepare = CASES[case]
    check_second_order(f, prepare(rng), backend, rng)


@pytest.mark.more
@each_case
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float16, 2e-2)])
def test_low_precision_keeps_its_dtype_and_agrees_with_float64(case, dtype, tolerance, backend, rng):
    # condition numbers are <= 6: about 40 eps(dtype) of the values, a few times that for products of several inverses
    f, prepare = CASES[case]
    arrays = [a.astype(dtype).astype(np.float64) for a in prepare(rng)]
    c = rng.standard_normal(f(*[mg.tensor(a) for a in arrays]).shape).astype(dtype).astype(np.float64)
    low, high = (f(*variables(arrays, backend, t)) for t in (dtype, np.float64))
    assert low.dtype == dtype
    assert relative_error(to_host(low).astype(np.float64), high) < tolerance
    pairs = zip(gradients(f, arrays, c, backend, dtype), gradients(f, arrays, c, backend), strict=True)
    for got, wanted in pairs:
        assert got.dtype == dtype
        assert relative_error(to_host(got).astype(np.float64), wanted) < tolerance


@each_case
def test_no_op_waits_for_the_device(case, fake_device, rng):
    f, prepare = CASES[case]
    xs = variables(prepare(rng), "fake")
    y0 = f(*xs)
    c = mg.tensor(rng.standard_normal(y0.shape), requires_grad=True, backend="fake")
    with fake_device.no_sync():
        first = mg.grad(f(*xs), xs, c, create_graph=True)
        mg.grad(first, [*xs, c], [g.detach() for g in first], allow_unused=True)


@each_case
def test_raw_arrays_give_raw_arrays(case, backend, rng):
    f, prepare = CASES[case]
    if case.startswith("eigh"):
        f = lambda a: mg.eigh(a)[0]  # the function of the case goes on with ops of Tensors
    arrays = prepare(rng)
    raw = f(*[backends.asarray(a, name=backend) for a in arrays])
    assert not isinstance(raw, mg.Tensor)
    np.testing.assert_array_equal(to_host(raw), to_host(f(*[mg.tensor(a, backend=backend) for a in arrays])))


# -- values -------------------------------------------------------------------------------------------------------------

MATMUL_SHAPES = [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)),
                 ((2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 2)), ((6, 5, 2, 3), (3, 2)), ((1, 2, 3), (4, 3, 1)),
                 ((0, 3), (3, 4)), ((2, 0), (0, 4)), ((5, 0, 3), (3, 2)), ((0, 2, 3), (0, 3, 4)), ((0, 2, 3), (3, 4)), ((0,), (0,)),
                 ((4, 2, 0), (0, 3)), ((1, 1), (1, 1))]


@pytest.mark.parametrize("shapes", MATMUL_SHAPES, ids=str)
def test_matmul_equals_numpy(shapes, backend, rng):
    a, b = (rng.standard_normal(s) for s in shapes)
    got = mg.tensor(a, requires_grad=True, backend=backend) @ mg.tensor(b, requires_grad=True, backend=backend)
    assert got.shape == (a @ b).shape
    np.testing.assert_allclose(to_host(got), a @ b, rtol=1e-13, atol=1e-13)
    xs = variables([a, b], backend)
    y = mg.matmul(*xs)
    assert [g.shape for g in mg.grad(y, xs, mg.tensor(rng.standard_normal(y.shape), backend=backend))] == list(shapes)


def test_matmul_accepts_non_contiguous_operands(backend, rng):
    a, b = rng.standard_normal((5, 3, 2)), rng.standard_normal((3, 4, 5))
    x, y = (mg.tensor(v, requires_grad=True, backend=backend) for v in (a, b))
    np.testing.assert_allclose(to_host(mg.transpose(x) @ y[0].T), a.T @ b[0].T, rtol=1e-13)
    np.testing.assert_allclose(to_host(mg.transpose(x)[:, ::2] @ y[0, :, ::-1].T), a.T[:, ::2] @ b[0, :, ::-1].T, rtol=1e-13)


def test_a_batch_times_a_matrix_is_one_product_of_matrices(backend, rng):
    seen = []
    original = linalg._matmul.primitive.forward
    x, w = mg.tensor(rng.standard_normal((5, 2, 3)), backend=backend), mg.tensor(rng.standard_normal((3, 4)), backend=backend)
    try:
        linalg._matmul.primitive.forward = lambda xp, a, b: seen.append((a.shape, b.shape)) or original(xp, a, b)
        mg.matmul(x, w)
    finally:
        linalg._matmul.primitive.forward = original
    assert seen == [((10, 3), (3, 4))]


def test_a_matrix_product_is_one_line_that_keeps_what_its_inputs_need(rng):
    a, b = mg.tensor(rng.standard_normal((3, 4)), requires_grad=True), mg.tensor(rng.standard_normal((4, 2)))
    line = (a @ b)._line
    assert line.parents == (a._line, None) and list(line.kept) == ["b"]


def test_matmul_of_integers_follows_the_other_operand(backend):
    i = mg.tensor([[1, 2], [3, 4]], backend=backend)
    x = mg.tensor([[0.5], [1.0]], requires_grad=True, backend=backend)
    y = i @ x
    assert (i @ i).dtype.kind == "i" and y.dtype == np.float32
    assert to_host(mg.grad(y.sum(), [x])[0]).tolist() == [[4.0], [6.0]]


def test_matmul_of_float16_is_summed_in_float32(backend):
    n = 4096  # in float16 the sum of ones stops at 2048
    a = mg.tensor(np.ones((1, n), np.float16), requires_grad=True, backend=backend)
    assert (a @ a.T).item() == n
    assert mg.einsum("ij,ij->i", a, a).item() == n
    assert mg.norm(a).item() == 64


@pytest.mark.parametrize("shapes, words", [
    (((2, 3), (4, 5)), ["(2, 3) @ (4, 5)", "inner sizes 3 and 4"]), (((3,), (4,)), ["(3,) @ (4,)", "inner sizes 3 and 4"]),
    (((5, 2, 3), (2, 3)), ["(5, 2, 3) @ (2, 3)", "inner sizes 3 and 2"]), (((5, 2, 3), (4, 3, 2)), ["the batches (5,) and (4,)"]),
    (((), (3,)), ["at least one axis", "use *"])], ids=str)
def test_matmul_names_the_sizes_that_do_not_fit(shapes, words, backend, rng):
    a, b = variables([rng.standard_normal(s) for s in shapes], backend)
    with pytest.raises(ValueError, match="matmul: got") as e:
        mg.matmul(a, b)
    assert all(w in str(e.value) for w in words), str(e.value)


EINSUMS = ["ij,jk->ik", "ij,jk", "ij->ji", "ij", "ba", "ii", "ii->i", "iij->j", "iji->ij", "iii->i", "ij->", "ij->j", "i,j->ij", "i,i",
           "ij,ij->ij", "ij,ij->i", "ij,ij->", "bij,bjk->bik", "ij,kj->ik", "ji,jk->ki", "ijk,jil->kl", "ij,k->i", "iij,jk->k", ",ij->ij", ",",
           "bhqd,bhkd->bhqk", "Ab,bC", "ij,jk,kl->il", "ij,ij,j->i", "i,ij,j", "i,j,k->kji", "abc,cb->a", "ij,jk->", "...ij,...jk->...ik", "i...,i...",
           "...ii->...i", "...ij->...ji", "...->...", "...i->...", "i...j,j->...i", "...,...", " i j , j k -> i k "]


@pytest.mark.parametrize("size", [3, 0], ids=["sizes 2 to 5", "empty j"])
@pytest.mark.parametrize("spec", EINSUMS)
def test_einsum_equals_numpy(spec, size, backend, rng):
    sizes = {"j": size, "k": 4, "b": 5, "C": 2, "d": 2, "q": 5}
    terms = spec.replace(" ", "").split("->")[0].split(",")
    arrays = [rng.standard_normal(tuple(itertools.chain.from_iterable((2, 3) if c == "." else (sizes.get(c, 3),) for c in t.replace("...", "."))))
              for t in terms]
    got, wanted = mg.einsum(spec, *[mg.tensor(a, backend=backend) for a in arrays]), np.einsum(spec, *arrays)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(to_host(got), wanted, rtol=1e-12, atol=1e-12)
    xs = variables(arrays, backend)
    y = mg.einsum(spec, *xs)
    gs = mg.grad(y, xs, mg.tensor(rng.standard_normal(y.shape), backend=backend))
    assert [g.shape for g in gs] == [a.shape for a in arrays]


def test_einsum_broadcasts_the_axes_of_an_ellipsis(backend, rng):
    a, b = rng.standard_normal((5, 1, 2, 3)), rng.standard_normal((4, 3, 2))
    for spec in ("...ij,...jk->...ik", "...ij,...jk", "...ij,...ji->...", "...ij,...jk->ik..."):
        got = mg.einsum(spec, mg.tensor(a, backend=backend), mg.tensor(b, backend=backend))
        np.testing.assert_allclose(to_host(got), np.einsum(spec, a, b), rtol=1e-12)


@pytest.mark.parametrize("spec, shapes, words", [
    ("ij,jk->ik", [(2, 3), (4, 5)], "sizes 3 and 4 for 'j'"), ("ij,jk->ik", [(2, 3)], "2 terms for 1 operands"),
    ("ij->ijk", [(2, 3)], "the result 'ijk'"), ("ij->ii", [(2, 3)], "the result 'ii'"), ("ijk->i", [(2, 3)], "'ijk' for 2 axes"),
    ("i->i", [(2, 3)], "'i' for 2 axes"), ("i1->i", [(2, 3)], "something else than letters"), ("ii->i", [(2, 3)], "sizes 2 and 3 for 'i'"),
    ("ij,jk->ik", [(2, 1), (3, 5)], "sizes 1 and 3 for 'j'"), ("...i,...i->...", [(2, 3), (4, 3)], "an axis of ...")], ids=str)
def test_einsum_says_what_does_not_fit(spec, shapes, words, backend):
    with pytest.raises(ValueError, match="einsum") as e:
        mg.einsum(spec, *[mg.tensor(np.ones(s), backend=backend) for s in shapes])
    assert words in str(e.value), str(e.value)


@pytest.mark.parametrize("offset", [-4, -1, 0, 2, 5])
@pytest.mark.parametrize("shape, axes", [((3, 4), (0, 1)), ((4, 3), (0, 1)), ((2, 3, 4), (-2, -1)), ((2, 3, 4), (2, 0)),
                                         ((0, 3), (0, 1)), ((3, 0), (1, 0))], ids=str)
def test_diagonal_trace_tril_triu_equal_numpy(shape, axes, offset, backend, rng):
    a = rng.standard_normal(shape)
    (x,) = variables([a], backend)
    for name in ("diagonal", "trace"):
        y = getattr(mg, name)(x, offset, *axes)
        np.testing.assert_allclose(to_host(y), getattr(np, name)(a, offset, *axes), rtol=1e-13)
        assert mg.grad(y, [x], mg.tensor(rng.standard_normal(y.shape), backend=backend))[0].shape == shape
    for name in ("tril", "triu"):
        np.testing.assert_array_equal(to_host(getattr(mg, name)(x, offset)), getattr(np, name)(a, offset))


def test_the_derivative_of_diagonal_puts_back_on_the_diagonal(backend):
    x = mg.tensor(np.zeros((3, 4)), requires_grad=True, backend=backend)
    (g,) = mg.grad(mg.diagonal(x, 1), [x], mg.tensor([1.0, 2.0, 3.0], dtype=np.float64, backend=backend))
    assert to_host(g).tolist() == [[0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 3]]


@pytest.mark.parametrize("shape, axis", [((3, 4), None), ((2, 3, 4), None), ((5,), None), ((2, 3, 4), -1), ((2, 3, 4), (0, 2)),
                                         ((2, 3), 0), ((0, 3), 0), ((), None)], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_norm_equals_numpy(shape, axis, keepdims, backend, rng):
    a = np.asarray(rng.standard_normal(shape))
    got = mg.norm(mg.tensor(a, backend=backend), axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(to_host(got), np.linalg.norm(a, axis=axis, keepdims=keepdims), rtol=1e-14)


def test_norm_has_the_gradient_zero_at_zero_in_both_orders(backend):
    x = mg.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True, backend=backend)
    with np.errstate(all="raise"):
        y = mg.norm(x, axis=1).sum()
        (g,) = mg.grad(y, [x], create_graph=True)
        (h,) = mg.grad((g * mg.tensor([[1.0, 2.0], [4.0, -3.0]], backend=backend)).sum(), [x])
    np.testing.assert_allclose(to_host(g), [[0, 0], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(to_host(h), [[0, 0], [0.8, -0.6]], rtol=1e-6)  # (v − u(u·v))/‖x‖, and v ⟂ u here


def test_norm_refuses_orders_that_mean_something_else_in_numpy(backend):
    x = mg.tensor(np.ones((2, 2)), backend=backend)
    for ord, axis in ((2, None), (1, 0), ("nuc", None), ("fro", 0)):
        with pytest.raises(ValueError, match="norm: got ord"):
            mg.norm(x, ord, axis)
    assert mg.norm(x, 2, 0).shape == (2,) and mg.norm(x, "fro").shape == ()


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (2, 1, 2, 2), (1, 1), (0, 3, 3), (0, 0), (2, 0, 0)], ids=str)
def test_functions_of_a_matrix_equal_numpy(shape, backend, rng):
    (a,) = spd(*shape)(rng) if 0 not in shape else [np.zeros(shape)]
    x = mg.tensor(a, requires_grad=True, backend=backend)
    ys = {"inv": mg.inv(x), "det": mg.det(x), "cholesky": mg.cholesky(x), "eigvalsh": mg.eigvalsh(x), "inv_sqrtm": mg.inv_sqrtm(x)}
    for name, y in ys.items():
        wanted = getattr(np.linalg, name)(a) if name != "inv_sqrtm" else to_host(y)
        np.testing.assert_allclose(to_host(y), wanted, rtol=1e-12, atol=1e-14)
        (g,) = mg.grad(y, [x], mg.tensor(rng.standard_normal(y.shape), backend=backend))
        assert g.shape == shape
    w = to_host(ys["inv_sqrtm"])
    np.testing.assert_allclose(w @ a @ w, np.broadcast_to(np.eye(shape[-1]), shape), atol=1e-13)
    values, vectors = (to_host(t) for t in mg.eigh(x))
    np.testing.assert_allclose((vectors * values[..., None, :]) @ vectors.swapaxes(-1, -2), a, atol=1e-13)
    c = rng.standard_normal(shape)
    solution = to_host(mg.lyapunov(x, mg.tensor(c, backend=backend)))
    np.testing.assert_allclose(a @ solution + solution @ a, c, atol=1e-13)


@pytest.mark.parametrize("shapes", [((3, 3), (3,)), ((3, 3), (3, 2)), ((3, 3), (3, 0)), ((5, 3, 3), (5, 3, 3)), ((5, 3, 3), (3, 2)), ((3, 3), (5, 3, 2)),
                                    ((5, 3, 3), (3,)), ((2, 1, 3, 3), (4, 3, 2)), ((0, 0), (0,))], ids=str)
def test_solve_equals_numpy(shapes, backend, rng):
    a, b = rng.standard_normal(shapes[0]) + 3 * np.eye(shapes[0][-1]), rng.standard_normal(shapes[1])
    got = mg.solve(mg.tensor(a, backend=backend), mg.tensor(b, backend=backend))
    assert got.shape == np.linalg.solve(a, b).shape
    np.testing.assert_allclose(to_host(got), np.linalg.solve(a, b), rtol=1e-11, atol=1e-13)


def test_integer_matrices_become_float32(backend):
    a = mg.tensor([[2, 1], [1, 2]], backend=backend)
    for y in (mg.inv(a), mg.det(a), mg.cholesky(a), mg.inv_sqrtm(a), mg.norm(a), mg.eigvalsh(a), mg.solve(a, a), mg.lyapunov(a, a)):
        assert y.dtype == np.float32


def test_errors_name_the_op_and_the_shape(backend):
    flat, wide, square = (mg.tensor(np.ones(s), requires_grad=True, backend=backend) for s in ((3,), (2, 3), (3, 3)))
    for op in (mg.inv, mg.det, mg.cholesky, mg.eigh, mg.eigvalsh, mg.inv_sqrtm):
        for bad in (flat, wide):
            with pytest.raises(ValueError, match=rf"{op.__name__}: got a .* shape \({bad.shape[0]},.*(?s:.*)square matrices"):
                op(bad)
    for op in (mg.tril, mg.triu):
        with pytest.raises(ValueError, match=f"{op.__name__}: got .*(?s:.*)needs: matrices"):
            op(flat)
    with pytest.raises(ValueError, match=r"solve: got the shapes \(3, 3\) and \(2, 3\)"):
        mg.solve(square, wide)
    with pytest.raises(ValueError, match="lyapunov: got"):
        mg.lyapunov(square, mg.tensor(np.ones((2, 2)), backend=backend))
    with pytest.raises(TypeError, match="float32 and float64"):
        mg.solve(square.detach().astype("float32"), square)
    with pytest.raises(TypeError, match="float32 and float64"):
        mg.matmul(square.detach().astype("float32"), square)


@pytest.mark.parametrize("name", ["inv", "cholesky", "solve"])
def test_a_matrix_that_lapack_refuses_raises_on_numpy(name):
    a = mg.tensor(np.zeros((2, 2)), requires_grad=True)
    with pytest.raises(np.linalg.LinAlgError, match=rf"{name}: got a numpy .*of shape \(2, 2\)(?s:.*)fix:"):
        getattr(mg, name)(*[a] * (2 if name == "solve" else 1))


BAD = {"nan": [[2.0, np.nan, 0], [np.nan, 2, 0], [0, 0, 3]], "inf": [[2.0, 0, 0], [0, np.inf, 0], [0, 0, 3]], "nan on the diagonal": np.diag([1, np.nan, 2]),
       "-inf": np.diag([-np.inf, 1, 2]), "all nan": np.full((3, 3), np.nan)}
REFUSED = {  # by a factorization, and finite
    "cholesky": {"indefinite at the first pivot": np.diag([-1.0, 2, 3]), "at the second": [[4.0, 2, 2], [2, 1, 5], [2, 5, 9]],
                 "at the last": np.diag([1.0, 2, -3]), "zero": np.zeros((3, 3)), "semidefinite": np.diag([1.0, 0, 3])},
    "inv": {"zero": np.zeros((3, 3)), "rank 2": np.diag([1.0, 0, 3])},
    "solve": {"zero": np.zeros((3, 3)), "rank 2": np.diag([1.0, 0, 3])},
}
OF_A_MATRIX = {
    "inv": mg.inv, "cholesky": mg.cholesky, "det": mg.det, "eigvalsh": mg.eigvalsh, "eigh": lambda a: mg.eigh(a)[0], "eigenvectors": lambda a: mg.eigh(a)[1],
    "inv_sqrtm": mg.inv_sqrtm, "solve": lambda a: mg.solve(a, a * 0.0 + 1.0), "lyapunov": lambda a: mg.lyapunov(a, mg.tensor(np.eye(3), backend=a.backend)),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("op, matrix", [pytest.param(op, m, id=f"{op} of {name}") for op in OF_A_MATRIX for name, m in {**BAD, **REFUSED.get(op, {})}.items()])
def test_a_matrix_without_an_answer_never_gives_finite_numbers(op, matrix, backend):
    """An error on the host; elsewhere no finite number for it, and right ones for the others of its batch, without a sync."""
    f, good = OF_A_MATRIX[op], np.diag([1.0, 2.0, 3.0])
    alone = mg.tensor(np.asarray(matrix, float), requires_grad=True, backend=backend)
    batch = mg.tensor(np.stack([good, np.asarray(matrix, float), good]), requires_grad=True, backend=backend)
    try:
        one, three = to_host(f(alone)), to_host(f(batch))
    except np.linalg.LinAlgError:
        assert backend == "numpy"
        return
    kept = np.tril_indices(3) if op == "cholesky" else ...
    right = to_host(f(mg.tensor(good, backend=backend)))
    for bad in (one, three[1]):
        assert not np.isfinite(bad[kept]).any() if op != "solve" else not np.isfinite(bad).all()
    for i in (0, 2):
        np.testing.assert_array_equal(three[i], right)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_cholesky_on_a_device_knows_a_rounded_factor_from_an_invalid_one(fake_device, rng, n, dtype):
    """Definite matrices of any size and condition are factored; with one eigenvalue below 0, whatever the device leaves is refused."""
    q = np.linalg.qr(rng.normal(size=(20, n, n)))[0]
    scale, eps = 10.0 ** rng.uniform(-8, 8, (20, 1, 1)), np.finfo(dtype).eps
    w = np.geomspace(1, 1000 * n * eps, n) * np.ones((20, 1))
    definite = scale * ((q * w[:, None]) @ q.swapaxes(-1, -2))
    w[:, -1] *= -1
    indefinite = scale * ((q * w[:, None]) @ q.swapaxes(-1, -2)) - (2 * scale * np.eye(n) if n == 1 else 0)
    found, refused = (to_host(mg.cholesky(mg.tensor(a.astype(dtype), backend="fake"))) for a in (definite, indefinite))
    assert np.isfinite(found).all() and np.isnan(refused[:, 0, 0]).all()


@pytest.mark.parametrize("op", OF_A_MATRIX)
def test_gradients_of_a_matrix_without_an_answer_are_not_finite_on_a_device(op, fake_device, rng):
    x = mg.tensor(np.stack([np.diag([1.0, 2.0, 3.0]), np.full((3, 3), np.nan)]), requires_grad=True, backend="fake")
    with fake_device.no_sync():
        y = OF_A_MATRIX[op](x)
        (g,) = mg.grad(y, [x], mg.tensor(rng.standard_normal(y.shape), backend="fake"))
    assert np.isfinite(to_host(g)[0]).all() and not np.isfinite(to_host(g)[1]).any()


# -- the conventions, and the hard matrices -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["cholesky", "eigh", "eigvalsh", "inv_sqrtm", "lyapunov"])
def test_only_the_symmetric_part_of_the_matrix_counts_and_its_gradient_is_symmetric(case, backend, rng):
    f, prepare = CASES[case]
    arrays = prepare(rng)
    skew = rng.standard_normal(arrays[0].shape)
    tilted = [arrays[0] + 0.1 * (skew - skew.swapaxes(-1, -2)), *arrays[1:]]
    wanted, got = (to_host(f(*variables(a, backend))) for a in (arrays, tilted))
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
    c = rng.standard_normal(got.shape)
    g, h = (to_host(gradients(f, a, c, backend)[0]) for a in (tilted, arrays))
    np.testing.assert_allclose(g, g.swapaxes(-1, -2), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(g, h, rtol=1e-11, atol=1e-12)


def with_eigenvalues(values, rng):
    q = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0] if rng is not None else np.eye(len(values))
    a = (q * np.asarray(values)) @ q.T
    return (a + a.T) / 2


HARD = {"identity": ([1.0] * 4, False), "scaled identity": ([0.01] * 3, False), "diagonal pair": ([1.0, 1.0, 2.0], False),
        "rotated pair": ([1.0, 1.0, 3.0, 0.5], True), "rotated triple": ([2.0, 2.0, 2.0, 0.1], True), "gap 1e-12": ([1.0, 1.0 + 1e-12, 2.0], True),
        "gap 1e-8": ([1.0, 1.0 + 1e-8, 2.0], True), "one number": ([0.3], False)}
each_hard_matrix = pytest.mark.parametrize("matrix", HARD)


@each_hard_matrix
def test_inv_sqrtm_has_the_gradient_of_the_divided_differences(matrix, backend, rng):
    values, rotated = HARD[matrix]
    a = with_eigenvalues(values, rng if rotated else None)
    g = rng.standard_normal(a.shape)
    w, v = np.linalg.eigh(a)
    r = np.sqrt(w)
    slopes = -1 / (r[:, None] * r * (r[:, None] + r))  # f[λi, λj] of λ^(−1/2), written without a difference
    wanted = v @ (slopes * (v.T @ ((g + g.T) / 2) @ v)) @ v.T
    assert relative_error(gradients(mg.inv_sqrtm, [a], g, backend)[0], wanted) < 1e-12


@each_hard_matrix
def test_inv_sqrtm_is_right_in_second_order_where_eigenvalues_meet(matrix, backend, rng):
    values, rotated = HARD[matrix]
    a = with_eigenvalues(values, rng if rotated else None) / max(min(values), 0.5)  # the differences' step is 1e-5
    check_second_order(mg.inv_sqrtm, [a], backend, rng, tolerance=1e-5)


@each_hard_matrix
def test_lyapunov_is_right_in_both_orders_where_eigenvalues_meet(matrix, backend, rng):
    values, rotated = HARD[matrix]
    s = with_eigenvalues(values, rng if rotated else None)
    c, g = rng.standard_normal(s.shape), rng.standard_normal(s.shape)
    n, eye = len(s), np.eye(len(s))
    system = np.kron(s, eye) + np.kron(eye, s)  # of the n² unknowns: nothing here knows of eigenvalues
    x, d = (np.linalg.solve(system, m.reshape(-1)).reshape(n, n) for m in (c, g))
    ds = -(d @ x.T + x.T @ d)
    got_s, got_c = gradients(mg.lyapunov, [s, c], g, backend)
    assert relative_error(mg.lyapunov(*variables([s, c], backend)), x) < 1e-12
    assert relative_error(got_c, d) < 1e-12
    assert relative_error(got_s, (ds + ds.T) / 2) < 1e-12 if n > 1 else np.allclose(to_host(got_s), ds, rtol=1e-12)
    check_second_order(mg.lyapunov, [s / max(min(values), 0.5), c], backend, rng, tolerance=1e-5)


@pytest.mark.parametrize("n", [2, 5, 16, 48])
@pytest.mark.parametrize("rotated", [False, True])
def test_eigh_at_equal_eigenvalues_gives_nan_and_not_a_number_that_looks_right(n, rotated, backend, rng):
    a = with_eigenvalues([1.0, 1.0, *range(2, n)], rng if rotated else None)
    def through_eigenvectors(x):  # A^(−1/2): smooth, but not for someone who goes through the eigenvectors
        w, v = mg.eigh(x)
        return (v / mg.expand_dims(mg.sqrt(w), -2)) @ mg.swapaxes(v, -1, -2)
    c = rng.standard_normal(a.shape)
    assert np.isnan(to_host(gradients(through_eigenvectors, [a], c, backend)[0])).any()
    (x,) = variables([a], backend)
    (g,) = mg.grad(mg.inv_sqrtm(x), [x], mg.tensor(c, backend=backend))
    assert np.isfinite(to_host(g)).all()


def test_eigh_close_to_equal_eigenvalues_is_finite_and_roughly_right(backend, rng):
    # float64's eps over the gap of 1e-8 is 2e-8: half of the digits are lost, and no more
    a, c = with_eigenvalues([1.0, 1.0 + 1e-8, 2.0], rng), rng.standard_normal((3, 3))
    def through_eigenvectors(x):
        w, v = mg.eigh(x)
        return (v / mg.expand_dims(mg.sqrt(w), -2)) @ mg.swapaxes(v, -1, -2)
    assert relative_error(gradients(through_eigenvectors, [a], c, backend)[0], gradients(mg.inv_sqrtm, [a], c, backend)[0]) < 1e-6


def test_eigvalsh_at_equal_eigenvalues_is_right_for_symmetric_losses(backend, rng):
    a = with_eigenvalues([1.0, 1.0, 3.0], rng)
    (x,) = variables([a], backend)
    (g,) = mg.grad(mg.log(mg.eigvalsh(x)).sum(), [x])  # log det
    np.testing.assert_allclose(to_host(g), np.linalg.inv(a), rtol=1e-12, atol=1e-14)


SINGULAR = {"rank 2 of 3": np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]), "rank 1 of 3": np.outer([1.0, 2, 3], [1.0, -1, 2]), "zero": np.zeros((2, 2)),
            "a zero row": np.array([[0.0, 0, 0], [1, 2, 3], [0, 1, 1]]), "one zero": np.zeros((1, 1)),
            "a stack": np.stack([np.ones((2, 2)), np.eye(2), np.diag([0.0, 2.0])])}


@pytest.mark.parametrize("matrix", SINGULAR)
def test_det_of_a_singular_matrix_has_its_cofactors_as_gradient_and_the_right_second_order(matrix, backend, rng):
    a = SINGULAR[matrix]
    n = a.shape[-1]
    wanted = np.empty_like(a)
    for at in np.ndindex(a.shape[:-2]):
        for i, j in np.ndindex(n, n):
            wanted[(*at, i, j)] = (-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a[at], i, 0), j, 1))
    (g,) = gradients(mg.det, [a], np.ones(a.shape[:-2]), backend)
    np.testing.assert_allclose(to_host(g), wanted, atol=1e-13 * max(1, np.abs(a).max()) ** (n - 1))
    check_second_order(mg.det, [a], backend, rng, tolerance=1e-5)


def test_a_third_derivative_of_det_is_refused(backend, rng):
    (x,) = variables(well(3, 3)(rng), backend)
    (first,) = mg.grad(mg.det(x), [x], create_graph=True)
    (second,) = mg.grad(first.sum(), [x], create_graph=True)
    with pytest.raises(NotImplementedError, match="at most two"):
        mg.grad(second.sum(), [x])


def test_cholesky_puts_back_its_matrix_and_is_lower_triangular(backend, rng):
    (a,) = spd(2, 5, 5)(rng)
    lower = to_host(mg.cholesky(mg.tensor(a, backend=backend)))
    np.testing.assert_allclose(lower @ lower.swapaxes(-1, -2), a, rtol=1e-13, atol=1e-14)
    assert not np.triu(lower, 1).any()


# -- another library as oracle ------------------------------------------------------------------------------------------

TORCH = {
    "matmul batch batch": lambda torch: torch.matmul, "matmul vector batch": lambda torch: torch.matmul, "outer": lambda torch: torch.outer,
    "einsum batch": lambda torch: lambda a, b: torch.einsum("bij,bjk->bki", a, b), "einsum three": lambda torch: lambda *x: torch.einsum("ij,jk,ki->k", *x),
    "einsum diagonals": lambda torch: lambda a, b: torch.einsum("iij,jk->ik", a, b),
    "norm axis": lambda torch: lambda a: torch.linalg.vector_norm(a, dim=-1), "trace": lambda torch: torch.trace,
    "diagonal below": lambda torch: lambda a: torch.diagonal(a, -1, -2, 0), "tril below": lambda torch: lambda a: torch.tril(a, -1),
    "inv batch": lambda torch: torch.linalg.inv, "solve batch": lambda torch: torch.linalg.solve, "det batch": lambda torch: torch.linalg.det,
    "cholesky batch": lambda torch: lambda a: torch.linalg.cholesky((a + a.mT) / 2), "eigvalsh": lambda torch: lambda a: torch.linalg.eigvalsh((a + a.mT) / 2),
    "inv_sqrtm batch": lambda torch: lambda a: torch_inv_sqrtm(torch, a),
}


def torch_inv_sqrtm(torch, a):
    w, v = torch.linalg.eigh((a + a.mT) / 2)
    return (v / w.sqrt().unsqueeze(-2)) @ v.mT


@pytest.mark.parametrize("case", TORCH)
def test_values_and_both_orders_agree_with_torch(case, rng):
    torch = pytest.importorskip("torch")
    f, prepare = CASES[case]
    arrays = prepare(rng)
    xs, ts = variables(arrays, "numpy"), [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = f(*xs), TORCH[case](torch)(*ts)
    assert relative_error(y, t.detach().numpy()) < 1e-12
    c = rng.standard_normal(y.shape)
    first, twin = mg.grad(y, xs, mg.tensor(c), create_graph=True), torch.autograd.grad(t, ts, torch.tensor(c), create_graph=True)
    for g, h in zip(first, twin, strict=True):
        assert relative_error(g, h.detach().numpy()) < 1e-11
    if first[0].requires_grad:
        ds = [rng.standard_normal(a.shape) for a in arrays]
        second = mg.grad(first, xs, [mg.tensor(d) for d in ds], allow_unused=True)
        twins = torch.autograd.grad(twin, ts, [torch.tensor(d) for d in ds], allow_unused=True)
        for g, h in zip(second, twins, strict=True):
            assert (g is None) == (h is None)
            assert g is None or relative_error(g, h.numpy()) < 1e-10
