"""The Jacobian of batch norm (bn-jacobian, equations 1-10), how isometric layers are, and modulation."""

import copy
import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import layers
import minigrad as mg
from minigrad import nn

EPS = np.finfo(np.float64).eps
FORMS = pytest.mark.parametrize("form", ["composed", "staged", "one_line"])
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(3, 24)
EPSILONS = st.sampled_from([0.0, 1e-5, 0.3])


def channel(rng, m, mean=0.0):
    """m values with variance 1 (m = 1: one value)."""
    x = rng.normal(size=m)
    return (x - x.mean()) / (x.std() or 1.0) + mean


def backward(form, x, g, *, eps, gamma=1.0):
    """dx of batch norm for one channel x (m,)."""
    v = mg.tensor(x[:, None], requires_grad=True)
    y = layers.REGISTRY["batch_norm"].form(form)(v, mg.tensor([gamma], dtype="float64"), mg.tensor([0.0], dtype="float64"), eps=eps)
    return mg.grad(y, [v], mg.tensor(g[:, None]))[0].numpy()[:, 0]


def rank_one(x, *, eps):
    """x̂ and ρ at γ = 1."""
    rho = 1 / np.sqrt(x.var() + eps)
    return (x - x.mean()) * rho, rho


# -- equations 1-10 -----------------------------------------------------------------------------------------------------


@FORMS
def test_equations_1_to_4_the_jacobian_of_a_batch_is_block_diagonal_by_channel(form):
    rng = np.random.default_rng(0)
    x, gamma = rng.normal(size=(5, 3)), rng.normal(size=3)
    jacobian = mg.jacobian(lambda v: layers.REGISTRY["batch_norm"].form(form)(v, mg.tensor(gamma), mg.tensor(np.zeros(3)), eps=0.1), mg.tensor(x)).numpy()
    for k in range(3):
        for other in range(3):
            block = jacobian[:, k, :, other]  # eq 2: D_ij is diagonal
            expected = layers.batch_norm_jacobian(x[:, k], eps=0.1, gamma=gamma[k]) if k == other else np.zeros((5, 5))
            np.testing.assert_allclose(block, expected, atol=1e-14)
    xhat, rho = rank_one(x[:, 0], eps=0.1)
    entries = [[gamma[0] * rho * ((i == j) - (1 + xhat[i] * xhat[j]) / 5) for j in range(5)] for i in range(5)]  # eq 4
    np.testing.assert_allclose(jacobian[:, 0, :, 0], entries, atol=1e-14)


@pytest.mark.more
@given(m=SIZES, seed=SEEDS, eps=EPSILONS, mean=st.floats(-5, 5))
def test_equations_5_to_8_and_10_for_any_data(m, seed, eps, mean):
    """U = eeᵀ + x̂x̂ᵀ, rank 2, eigenvectors e and x̂, U² = mU − (mε/(var + ε)) x̂x̂ᵀ: exact, without any Gaussian."""
    x = channel(np.random.default_rng(seed), m, mean)
    xhat, _ = rank_one(x, eps=eps)
    u, e = layers.batch_norm_u(x, eps=eps), np.ones(m)
    atol = 64 * EPS * m * (1 + abs(mean))  # centring a value of size |mean| costs |mean| units, sums of m entries m of them
    np.testing.assert_allclose(u, np.outer(e, e) + np.outer(xhat, xhat), atol=atol * m)
    second = m * x.var() / (x.var() + eps)
    np.testing.assert_allclose(u @ e, m * e, atol=atol * m)
    np.testing.assert_allclose(u @ xhat, second * xhat, atol=atol * m)
    np.testing.assert_allclose(u @ u, m * u - m * eps / (x.var() + eps) * np.outer(xhat, xhat), atol=atol * m**2)
    values = np.linalg.eigvalsh(u)
    np.testing.assert_allclose(values[-2:], [second, m], atol=atol * m)
    np.testing.assert_allclose(values[:-2], 0, atol=atol * m)
    if eps == 0:
        np.testing.assert_allclose(u @ u, m * u, atol=atol * m**2)


def test_the_papers_approximation_is_exact_for_two_samples_of_anything():
    """m = 2 and a skewed batch: far from large and Gaussian."""
    for x in (np.array([0.0, 7.0]), np.array([0.0, 0.0, 0.0, 1.0])):
        u = layers.batch_norm_u(x, eps=0.0)
        np.testing.assert_allclose(u @ u, len(x) * u, rtol=1e-14, atol=1e-14)


# -- invariants 5-9 -----------------------------------------------------------------------------------------------------


@pytest.mark.more
@FORMS
@given(m=st.integers(2, 16), seed=SEEDS, eps=EPSILONS, gamma=st.sampled_from([1.0, 2.5, -0.7]))
def test_spectrum_is_0_then_eps_over_var_plus_eps_then_1(form, m, seed, eps, gamma):
    """Invariant 5 and eq 9: the closed form, the matrix, and the Jacobian of the layer itself, column by column."""
    x = channel(np.random.default_rng(seed), m)
    jacobian = np.array([backward(form, x, e, eps=eps, gamma=gamma) for e in np.eye(m)])
    matrix, spectrum = layers.batch_norm_jacobian(x, eps=eps, gamma=gamma), layers.batch_norm_spectrum(x, eps=eps, gamma=gamma)
    np.testing.assert_allclose(jacobian, matrix, atol=64 * EPS * abs(gamma))
    np.testing.assert_allclose(matrix, matrix.T, atol=4 * EPS * abs(gamma))
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.sort(spectrum), atol=64 * EPS * abs(gamma))
    rho = gamma / np.sqrt(x.var() + eps)
    np.testing.assert_allclose(spectrum, rho * np.r_[0, eps / (x.var() + eps), np.ones(m - 2)], atol=8 * EPS * abs(gamma))
    xhat, _ = rank_one(x, eps=eps)
    np.testing.assert_allclose(matrix @ np.ones(m), 0, atol=64 * EPS * m * abs(gamma))
    np.testing.assert_allclose(matrix @ xhat, spectrum[1] * xhat, atol=64 * EPS * m * abs(gamma))


@given(m=SIZES, seed=SEEDS)
def test_two_null_vectors_if_and_only_if_eps_is_zero(m, seed):
    x = channel(np.random.default_rng(seed), m)
    for eps, rank in ((0.0, m - 2), (1e-5, m - 1), (0.3, m - 1)):
        assert np.linalg.matrix_rank(layers.batch_norm_jacobian(x, eps=eps), tol=1e-9) == rank


@FORMS
@given(m=SIZES, seed=SEEDS, gamma=st.sampled_from([1.0, 2.5, -0.7]))
def test_the_backward_at_eps_0_is_a_multiple_of_a_projection(form, m, seed, gamma):
    """Invariant 6: B∘B = (γ/s) B.  (Invariant 9: the null directions of g.)"""
    rng = np.random.default_rng(seed)
    x, g = channel(rng, m), rng.normal(size=m)
    once = backward(form, x, g, eps=0.0, gamma=gamma)
    twice = backward(form, x, once, eps=0.0, gamma=gamma)
    atol = 64 * EPS * np.linalg.norm(g)  # terms as large as γg and γ²g cancel
    np.testing.assert_allclose(twice, gamma / x.std() * once, atol=atol * gamma**2)
    a, b = rng.normal(size=2)
    moved = backward(form, x, g + a + b * rank_one(x, eps=0.0)[0], eps=0.0, gamma=gamma)
    np.testing.assert_allclose(moved, once, atol=atol * abs(gamma) * (1 + abs(a) + abs(b)) * m**0.5)


@FORMS
@given(m=SIZES, seed=SEEDS, eps=EPSILONS, log_a=st.floats(-2, 2), sign=st.sampled_from([1, -1]), b=st.floats(-10, 10))
def test_rescaling_the_input_divides_the_gradient_by_the_magnitude_of_the_scale(form, m, seed, eps, log_a, sign, b):
    """Invariant 7: dx(ax + b; a²ε) = dx(x; ε)/|a| for the same g, whatever the sign of a: x̂ turns round, and x̂ mean(g x̂) does not."""
    rng, a = np.random.default_rng(seed), sign * 10.0**log_a
    x, g = channel(rng, m), rng.normal(size=m)
    dx, scaled = backward(form, x, g, eps=eps), backward(form, a * x + b, g, eps=a * a * eps)
    lost = 1 + abs(b / a)  # of the digits of x, when b is added to ax
    np.testing.assert_allclose(scaled * abs(a), dx, atol=256 * EPS * np.linalg.norm(g) * lost)


@FORMS
@given(seed=SEEDS, gamma=st.sampled_from([0.0, 1.0, -2.5, 1e-3]), distance=st.floats(-100, 100))
def test_a_batch_of_two_has_no_gradient_at_eps_0(form, seed, gamma, distance):
    """Invariant 8: y is ±γ whatever x. A gradient check with m = 2 accepts any multiple of zero."""
    assume(abs(distance) > 1e-2)
    rng = np.random.default_rng(seed)
    g = rng.normal(size=2)
    dx = backward(form, np.array([1.0, 1.0 + distance]), g, eps=0.0, gamma=gamma)
    lost = 1 + 1 / abs(distance)
    assert np.abs(dx).max() <= 64 * EPS * lost * abs(gamma / (distance / 2)) * np.linalg.norm(g)


def test_one_value_in_a_channel_and_constant_channels():
    assert layers.batch_norm_jacobian(np.array([3.0]), eps=0.1) == 0
    assert layers.batch_norm_spectrum(np.array([3.0]), eps=0.1) == 0
    flat = np.full(4, 0.5)
    np.testing.assert_allclose(layers.batch_norm_spectrum(flat, eps=0.25), [0, 2, 2, 2])  # x̂ = 0: only the mean is lost
    np.testing.assert_allclose(np.linalg.eigvalsh(layers.batch_norm_jacobian(flat, eps=0.25)), [0, 2, 2, 2], atol=1e-15)
    with pytest.raises(ValueError, match="constant"):
        layers.batch_norm_jacobian(flat, eps=0.0)
    with pytest.raises(ValueError, match="one channel"):
        layers.batch_norm_jacobian(np.ones((4, 2)), eps=0.1)


def test_tensors_of_every_backend_are_taken(backend):
    x = np.array([1.0, 2.0, 4.0])
    for f in (layers.batch_norm_jacobian, layers.batch_norm_u, layers.batch_norm_spectrum):
        found = f(mg.tensor(x, backend=backend), eps=0.1)
        assert found.backend == backend
        np.testing.assert_allclose(found.numpy(), f(x, eps=0.1), atol=1e-15)


# -- isometry -----------------------------------------------------------------------------------------------------------


def exact(jacobian):
    """(ratio, spread) from singular values."""
    s = np.linalg.svd(jacobian, compute_uv=False)
    return np.sqrt(np.sum(s**2) / jacobian.shape[0]), np.std(s**2) / np.mean(s**2)


@given(out=st.integers(1, 8), inputs=st.integers(1, 8), seed=SEEDS)
def test_isometry_is_exact_when_unit_vectors_fit(out, inputs, seed):
    rng = np.random.default_rng(seed)
    w, x = rng.normal(size=(out, inputs)), mg.tensor(rng.normal(size=inputs))
    found = layers.isometry(lambda v: mg.tanh(mg.tensor(w) @ v), x)
    y = np.tanh(w @ x.numpy())
    ratio, spread = exact((1 - y**2)[:, None] * w)
    assert found.ratio == pytest.approx(ratio, rel=1e-12)
    assert found.spread**2 == pytest.approx(spread**2, rel=1e-12, abs=1e-12)  # the difference of numbers from 1 to n


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_random_probes_estimate_it(shape):
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape)
    ratio, spread = exact(w)
    found = layers.isometry(lambda v: mg.tensor(w) @ v, mg.tensor(rng.normal(size=shape[1])), probes=32)
    assert found.ratio == pytest.approx(ratio, rel=4 / (40 * 32) ** 0.5)
    assert found.spread == pytest.approx(spread, rel=8 / (40 * 32) ** 0.5)
    assert found == layers.isometry(lambda v: mg.tensor(w) @ v, mg.tensor(rng.normal(size=shape[1])), probes=32)


def test_orthonormal_layers_are_isometries_with_any_probes():
    q = layers.orthonormal_(mg.tensor(np.zeros((30, 50))), 3.0)
    found = layers.isometry(lambda v: q @ v, mg.tensor(np.ones(50)), probes=4)
    assert found.ratio == pytest.approx(3.0, rel=1e-13)
    assert found.spread < 1e-6  # the root of rounding


@pytest.mark.parametrize("m", [3, 10, 40])
def test_batch_norm_of_one_channel_forgets_two_directions(m):
    """Ratio ρ √((m − 2)/m), spread √(2/(m − 2)), and running statistics are left alone."""
    layer = layers.BatchNorm1d(1, eps=0.0).astype("float64")
    before = copy.deepcopy(layer.state_dict())
    x = np.random.default_rng(0).normal(size=(m, 1))
    found = layers.isometry(layer, mg.tensor(x), probes=40)
    assert found.ratio == pytest.approx(1 / x.std() * ((m - 2) / m) ** 0.5, rel=1e-12)
    assert found.spread == pytest.approx((2 / (m - 2)) ** 0.5, rel=1e-12)
    assert all((layer.state_dict()[k].numpy() == before[k].numpy()).all() for k in before)


def test_isometry_of_functions_without_a_gradient():
    found = layers.isometry(lambda x: mg.relu(x), mg.tensor([-1.0, -2.0]))
    assert found.ratio == 0 and np.isnan(found.spread)
    found = layers.isometry(lambda x: mg.tensor([1.0]), mg.tensor([-1.0, -2.0]))
    assert found.ratio == 0 and np.isnan(found.spread)


def deep(depth=6, scale=0.4, wrap=lambda layer: layer, seed=0):
    mg.seed(seed)
    model = nn.Sequential()
    for _ in range(depth):
        linear = nn.Linear(8, 8, dtype="float64")
        layers.orthonormal_(linear.weight, scale)
        model.append(wrap(nn.Sequential(linear, nn.Tanh())))
    return model


def test_isometry_by_layer_follows_the_activations(backend):
    model = deep(3).to(backend)
    x = mg.tensor(np.random.default_rng(0).normal(size=(2, 8)), backend=backend)
    found = layers.isometry_by_layer(model, x)
    assert list(found) == ["0", "1", "2"]
    for name, layer in zip(found, model, strict=True):
        jacobian = mg.jacobian(layer, x).numpy().reshape(16, 16)
        np.testing.assert_allclose(found[name], exact(jacobian), rtol=1e-10)
        x = layer(x).detach()
    with pytest.raises(TypeError, match="Sequential"):
        layers.isometry_by_layer(nn.Linear(2, 2), x)


# -- gradients from layer to layer --------------------------------------------------------------------------------------


def square_loss(y):
    return mg.sum((y - 0.5) ** 2)


def test_gradient_ratios_are_those_of_a_backward_by_hand():
    model, x = deep(4), mg.tensor(np.random.default_rng(1).normal(size=(3, 8)))
    ratios = layers.gradient_ratios(model, x, square_loss)
    points = [mg.tensor(x.numpy(), requires_grad=True)]
    for layer in model:
        points.append(layer(points[-1]))
    sizes = [np.linalg.norm(g.numpy()) for g in mg.grad(square_loss(points[-1]), points)]
    assert list(ratios) == ["0", "1", "2", "3"]
    np.testing.assert_allclose(list(ratios.values()), [a / b for a, b in itertools.pairwise(sizes)], rtol=1e-14)
    assert all(p.grad is None for p in model.parameters())
    layers.isometry_by_layer(model, x)
    assert not x.requires_grad


def test_shared_and_transparent_layers_are_all_seen():
    act = nn.Tanh()
    model = nn.Sequential(nn.Identity(), act, act, nn.Identity())
    ratios = layers.gradient_ratios(model, mg.tensor([0.5, 1.0]), square_loss)
    assert list(ratios) == ["0", "1", "2", "3"]
    assert ratios["0"] == ratios["3"] == 1.0 and ratios["1"] < 1 and ratios["2"] < 1


def test_a_ratio_without_a_gradient_is_not_a_number():
    ratios = layers.gradient_ratios(nn.Sequential(nn.Tanh(), nn.ReLU()), mg.tensor([-0.5, -1.0]), square_loss)
    assert np.isnan(ratios["0"]) and ratios["1"] == 0


# -- modulation ---------------------------------------------------------------------------------------------------------


def test_modulation_keeps_gradients_from_vanishing():
    """Layers that shrink gradients to less than 0.4 of their size pass them on unshrunk; with half the strength, to the root."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(3, 8)))
    plain = layers.gradient_ratios(deep(), x, square_loss)
    full = layers.gradient_ratios(deep(wrap=layers.Modulated), x, square_loss)
    half = layers.gradient_ratios(deep(wrap=lambda f: layers.Modulated(f, strength=0.5)), x, square_loss)
    none = layers.gradient_ratios(deep(wrap=lambda f: layers.Modulated(f, strength=0.0)), x, square_loss)
    assert max(plain.values()) <= 0.4 + 1e-12
    np.testing.assert_allclose(list(full.values()), 1.0, rtol=1e-14)
    top = list(plain)[-1]  # below the top the signals, and so the ratios, are other ones
    assert half[top] == pytest.approx(plain[top] ** 0.5, rel=1e-13)
    np.testing.assert_allclose(list(none.values()), list(plain.values()), rtol=1e-14)


def test_modulation_stays_within_its_limit_and_leaves_zero_alone():
    x = mg.tensor(np.random.default_rng(0).normal(size=(3, 8)))
    for scale, expected in ((0.1, 0.2), (10.0, 5.0)):
        model = nn.Sequential(layers.Modulated(layers.orthonormal_init(nn.Linear(8, 8, dtype="float64"), scale), limit=2.0))
        assert layers.gradient_ratios(model, x, square_loss)["0"] == pytest.approx(expected, rel=1e-13)
    model = nn.Sequential(layers.Modulated(nn.ReLU()))
    v = mg.tensor([-1.0, -2.0], requires_grad=True)
    assert (mg.grad(square_loss(model(v)), [v])[0].numpy() == 0).all()
    assert (mg.grad(mg.sum(0.0 * model(v)), [v])[0].numpy() == 0).all()


def test_parameters_of_the_layer_itself_get_their_own_gradient():
    """Only what is passed on is rescaled: one modulated layer at the bottom changes no parameter's gradient at all."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(3, 8)), requires_grad=True)
    plain, modulated = deep(1), deep(1, wrap=layers.Modulated)
    found = [mg.grad(square_loss(m(x)), [x, *m.parameters()]) for m in (plain, modulated)]
    assert (found[0][0].numpy() != found[1][0].numpy()).any()
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert (a.numpy() == b.numpy()).all()


def test_a_gradient_check_rightly_fails_on_modulation():
    mg.seed(0)
    linear, x = nn.Linear(5, 4, dtype="float64"), mg.tensor(np.random.default_rng(0).normal(size=(3, 5)))
    assert mg.gradcheck(layers.Modulated(linear, strength=0.0), [x], order=2)
    report = mg.gradcheck(layers.Modulated(linear), [x])
    assert not report and [row.verdict for row in report.rows] == ["wrong"]
    assert "× truth" in str(report)  # the direction is right, the size is not


def test_modulation_works_under_create_graph_without_an_input_gradient_and_on_every_backend(backend):
    model = deep(2, wrap=layers.Modulated).to(backend)
    x = mg.tensor(np.random.default_rng(0).normal(size=(3, 8)), backend=backend)
    square_loss(model(x)).backward()
    first = [p.grad.numpy() for p in model.parameters()]
    found = mg.grad(square_loss(model(x)), list(model.parameters()), create_graph=True)
    for a, b in zip(first, found, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-13)
    (second,) = mg.grad(mg.sum(found[0] ** 2), [next(iter(model.parameters()))])
    assert np.isfinite(second.numpy()).all()
    with mg.no_grad():
        assert not model(x).requires_grad


@pytest.mark.parametrize("options", [{"strength": 1.5}, {"strength": -0.1}, {"limit": 0.5}])
def test_wrong_strengths_and_limits_are_explained(options):
    with pytest.raises(ValueError, match="strength from 0 to 1"):
        layers.Modulated(nn.Tanh(), **options)
