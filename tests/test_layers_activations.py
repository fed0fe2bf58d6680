"""The layers that normalize activations, and their Modules: exact relations and invariants, and PyTorch as an oracle.

tests/test_layers.py compares all forms of each layer with each other; here is what no twin can show: that both are the
right function. Invariants are numbered as in docs/invariants.md.
"""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import layers
import minigrad as mg

UNIT = np.finfo("float64").eps
FORMS = [(name, form) for name in ("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_renorm")
         for form in ("composed", *layers.REGISTRY[name].derived)]
BATCH_NORMS = ["composed", *layers.REGISTRY["batch_norm"].derived]


def variables(*arrays, backend=None):
    return [mg.tensor(a, requires_grad=True, backend=backend) for a in arrays]


def gradients(name, form, arrays, g, **keywords):
    """(y, gradients of all inputs) as NumPy arrays."""
    xs = variables(*arrays)
    y = layers.REGISTRY[name].form(form)(*xs, **keywords)
    return [t.numpy() for t in (y, *mg.grad(y, xs, mg.tensor(g)))]


def small(value, size, terms=1):
    """Is |value| within the rounding of a computation on numbers of this size, a sum of `terms` of them?"""
    return np.all(np.abs(value) <= 64 * UNIT * (1 + terms**0.5) * size)


@st.composite
def batches(draw, most=4, least=3):
    """x (m, C), g, gamma, beta, and how badly conditioned x − mean x is: its largest element over its smallest deviation."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, c = draw(st.integers(least, 12)), draw(st.integers(1, most))
    x = draw(st.sampled_from([0, 1, -300])) + draw(st.sampled_from([0.01, 1.0, 50.0])) * rng.normal(size=(m, c))
    gamma = rng.normal(size=c) * rng.choice([-1, 0, 1, 5], c)
    condition = 1 + (np.abs(x).max(0) / x.std(0)).max()
    assume(condition < 1e6)
    return x, rng.normal(size=(m, c)), gamma, rng.normal(size=c), condition


EPSILONS = st.sampled_from([0.0, 1e-5, 0.3])


class Channels:
    """The numbers of batch norm on x (m, C), from the formulas alone."""

    def __init__(self, x, eps):
        self.xc = x - x.mean(0)
        self.var = (self.xc**2).mean(0)
        self.s = np.sqrt(self.var + eps)
        self.xhat = self.xc / self.s

    def project(self, u):
        """J(u) = (u − ū − x̂·mean(u·x̂))/s: the backward map of batch norm for γ = 1."""
        return (u - u.mean(0) - self.xhat * (u * self.xhat).mean(0)) / self.s


# -- invariants 1 to 9: batch norm --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", BATCH_NORMS)
@given(batch=batches(), eps=EPSILONS)
def test_1_2_3_sums_of_the_input_gradient(batch, eps, form):
    x, g, gamma, beta, condition = batch
    y, dx, d_gamma, d_beta = gradients("batch_norm", form, (x, gamma, beta), g, eps=eps)
    bn = Channels(x, eps)
    size = condition * np.abs(gamma) / bn.s * np.linalg.norm(g, axis=0) * len(x)
    assert small(dx.sum(0), size)                                                                   # 1
    assert small((bn.xhat * dx).sum(0) - gamma / bn.s * d_gamma * eps / (bn.var + eps), size)        # 2
    assert small((g * y).sum(0) - gamma * d_gamma - beta * d_beta, condition * (np.abs(g) * (np.abs(y) + np.abs(beta))).sum(0))  # 3


@pytest.mark.more
@pytest.mark.parametrize(("name", "form"), [f for f in FORMS if f[0] != "rms_norm"])
@given(seed=st.integers(0, 2**32), eps=EPSILONS)
def test_1_whatever_shares_a_mean_has_input_gradients_that_sum_to_zero(seed, eps, name, form):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(2, 3, 4, 2, 3))
    running = {"running_mean": rng.normal(size=4), "running_var": rng.uniform(0.5, 2, 4)}
    keywords = {"group_norm": {"groups": 2}, "batch_renorm": {**running, "r_max": 2.0, "d_max": 1.0}}
    shape = (4, 2, 3) if name == "layer_norm" else (4,)
    _, dx, *_ = gradients(name, form, (x, rng.normal(size=shape), rng.normal(size=shape)), g, eps=eps, **keywords.get(name, {}))
    shared = {"layer_norm": (3, 1, -1), "group_norm": (3, 2, -1), "instance_norm": (3, 4, -1)}
    sums = dx.reshape(shared[name]).sum(-1) if name in shared else dx.sum((0, 2, 3))
    assert small(sums, np.abs(dx).sum() + 1)


@pytest.mark.parametrize("form", BATCH_NORMS)
@given(batch=batches(), eps=EPSILONS, seed=st.integers(0, 99))
def test_4_the_backward_map_is_self_adjoint(batch, eps, seed, form):
    x, g, gamma, beta, condition = batch
    h = np.random.default_rng(seed).normal(size=x.shape)
    bg, bh = (gradients("batch_norm", form, (x, gamma, beta), u, eps=eps)[1] for u in (g, h))
    size = condition * np.abs(gamma / Channels(x, eps).s).max() * np.linalg.norm(g) * np.linalg.norm(h)
    assert small((h * bg).sum() - (bh * g).sum(), size)


@pytest.mark.parametrize("form", BATCH_NORMS)
@given(batch=batches(most=1), eps=EPSILONS)
def test_5_the_jacobian_is_a_projection_up_to_epsilon(batch, eps, form):
    x, _, _, beta, condition = batch
    one, beta = mg.tensor(np.ones(1)), mg.tensor(beta)
    jacobian = mg.jacobian(lambda x: layers.REGISTRY["batch_norm"].form(form)(x, one, beta, eps=eps), mg.tensor(x)).numpy()[:, 0, :, 0]
    bn, m = Channels(x, eps), len(x)
    found = np.linalg.eigvalsh(jacobian * bn.s)
    expected = np.sort(np.r_[0, eps / (bn.var + eps), np.ones(m - 2)])
    assert small(jacobian - jacobian.T, condition / bn.s, m)
    assert small(found - expected, condition, m)


@pytest.mark.parametrize("form", BATCH_NORMS)
@given(batch=batches())
def test_6_9_without_epsilon_the_backward_map_is_idempotent_and_blind_to_1_and_xhat(batch, form):
    x, g, gamma, beta, condition = batch
    bn = Channels(x, 0)
    back = lambda u: gradients("batch_norm", form, (x, gamma, beta), u, eps=0.0)[1]
    once, size = back(g), condition * np.abs(gamma) / bn.s * np.linalg.norm(g, axis=0)
    assert small(back(once) - gamma / bn.s * once, np.abs(gamma) / bn.s * size, len(x))              # 6
    assert small(back(g + 0.7 - 1.3 * bn.xhat) - once, 3 * size + 3 * np.abs(gamma) / bn.s * condition, len(x))  # 9


@pytest.mark.parametrize("form", BATCH_NORMS)
@given(batch=batches(), eps=EPSILONS, a=st.sampled_from([0.25, 2.0, -0.5, -3.0]), b=st.sampled_from([0.0, 10.0]))
def test_7_scaling_and_shifting_x_divides_its_gradient(batch, eps, a, b, form):
    x, g, gamma, beta, condition = batch
    moved = gradients("batch_norm", form, (a * x + b, gamma, beta), g, eps=a * a * eps)[1]
    dx = gradients("batch_norm", form, (x, gamma, beta), g, eps=eps)[1]
    s = Channels(x, eps).s
    worse = condition + np.abs(b / a) / s.min()
    assert small(moved - dx / abs(a), worse * np.abs(gamma) / s / abs(a) * np.linalg.norm(g, axis=0), len(x))


@pytest.mark.parametrize("form", BATCH_NORMS)
@given(seed=st.integers(0, 2**32))
def test_8_two_elements_without_epsilon_have_no_gradient(seed, form):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(2, 2, 3))
    gamma = rng.normal(size=3)
    dx = gradients("batch_norm", form, (x, gamma, gamma), g, eps=0.0)[1]
    bn = Channels(x, 0)
    assert small(dx, (1 + np.abs(x).max() / bn.s) * np.abs(gamma) / bn.s * np.abs(g).max())


# -- invariant 10: RMS norm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["composed", "derived"])
@given(seed=st.integers(0, 2**32), eps=EPSILONS, mean=st.sampled_from([0.0, 2.0, -100.0]))
def test_10_rms_norms_input_gradient_along_x_vanishes_with_epsilon_and_its_sum_does_not(seed, eps, mean, form):
    rng = np.random.default_rng(seed)
    x, g, gamma = rng.normal(mean, 1, (5, 6)), rng.normal(size=(5, 6)), rng.normal(1, 1, 6)
    y, dx, d_gamma = gradients("rms_norm", form, (x, gamma), g, eps=eps)
    ms = (x**2).mean(1)
    xhat = x / np.sqrt(ms + eps)[:, None]
    assert small((x * dx).sum(1) - eps / (ms + eps) * (gamma * g * xhat).sum(1), (np.abs(gamma * g) * np.abs(xhat)).sum(1) + 6)
    assert small(d_gamma - (g * xhat).sum(0), np.abs(g * xhat).sum(0))
    assert small(y - gamma * xhat, np.abs(gamma * xhat))
    assert (np.abs(dx.sum(1)) > 1e-6 * np.abs(dx).sum(1)).mean() >= 0.5


# -- invariant 11: the layers are each other's special cases -------------------------------------------------------------


def equal(found, expected):
    for f, e in zip(found, expected, strict=True):
        assert small(f - e, np.abs(e).max() + 1)


@pytest.mark.parametrize("form", ["composed", "derived"])
@given(seed=st.integers(0, 2**32), eps=EPSILONS, n=st.integers(1, 4), c=st.integers(1, 4), spatial=st.sampled_from([(4,), (3, 3), (2, 2, 2)]))
def test_11_group_instance_layer_and_batch_norm_are_one(seed, eps, n, c, spatial, form):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(2, n, c, *spatial))
    gamma, beta = rng.normal(size=(2, c))
    instance = gradients("instance_norm", form, (x, gamma, beta), g, eps=eps)
    equal(gradients("group_norm", form, (x, gamma, beta), g, groups=c, eps=eps), instance)

    wide = [np.broadcast_to(p.reshape(-1, *(1 for _ in spatial)), x.shape[1:]).copy() for p in (gamma, beta)]
    y, dx, *parameters = gradients("layer_norm", form, (x, *wide), g, eps=eps)
    one_group = [y, dx, *(p.reshape(c, -1).sum(1) for p in parameters)]
    equal(gradients("group_norm", form, (x, gamma, beta), g, groups=1, eps=eps), one_group)

    merged = [a.reshape(1, n * c, *spatial) for a in (x, g)]
    y, dx, *parameters = gradients("batch_norm", form, (merged[0], np.tile(gamma, n), np.tile(beta, n)), merged[1], eps=eps)
    equal([y.reshape(x.shape), dx.reshape(x.shape), *(p.reshape(n, c).sum(0) for p in parameters)], instance)


@pytest.mark.parametrize("form", ["composed", "derived"])
@given(seed=st.integers(0, 2**32), eps=EPSILONS)
def test_batch_renorm_is_batch_norm_within_narrow_limits_and_evaluation_without_limits(seed, eps, form):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(0.3, 2, (2, 6, 3, 2, 2))
    gamma, beta, mean = rng.normal(size=(3, 3))
    running = {"running_mean": mean, "running_var": rng.uniform(0.5, 2, 3)}
    narrow = gradients("batch_renorm", form, (x, gamma, beta), g, **running, r_max=1.0, d_max=0.0, eps=eps)
    equal(narrow, gradients("batch_norm", form, (x, gamma, beta), g, eps=eps))
    y, dx, *parameters = gradients("batch_renorm", form, (x, gamma, beta), g, **running, r_max=1e9, d_max=1e9, eps=eps)
    y_eval, dx_eval, *parameters_eval = gradients("batch_norm_eval", form, (x, gamma, beta), g, **running, eps=eps)
    equal([y, *parameters], [y_eval, *parameters_eval])
    projected = dx_eval.swapaxes(0, 1).reshape(3, -1)  # the same factor γ/s_running, then batch norm's projection
    bn = Channels(x.swapaxes(0, 1).reshape(3, -1).T, eps)
    equal([dx.swapaxes(0, 1).reshape(3, -1).T], [bn.project(projected.T) * bn.s])


# -- invariant 22: batch norm's double backward --------------------------------------------------------------------------


@pytest.mark.parametrize("form", BATCH_NORMS)
@given(batch=batches(least=4), eps=EPSILONS, seed=st.integers(0, 99))
def test_22_double_backward_is_the_formula_and_keeps_its_sums(batch, eps, seed, form):
    x, g, gamma, beta, condition = batch
    rng = np.random.default_rng(seed)
    v, p, q = rng.normal(size=x.shape), rng.normal(size=gamma.shape), rng.normal(size=gamma.shape)
    xs, gt = variables(x, gamma, beta), mg.tensor(g, requires_grad=True)
    y = layers.REGISTRY["batch_norm"].form(form)(*xs, eps=eps)
    first = mg.grad(y, xs, gt, create_graph=True)
    d_g, d_x, d_gamma = (t.numpy() for t in mg.grad(first, [gt, *xs[:2]], [mg.tensor(u) for u in (v, p, q)]))
    bn, dx = Channels(x, eps), first[0].numpy()
    a, b, c = (v * bn.xhat).mean(0), (g * bn.xhat).mean(0), ((v - v.mean(0)) * (g - g.mean(0))).mean(0)
    scale = condition**2 * np.linalg.norm(g) * (np.linalg.norm(v) + np.abs(p).max() + np.abs(q).max()) * (1 + 1 / bn.s) ** 2 * (1 + np.abs(gamma)) * len(x)
    assert small(d_g - (gamma * bn.project(v) + p * bn.xhat + q), scale)
    assert small(d_gamma - (v * bn.project(g)).sum(0), scale)
    spread = (c - 3 * a * b) * bn.xhat + b * (v - v.mean(0)) + a * (g - g.mean(0))
    assert small(d_x - (-gamma / bn.s**2 * spread + p * bn.project(g)), scale)
    assert small(d_x.sum(0), scale)
    if eps == 0:
        assert small((bn.xc * d_x).sum(0) + (v * dx).sum(0), scale * (1 + np.abs(bn.xc).max(0)))


# -- what the tape keeps, and what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_derived_form_keeps_exactly_one_array_of_xs_size(name, form, backend):
    _, arrays, keywords = next(c for c in layers.REGISTRY[name].cases("float32", np.random.default_rng(0)) if c[0].startswith("images"))
    keywords = {k: mg.tensor(v, backend=backend) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    leaf, *parameters = variables(*arrays, backend=backend)
    x = leaf * 2.0
    t = mg.tape(layers.REGISTRY[name].form(form)(x, *parameters, **keywords))
    large = {id(a) if a.base is None else id(a.base) for line in t for a in line.kept.values() if a.size >= x.size and a.strides[-1]}
    if form == "composed":
        assert len(large) >= 2
    else:
        assert len(large) == 1
        assert x._data.nbytes <= t.kept_bytes < 2 * x._data.nbytes


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_constant_with_epsilon_0_is_refused_on_the_host_and_nan_elsewhere(name, form, backend):
    x = np.ones((3, 2, 2, 2), "float32") * (name != "rms_norm")
    parameters = [np.ones(x.shape[1:] if name in ("layer_norm", "rms_norm") else 2, "float32")] * (1 if name == "rms_norm" else 2)
    one = mg.tensor(np.ones(2, "float32"), backend=backend)
    keywords = {"group_norm": {"groups": 2}, "batch_renorm": {"running_mean": one, "running_var": one, "r_max": 3.0, "d_max": 5.0}}
    call = lambda eps: layers.REGISTRY[name].form(form)(*variables(x, *parameters, backend=backend), eps=eps, **keywords.get(name, {}))
    assert np.isfinite(call(1e-5).numpy()).all()
    with pytest.raises(ValueError, match="eps=-1"):
        call(-1.0)
    if backend == "numpy":
        with pytest.raises(ValueError, match=r"eps=0\n.*needs"):
            call(0.0)
    else:
        with np.errstate(all="ignore"):
            assert np.isnan(call(0.0).numpy()).any()


@pytest.mark.parametrize(("name", "form"), [f for f in FORMS if f[0] != "rms_norm"])
def test_a_constant_is_refused_even_where_rounding_gives_it_a_variance(name, form, rng):
    x = rng.normal(size=(5, 6, 3, 7)).astype("float32")
    sample, channel = name in ("layer_norm", "group_norm", "instance_norm"), name in ("batch_norm", "batch_renorm", "instance_norm")
    x[1 if sample else slice(None), 2 if channel else slice(None)] = 0.7
    xs = variables(x, *[np.ones(x.shape[1:] if name == "layer_norm" else 6, "float32")] * 2)
    keywords = {"group_norm": {"groups": 2}, "batch_renorm": {"running_mean": xs[1], "running_var": xs[1], "r_max": 3.0, "d_max": 5.0}}
    with mg.no_grad(), pytest.raises(ValueError, match=f"{name}: got a constant"):
        layers.REGISTRY[name].form(form)(*xs, eps=0.0, **keywords.get(name, {}))


@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize(("name", "shapes", "keywords", "says"), [
    ("layer_norm", [(4, 3), (4,), (4,)], {}, "gamma.*the shape of x's last axes"),
    ("layer_norm", [(4, 3), (3,), (4, 3)], {}, "beta"),
    ("layer_norm", [(3,), (2, 3), (2, 3)], {}, "gamma"),
    ("layer_norm", [(4, 3), (), ()], {}, "gamma"),
    ("rms_norm", [(4, 3), (4,)], {}, "gamma"),
    ("group_norm", [(2, 4, 3), (4,), (4,)], {"groups": 3}, "3 groups for 4 channels"),
    ("group_norm", [(2, 4, 3), (4,), (4,)], {"groups": 0}, "groups=0"),
    ("group_norm", [(2, 4, 3), (3,), (4,)], {"groups": 2}, "one value for each channel"),
    ("instance_norm", [(2, 4), (4,), (4,)], {}, r"x of shape \(N, C, \*spatial\)"),
    ("instance_norm", [(2, 4, 3), (4,), (3,)], {}, "one value for each channel"),
    ("grn", [(2, 4), (4,), (4,)], {}, r"x of shape \(N, C, \*spatial\)"),
    ("grn", [(2, 4, 3), (4,), (3,)], {}, "one value for each channel"),
])
def test_shapes_that_do_not_fit_are_named(name, shapes, keywords, says, form, rng):
    with pytest.raises(ValueError, match=f"(?s){name}.*({says})"):
        layers.REGISTRY[name].form(form)(*(mg.tensor(rng.normal(size=s)) for s in shapes), eps=1e-5, **keywords)


@pytest.mark.parametrize("limits", [{"r_max": 0.5, "d_max": 1.0}, {"r_max": 2.0, "d_max": -1.0}])
@pytest.mark.parametrize("form", ["composed", "derived"])
def test_batch_renorms_limits_are_checked(limits, form, rng):
    x, one = mg.tensor(rng.normal(size=(4, 2))), mg.tensor(np.ones(2))
    with pytest.raises(ValueError, match="r_max of at least 1"):
        layers.REGISTRY["batch_renorm"].form(form)(x, one, one, running_mean=one, running_var=one, eps=1e-5, **limits)


@pytest.mark.parametrize(("name", "shape", "keywords"), [
    ("layer_norm", (0, 3), {}), ("rms_norm", (0, 3), {}), ("group_norm", (0, 3, 2), {"groups": 3}), ("instance_norm", (0, 3, 2), {}),
    ("grn", (0, 3, 2), {})])
@pytest.mark.parametrize("form", ["composed", "derived"])
def test_an_empty_batch_gives_an_empty_result_and_zero_gradients(name, shape, keywords, form, backend):
    arrays = [np.ones(shape, "float32")] + [np.ones(3, "float32")] * (1 if name == "rms_norm" else 2)
    xs = variables(*arrays, backend=backend)
    y = layers.REGISTRY[name].form(form)(*xs, eps=1e-5, **keywords)
    found = mg.grad(y, xs, mg.tensor(np.ones(shape, "float32"), backend=backend))
    assert y.shape == shape and [f.shape for f in found] == [a.shape for a in arrays]
    assert not any(f.numpy().any() for f in found)


@pytest.mark.parametrize(("name", "shape", "keywords"), [("layer_norm", (4, 1), {}), ("group_norm", (4, 3), {"groups": 3}),
                                                         ("instance_norm", (4, 3, 1), {}), ("batch_norm", (1, 3), {})])
@pytest.mark.parametrize("form", ["composed", "derived"])
def test_a_single_element_under_a_mean_gives_beta_and_no_gradient(name, shape, keywords, form, backend, rng):
    c = 1 if name == "layer_norm" else 3
    xs = variables(*(rng.normal(size=s).astype("float32") for s in (shape, c, c)), backend=backend)
    y = layers.REGISTRY[name].form(form)(*xs, eps=1e-5, **keywords)
    dx, d_gamma, _ = mg.grad(y, xs, mg.tensor(rng.normal(size=shape).astype("float32"), backend=backend))
    beta = xs[2].numpy().reshape((1, -1) + (1,) * (len(shape) - 2))
    assert np.array_equal(y.numpy(), np.broadcast_to(beta, shape))
    assert np.abs(dx.numpy()).max() <= 1e-3 and not d_gamma.numpy().any()  # 1e-3: one rounding of γ·g/√eps


# -- Modules --------------------------------------------------------------------------------------------------------------


def test_every_module_computes_in_the_form_asked_for(rng):
    made = [layers.BatchNorm2d(4, form="staged"), layers.BatchNorm2d(4, form="composed"), layers.BatchRenorm2d(4), layers.InstanceNorm2d(4, affine=True),
            layers.GroupNorm(2, 4), layers.LayerNorm((4, 3, 3)), layers.RMSNorm((4, 3, 3))]
    x = mg.tensor(rng.normal(size=(2, 4, 3, 3)).astype("float32"), requires_grad=True)
    ops = [[line.op for line in mg.tape(m(x))] for m in made]
    assert [seen[-1] for i, seen in enumerate(ops) if i in (0, 2, 3)] == ["batch_norm", "batch_renorm", "instance_norm"]
    assert all(name in seen for name, seen in zip(("group_norm", "layer_norm", "rms_norm"), ops[4:], strict=True))
    assert "batch_norm" not in ops[1]
    with layers.use_form("composed"):
        assert {layers.GroupNorm(2, 4).form, layers.LayerNorm(3).form, layers.RMSNorm(3).form, layers.InstanceNorm1d(3).form} == {"composed"}
    for cls, arguments in ((layers.LayerNorm, (3,)), (layers.GroupNorm, (1, 3)), (layers.BatchRenorm1d, (3,))):
        with pytest.raises(ValueError, match="two_lines"):
            cls(*arguments, form="two_lines")


@pytest.mark.parametrize(("make", "shape", "says"), [
    (lambda: layers.BatchNorm1d(3), (1, 3), "more than 1 element"), (lambda: layers.BatchNorm1d(3), (0, 3), "more than 1 element"),
    (lambda: layers.BatchNorm2d(3), (1, 3, 1, 1), "more than 1 element"), (lambda: layers.BatchRenorm1d(3), (1, 3, 1), "more than 1 element"),
    (lambda: layers.InstanceNorm2d(3), (4, 3, 1, 1), "more than 1 element"), (lambda: layers.InstanceNorm1d(3).eval(), (4, 3, 1), "more than 1 element"),
    (lambda: layers.BatchNorm1d(3, track_running_stats=False).eval(), (1, 3), "more than 1 element"),
    (lambda: layers.GroupNorm(3, 3), (1, 3), "more than one element"),
    (lambda: layers.BatchNorm2d(3), (2, 4, 2, 2), "3 channels"), (lambda: layers.BatchNorm2d(3), (2, 3, 2), "4 axes"),
    (lambda: layers.BatchRenorm2d(3), (2, 4, 2, 2), "3 channels"), (lambda: layers.InstanceNorm1d(3), (2, 4, 5), "3 channels"),
    (lambda: layers.InstanceNorm2d(3), (2, 3, 4, 4, 4), "4 axes"), (lambda: layers.GroupNorm(2, 4), (2, 6, 3), "4 channels"),
    (lambda: layers.GroupNorm(2, 4), (4,), "4 channels"), (lambda: layers.LayerNorm((2, 3)), (4, 3, 2), "last axes"),
    (lambda: layers.GRN(3), (2, 4, 5), r"\(N, 3, \*spatial\)"), (lambda: layers.GRN(3), (2, 3), r"\(N, 3, \*spatial\)"),
    (lambda: layers.RMSNorm(3), (3, 4), "last axes"), (lambda: layers.GroupNorm(4, 6), None, "4 groups for 6 channels")])
def test_modules_refuse_what_they_cannot_normalize(make, shape, says):
    with pytest.raises(ValueError, match=says):
        make()(mg.tensor(np.ones(shape, "float32")))


@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize("make", [layers.BatchNorm2d, layers.BatchRenorm2d, layers.InPlaceABN, layers.DecorrelatedBatchNorm2d, layers.IterNorm2d])
def test_an_empty_batch_is_refused_in_training_with_fixes_that_work(backend, make, form):
    module, x = make(4, form=form), mg.tensor(np.zeros((0, 4, 3, 3), "float32"), backend=backend)
    with pytest.raises(ValueError, match=r"(?s)shape \(0, 4, 3, 3\).*more than 1 (element|sample).*fix: .*leave an empty batch out: if len\(x\); or eval\(\)"):
        module(x)
    assert len(x) == 0 and module.eval()(x).shape == x.shape


@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize(("name", "samples"), [("BatchNorm1d", False), ("BatchRenorm1d", False), ("InstanceNorm1d", True)])
def test_running_statistics_are_the_mean_and_the_unbiased_variance(name, samples, form, rng):
    keywords = {"track_running_stats": True} if samples else {}
    one, average = (getattr(layers, name)(3, momentum=momentum, form=form, **keywords).astype("float64") for momentum in (1.0, None))
    seen = []
    for _ in range(3):
        x = rng.normal(2, 3, (4, 3, 5))
        one(mg.tensor(x)), average(mg.tensor(x))
        axes = 2 if samples else (0, 2)
        seen.append([s.reshape(-1, 3).mean(0) for s in (x.mean(axes), x.var(axes, ddof=1))])
    equal([one.running_mean.numpy(), one.running_var.numpy()], seen[-1])
    equal([average.running_mean.numpy(), average.running_var.numpy()], np.mean(seen, axis=0))
    assert average.num_batches_tracked.item() == 3


def test_running_statistics_stay_as_they_are_in_evaluation_in_gradient_checks_and_without_tracking(rng):
    for module in (layers.BatchNorm1d(3), layers.BatchRenorm1d(3), layers.InstanceNorm1d(3, track_running_stats=True)):
        module.astype("float64")
        x = mg.tensor(rng.normal(size=(4, 3, 5)))
        module(x)
        before = {k: v.numpy() for k, v in module.state_dict().items()}
        if not isinstance(module, layers.BatchRenorm1d):  # whose constants move with x
            assert mg.gradcheck(module, [x])
        module.eval()(x)
        assert all(np.array_equal(v.numpy(), before[k]) for k, v in module.state_dict().items())
        with mg.no_grad():
            module.train()(x)
        assert not np.array_equal(module.running_mean.numpy(), before["running_mean"])
    assert not layers.InstanceNorm1d(3).state_dict()


def test_batch_renorm_updates_the_statistics_that_batch_norm_would_and_backward_uses_the_old_ones(rng):
    renorm, norm = layers.BatchRenorm2d(3, r_max=1.5, d_max=0.3), layers.BatchNorm2d(3)
    for step in range(4):
        arrays = [rng.normal(step, 2, (4, 3, 2, 2)).astype("float32") for _ in "xg"]
        running = {k: getattr(renorm, k).clone() for k in ("running_mean", "running_var")}
        xs = [*variables(arrays[0]), renorm.weight, renorm.bias]
        y = renorm(xs[0])
        norm(xs[0])
        for k in running:
            assert np.array_equal(getattr(renorm, k).numpy(), getattr(norm, k).numpy())
        expected = layers.REGISTRY["batch_renorm"].composed(*xs, **running, r_max=1.5, d_max=0.3, eps=1e-5)
        g = mg.tensor(arrays[1])
        for found, wanted in zip((y, *mg.grad(y, xs, g)), (expected, *mg.grad(expected, xs, g)), strict=True):
            assert np.allclose(found.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5 * np.abs(wanted.numpy()).max())
    evaluated, reference = renorm.eval()(xs[0]), norm.eval()(xs[0])
    assert np.array_equal(evaluated.numpy(), reference.numpy())


# -- global response normalization ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5)])
def test_grn_is_the_papers_formula_with_channels_on_axis_1(shape, form, rng):
    """The reference: the formula of Woo et al. [woo2023], on channels-last data, with PyTorch's autograd."""
    torch = pytest.importorskip("torch")
    x, g, gamma, beta = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=3), rng.normal(size=3)
    ours = gradients("grn", form, (x, gamma, beta), g, eps=0.1)
    t, w, b = (torch.tensor(a, requires_grad=True) for a in (x, gamma, beta))
    last = torch.movedim(t, 1, -1)
    response = last.square().sum(tuple(range(1, x.ndim - 1)), keepdim=True).sqrt()
    y = torch.movedim(w * (last * (response / (response.mean(-1, keepdim=True) + 0.1))) + b + last, -1, 1)
    for found, expected in zip(ours, (y, *torch.autograd.grad(y, (t, w, b), torch.tensor(g))), strict=True):
        assert small(found - expected.detach().numpy(), np.abs(found).max(), x.size)


@pytest.mark.parametrize("form", ["composed", "derived"])
@given(seed=st.integers(0, 2**32))
def test_grn_without_epsilon_grows_with_its_input(seed, form):
    """y − β is homogeneous of degree 1 in x at ε = 0, so ⟨dx, x⟩ = ⟨g, y − β⟩."""
    rng = np.random.default_rng(seed)
    x, g, gamma, beta = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4)), rng.normal(size=3), rng.normal(size=3)
    y, dx, *_ = gradients("grn", form, (x, gamma, beta), g, eps=0.0)
    assert small((dx * x).sum() - (g * (y - beta[:, None])).sum(), np.abs(dx * x).sum() + np.abs(g * y).sum(), x.size)


@pytest.mark.parametrize("form", ["composed", "derived"])
def test_grn_is_finite_where_a_channel_is_silent_and_the_identity_at_its_start(form, backend, rng):
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    x[0, 1], x[1] = 0, 0
    xs = variables(x, *rng.normal(size=(2, 3)).astype("float32"), backend=backend)
    y = layers.REGISTRY["grn"].form(form)(*xs, eps=1e-6)
    first = mg.grad(y, xs, mg.tensor(rng.normal(size=x.shape).astype("float32"), backend=backend), create_graph=True)
    taped = [d for d in first if d.requires_grad]
    second = mg.grad(taped, xs, [mg.tensor(rng.normal(size=d.shape).astype("float32"), backend=backend) for d in taped], allow_unused=True)
    assert len(taped) > 1 and all(np.isfinite(a.numpy()).all() for a in (y, *first, *second) if a is not None)
    assert np.array_equal(layers.GRN(3, form=form).to(backend)(xs[0]).numpy(), x)
    if backend == "numpy":
        with pytest.raises(ValueError, match="a sample of zeros and eps=0"):
            layers.REGISTRY["grn"].form(form)(*xs, eps=0.0)


# -- PyTorch as an oracle -------------------------------------------------------------------------------------------------

SAME = [  # class, arguments, shape of x
    ("BatchNorm1d", (3,), {}, (5, 3)), ("BatchNorm1d", (3,), {"momentum": None}, (5, 3, 4)), ("BatchNorm2d", (3, 1e-3, 0.3), {}, (4, 3, 3, 2)),
    ("BatchNorm2d", (3,), {"affine": False}, (4, 3, 3, 2)), ("BatchNorm2d", (3,), {"track_running_stats": False}, (4, 3, 3, 2)),
    ("BatchNorm2d", (3,), {"momentum": None, "affine": False}, (4, 3, 3, 2)), ("BatchNorm3d", (2,), {}, (3, 2, 2, 3, 2)),
    ("LayerNorm", (5,), {}, (4, 5)), ("LayerNorm", ((3, 4),), {"eps": 0.1}, (2, 5, 3, 4)), ("LayerNorm", ([4],), {"elementwise_affine": False}, (2, 3, 4)),
    ("LayerNorm", (4,), {"bias": False}, (2, 3, 4)), ("RMSNorm", (5,), {}, (4, 5)), ("RMSNorm", ((3, 4), 1e-2), {}, (2, 3, 4)),
    ("RMSNorm", (4,), {"elementwise_affine": False}, (2, 3, 4)), ("GroupNorm", (2, 6), {}, (3, 6, 2, 2)), ("GroupNorm", (3, 6, 0.1), {}, (3, 6)),
    ("GroupNorm", (1, 4), {"affine": False}, (3, 4, 5)), ("InstanceNorm1d", (3,), {}, (2, 3, 5)), ("InstanceNorm1d", (3,), {"affine": True}, (3, 5)),
    ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (4, 3, 3, 3)),
    ("InstanceNorm2d", (3, 1e-3, 0.3), {"track_running_stats": True}, (4, 3, 3, 3)), ("InstanceNorm3d", (2,), {"affine": True}, (2, 2, 2, 2, 3))]


@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize(("name", "arguments", "keywords", "shape"), SAME)
def test_modules_are_pytorchs_in_training_and_evaluation(name, arguments, keywords, shape, form, rng):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*arguments, **keywords).double()
    ours = getattr(layers, name)(*arguments, **keywords, form=form).astype("float64")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    values = {k: rng.normal(1, 0.5, v.shape) if v.requires_grad else v.numpy() for k, v in theirs.state_dict(keep_vars=True).items()}
    ours.load_state_dict(values)                                                # a state moves from PyTorch ...
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})  # ... and back

    for step in range(5):
        if step == 3:
            ours.eval(), theirs.eval()
        x, g = rng.normal(1 + step, 2, shape), rng.normal(size=shape)
        a, b = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        ours.zero_grad(), theirs.zero_grad()
        y, z = ours(a), theirs(b)
        y.backward(mg.tensor(g))
        z.backward(torch.tensor(g))
        pairs = [(y, z), (a.grad, b.grad), *((p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))]
        pairs += [(s, theirs.state_dict()[k]) for k, s in ours.state_dict().items()]
        for found, expected in pairs:
            found, expected = found.numpy(), expected.detach().numpy()
            assert found.shape == expected.shape and found.dtype == expected.dtype
            assert np.abs(found - expected).max() <= 1e-11 * (1 + np.abs(expected).max())  # eps has been 1e-5: 1/s up to 300


@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize(("name", "arguments", "keywords", "shape"), SAME)
def test_modules_are_as_exact_as_pytorch_in_float32(name, arguments, keywords, shape, form, rng):
    """Twice PyTorch's error at most, and what one rounding of a mean of 1e3 does to every x̂."""
    torch = pytest.importorskip("torch")
    x, g = rng.normal(1e3, 1, shape).astype("float32"), rng.normal(size=shape).astype("float32")
    results = {}
    for dtype in ("float32", "float64"):
        a, b = mg.tensor(x.astype(dtype), requires_grad=True), torch.tensor(x.astype(dtype), requires_grad=True)
        y = getattr(layers, name)(*arguments, **keywords, form=form).astype(dtype)(a)
        z = getattr(torch.nn, name)(*arguments, **keywords).to(getattr(torch, dtype))(b)
        y.backward(mg.tensor(g.astype(dtype)))
        z.backward(torch.tensor(g.astype(dtype)))
        results[dtype] = [t.detach().numpy() for t in (z, b.grad)] + [y.numpy(), a.grad.numpy()]
    exact = results["float64"][:2]
    for k, e in enumerate(exact):
        theirs, ours = (np.linalg.norm(results["float32"][i] - e) for i in (k, k + 2))
        assert ours <= 2 * theirs + 1e3 * np.finfo("float32").eps * np.linalg.norm(e)
