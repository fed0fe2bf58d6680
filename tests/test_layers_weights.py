"""Weight normalizations: their exact properties, the errors they raise, and how they sit on Modules (PyTorch as an oracle).

That the two forms agree with each other and with central differences is the business of test_layers.py.
"""

import copy

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import layers
import minigrad as mg
from helpers import relative_error
from minigrad import nn

EPS = np.finfo(np.float64).eps
WEIGHTS = ["weight_norm", "centered_weight_norm", "weight_standardization", "orthogonal_weight_norm", "spectral_norm"]
SHAPES = st.sampled_from([(3, 6), (1, 4), (7, 3), (4, 4), (2, 3, 3, 3), (5, 2, 1, 2), (4, 1, 3)])
SEEDS = st.integers(0, 2**32 - 1)
FORMS = pytest.mark.parametrize("form", ["composed", "derived"])


def function(name, form):
    return layers.REGISTRY[name].form(form)


def pulled(name, form, g, *arrays, **keywords):
    """Value and gradients with the cotangent g, as NumPy arrays."""
    xs = [mg.tensor(a, requires_grad=True) for a in arrays]
    y = function(name, form)(*xs, **keywords)
    return [y.numpy(), *(d.numpy() for d in mg.grad(y, xs, mg.tensor(g)))]


def rows(a):
    return a.reshape(a.shape[0], -1)


def dots(a, b):
    """Products of corresponding filters."""
    return np.sum(rows(a) * rows(b), axis=1)


def lengths(a):
    return np.sqrt(dots(a, a))


def vanishes(value, *factors, factor=64):
    """Is a sum of products of these sizes zero up to rounding? Sums of fewer than 64 terms, each rounded a few times."""
    return np.all(np.abs(value) <= factor * EPS * np.prod(np.broadcast_arrays(*factors), axis=0))


# -- weight norm (invariant 12) -----------------------------------------------------------------------------------------


@FORMS
@given(shape=SHAPES, seed=SEEDS, log_a=st.floats(-3, 3))
def test_weight_norm_has_no_gradient_along_v_and_does_not_see_its_length(form, shape, seed, log_a):
    rng, a = np.random.default_rng(seed), 10.0**log_a
    v, gain, g = rng.normal(size=shape), rng.normal(size=shape[0]), rng.normal(size=shape)
    w, dv, dgain = pulled("weight_norm", form, g, v, gain)
    scaled_w, scaled_dv, scaled_dgain = pulled("weight_norm", form, g, a * v, gain)
    np.testing.assert_allclose(lengths(w), np.abs(gain), rtol=32 * EPS)
    assert vanishes(dots(v, dv), lengths(g), np.abs(gain))
    # numerators are small differences of terms as large as g: their rounding is relative to g, not to the difference
    assert np.all(lengths(scaled_dv * a - dv) <= 32 * EPS * np.abs(gain) / lengths(v) * lengths(g))
    assert np.all(np.abs(w - scaled_w) <= 32 * EPS * np.abs(w))
    assert np.all(np.abs(dgain - scaled_dgain) <= 64 * EPS * lengths(g))


# -- centred weight norm (invariants 13 and 23; cwn eqs 3-5) ------------------------------------------------------------


def spread_weights(rng, shape, mean=0.0):
    """Filters whose centred length is not small: at least a tenth of the typical one, so that it adds no more than a digit."""
    v = rng.normal(size=shape)
    vc = rows(v) - rows(v).mean(1, keepdims=True)
    short = lengths(vc) < 0.1 * vc.shape[1] ** 0.5
    vc[short] = np.linspace(-1, 1, vc.shape[1])
    return (vc + mean).reshape(shape)


@FORMS
@given(shape=SHAPES, seed=SEEDS, mean=st.floats(-10, 10), log_a=st.floats(-2, 2), b=st.floats(-10, 10))
def test_centered_weight_norm_is_blind_to_scale_and_shift(form, shape, seed, mean, log_a, b):
    """Σ dv = 0, dv·w = 0, dv·v = 0, and w(a v + b) = w(v) for a > 0."""
    rng, a = np.random.default_rng(seed), 10.0**log_a
    v, g = spread_weights(rng, shape, mean), rng.normal(size=shape)
    d = rows(v).shape[1]
    w, dv = pulled("centered_weight_norm", form, g, v)
    vc = lengths(rows(v) - rows(v).mean(1, keepdims=True))
    # centring subtracts |mean| from |mean| + O(1): it loses the digits of lost
    lost = 1 + np.abs(rows(v)).max(1) * d**0.5 / vc
    assert vanishes(rows(w).sum(1), d**0.5, lost)
    np.testing.assert_allclose(lengths(w), 1.0, rtol=64 * EPS * lost.max())
    size = lengths(g) / vc * lost
    assert vanishes(rows(dv).sum(1), size, d**0.5)
    assert vanishes(dots(dv, w), size)
    assert vanishes(dots(dv, v), size, lengths(v))
    moved, _ = pulled("centered_weight_norm", form, g, a * v + b)
    moved_lost = lost + (np.abs(a * rows(v) + b).max(1) * d**0.5) / (a * vc)
    assert np.all(lengths(moved - w) <= 64 * EPS * moved_lost)


@given(shape=SHAPES, seed=SEEDS)
def test_centered_weight_norm_is_equation_3_as_printed(shape, seed):
    rng = np.random.default_rng(seed)
    v, g = spread_weights(rng, shape), rng.normal(size=shape)
    _, dv = pulled("centered_weight_norm", "derived", g, v)
    for i, (vi, gi) in enumerate(zip(rows(v), rows(g), strict=True)):
        d, one = vi.size, np.ones_like(vi)
        vhat = vi - one * (one @ vi) / d
        w = vhat / np.linalg.norm(vhat)
        printed = (gi - (gi @ w) * w - (gi @ one) * one / d) / np.linalg.norm(vhat)
        assert np.linalg.norm(rows(dv)[i] - printed) <= 64 * EPS * np.linalg.norm(gi) / np.linalg.norm(vhat)


@FORMS
@given(shape=SHAPES, seed=SEEDS)
def test_weight_standardization_is_centered_weight_norm_times_the_root_of_d(form, shape, seed):
    """At ε = 0, with the biased variance: value and gradient."""
    rng = np.random.default_rng(seed)
    v, g = spread_weights(rng, shape), rng.normal(size=shape)
    root = rows(v).shape[1] ** 0.5
    cwn, d_cwn = pulled("centered_weight_norm", form, g, v)
    ws, d_ws = pulled("weight_standardization", form, g, v, eps=0.0)
    assert np.all(lengths(ws - root * cwn) <= 64 * EPS * root)
    assert np.all(lengths(d_ws - root * d_cwn) <= 640 * EPS * root * lengths(g) / (0.1 * root))


@FORMS
def test_two_elements_in_a_filter_have_one_direction_and_no_gradient(form):
    """w is ±(1, −1)/√2 whatever v: such a gradient check has no power."""
    rng = np.random.default_rng(0)
    w, dv = pulled("centered_weight_norm", form, rng.normal(size=(5, 2)), rng.normal(size=(5, 2)))
    np.testing.assert_allclose(np.abs(w), 0.5**0.5, rtol=8 * EPS)
    assert np.abs(dv).max() < 1e-13


# -- orthogonal weight norm (invariants 4 and 14) -----------------------------------------------------------------------


def centred_rows(rng, n, d, low=0.5):
    """(n, d) with rows of mean 0 and singular values in [low, 2]."""
    basis = np.linalg.qr(np.c_[np.ones(d), rng.normal(size=(d, n))])[0][:, 1:]
    return (np.linalg.qr(rng.normal(size=(n, n)))[0] * np.linspace(low, 2, n)) @ basis.T


WIDE = st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.integers(n + 1, n + 8)))


@FORMS
@given(shape=WIDE, seed=SEEDS, mean=st.floats(-3, 3))
@example(shape=(3, 4), seed=0, mean=0.0)  # n = d − 1: the most rows that centred rows can be
def test_orthogonal_weight_norm_gives_the_nearest_orthonormal_rows(form, shape, seed, mean):
    """At ε = 0: W Wᵀ = I, W is the polar factor of Vc, and Σ^½ dV Vᵀ is antisymmetric."""
    rng = np.random.default_rng(seed)
    vc, g = centred_rows(rng, *shape), rng.normal(size=shape)
    w, dv = pulled("orthogonal_weight_norm", form, g, vc + mean, eps=0.0)
    # the condition number of Σ is (2/0.5)² = 16, and |mean| ≤ 3 is subtracted: some hundred units of rounding
    bound = 1e3 * EPS * shape[1]
    np.testing.assert_allclose(w @ w.T, np.eye(shape[0]), atol=bound)
    u, s, vt = np.linalg.svd(vc, full_matrices=False)
    np.testing.assert_allclose(w, u @ vt, atol=bound)
    tangent = (u * s) @ u.T @ dv @ vc.T
    np.testing.assert_allclose(tangent, -tangent.T, atol=10 * bound * np.linalg.norm(g))
    assert np.abs(dv.sum(1)).max() <= 10 * bound * np.linalg.norm(g)


@FORMS
@given(n=st.integers(1, 8), d=st.integers(2, 8), seed=SEEDS, eps=st.sampled_from([1e-3, 0.1, 1.0]))
def test_orthogonal_weight_norm_moves_singular_values_only(form, n, d, seed, eps):
    """s becomes s/√(s² + ε), also where rows are more than columns."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(n, d))
    w = function("orthogonal_weight_norm", form)(v, eps=eps)
    u, s, vt = np.linalg.svd(v - v.mean(1, keepdims=True), full_matrices=False)
    # rounding in Σ, at most EPS·λmax, is divided by its smallest eigenvalue, ε
    np.testing.assert_allclose(w, (u * (s / np.sqrt(s**2 + eps))) @ vt, atol=100 * EPS * (1 + s[0] ** 2 / eps))


@pytest.mark.more
@pytest.mark.parametrize("name, keywords", [("weight_norm", {}), ("centered_weight_norm", {}), ("weight_standardization", {"eps": 0.1}),
                                            ("orthogonal_weight_norm", {"eps": 0.0}), ("orthogonal_weight_norm", {"eps": 0.1})])
@FORMS
@given(seed=SEEDS)
def test_backward_maps_that_are_self_adjoint(name, form, keywords, seed):
    """⟨h, B g⟩ = ⟨B h, g⟩ where the forward is v or Vc times a symmetric function of it. (Spectral norm's is not.)"""
    rng = np.random.default_rng(seed)
    v, g, h = centred_rows(rng, 4, 9) + 0.5, rng.normal(size=(4, 9)), rng.normal(size=(4, 9))
    arrays = (v, rng.normal(size=4)) if name == "weight_norm" else (v,)
    bg, bh = (pulled(name, form, c, *arrays, **keywords)[1] for c in (g, h))
    assert abs(np.sum(h * bg) - np.sum(bh * g)) <= 1e3 * EPS * np.linalg.norm(h) * np.linalg.norm(bg)


@FORMS
def test_groups_of_filters_are_concatenated_and_groups_of_one_are_centered_weight_norm(form):
    rng = np.random.default_rng(3)
    v, g = rng.normal(size=(5, 2, 2, 2)), rng.normal(size=(5, 2, 2, 2))
    w, dv = pulled("orthogonal_weight_norm", form, g, v, eps=1e-3, group_size=2)
    for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
        expected = pulled("orthogonal_weight_norm", form, g[part], v[part], eps=1e-3)
        np.testing.assert_allclose(w[part], expected[0], rtol=1e-14)
        np.testing.assert_allclose(dv[part], expected[1], rtol=1e-12)
    single = pulled("orthogonal_weight_norm", form, g, v, eps=0.0, group_size=1)
    for found, expected in zip(single, pulled("centered_weight_norm", form, g, v), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-14)


@FORMS
def test_dependent_rows_in_float32_keep_the_accuracy_of_float64(form):
    """Inside, everything is float64: at ε = 1e-5 the square of a condition number of 300 is no loss for float32."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=(6, 20)).astype("float32")
    v[3:] = v[:3]
    g = rng.normal(size=v.shape).astype("float32")
    found, expected = (pulled("orthogonal_weight_norm", form, g.astype(t), v.astype(t), eps=1e-5) for t in ("float32", "float64"))
    for f, e in zip(found, expected, strict=True):
        assert relative_error(f, e.astype("float32")) < 1e-6


# -- spectral norm (invariant 19) and penalty (invariant 21) ------------------------------------------------------------


@FORMS
@given(shape=SHAPES, seed=SEEDS, iterations=st.integers(0, 3))
def test_spectral_norm_has_no_gradient_along_the_weights(form, shape, seed, iterations):
    """⟨W, dW⟩ = 0 for any u, converged or not; σ ≤ the largest singular value."""
    rng = np.random.default_rng(seed)
    w, g, u = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape[0])
    for _ in range(iterations):
        u = rows(w) @ (rows(w).T @ u)
    u /= np.linalg.norm(u)
    sigma = np.linalg.norm(rows(w).T @ u)
    y, dw = pulled("spectral_norm", form, g, w, u=mg.tensor(u))
    assert abs(np.sum(w * dw)) <= 64 * EPS * (np.linalg.norm(w) / sigma) ** 2 * np.linalg.norm(g) * w.size**0.5
    assert np.linalg.svd(rows(y), compute_uv=False)[0] >= 1 - 8 * EPS


def test_at_a_singular_vector_leaving_out_the_dependence_of_u_changes_nothing():
    """The gradient of W/σ_max, with σ_max from eigenvalues, is the one with constant u."""
    rng = np.random.default_rng(1)
    w, g = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    u = np.linalg.svd(w)[0][:, 0]
    x = mg.tensor(w, requires_grad=True)
    (true,) = mg.grad(x / mg.sqrt(mg.eigvalsh(x @ x.T)[-1]), [x], mg.tensor(g))
    _, dw = pulled("spectral_norm", "derived", g, w, u=mg.tensor(u))
    assert relative_error(dw, true) < 1e-13


@FORMS
@given(shape=SHAPES, seed=SEEDS, scale=st.floats(0.01, 2))
def test_penalty_is_a_sum_over_singular_values(form, shape, seed, scale):
    """Σ (s² − 1)², gradient 4 U (s³ − s) Vᵀ; the larger Gram matrix adds |out − d|."""
    rng = np.random.default_rng(seed)
    w = scale * rng.normal(size=shape)
    penalty, dw = pulled("orthonormality_penalty", form, np.array(1.0), w)
    u, s, vt = np.linalg.svd(rows(w), full_matrices=False)
    largest = max(1.0, s[0])
    assert abs(penalty - np.sum((s**2 - 1) ** 2)) <= 100 * EPS * s.size * largest**4
    np.testing.assert_allclose(rows(dw), (u * (4 * (s**3 - s))) @ vt, atol=400 * EPS * s.size * largest**3)
    small, large = sorted((rows(w) @ rows(w).T, rows(w).T @ rows(w)), key=len)
    other = np.sum((large - np.eye(len(large))) ** 2)
    assert abs(other - penalty - (len(large) - len(small))) <= 100 * EPS * len(large) * largest**4


@FORMS
def test_orthonormal_weights_have_no_penalty_and_no_gradient(form):
    w = layers.orthonormal_(mg.tensor(np.zeros((4, 2, 3, 3)))).numpy()
    penalty, dw = pulled("orthonormality_penalty", form, np.array(1.0), w)
    assert penalty < 1e-28
    assert np.abs(dw).max() < 1e-13


def test_gradient_descent_on_the_penalty_makes_filters_orthonormal():
    w = mg.tensor(np.random.default_rng(0).normal(size=(5, 3, 2, 2)) * 0.3, requires_grad=True)
    for _ in range(200):
        penalty = layers.REGISTRY["orthonormality_penalty"].form("derived")(w)
        (dw,) = mg.grad(penalty, [w])
        w.data = w.data - 0.05 * dw.data
    assert penalty.item() < 1e-10


# -- what cannot be normalized ------------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("name, keywords, value", [("weight_norm", {}, 0.0), ("centered_weight_norm", {}, 0.7), ("weight_standardization", {"eps": 0.0}, 0.7)])
def test_a_filter_without_length_or_spread_is_an_error_on_the_host_only(name, keywords, value, form, fake_device):
    """Also one that is constant up to its last bits. On a device nothing may wait: NaN."""
    v = np.random.default_rng(0).normal(size=(3, 7)).astype("float32")
    v[1] = value
    gain = (np.ones(3, "float32"),) if name == "weight_norm" else ()
    with pytest.raises(ValueError, match="number 1"):
        function(name, form)(v, *gain, **keywords)
    v[1, 3:] = np.nextafter(v[1, 3:], np.float32(value and 1))  # in the last bit
    with pytest.raises(ValueError, match="number 1"):
        function(name, form)(v, *gain, **keywords)
    v[1] = value and 0.5  # exactly representable, and its mean too
    with np.errstate(all="ignore"), fake_device.no_sync():
        y = function(name, form)(*(mg.tensor(a, backend="fake") for a in (v, *gain)), **keywords)
    assert (np.isnan(y.numpy()).any(axis=1) == [False, True, False]).all()


@FORMS
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 8)])
def test_rows_that_cannot_be_orthonormal_need_eps(form, shape, fake_device):
    v = np.random.default_rng(0).normal(size=shape)
    if shape == (3, 8):
        v[2] = v[0] - 2 * v[1] + 3
    with pytest.raises(ValueError, match="depend on each other"):
        function("orthogonal_weight_norm", form)(v, eps=0.0)
    with np.errstate(all="ignore"), fake_device.no_sync():
        w = function("orthogonal_weight_norm", form)(mg.tensor(v, backend="fake"), eps=0.0)
    assert np.isnan(w.numpy()).all()
    assert np.isfinite(function("orthogonal_weight_norm", form)(v, eps=1e-5)).all()
    if shape != (3, 8):
        assert np.isfinite(function("orthogonal_weight_norm", form)(v, eps=0.0, group_size=2)).all()


@FORMS
def test_spectral_norm_of_zero_weights_is_an_error(form):
    with pytest.raises(ValueError, match="Wᵀu = 0"):
        function("spectral_norm", form)(np.zeros((2, 3)), u=np.ones(2))


@FORMS
@pytest.mark.parametrize("name, arrays, keywords, match", [
    ("weight_norm", [(3,), (3,)], {}, r"\(out, in\)"),
    ("weight_norm", [(3, 4), (4,)], {}, r"shape \(3,\)"),
    ("weight_norm", [(3, 4), (3, 1)], {}, r"shape \(3,\)"),
    ("centered_weight_norm", [(3,)], {}, r"\(out, in\)"),
    ("weight_standardization", [(3, 0)], {"eps": 0.1}, r"\(out, in\)"),
    ("weight_standardization", [(3, 2)], {"eps": -0.1}, "eps of at least 0"),
    ("orthogonal_weight_norm", [(3, 4)], {"eps": -0.1}, "eps of at least 0"),
    ("orthogonal_weight_norm", [(3, 4)], {"eps": 0.1, "group_size": 0}, "an integer of at least 1"),
    ("spectral_norm", [(3, 4)], {"u": np.ones(4)}, r"shape \(3,\)"),
    ("orthonormality_penalty", [(3,)], {}, r"\(out, in\)"),
])
def test_wrong_shapes_and_options_are_explained(form, name, arrays, keywords, match):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=match):
        function(name, form)(*(rng.normal(size=s) for s in arrays), **keywords)


def test_the_derived_forms_keep_the_weights_once_and_no_more():
    """Composed weight norm keeps two arrays of the size of v, v and u; derived one, v itself, which a Module holds anyway."""
    v = np.random.default_rng(0).normal(size=(8, 4, 3, 3))
    kept = {}
    for form in ("composed", "derived"):
        y = function("weight_norm", form)(mg.tensor(v, requires_grad=True) + 0.0, mg.tensor(np.ones(8)))
        kept[form] = mg.tape(y).kept_bytes / v.nbytes
    assert kept["composed"] > 1.9 and 1 <= kept["derived"] < 1.1


# -- on Modules ---------------------------------------------------------------------------------------------------------

OPTIONS = [("weight_norm", {}), ("centered_weight_norm", {}), ("centered_weight_norm", {"scale": False}), ("weight_standardization", {}),
           ("orthogonal_weight_norm", {}), ("orthogonal_weight_norm", {"group_size": 2, "scale": True}), ("spectral_norm", {})]
EVERY = pytest.mark.parametrize("name, options", OPTIONS)


def network(name, options, form=None, dtype="float64"):
    model = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=dtype), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5, dtype=dtype))
    for layer in (model[0], model[3]):
        layers.parametrize(layer, name, form=form, **options)
    return model


def batch(dtype="float64", backend=None, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(mg.tensor(rng.normal(size=s).astype(dtype), backend=backend) for s in ((4, 2, 4, 4), (4, 5)))


@EVERY
def test_a_parametrized_network_trains_and_its_two_forms_train_alike(name, options):
    """Ten steps of SGD: the parameters stay together (rounding, amplified by ten steps), and each of them has moved."""
    trained = []
    for form in ("composed", "derived"):
        mg.seed(0)
        model = network(name, options, form)
        start = copy.deepcopy(model.state_dict())
        optimizer = mg.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        x, g = batch()
        for _ in range(10):
            optimizer.zero_grad()
            model(x).backward(g)
            optimizer.step()
        trained.append(model.state_dict())
    for key, value in trained[0].items():
        assert relative_error(trained[1][key], value) < 1e-10
        assert relative_error(start[key], value) > 1e-6 or key.endswith(("_u", "_v"))


@EVERY
def test_copies_are_independent_and_states_are_exchanged(name, options):
    mg.seed(0)
    model, other = network(name, options), network(name, options)
    twin = copy.deepcopy(model)
    x, _ = batch()
    expected = model.eval()(x).numpy()
    assert (other.eval()(x).numpy() != expected).any()
    other.load_state_dict(model.state_dict())
    assert (other(x).numpy() == expected).all()
    assert (twin.eval()(x).numpy() == expected).all()
    with mg.no_grad():
        for p in model.parameters():
            p[...] = p + 1.0 * (p.ndim > 1) * mg.tensor(np.random.default_rng(1).normal(size=p.shape))
    assert (model(x).numpy() != expected).any()
    assert (twin(x).numpy() == expected).all()
    layers.remove_parametrization(model[3])
    assert type(model[3]) is nn.Linear and type(twin[3]) is not nn.Linear
    assert (twin(x).numpy() == expected).all()


@EVERY
def test_removing_keeps_values_the_parameter_and_the_class(name, options):
    mg.seed(0)
    plain = nn.Linear(6, 4, dtype="float64")
    keys, weight = set(plain.state_dict()), plain.weight
    model = layers.parametrize(plain, name, **options)
    assert isinstance(model, nn.Linear) and type(model).__name__ == "ParametrizedLinear"
    assert any(p is weight for p in model.parameters())
    computed = model.eval().weight.numpy()
    model.train()
    assert layers.remove_parametrization(model) is model
    assert type(model) is nn.Linear and set(model.state_dict()) == keys and model.weight is weight
    assert (model.weight.numpy() == computed).all()
    y = model(mg.tensor(np.ones((2, 6))))
    assert "weight" in {line.name for line in mg.tape(y)}
    layers.parametrize(model, name, **options)  # and once more


@pytest.mark.more
@EVERY
def test_a_parametrized_layer_passes_a_gradient_check_in_both_orders(name, options):
    """All variables: the input and the originals. Power iteration rests meanwhile."""
    mg.seed(1)
    model = layers.parametrize(nn.Linear(6, 4, dtype="float64"), name, **options)
    before = copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())

    def f(x, *values):
        twin = copy.deepcopy(model)
        found = dict(zip((id(p) for p in parameters), values, strict=True))
        for module, copied in zip(model.modules(), twin.modules(), strict=True):
            for key, p in module._parameters.items():
                copied._parameters[key] = found[id(p)]
        return twin(x)
    report = mg.gradcheck(f, [mg.tensor(np.random.default_rng(0).normal(size=(3, 6))), *parameters], order=2)
    assert report, str(report)
    assert all((model.state_dict()[k].numpy() == before[k].numpy()).all() for k in before)


@EVERY
def test_on_a_device_nothing_waits_for_the_host(name, options, fake_device):
    mg.seed(0)
    model = network(name, options, dtype="float32")
    x, g = batch("float32")
    model(x).backward(g)
    expected = [p.grad.numpy() for p in model.parameters()]
    mg.seed(0)
    moved = network(name, options, dtype="float32").to("fake")
    x, g = batch("float32", "fake")
    with fake_device.no_sync():
        moved(x).backward(g)
    for p, e in zip(moved.parameters(), expected, strict=True):
        assert p.grad.backend == "fake"
        assert relative_error(p.grad.numpy(), e) < 1e-5


@EVERY
def test_summary_counts_the_originals(name, options):
    model = network(name, options)
    text = model.summary((4, 2, 4, 4))
    assert f"total {sum(p.size for p in model.parameters())}" in " ".join(text.split())
    assert text.count("weight Parametrization") == 2


def test_keys_and_shapes_are_those_of_the_table():
    def shapes(name, **options):
        return {k: v.shape for k, v in layers.parametrize(nn.Conv2d(2, 4, 3, bias=False), name, **options).state_dict().items()}
    two = {"parametrizations.weight.original0": (4, 1, 1, 1), "parametrizations.weight.original1": (4, 2, 3, 3)}
    one = {"parametrizations.weight.original": (4, 2, 3, 3)}
    assert shapes("weight_norm") == shapes("centered_weight_norm") == shapes("orthogonal_weight_norm", scale=True) == two
    assert shapes("centered_weight_norm", scale=False) == shapes("weight_standardization") == shapes("orthogonal_weight_norm") == one
    assert shapes("spectral_norm") == {**one, "parametrizations.weight.0._u": (4,), "parametrizations.weight.0._v": (18,)}


def test_weight_norm_changes_no_value_at_first_and_the_others_what_they_say():
    def computed(name, **options):
        mg.seed(0)
        return layers.parametrize(nn.Linear(9, 4, dtype="float64"), name, **options).eval().weight.numpy()
    mg.seed(0)
    w = nn.Linear(9, 4, dtype="float64").weight.numpy()
    centred = w - w.mean(1, keepdims=True)
    np.testing.assert_allclose(computed("weight_norm"), w, rtol=1e-14)
    np.testing.assert_allclose(computed("centered_weight_norm"), centred, atol=1e-15)
    np.testing.assert_allclose(lengths(computed("centered_weight_norm", scale=False)), 1.0, rtol=1e-14)
    np.testing.assert_allclose(computed("weight_standardization", eps=0.0).std(1), 1.0, rtol=1e-14)
    orthonormal = computed("orthogonal_weight_norm", eps=0.0)
    np.testing.assert_allclose(orthonormal @ orthonormal.T, np.eye(4), atol=1e-13)
    np.testing.assert_allclose(lengths(computed("orthogonal_weight_norm", eps=0.0, scale=True)), lengths(centred), rtol=1e-13)
    sigma = np.linalg.svd(computed("spectral_norm"), compute_uv=False)[0]
    assert 1 <= sigma < 1.01  # after the 15 iterations of the start


def test_nothing_is_cached():
    layer = layers.parametrize(nn.Linear(3, 2, dtype="float64"), "weight_norm")
    before = layer.weight
    assert layer.weight is not before
    with mg.no_grad():
        layer.parametrizations.weight.original0[...] = 2.0
    np.testing.assert_allclose(lengths(layer.weight.numpy()), 2.0, rtol=1e-14)


def test_two_tensors_of_one_module_and_every_module_by_itself():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(np.eye(2, 3)), nn.Parameter(np.eye(3, 2) - np.eye(3, 2, -1))

        def forward(self, x):
            return x @ self.a @ self.b

    first, second = (layers.parametrize(Two(), "weight_norm", tensor_name="a") for _ in range(2))
    assert type(first) is type(second)
    layers.parametrize(first, "centered_weight_norm", tensor_name="b")
    assert type(second)._computed == ("a",) and type(first)._computed == ("a", "b")
    assert "parametrizations.b.original1" in first.state_dict() and "b" in second.state_dict()
    layers.remove_parametrization(first, "a")
    assert type(first)._computed == ("b",)
    layers.remove_parametrization(first, "b")
    assert type(first) is Two and list(first.state_dict()) == ["a", "b"]


def test_a_frozen_weight_stays_frozen():
    layer = nn.Linear(3, 2).requires_grad_(False)
    layers.parametrize(layer, "weight_norm")
    assert not any(p.requires_grad for p in layer.parameters())
    assert not layer(mg.tensor([[1.0, 2.0, 3.0]])).requires_grad


def test_forms_are_chosen_as_elsewhere():
    with layers.use_form("composed"):
        layer = layers.parametrize(nn.Linear(3, 2), "centered_weight_norm", scale=False)
    assert "centered_weight_norm" not in {line.op for line in mg.tape(layer.weight)}
    layer = layers.parametrize(nn.Linear(3, 2), "centered_weight_norm", scale=False)
    assert "centered_weight_norm" in {line.op for line in mg.tape(layer.weight)}
    assert "form='derived'" in repr(layer)


def test_wrong_uses_are_explained():
    layer = layers.parametrize(nn.Linear(3, 2), "weight_norm")
    with pytest.raises(ValueError, match="computed already"):
        layers.parametrize(layer, "weight_norm")
    with pytest.raises(TypeError, match="computed from its originals"):
        layer.weight = nn.Parameter(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="it has: none"):
        layers.parametrize(nn.Sequential(nn.Linear(3, 2)), "weight_norm")
    with pytest.raises(ValueError, match="it has: weight"):
        layers.parametrize(nn.Linear(3, 2), "weight_norm", tensor_name="bias")
    with pytest.raises(ValueError, match="add a penalty to the loss"):
        layers.parametrize(nn.Linear(3, 2), "orthonormality_penalty")
    with pytest.raises(TypeError, match="eps"):
        layers.parametrize(nn.Linear(3, 2), "weight_standardization", epsilon=1.0)
    with pytest.raises(ValueError, match="one_line"):
        layers.parametrize(nn.Linear(3, 2), "weight_norm", form="two_lines")
    with pytest.raises(ValueError, match="at least 1"):
        layers.parametrize(nn.Linear(3, 2), "spectral_norm", n_power_iterations=0)
    with pytest.raises(ValueError, match="it has: none"):
        layers.remove_parametrization(nn.Linear(3, 2))


# -- spectral norm's state ----------------------------------------------------------------------------------------------


def test_power_iteration_runs_in_training_only_and_converges():
    mg.seed(0)
    layer = layers.parametrize(nn.Linear(8, 6, dtype="float64"), "spectral_norm")
    rule = layer.parametrizations.weight._modules["0"]
    start = rule._u.numpy()
    _ = layer.eval().weight
    assert (rule._u.numpy() == start).all()
    twin = copy.deepcopy(layer)
    _ = layers.parametrize(layers.remove_parametrization(twin), "spectral_norm").weight  # put on in evaluation mode
    assert not twin.parametrizations.weight.training
    layer.train()
    for _ in range(300):
        w = layer.weight
    assert np.linalg.svd(w.numpy(), compute_uv=False)[0] == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(np.linalg.norm(rule._u.numpy()), 1.0, rtol=4 * EPS)
    assert (rule._u.numpy() != start).any()


def test_a_second_forward_does_not_change_the_backward_of_the_first():
    """As in GAN training, where two batches pass before one backward: each line keeps its own u."""
    def gradient(forwards):
        mg.seed(0)
        layer = layers.parametrize(nn.Linear(8, 6, dtype="float64"), "spectral_norm")
        y = layer(mg.tensor(np.random.default_rng(0).normal(size=(3, 8))))
        for _ in range(forwards):
            layer(mg.tensor(np.ones((3, 8))))
        y.backward(mg.tensor(np.random.default_rng(1).normal(size=(3, 6))))
        return layer.parametrizations.weight.original.grad.numpy()
    assert (gradient(0) == gradient(3)).all()


# -- PyTorch as an oracle -----------------------------------------------------------------------------------------------


def both(torch, kind, name, dtype="float64"):
    """The same layer with the same parametrization in both libraries, with PyTorch's state."""
    make = {"Linear": lambda m, **kw: m.Linear(6, 4, **kw), "Conv2d": lambda m, **kw: m.Conv2d(2, 3, 3, **kw)}[kind]
    theirs = getattr(torch.nn.utils.parametrizations, name)(make(torch.nn, dtype=getattr(torch, dtype)))
    ours = layers.parametrize(make(nn, dtype=dtype), name)
    state = {k: v.numpy().copy() for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    ours.load_state_dict(state)
    return ours, theirs


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_outputs_gradients_and_states_are_pytorchs_over_five_steps(name, kind):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = both(torch, kind, name)
    mine = mg.optim.SGD(ours.parameters(), lr=0.1)
    other = torch.optim.SGD(theirs.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = rng.normal(size=(5, 6) if kind == "Linear" else (5, 2, 4, 4))
        y, t = ours(mg.tensor(x)), theirs(torch.tensor(x))
        g = rng.normal(size=y.shape)
        mine.zero_grad()
        other.zero_grad()
        y.backward(mg.tensor(g))
        t.backward(torch.tensor(g))
        assert relative_error(y.numpy(), t.detach().numpy()) < 1e-13
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert relative_error(p.grad.numpy(), q.grad.numpy()) < 1e-12
        mine.step()
        other.step()
    for key, value in theirs.state_dict().items():
        assert relative_error(ours.state_dict()[key], value.numpy()) < 1e-12


def test_in_evaluation_sigma_differs_from_pytorchs_in_second_order_only():
    """PyTorch keeps the v of the last training step, uᵀWv; here σ = ‖Wᵀu‖ with the present W. See SpectralNorm."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    difference = {}
    for change in (0.0, 1e-2, 1e-3):
        ours, theirs = both(torch, "Linear", "spectral_norm")
        ours.eval(), theirs.eval()
        step = np.random.default_rng(0).normal(size=(4, 6))
        with mg.no_grad(), torch.no_grad():
            ours.parametrizations.weight.original[...] = ours.parametrizations.weight.original + change * mg.tensor(step)
            theirs.parametrizations.weight.original += change * torch.tensor(step)
        difference[change] = relative_error(ours.weight.numpy(), theirs.weight.detach().numpy())
    assert difference[0.0] < 1e-14
    assert difference[1e-2] < 1e-2 and difference[1e-3] < 2e-4


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2)])
def test_orthogonal_draws_have_pytorchs_statistics(shape):
    """Haar: for entries q of an n-vector E q² = 1/n and E q⁴ = 3/(n (n + 2)). Means of 400 draws, to 5 standard errors."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mg.seed(0)
    n = max(shape)
    w, t = mg.tensor(np.zeros(shape)), torch.zeros(shape, dtype=torch.float64)
    samples = [np.array([draw() for _ in range(400)]) for draw in (lambda: layers.orthonormal_(w).numpy(), lambda: torch.nn.init.orthogonal_(t).numpy().copy())]
    for moment, expected in ((1, 0.0), (2, 1 / n), (4, 3 / (n * (n + 2)))):
        for s in samples:
            error = (s**moment).std() / 400**0.5
            assert np.abs((s**moment).mean(0) - expected).max() < 5 * error
    if shape[0] == shape[1]:  # reflections and rotations are equally likely
        assert all(abs(np.sign(np.linalg.det(s)).mean()) < 5 / 400**0.5 for s in samples)


# -- orthonormal initialization -----------------------------------------------------------------------------------------


@given(shape=SHAPES, gain=st.floats(0.1, 3), seed=st.integers(0, 2**31 - 1))
def test_initial_filters_are_orthonormal_on_the_smaller_side(shape, gain, seed):
    mg.seed(seed)
    w = mg.tensor(np.zeros(shape))
    assert layers.orthonormal_(w, gain) is w
    matrix = rows(w.numpy())
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=100 * EPS * gain**2)


def test_groups_are_orthonormal_one_by_one(backend):
    w = layers.orthonormal_(mg.tensor(np.zeros((6, 2, 1, 2)), backend=backend), 2.0, groups=3)
    for part in np.split(rows(w.numpy()), 3):
        np.testing.assert_allclose(part @ part.T, 4 * np.eye(2), atol=1e-14)
    depthwise = layers.orthonormal_(mg.tensor(np.zeros((4, 1, 3, 3)), backend=backend), groups=4)
    np.testing.assert_allclose(lengths(depthwise.numpy()), 1.0, rtol=1e-14)
    with pytest.raises(ValueError, match="groups divides"):
        layers.orthonormal_(w, groups=4)


def test_a_whole_network_starts_orthonormal_and_computed_weights_are_refused():
    mg.seed(0)
    model = layers.orthonormal_init(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 8)))
    w = model[2].weight.numpy()
    np.testing.assert_allclose(w @ w.T, np.eye(8), atol=1e-5)
    assert all((layer.bias.numpy() == 0).all() for layer in (model[0], model[2]))
    layers.parametrize(model[2], "weight_norm")
    with pytest.raises(TypeError):
        layers.orthonormal_init(model)
