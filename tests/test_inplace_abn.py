"""InPlace-ABN beyond the agreement of its forms (test_layers.py): the clamp on gamma, what going back costs, and memory."""

import runpy
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import layers
import minigrad as mg
from helpers import relative_error, to_host
from layers.batch.inplace_abn import SMALLEST, away_from_zero, rebuilt, statistics
from minigrad.core.donation import Taken
from minigrad.kernels import normalize

ABN = layers.REGISTRY["inplace_abn"]
FORMS = ["composed", *ABN.derived]
U = np.finfo("float32").eps / 2  # one rounding


def inputs(rng, shape, dtype="float64", gamma=None, beta=None, backend=None):
    """x, gamma, beta as variables on the current backend."""
    c = shape[1]
    arrays = rng.normal(0.3, 1.5, shape), rng.normal(1, 0.3, c) if gamma is None else np.array(gamma), rng.normal(0, 0.5, c) if beta is None else np.array(beta)
    return [mg.tensor(a.astype(dtype), requires_grad=True, backend=backend or mg.backend.current_name()) for a in arrays]


def gradients(form, xs, v, **keywords):
    y = ABN.form(form)(*xs, eps=1e-5, **keywords)
    return [y.numpy(), *(g.numpy() for g in mg.grad(y, xs, mg.tensor(v.astype(y.dtype), backend=y.backend)))]


# -- gamma is held away from 0 ------------------------------------------------------------------------------------------


def test_the_clamp_is_copysign_of_the_maximum(xp):
    gamma = np.array([0.0, -0.0, 1e-9, -1e-9, 1e-3, -1e-3, 0.5, -0.5, np.nan])
    np.testing.assert_array_equal(to_host(away_from_zero(xp.asarray(gamma))), np.copysign(np.maximum(np.abs(gamma), SMALLEST), gamma))
    assert away_from_zero(xp.asarray(gamma.astype("float32"))).dtype == "float32"


@pytest.mark.parametrize("form", FORMS)
def test_where_the_clamp_holds_gamma_back_its_gradient_is_zero_in_every_form(form, backend, rng):
    gamma = [0.0, -0.0, 9e-4, -9e-4, SMALLEST, -SMALLEST, 2e-3]
    xs = inputs(rng, (6, 7, 2, 2), gamma=gamma)
    v = rng.normal(size=(6, 7, 2, 2))
    y, dx, d_gamma, _ = gradients(form, xs, v)
    assert not d_gamma[:4].any() and d_gamma[4:].all(), "at the kink itself it is that of gamma"
    assert np.isfinite(dx).all() and (np.abs(dx).max((0, 2, 3)) > 0).all(), "x still learns"
    signs = np.sign(y[:, :2] - y[:, :2].mean((0, 2, 3), keepdims=True)) * np.sign(xs[0].numpy()[:, :2] - xs[0].numpy()[:, :2].mean((0, 2, 3), keepdims=True))
    assert (signs[:, 0] > 0).mean() > 0.9 > 0.1 > (signs[:, 1] > 0).mean(), "0 counts as +0.001, −0 as −0.001"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keywords, says", [
    ({"slope": 0.0}, "no way back"), ({"slope": -0.1}, "no way back"), ({"slope": float("nan")}, "no way back"),
    ({"activation": "relu"}, "leaky_relu stands in"), ({"eps": -1.0}, "eps of at least 0"), ({"gamma": 2}, r"shape \(3,\): one value for each channel")])
def test_what_cannot_work_raises_and_leaves_x_intact(form, keywords, says, backend, rng):
    keywords = {"eps": 1e-5, **keywords}
    x, gamma, beta = inputs(rng, (4, 3, 2, 2))
    x = x + 1.0
    if "gamma" in keywords:
        gamma = mg.tensor(np.ones(keywords.pop("gamma")), backend=backend)
    with pytest.raises(ValueError, match=says):
        ABN.form(form)(x, gamma, beta, **keywords)
    assert np.isfinite(x.numpy()).all()


def test_slope_matters_to_the_leaky_relu_only(rng):
    x, gamma, beta = inputs(rng, (4, 3))
    for form in FORMS:
        ABN.form(form)(x, gamma, beta, eps=1e-5, activation="elu", slope=0.0)


@pytest.mark.parametrize("form", ABN.derived)
def test_one_element_a_channel_gives_the_activation_of_beta(form, backend, rng):
    x, gamma, beta = inputs(rng, (1, 3))
    expected = mg.leaky_relu(beta.detach()).numpy()
    assert np.allclose(ABN.form(form)(x, gamma, beta, eps=1e-5).numpy(), expected)


@pytest.mark.parametrize("form", ABN.derived)
@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "identity"])
def test_float16_is_computed_in_float32(form, activation, backend, rng):
    xs = inputs(rng, (8, 3, 4, 4), "float16")
    wide = [mg.tensor(to_host(x._data).astype("float64"), requires_grad=True, backend=backend) for x in xs]
    v = rng.normal(size=xs[0].shape)
    for found, expected in zip(gradients(form, xs, v, activation=activation), gradients("composed", wide, v, activation=activation), strict=True):
        assert found.dtype == "float16"
        assert relative_error(found.astype("float64"), expected) < 16 * np.finfo("float16").eps


# -- x's buffer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ABN.derived)
@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "identity"])
def test_a_convolutions_output_is_overwritten(form, activation, backend, rng):
    image, gamma, beta = inputs(rng, (4, 3, 6, 6))
    weight = mg.tensor(rng.normal(size=(3, 3, 3, 3)), requires_grad=True, backend=backend)
    y = mg.conv2d(image, weight)
    place = id(y._data)
    z = ABN.form(form)(y, gamma, beta, eps=1e-5, activation=activation)
    assert id(z._data) == place and type(y) is Taken
    with pytest.raises(mg.TapeError, match="inplace_abn: got a later use of its input"):
        y + 1.0


@pytest.mark.parametrize("form", ABN.derived)
@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "identity"])
def test_both_orders_are_right_where_the_input_was_overwritten(form, activation, backend, rng):
    """The input is rebuilt from the output, and its gradient goes on to the convolution."""
    values, v, us = rng.normal(size=(5, 3, 4, 4)), rng.normal(size=(5, 2, 2, 2)), [rng.normal(size=s) for s in ((5, 3, 4, 4), (2, 3, 3, 3), (2,), (2,))]
    weight, gamma, beta = rng.normal(size=(2, 3, 3, 3)), np.array([1.2, -0.4]), np.array([0.3, -0.2])
    found = []
    for name in (form, "composed"):
        xs = [mg.tensor(a, requires_grad=True, backend=backend) for a in (values, weight, gamma, beta)]
        y = mg.conv2d(xs[0], xs[1])
        z = ABN.form(name)(y, xs[2], xs[3], eps=1e-5, activation=activation)
        assert isinstance(y, Taken) == (name == form)
        first = mg.grad(z, xs, mg.tensor(v, backend=backend), create_graph=True)
        pairs = [(g, mg.tensor(u, backend=backend)) for g, u in zip(first, us, strict=True) if g.requires_grad]  # composed, dβ is a constant
        second = mg.grad([g for g, _ in pairs], xs, [u for _, u in pairs], allow_unused=True)
        found.append([np.zeros(x.shape) if g is None else g.numpy() for g, x in zip((*first, *second), (*xs, *xs), strict=True)])
    for k, (a, b) in enumerate(zip(*found, strict=True)):
        assert relative_error(a, b) < (1e-11 if k < 4 else 1e-9) or (not b.any() and np.abs(a).max() < 1e-12)  # ∂²/∂β is 0


# -- what the tape keeps, and what a step needs -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ABN.derived)
@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "identity"])
def test_the_tape_keeps_the_output_and_two_numbers_a_channel(form, activation, backend, rng):
    x, gamma, beta = inputs(rng, (4, 3, 5, 5))
    z = ABN.form(form)(x + 1.0, gamma, beta, eps=1e-5, activation=activation)
    assert mg.tape(z).kept_bytes == z.nbytes + 2 * gamma.nbytes
    assert z._line.kept["out"] is z._data
    composed = mg.tape(ABN.composed(x + 1.0, gamma, beta, eps=1e-5, activation=activation)).kept_bytes
    large = {"identity": 2, "leaky_relu": 3, "elu": 3}[activation]  # xc, xhat, and the activation's output
    assert large * z.nbytes <= composed <= large * z.nbytes + 12 * gamma.nbytes


@pytest.fixture
def one_thread():
    before = mg.kernels.threads.num_threads()
    mg.set_num_threads(1)
    yield
    mg.set_num_threads(before)


@pytest.mark.parametrize("form", ABN.derived)
def test_forward_and_backward_allocate_one_large_array_each(form, one_thread, rng):
    """The forward its output (here x is a variable, which is not overwritten), the backward dx; the rest is blocks."""
    xs = inputs(rng, (128, 16, 32, 32), "float32")
    v = mg.tensor(rng.normal(size=xs[0].shape).astype("float32"))
    tracemalloc.start()
    try:
        z = ABN.form(form)(*xs, eps=1e-5)
        forward = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        z.backward(v)
        backward = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert forward[1] < 1.5 * z.nbytes and backward[1] - forward[0] < 1.5 * z.nbytes


@pytest.mark.more
def test_a_deep_stack_needs_at_most_six_tenths_of_the_memory_of_batch_norm(one_thread):
    measure = runpy.run_path(str(Path(__file__).resolve().parents[1] / "benchmarks" / "memory.py"))["measure"]
    usual, *others = (measure(v, depth=10, channels=16, batch=32, size=32) for v in ("BatchNorm2d + LeakyReLU", "InPlaceABN", "InPlaceABN, form II"))
    for lean in others:
        assert lean["peak"] <= 0.6 * usual["peak"] and lean["kept"] <= 0.55 * usual["kept"]
        assert abs(lean["loss"] - usual["loss"]) < 1e-4


# -- what going back costs, in float32 ----------------------------------------------------------------------------------
# z is y with a relative error of a few u, and y itself was rounded: |δy| ≤ 3u|y| + 7u|γx̂| counts the operations. Hence
# |δx̂| = |δy/γ| ≤ u (3|β/γ| + 10|x̂|), plus what the statistics' own rounding does.


def recovered(x, gamma, beta, activation, form="form_1"):
    """|x̂ − the x̂ that the backward recovers|, and x̂: (m,) each."""
    x32, g32, b32 = x.astype("float32"), np.array([gamma], "float32"), np.array([beta], "float32")
    z, saved = mg.with_saved(ABN.form(form), *map(mg.tensor, (x32, g32, b32)), eps=1e-5, activation=activation)
    mu, var = (to_host(s).astype("float64") for s in saved)
    back = rebuilt((mu, var), to_host(z), g32, b32, eps=1e-5, activation=activation, slope=0.01)
    s = np.sqrt(var + 1e-5)
    return np.abs((back - x32) / s).ravel(), ((x32 - mu) / s).ravel()


@pytest.mark.parametrize("gamma", [1.0, -1.0, 0.1, -0.03, 1e-3, 0.0, -1e-6])
@pytest.mark.parametrize("beta", [0.0, 1.0, -1.0, 30.0, -30.0])
@pytest.mark.parametrize("activation", ["leaky_relu", "identity"])
def test_the_recovered_xhat_loses_u_times_beta_over_gamma(activation, gamma, beta, rng):
    used = np.copysign(max(abs(gamma), 1e-3), gamma)
    error, xhat = recovered(rng.normal(size=(512, 1)), gamma, beta, activation)
    assert (error <= U * (3 * abs(beta / used) + 10 * np.abs(xhat) + 10)).all()
    if abs(beta / used) >= 100:
        assert error.max() >= 0.25 * U * abs(beta / used), "the loss is real: γ near 0 or β far from it costs digits"


def test_the_clamp_bounds_the_loss(rng):
    """Without it γ = 1e-5 and β = 1 lose 1e5 u, half a percent. With it never more than 1000 u|β|."""
    for gamma in (1e-5, 0.0, -1e-30):
        error, _ = recovered(rng.normal(size=(512, 1)), gamma, 1.0, "leaky_relu")
        assert 100 * U < error.max() < 4e3 * U


@pytest.mark.parametrize("gamma", [1.0, -0.5, 0.05])
@pytest.mark.parametrize("beta", [0.0, -2.0, -5.0, -9.0])
def test_an_elu_near_minus_one_loses_one_over_one_plus_z_more(gamma, beta, rng):
    """δy = δz / φ'(y) = δz / (1 + z), and z near −1 is known to u."""
    x = rng.normal(size=(512, 1))
    error, xhat = recovered(x, gamma, beta, "elu")
    slope = np.minimum(np.exp(gamma * xhat + beta), 1.0)  # 1 + z
    known = slope > 16 * U  # where z is not just −1
    assert known.all() and (error <= (U * (3 * abs(beta / gamma) + 10 * np.abs(xhat) + 10) + 4 * U / slope / abs(gamma))).all()
    if beta == -9.0:
        assert error.max() >= 100 * U * abs(beta / gamma), "and that is a loss"


@pytest.mark.parametrize("form", ABN.derived)
@pytest.mark.parametrize("beta", [-5.0, -12.0, -20.0, -100.0])
def test_a_saturated_elu_gives_finite_gradients_as_small_as_they_are(form, beta, rng):
    """Where z has rounded to −1, y cannot be known; but ∂L/∂y = (1 + z) g is 0 there, or a few u·g where it is not quite."""
    xs = inputs(rng, (256, 1), "float32", gamma=[1.0], beta=[beta])
    wide = [mg.tensor(to_host(x._data).astype("float64"), requires_grad=True) for x in xs]
    v = rng.normal(size=(256, 1)).astype("float32")
    found, exact = gradients(form, xs, v, activation="elu"), gradients("composed", wide, v, activation="elu")
    m, dy = 256, np.abs(exact[0] + 1.0) + 4 * U  # 1 + z, as it is known
    # dγ = Σ g (1 + z) x̂: (1 + z) is off by 2u, and x̂ by less than 16 + |y| where all is lost
    allowed = np.abs(v.astype("float64")) * np.minimum(dy, 8 * U + U * abs(beta) * dy)
    assert all(np.isfinite(f).all() for f in found)
    d_gamma = 8 * (allowed * (16 + abs(beta))).sum()
    assert abs(found[2] - exact[2]).max() <= d_gamma and abs(found[3] - exact[3]).max() <= 8 * allowed.sum()
    assert np.abs(found[1] - exact[1]).max() <= 8 * allowed.max() + (d_gamma + abs(exact[2][0])) / m * (16 + abs(beta))


def test_form_2_loses_more_where_beta_is_large_against_gamma(rng):
    """Σ dy·y − β Σ dy cancels: u·|β/γ| of each term's size, where form I, which sums dy·(y − β), has u·|β/γ| of x̂'s."""
    x, v = rng.normal(size=(16, 1, 16, 16)), rng.normal(size=(16, 1, 16, 16)).astype("float32")
    worse = []
    for gamma in (0.3, 0.1, 0.03, 0.01):
        arrays = [a.astype("float32") for a in (x, np.array([gamma]), np.array([10.0]))]
        exact = gradients("composed", [mg.tensor(a.astype("float64"), requires_grad=True) for a in arrays], v)[2]
        one, two = (abs(gradients(f, [mg.tensor(a, requires_grad=True) for a in arrays], v)[2] - exact)[0] for f in ("form_1", "form_2"))
        weight = np.linalg.norm(v)  # roundings of single terms are independent
        assert one <= 4 * U * (10 / gamma + 10) * weight and two <= 64 * U * (10 / gamma + 10) * weight
        worse.append(two / one)
    assert np.median(worse) > 1


# -- the Module ---------------------------------------------------------------------------------------------------------


def test_its_state_has_the_keys_of_batch_norm():
    assert list(layers.InPlaceABN(3).state_dict()) == list(layers.BatchNorm2d(3).state_dict())
    assert list(layers.InPlaceABN(3, affine=False, track_running_stats=False).state_dict()) == []
    assert "activation='elu', slope=0.2" in repr(layers.InPlaceABN(3, activation="elu", slope=0.2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "identity"])
def test_it_is_batch_norm_and_then_the_activation_in_training_and_evaluation(form, activation, backend, rng):
    abn, norm = layers.InPlaceABN(3, activation=activation, slope=0.2, form=form), layers.BatchNorm(3)
    phi = {"leaky_relu": lambda y: mg.leaky_relu(y, 0.2), "elu": mg.elu, "identity": lambda y: y}[activation]
    for module in (abn, norm):
        module.weight.data = np.array([1.5, -0.7, 0.4], "float32") if backend == "numpy" else mg.tensor(np.array([1.5, -0.7, 0.4], "float32"), backend=backend)
    for training in (True, True, False):
        abn.train(training), norm.train(training)
        x = mg.tensor(rng.normal(1, 2, (6, 3, 4, 4)).astype("float32"), requires_grad=True, backend=backend)
        v = mg.tensor(rng.normal(size=(6, 3, 4, 4)).astype("float32"), backend=backend)
        found, expected = ([z.numpy(), *(g.numpy() for g in mg.grad(z, [x, m.weight, m.bias], v))] for m, z in ((abn, abn(x)), (norm, phi(norm(x)))))
        for a, b in zip(found, expected, strict=True):
            assert relative_error(a, b) < 1e-5
    for name, value in norm.state_dict().items():
        np.testing.assert_allclose(abn.state_dict()[name].numpy(), value.numpy(), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_evaluation_holds_gamma_away_from_zero_too(form, rng):
    """Or a channel would change its meaning between training and evaluation."""
    abn = layers.InPlaceABN(2, momentum=1.0, activation="identity", form=form)
    abn.weight.data = np.array([0.0, -1e-5], "float32")
    x = mg.tensor(rng.normal(size=(64, 2)).astype("float32"))
    trained = abn(x).numpy()
    fixed = abn.eval()(x).numpy()
    assert np.abs(fixed).max() > 5e-4 and relative_error(fixed, trained) < 0.02  # the running variance is the unbiased one


@pytest.mark.more
def test_a_network_of_it_learns_and_checks(backend, rng):
    with layers.use_form("form_2"):
        net = mg.nn.Sequential(mg.nn.Conv2d(1, 4, 3, bias=False), layers.InPlaceABN(4), mg.nn.Conv2d(4, 4, 3, bias=False),
                               layers.InPlaceABN(4, activation="elu"), mg.nn.Flatten(), mg.nn.Linear(4 * 4 * 4, 2))
    assert net[1].form == "form_2"
    net.to(backend)
    x = mg.tensor(rng.normal(size=(16, 1, 8, 8)).astype("float32"), backend=backend)
    labels = mg.tensor((x.numpy().mean((1, 2, 3)) > 0).astype("int64"), backend=backend)
    optimizer, losses = mg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), []
    for _ in range(30):
        loss = mg.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    before = {name: value.numpy() for name, value in net.state_dict().items()}
    net.astype("float64")
    assert "wrong" not in {row.verdict for row in mg.gradcheck(lambda t: net(t), [mg.tensor(x.numpy()[:4].astype("float64"), backend=backend)]).rows}
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy().astype(before[name].dtype), before[name])


@pytest.mark.parametrize("form", FORMS)
def test_a_single_element_a_channel_is_refused_in_training(form):
    with pytest.raises(ValueError, match="a single one has no variance"):
        layers.InPlaceABN(2, form=form)(mg.tensor([[1.0, 2.0]]))


def test_its_statistics_are_those_of_batch_norm(rng):
    x = rng.normal(size=(6, 2, 3))
    for found, expected in zip(statistics(x), (x.mean((0, 2)), x.var((0, 2))), strict=True):
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-12)


def test_a_wrong_activation_is_refused_when_the_module_is_made():
    with pytest.raises(ValueError, match="leaky_relu stands in for relu"):
        layers.InPlaceABN(3, activation="relu")


# -- what it asks of the fused patterns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 3), (7,), (0, 3, 2)])
def test_first_is_applied_before_and_then_after_and_out_may_be_the_input(shape, backend, xp, rng):
    g, x, mu, a, b, c = (rng.normal(size=s) for s in (shape, shape, *[(1,) * len(shape)] * 4))
    device = [xp.asarray(t) for t in (g, x, mu, a, b, c)]
    axes = tuple(range(len(shape)))

    def first(g, x):
        return g * 2.0, g - x

    expected = [mg.paired_sums(2.0 * device[0], device[0] - device[1], device[2], axes), mg.combine(2.0 * device[0], device[0] - device[1], *device[2:])]
    for wrap in (lambda t: t, mg.tensor):  # block by block on arrays, ahead on the tape
        g_, x_, *small = map(wrap, device)
        for found, wanted in zip(mg.paired_sums(g_, x_, small[0], axes, first=first), expected[0], strict=True):
            np.testing.assert_allclose(to_host(found), to_host(wanted), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(to_host(mg.combine(g_, x_, *small, first=first)), to_host(expected[1]), rtol=1e-12, atol=1e-14)
    target = device[1].copy()
    found = normalize.combine(xp, None, target, normalize.Coefficients(device[4], device[2], device[5]), then=lambda t: xp.maximum(t, 0, out=t), out=target)
    assert found is target
    np.testing.assert_allclose(to_host(target), np.maximum(b * (x - mu) + c, 0), rtol=1e-12, atol=1e-14)
