"""float16 stores, float32 computes: layers, statistics, optimizers and Modules; and float32 itself at its far ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layers
import minigrad as mg
from helpers import relative_error, to_host
from layers.batch import batch_norm
from layers.verify.agreement import cases_of, half_errors, on_backend, relative_errors, worst
from minigrad import nn, optim
from minigrad.core.by_hand import ByHand
from minigrad.kernels import half, normalize, reduce

FORMS = [(name, form) for name, layer in layers.REGISTRY.items() for form in ("composed", *layer.derived)]
LOOKED_AT_ONCE = ("batch_norm", "layer_norm")  # the others: make test-more
SCALES = [(0.0, 1e-3), (0.0, 1.0), (0.0, 300.0), (0.0, 3000.0), (1000.0, 1.0)]  # mean, deviation
WHITENING = ("decorrelated_batch_norm", "pca_whitening", "iter_norm", "orthogonal_weight_norm")


def drawn(name, form, parameters, scales=SCALES):
    """The layer's cases with x drawn at each scale, |x| ≤ 6e4, in float16, and parameters in either dtype."""
    for case, (x, *others), keywords in cases_of(name, None if form == "composed" else form):
        for mean, deviation in scales:
            rng = np.random.default_rng([len(case), x.size, int(mean + 1e4 * deviation)])
            values = np.clip(rng.normal(mean, deviation, x.shape), -6e4, 6e4).astype("float16")
            single = {k: v.astype("float32") if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
            yield f"{case}, mean {mean}, deviation {deviation}", (values, *(a.astype(parameters) for a in others)), single


def rejected(name, form, parameters="float32"):
    """Some case exceeds its bound, or raises."""
    with np.errstate(all="ignore"):
        try:
            return any(not worst(half_errors(layers.REGISTRY[name], form, case)) <= 1 for case in drawn(name, form, parameters))
        except (TypeError, ValueError, RecursionError, mg.TapeError):
            return True


@pytest.mark.parametrize("parameters", [pytest.param("float16", marks=pytest.mark.more), "float32"])
@pytest.mark.parametrize("name, form", [pytest.param(*f, marks=[pytest.mark.more] * (f[0] not in LOOKED_AT_ONCE)) for f in FORMS])
def test_every_form_of_float16_is_float64_rounded_once(name, form, parameters, backend):
    for case in drawn(name, form, parameters):
        with np.errstate(over="ignore"):  # a sum beyond 65504 is infinite in a float16 gradient
            assert worst(half_errors(layers.REGISTRY[name], form, case, backend)) <= 1, case[0]


# -- the check above has power: it sees every way in which the mechanism could be half-hearted -----------------------------

NAMES = [n for n in layers.REGISTRY if n not in ("whiten_eval", "orthonormality_penalty", *WHITENING)]


@pytest.mark.parametrize("name", NAMES)
def test_computing_in_float16_is_rejected(name, monkeypatch):
    monkeypatch.setattr(half, "is_half", lambda a: False)
    for form in ("composed", *layers.REGISTRY[name].derived):
        assert rejected(name, form, "float16"), form


@pytest.mark.parametrize("name, derivation", [(n, d) for n in NAMES for d in layers.REGISTRY[n].derived if n != "batch_norm_eval"])  # has no statistics
def test_statistics_in_float16_are_rejected(name, derivation, monkeypatch):
    p = layers.REGISTRY[name].derived[derivation].primitive
    save = p.saved_by
    def in_half(inputs, meta):
        return tuple(a.astype("float16").astype("float32") if next(iter(inputs.values())).dtype == "float32" else a for a in save(inputs, meta))
    monkeypatch.setattr(p, "saved_by", in_half)
    assert rejected(name, derivation)


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "batch_norm_eval"])
@pytest.mark.parametrize("form", ["composed", "derived"])
def test_gradients_of_float32_parameters_that_were_rounded_to_float16_are_rejected(name, form, monkeypatch):
    """A bound of half a float16 unit would let them pass: their own is that of float32. Sums of float16 cotangents need it, too."""
    (_, arrays, keywords), *_ = drawn(name, form, "float32")
    x = np.full((4096, arrays[0].shape[1]), 3, "float16") if name != "layer_norm" else np.tile(np.float16([1, 2, 3, 4, 5]), (4096, 1))
    xs = [mg.tensor(a, requires_grad=True) for a in (x, *(np.ones(x.shape[1], "float32") for _ in arrays[1:]))]
    keywords = {k: v[:1].repeat(x.shape[1]) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    y = layers.REGISTRY[name].form(form)(*xs, **on_backend(keywords, "numpy"))
    g = np.full(y.shape, 100, "float16")
    (d_beta,) = mg.grad(y, [xs[-1]], mg.tensor(g))
    assert d_beta.numpy().tolist() == [409600.0] * x.shape[1]  # beyond 65504


def test_the_bound_rejects_one_more_rounding():
    """Twice rounded, or rounded to 10 digits: the bound is for one rounding."""
    layer = layers.REGISTRY["batch_norm"]
    coarse = mg.by_hand(save=batch_norm.statistics, backward=batch_norm.one_line_backward)(
        lambda xp, x, gamma, beta, *, eps, saved: batch_norm.batch_norm(xp, x, gamma, beta, eps=eps, saved=saved) * np.float32(1 + 2 ** -10))
    wrong = type(layer)(layer.name, layer.composed, {"coarse": coarse}, "coarse", layer.cases, "")
    assert any(worst(half_errors(wrong, "coarse", case)) > 1 for case in drawn("batch_norm", "composed", "float32"))


# -- dtypes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, form", FORMS)
def test_the_output_is_stored_as_x_and_the_tape_shows_the_casts(name, form, backend):
    _, arrays, keywords = next(drawn(name, form, "float32"))
    xs = [mg.tensor(a, requires_grad=True, backend=backend) for a in arrays]
    y = layers.REGISTRY[name].form(form)(*xs, **on_backend(keywords, backend))
    assert y.dtype == ("float16" if y.ndim else "float32")
    casts = [line for line in mg.tape(y) if line.op == "astype"]
    assert bool(casts) == (form == "composed")
    if form != "composed":  # what is kept of x's size is kept in float16
        large = [a for line in mg.tape(y) for a in line.kept.values() if a.shape == xs[0].shape and a.size > 64]
        assert all(a.dtype in ("float16",) for a in large)
    raw = layers.REGISTRY[name].form(form)(*(x._data for x in xs), **{k: getattr(v, "_data", v) for k, v in on_backend(keywords, backend).items()})
    assert not isinstance(raw, mg.Tensor) and raw.dtype == y.dtype


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "weight_norm", "group_norm"])
@pytest.mark.parametrize("dtypes", [("float32", "float16"), ("float16", "float64"), ("float64", "float32"), ("float32", "float64")])
def test_nothing_else_mixes(name, dtypes):
    _, (x, *others), keywords = next(iter(cases_of(name)))
    for form in ("composed", *layers.REGISTRY[name].derived):
        with pytest.raises(TypeError, match="one floating dtype"):
            layers.REGISTRY[name].form(form)(mg.tensor(x.astype(dtypes[0])), *(mg.tensor(a.astype(dtypes[1])) for a in others), **keywords)


@pytest.mark.parametrize("name, keyword", [("batch_norm_eval", "running_mean"), ("batch_norm_eval", "running_var"), ("batch_renorm", "running_var"),
                                           ("whiten_eval", "mean"), ("whiten_eval", "projection"), ("spectral_norm", "u")])
@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32"), ("float32", "float16"), ("float16", "float64")])
def test_statistics_mix_no_more_than_parameters_do(name, keyword, dtypes, backend):
    _, arrays, keywords = next(iter(cases_of(name)))
    keywords = on_backend({k: v.astype(dtypes[k == keyword]) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}, backend)
    for form in ("composed", *layers.REGISTRY[name].derived):
        with pytest.raises(TypeError, match="one floating dtype"):
            layers.REGISTRY[name].form(form)(*(mg.tensor(a.astype(dtypes[0]), backend=backend) for a in arrays), **keywords)


def test_elementwise_ops_still_refuse_to_mix(backend):
    with pytest.raises(TypeError, match="float16"):
        mg.tensor([1.0], dtype="float16", backend=backend) * mg.tensor([1.0], dtype="float32", backend=backend)


@pytest.mark.parametrize("name, form", [(n, f) for n, f in FORMS if f != "composed" and n not in WHITENING])
def test_second_derivatives_of_float16(name, form, backend):
    """Through recomputed statistics and casts on the tape: within 1 % of float64, in every input's own dtype.

    In-place ABN has x̂ from its float16 output, and ∂²/∂γ² loses the digits that 1/γ² asks for.
    """
    _, arrays, keywords = next(iter(drawn(name, form, "float32", [(0.0, 1.0)])))

    def second(f, values, dtype):
        xs = [mg.tensor(a if dtype is None else a.astype(dtype), requires_grad=True, backend=backend) for a in values]
        y = f(*xs, **on_backend(keywords, backend, dtype))
        rng = np.random.default_rng(0)
        v = mg.tensor(rng.normal(size=y.shape).astype("float16").astype(y.dtype), requires_grad=True, backend=backend)
        first = mg.grad(y, xs, v, create_graph=True)
        us = [mg.tensor(rng.normal(size=g.shape).astype("float16").astype(g.dtype), backend=backend) for g in first]
        pairs = [(g, u) for g, u in zip(first, us, strict=True) if g.requires_grad]
        found = mg.grad([g for g, _ in pairs], [*xs, v], [u for _, u in pairs], allow_unused=True)
        assert all(g is None or g.dtype == a.dtype for g, a in zip(found, [*xs, v], strict=True))
        return [None if g is None else to_host(g).astype("float64") for g in found]
    layer = layers.REGISTRY[name]
    assert worst(relative_errors(second(layer.form(form), arrays, None), second(layer.composed, arrays, "float64"))) < (0.2 if name == "inplace_abn" else 1e-2)


def test_moments_and_sums_of_float16_are_float32(backend, rng):
    x, g = (mg.tensor(rng.normal(m, 900, (64, 8)).astype("float16"), requires_grad=True, backend=backend) for m in (0, 40))
    mean, var = mg.moments(x, 0)
    wide = x.numpy().astype("float64")
    assert (mean.dtype, var.dtype) == ("float32", "float32")
    assert relative_error(var.numpy().astype("float64"), wide.var(0, keepdims=True)) < 1e-6  # 810000 > 65504
    s, t = mg.paired_sums(g, x, mean, 0)
    assert relative_error(t.numpy().astype("float64"), (g.numpy().astype("float64") * (wide - wide.mean(0))).sum(0, keepdims=True)) < 1e-5
    y = mg.combine(g, x, mean, var, 1.0 / var, s)
    assert y.dtype == "float16"
    for out in (var, t, y):
        cotangent = mg.tensor(np.full(out.shape, 1e-3, out.dtype), backend=backend)
        for d, a in zip(mg.grad(out, [x, g], cotangent, retain_graph=True, allow_unused=True), (x, g), strict=True):
            assert d is None or d.dtype == a.dtype


@pytest.mark.parametrize("deviation", [1e-3, 1.0, 300.0, 3000.0])
def test_std_and_var_of_float16_are_rounded_once(deviation, backend, rng):
    x = (deviation * rng.normal(size=(5, 70))).astype("float16")
    for axis in (None, 0, 1):
        found, expected = (f.std(a, axis) for f, a in ((mg, mg.tensor(x, backend=backend)), (np, x.astype("float64"))))
        assert found.dtype == "float16" and relative_error(to_host(found).astype("float64"), np.asarray(expected)) < 2 ** -10
    with np.errstate(over="ignore"):
        wanted = x.astype("float64").var().astype("float16")
        assert mg.var(mg.tensor(x, backend=backend)).item() == pytest.approx(float(wanted), rel=2 ** -10, abs=2 ** -24)


# -- Modules -----------------------------------------------------------------------------------------------------------------

MODULES = {
    "BatchNorm2d": lambda **k: layers.BatchNorm2d(4, **k), "BatchRenorm2d": lambda **k: layers.BatchRenorm2d(4, **k),
    "InstanceNorm2d": lambda **k: layers.InstanceNorm2d(4, affine=True, track_running_stats=True, **k), "GroupNorm": lambda **k: layers.GroupNorm(2, 4, **k),
    "LayerNorm": lambda **k: layers.LayerNorm((4, 5, 5), **k), "RMSNorm": lambda **k: layers.RMSNorm((4, 5, 5), **k),
    "GRN": lambda **k: layers.GRN(4, **k), "InPlaceABN": lambda **k: layers.InPlaceABN(4, **k),
    "DBN2d": lambda **k: layers.DBN2d(4, 2, affine=True, **k),
    "DBN2d, projection": lambda **k: layers.DBN2d(4, affine=True, inference="projection", **k),
    "IterNorm2d": lambda **k: layers.IterNorm2d(4, 2, affine=True, **k),
}


@pytest.mark.more
@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize("how", ["constructed", "converted", "mixed"])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_in_float16_keeps_float32_statistics(name, how, form, backend, rng):
    """Training and evaluation agree with a float64 twin, whatever the way to float16: dtype=, astype, or only x."""
    module = MODULES[name](form=form, dtype="float16") if how == "constructed" else MODULES[name](form=form)
    module = module.astype("float16") if how == "converted" else module
    twin = MODULES[name](form=form, dtype="float64")
    for _ in range(3):
        x = (300 + 300 * rng.normal(size=(8, 4, 5, 5))).astype("float16")
        v = rng.normal(size=x.shape).astype("float16")
        t, u = (mg.tensor(a, requires_grad=True, backend=backend) for a in (x, x.astype("float64")))
        y, z = module(t), twin(u)
        (dt,), (du,) = mg.grad(y, [t], mg.tensor(v, backend=backend)), mg.grad(z, [u], mg.tensor(v.astype("float64"), backend=backend))
        assert y.dtype == dt.dtype == "float16"
        assert relative_error(to_host(y).astype("float64"), to_host(z)) < 2 ** -10 and relative_error(to_host(dt).astype("float64"), to_host(du)) < 2 ** -8
    for key, value in module.named_buffers():
        assert value.dtype == ("int64" if key == "num_batches_tracked" else "float32"), key
        assert relative_error(to_host(value).astype("float64"), to_host(dict(twin.named_buffers())[key]).astype("float64")) < 1e-5, key
    module.eval(), twin.eval()
    y, z = module(mg.tensor(x, backend=backend)), twin(mg.tensor(x.astype("float64"), backend=backend))
    assert y.dtype == "float16" and relative_error(to_host(y).astype("float64"), to_host(z)) < 2 ** -10
    if how == "constructed":
        assert {str(b.dtype) for b in module.astype("float64").buffers()} <= {"float64", "int64"}
        assert {str(b.dtype) for b in module.astype("float16").buffers()} <= {"float32", "int64"}


def optimizers():
    yield "sgd", lambda p: optim.SGD(p, 0.05)
    yield "momentum", lambda p: optim.SGD(p, 0.02, momentum=0.9, weight_decay=1e-4, nesterov=True)
    yield "adam", lambda p: optim.Adam(p, 0.01)
    yield "amsgrad", lambda p: optim.Adam(p, 0.01, amsgrad=True)
    yield "adamw", lambda p: optim.AdamW(p, 0.01)
    yield "rmsprop", lambda p: optim.RMSprop(p, 1e-3, momentum=0.9, centered=True)


def network():
    return nn.Sequential(nn.Conv2d(2, 4, 3), layers.BatchNorm2d(4), nn.ReLU(), layers.parametrize(nn.Conv2d(4, 4, 1), "spectral_norm"), layers.GroupNorm(2, 4),
                         layers.InPlaceABN(4), nn.Flatten(), layers.parametrize(nn.Linear(64, 3), "weight_norm"), layers.RMSNorm(3))


@pytest.mark.more
@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in optimizers()])
def test_a_network_in_float16_trains(make, backend, rng):
    model = network().astype("float16")
    optimizer = make(model.parameters())
    x, target = mg.tensor(rng.normal(300, 300, (8, 2, 6, 6)).astype("float16"), backend=backend), mg.tensor(np.arange(8) % 3, backend=backend)
    losses = []
    for _ in range(15):
        loss = mg.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert {str(p.dtype) for p in model.parameters()} == {"float16"}
    assert all(a.dtype == "float32" for s in optimizer.state.values() for a in s.values() if hasattr(a, "dtype"))


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in optimizers()])
@pytest.mark.parametrize("size", [1e-7, 1e-5, 1.0, 300.0, 3e4])
def test_a_step_is_that_of_float64_rounded_once(make, size, backend, rng):
    """Gradients from float16's smallest to its largest, and zeros: each step starts from the stored parameter."""
    g = np.concatenate([size * rng.normal(size=60).clip(-2, 2), np.zeros(4)]).astype("float16")
    values = rng.normal(size=64).astype("float16")
    p, q = (mg.tensor(values.astype(d), requires_grad=True, backend=backend) for d in ("float16", "float64"))
    one, two = make([p]), make([q])
    for _ in range(3):
        p.grad, q.grad = (mg.tensor(g.astype(d), backend=backend) for d in ("float16", "float64"))
        one.step(), two.step()
        found, exact = (to_host(t).astype("float64") for t in (p, q))
        with np.errstate(over="ignore"):
            inside = np.abs(exact) < 65504
        moved = np.abs(exact - values.astype("float64"))
        assert (np.abs(found - exact) <= 2.0 ** -11 * np.abs(exact) + 2.0 ** -25 + 1e-3 * moved)[inside].all()
        q._data[...] = to_host(p) if backend == "numpy" else p._data  # from the same stored parameter
    assert np.isfinite(to_host(p)).all() or size > 300


def test_the_state_of_a_float16_parameter_is_saved_and_loaded_in_float32(backend):
    p = mg.tensor(np.ones(3, "float16"), requires_grad=True, backend=backend)
    p.grad = mg.tensor(np.full(3, 0.1, "float16"), backend=backend)
    one, two = optim.Adam([p]), optim.Adam([p])
    one.step()
    saved = one.state_dict()
    two.load_state_dict(saved)
    assert to_host(two.state[p]["exp_avg"]).tolist() == to_host(one.state[p]["exp_avg"]).tolist()
    saved["state"][0]["exp_avg"] = saved["state"][0]["exp_avg"].astype("float16")
    with pytest.raises(ValueError, match="float32"):
        two.load_state_dict(saved)


def test_clipping_by_a_small_factor_keeps_the_digits_of_float16(backend):
    p = mg.tensor(np.zeros(2, "float16"), requires_grad=True, backend=backend)
    p.grad = mg.tensor(np.array([3e4, 4e4], "float16"), backend=backend)
    optim.clip_grad_norm_(p, 1.0)  # by 2e-5
    assert to_host(p.grad).astype("float64") == pytest.approx([0.6, 0.8], rel=2 ** -10)


# -- options that change after a value was computed from them ------------------------------------------------------------------


@pytest.mark.parametrize("make, option, value", [
    (lambda: layers.DBN2d(4, 2), "eps", 0.5), (lambda: layers.DBN2d(5, 2), "eps", 0.5), (lambda: layers.IterNorm2d(4), "eps", 0.5),
    (lambda: layers.IterNorm2d(4), "iterations", 1), (lambda: layers.BatchNorm2d(4), "eps", 0.5), (lambda: layers.InPlaceABN(4), "slope", 0.5),
    (lambda: layers.BatchRenorm2d(4), "eps", 0.5), (lambda: layers.GroupNorm(2, 4), "num_groups", 4), (lambda: layers.RMSNorm(3), "eps", 0.5),
], ids=lambda v: str(v) if isinstance(v, str) else "")
def test_an_option_changed_after_an_evaluation_counts(make, option, value, backend, rng):
    module = make()
    channels = getattr(module, "num_features", 4)
    x = mg.tensor(rng.normal(size=(6, channels, 3, 3)).astype("float32"), backend=backend)
    module(x)
    module.eval()
    before = to_host(module(x))
    setattr(module, option, value)
    fresh = make().eval()
    fresh.load_state_dict(module.state_dict())
    setattr(fresh, option, value)
    after = to_host(module(x))
    assert relative_error(after, to_host(fresh(x))) == 0 and relative_error(after, before) > 1e-3


def test_an_activation_changed_to_an_unknown_one_is_refused_in_evaluation_too():
    module = layers.InPlaceABN(3).eval()
    module.activation = "relu"
    with pytest.raises(ValueError, match="inverted"):
        module(mg.tensor(np.ones((2, 3, 2, 2), "float32")))


# -- float32 at its far ends --------------------------------------------------------------------------------------------------

NOT_FAR = {"batch_norm_eval", "whiten_eval", "spectral_norm", "orthonormality_penalty"}  # no statistics of x


@pytest.mark.more
@pytest.mark.parametrize("name, form", [(n, f) for n, f in FORMS if n not in NOT_FAR])
@pytest.mark.parametrize("scale", [1e14, 1e16, 1e18])
def test_float32_of_large_scale_keeps_the_projection(name, form, scale, backend):
    """Against float64, on all cases where ε, which is nothing beside σ², is not what makes the result: two elements, or singular matrices."""
    if form in ("staged", "simplified") and name == "decorrelated_batch_norm":
        pytest.skip("divides by gaps between eigenvalues")
    checked = 0
    for case, (x, *others), keywords in cases_of(name):
        if any(word in case for word in ("n = 2", "two elements", "one element", "one spatial", "degenerate", "square", "more rows", "dependent", "features")):
            continue
        values = (scale * np.random.default_rng(0).normal(size=x.shape)).astype("float32"), *(a.astype("float32") for a in others)
        running = {k: (v * (scale ** 2 if k == "running_var" else 1)).astype("float32") if isinstance(v, np.ndarray) else v for k, v in keywords.items()}

        def results(f, dtype, backend, values=values, running=running):
            xs = [mg.tensor(a.astype(dtype), requires_grad=True, backend=backend) for a in values]
            y = f(*xs, **on_backend(running, backend, dtype))
            return [to_host(t) for t in (y, *mg.grad(y, xs, mg.tensor(np.random.default_rng(1).normal(size=y.shape).astype(dtype), backend=backend)))]
        found, expected = results(layers.REGISTRY[name].form(form), "float32", backend), results(layers.REGISTRY[name].composed, "float64", "numpy")
        for f, e in zip(found, expected, strict=True):
            assert relative_error(f.astype("float64"), e) < 1e-5, case
        checked += 1
    assert checked


CONSTANT = [0.1, 0.7, 333333.3, 16777217.0, 1e-5, 1e18, -333333.3]


@pytest.mark.more
@pytest.mark.parametrize("value", CONSTANT)
@pytest.mark.parametrize("shape", [(3, 2, 7, 5), (10, 2, 3, 3), (1000, 2, 5, 5), (70000, 2)])
def test_a_constant_channel_is_beta_in_every_form(value, shape, backend, rng):
    x = rng.normal(size=shape).astype("float32")
    x[:, 1] = value
    gamma, beta = rng.normal(size=(2, 2)).astype("float32")
    for name in ("batch_norm", "inplace_abn", *(["instance_norm"] if len(shape) > 2 else [])):
        for form in ("composed", *layers.REGISTRY[name].derived):
            more = {"activation": "identity"} if name == "inplace_abn" else {}
            y = layers.REGISTRY[name].form(form)(*(mg.tensor(a, backend=backend) for a in (x, gamma, beta)), eps=1e-5, **more)
            assert (to_host(y)[:, 1] == beta[1]).all(), (name, form)


@pytest.mark.parametrize("value", CONSTANT)
def test_constant_rows_groups_and_filters_are_flat_in_every_form(value, backend):
    x, one, zero = (mg.tensor(np.full(s, v, "float32"), backend=backend) for s, v in (((3, 6, 7), value), ((6, 7), 1), ((6, 7), 0)))
    for form in ("composed", "derived"):
        assert not to_host(layers.REGISTRY["layer_norm"].form(form)(x, one, zero, eps=1e-5)).any()
        assert not to_host(layers.REGISTRY["group_norm"].form(form)(x, one[:, 0], zero[:, 0], groups=2, eps=1e-5)).any()
        assert not to_host(layers.REGISTRY["weight_standardization"].form(form)(x, eps=1e-5)).any()


@pytest.mark.parametrize("form", ["composed", "derived"])
@pytest.mark.parametrize("mean", [1e3, 1e4, 1e5])
def test_batch_norm_at_inference_does_not_cancel(form, mean, backend, rng):
    """At mean/deviation 1e4, Σ g·x − rm·Σ g and a·x + (β − a·rm) have 4 digits less than their terms."""
    x = rng.normal(mean, 1, (64, 3, 8, 8)).astype("float32")
    statistics = {"running_mean": x.mean((0, 2, 3)), "running_var": x.astype("float64").var((0, 2, 3)).astype("float32")}
    arrays = x, *(rng.normal(size=3).astype("float32") for _ in "ab")
    v = rng.normal(size=x.shape).astype("float32")

    def results(dtype):
        xs = [mg.tensor(a.astype(dtype), requires_grad=True, backend=backend) for a in arrays]
        y = layers.REGISTRY["batch_norm_eval"].form(form)(*xs, **on_backend(statistics, backend, dtype), eps=1e-5)
        return [to_host(t).astype("float64") for t in (y, *mg.grad(y, xs, mg.tensor(v.astype(dtype), backend=backend)))]
    for found, expected in zip(results("float32"), results("float64"), strict=True):
        assert relative_error(found, expected) < 2e-6


# -- long sums ----------------------------------------------------------------------------------------------------------------

LONG = {
    "sum": lambda x, axis: mg.sum(x, axis), "mean": lambda x, axis: mg.mean(x, axis) * float(np.prod([x.shape[i] for i in axis])),
    "moments": lambda x, axis: mg.moments(x, axis)[0] * float(np.prod([x.shape[i] for i in axis])),
    "paired_sums": lambda x, axis: mg.paired_sums(x, x, None, axis)[0], "Σ g·x": lambda x, axis: mg.paired_sums(x, 0.0 * x + 1.0, None, axis)[1],
    "sum_to": lambda x, axis: mg.sum_to(x, tuple(1 if i in axis else n for i, n in enumerate(x.shape))),
}


@pytest.mark.parametrize("f", LONG)
@pytest.mark.parametrize("shape, axis", [((300_000, 2), (0,)), ((2, 150_000, 2), (1,)), ((600, 700, 2), (0, 1)), ((100_000, 2, 2), (0, 2)),
                                         ((70_000, 3, 2), (0,))])
def test_long_sums_of_equal_numbers_keep_their_digits(f, shape, axis, backend):
    """Term by term they would be off by 1e-3 and more. Up to 512 terms one after the other are off by 512 · 2⁻²⁴ = 3e-5 at worst."""
    if f == "sum_to" and backend == "fake":
        pytest.skip("the same kernel as sum")
    x = mg.tensor(np.full(shape, 0.1, "float32"), backend=backend)
    exact = np.float64(np.float32(0.1)) * np.prod([shape[i] for i in axis])
    assert np.abs(to_host(LONG[f](x, axis)) / exact - 1).max() < 3e-5


def test_ten_million_rows(backend):
    x = np.full((10**7, 2), 0.1, "float32")
    assert np.abs(to_host(mg.mean(mg.tensor(x, backend=backend), 0)) / np.float32(0.1) - 1).max() < 1e-5


def test_a_gradient_that_is_a_long_sum(backend):
    x, g = np.random.default_rng(0).normal(size=(400_000, 2)).astype("float32"), np.full((400_000, 2), 0.1, "float32")
    for form in ("composed", *layers.REGISTRY["batch_norm"].derived):
        xs = [mg.tensor(a, requires_grad=True, backend=backend) for a in (x, np.ones(2, "float32"), np.zeros(2, "float32"))]
        (d_beta,) = mg.grad(layers.REGISTRY["batch_norm"].form(form)(*xs, eps=1e-5), [xs[2]], mg.tensor(g, backend=backend))
        assert np.abs(to_host(d_beta) / (400_000 * np.float64(np.float32(0.1))) - 1).max() < 1e-5, form


@given(data=st.data())
def test_sums_in_runs_are_sums(data):
    """All shapes, axes, layouts and dtypes, with runs so short that every branch is taken."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = tuple(draw(st.lists(st.integers(0, 13), max_size=4)))
    a = rng.normal(size=shape).astype(draw(st.sampled_from(["float16", "float32", "float64"])))
    a = a.transpose(draw(st.permutations(range(a.ndim))))
    if a.ndim and draw(st.booleans()):
        a = draw(st.sampled_from([lambda a: a[..., ::2], lambda a: a[::-1], lambda a: np.broadcast_to(a[:1], a.shape) if len(a) else a]))(a)
    axes = tuple(sorted(draw(st.sets(st.integers(0, a.ndim - 1))))) if a.ndim else ()
    keepdims = draw(st.booleans())
    dtype = np.promote_types(a.dtype, "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reduce, "_FEW", 5)
        patch.setattr(reduce, "_RUN", 3)
        found = reduce.sum_over(np, a, axes, keepdims, dtype)
    expected = a.astype("float64").sum(axes, keepdims=keepdims)
    assert (found.shape, found.dtype) == (expected.shape, dtype)
    assert (np.abs(found - expected) <= 1e-6 * np.abs(a.astype("float64")).sum(axes, keepdims=keepdims)).all()


def test_variances_near_the_largest_float32_do_not_overflow_on_the_way(rng):
    x = (1e17 * rng.normal(size=(64, 3, 20, 20))).astype("float32")
    assert relative_error(normalize.moments(np, x, (0, 2, 3))[1].astype("float64"), x.astype("float64").var((0, 2, 3), keepdims=True)) < 1e-6


def test_by_hand_ops_of_users_compute_in_float32(backend, rng):
    seen = []

    def save(x):
        seen.append(x.dtype)
        return (mg.sqrt(mg.mean(x * x)),)

    @mg.by_hand(save=save, backward=lambda g, saved, x: (seen.append(g.dtype) or (g - x * mg.mean(g * x) / saved[0] ** 2) / saved[0],))
    def scaled(xp, x, *, saved):
        seen.append(x.dtype)
        return x / saved[0]
    assert isinstance(scaled.primitive, ByHand)
    x = mg.tensor((3000 * rng.normal(size=50)).astype("float16"), requires_grad=True, backend=backend)
    y = scaled(x)
    (d,) = mg.grad(y, [x], mg.tensor(rng.normal(size=50).astype("float16"), backend=backend))
    assert y.dtype == d.dtype == "float16" and set(map(str, seen)) == {"float32"} and np.isfinite(to_host(d)).all()
    assert abs(float(mg.mean(mg.square(y.astype("float32"))).item()) - 1) < 1e-3
