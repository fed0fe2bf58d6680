"""vjp, jvp, hvp and jacobian of functions of every kind; and nothing wraps a NumPy scalar on the way."""

import numpy as np
import pytest

import layers
import minigrad as mg
from helpers import random_cotangent, to_host
from minigrad import nn, optim
from minigrad.core.tensor import Tensor


def tensor(rng, *shape, dtype="float64"):
    return mg.tensor(random_cotangent(rng, shape, dtype), backend=mg.backend.current_name())


def slope(f, xs, vs, h=1e-5):
    """Central difference of f in the direction vs, each output a host array. Error ≈ h² f''' + ε/h ≈ 1e-10."""
    ends = [f(*[mg.tensor(to_host(x) + s * h * to_host(v), backend=x.backend) for x, v in zip(xs, vs, strict=True)]) for s in (1, -1)]
    plus, minus = ([to_host(y) for y in (e if isinstance(e, (tuple, list)) else (e,))] for e in ends)
    return [(p - m) / (2 * h) for p, m in zip(plus, minus, strict=True)]


FUNCTIONS = {
    "sum": lambda x, w: (x * w).sum(), "mean of tanh": lambda x, w: mg.tanh(x * w).mean(), "sum, one input": lambda x, w: (x * x * x).sum(),
    "0-d by index": lambda x, w: x[0, 1] * w[1, 2], "norm": lambda x, w: mg.norm(x - w), "linear": lambda x, w: 3.0 * x[0, 0],
    "logsumexp": lambda x, w: mg.logsumexp(x * w), "vector": lambda x, w: mg.tanh(x * w).sum(0), "matrix": lambda x, w: x @ w.T,
    "the input": lambda x, w: x, "constant": lambda x, w: mg.tensor(2.0, dtype="float64", backend=x.backend), "detached": lambda x, w: (x * w).detach().sum(),
    "tuple": lambda x, w: (mg.exp(x), (x * w).sum()), "list": lambda x, w: [x.sum(), w.sum(0), x @ w.T],
    "with a constant": lambda x, w: (mg.tensor(2.0, dtype="float64", backend=x.backend), (x * w).sum()), "twice the same": lambda x, w: (y := x * w, y),
    "one of a tuple": lambda x, w: ((x * w).sum(),), "integers too": lambda x, w: (x * w, mg.argmax(x, 1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jvp_is_the_slope_and_the_transpose_of_vjp(name, backend, rng):
    f, xs, vs = FUNCTIONS[name], [tensor(rng, 2, 3), tensor(rng, 2, 3)], [tensor(rng, 2, 3), tensor(rng, 2, 3)]
    y, pushed = mg.jvp(f, xs, vs)
    expected = f(*(mg.tensor(x, requires_grad=True) for x in xs))
    assert type(y) is type(pushed) is (tuple if isinstance(expected, (tuple, list)) else Tensor)
    ys, ps, es = ((t if isinstance(t, (tuple, list)) else (t,)) for t in (y, pushed, expected))
    for value, p, e, s in zip(ys, ps, es, slope(f, xs, vs), strict=True):
        np.testing.assert_array_equal(to_host(value), to_host(e))
        assert (p.shape, p.dtype, p.backend) == (e.shape, e.dtype, backend) and not p.requires_grad and not value.requires_grad
        if e.dtype.kind == "f" and name != "detached":
            np.testing.assert_allclose(to_host(p), s, rtol=0, atol=1e-8)
        else:
            assert not to_host(p).any()
    if all(e.dtype.kind == "f" and e.requires_grad for e in es):  # <u, J v> = <Jᵀ u, v>
        us = [tensor(rng, *e.shape) for e in es]
        _, pulled = mg.vjp(f, xs, us if len(us) > 1 else us[0])
        left, right = (sum(float((to_host(a) * to_host(b)).sum()) for a, b in zip(p, q, strict=True)) for p, q in ((us, ps), (pulled, vs)))
        assert abs(left - right) <= 1e-10 * max(1.0, abs(left))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_jvp_and_hvp_of_inputs_of_every_size(shape, backend, rng):
    x, v = tensor(rng, *shape), tensor(rng, *shape)
    f = lambda x: (mg.tanh(x) * x * x).sum()
    np.testing.assert_allclose(to_host(mg.jvp(f, [x], [v])[1]), slope(f, [x], [v])[0], rtol=0, atol=1e-8)
    gradient = lambda x: mg.vjp(f, [x])[1][0]
    (product,) = mg.hvp(f, [x], [v])
    np.testing.assert_allclose(to_host(product), slope(gradient, [x], [v])[0], rtol=0, atol=1e-8)
    assert isinstance(product._data, mg.backend.get(backend).ndarray)
    np.testing.assert_array_equal(to_host(mg.hvp(f, x, v)[0]), to_host(product))
    np.testing.assert_array_equal(to_host(mg.jvp(f, x, v)[1]), to_host(mg.jvp(f, [x], [v])[1]))


def test_hvp_of_what_has_no_curvature_is_zero(backend, rng):
    x, w = tensor(rng, 3), tensor(rng, 2)
    for f in (lambda x, w: 3.0 * x.sum(), lambda x, w: mg.tensor(1.0, dtype="float64", backend=x.backend), lambda x, w: (x.detach() ** 2).sum()):
        for h, a in zip(mg.hvp(f, [x, w], [x, w]), (x, w), strict=True):
            assert (h.shape, h.dtype, h.backend) == (a.shape, a.dtype, backend) and not to_host(h).any()


@pytest.mark.parametrize("op", [mg.jvp, mg.hvp])
def test_vectors_that_do_not_fit_are_named_with_a_fix_that_works(op, backend, rng):
    f, x, w = (lambda x, w: (x * w[:1]).sum()), tensor(rng, 3), tensor(rng, 2)
    for vs, got in (([x], "1 vectors for 2 inputs"), ([], "0 vectors for 2 inputs"), ([x, w, x], "3 vectors for 2 inputs"), (x, "1 vectors")):
        with pytest.raises(ValueError, match=rf"(?s){op.__name__}: got {got}.*zeros where an input should not move"):
            op(f, [x, w], vs)
    op(f, [x, w], [x, w * 0])
    for wrong, kind in ((w, ValueError), (x.astype("float32"), ValueError), (to_host(x), TypeError), (3.0, TypeError), (None, TypeError)):
        with pytest.raises(kind, match=rf"(?s){op.__name__}: got vector 0.*minigrad\.tensor\(v, dtype='float64', backend='{backend}'\)"):
            op(f, [x, w], [wrong, w])
    op(f, [x, w], [mg.tensor(to_host(x).tolist(), dtype="float64", backend=backend), w])
    with pytest.raises(TypeError, match="wrap them"):
        op(f, [to_host(x), w], [x, w])


def test_functions_that_return_something_else_are_named(backend, rng):
    x = tensor(rng, 3)
    for wrong in (lambda x: 3.0, lambda x: None, lambda x: (x, 1.0), lambda x: {"a": x}):
        with pytest.raises(TypeError, match=r"jvp: got .*from the function"):
            mg.jvp(wrong, [x], [x])
    for wrong in (lambda x: 3.0, lambda x: x * x, lambda x: (x.sum(), x.sum())):
        with pytest.raises(ValueError, match=r"(?s)hvp: got .*from the function.*y\.sum\(\)"):
            mg.hvp(wrong, [x], [x])
    mg.hvp(lambda x: (x * x).sum(), [x], [x])


# -- 0-d: NumPy makes scalars of such results, and no Tensor may wrap one -----------------------------------------------


@pytest.fixture
def no_scalars(monkeypatch):
    """Every Tensor that is made holds an array."""
    original = Tensor.__init__

    def checked(self, data, line=None):
        assert not isinstance(data, np.generic | float | int), f"a Tensor around {data!r}"
        original(self, data, line)
    monkeypatch.setattr(Tensor, "__init__", checked)


def zero_d(value, requires_grad=True, dtype="float32"):
    return mg.tensor(value, requires_grad=requires_grad, dtype=dtype, backend=mg.backend.current_name())


def test_hooks_see_arrays_and_may_replace_them(no_scalars, backend):
    seen = []
    for hook, expected in ((seen.append, 16.0), (lambda g: seen.append(g) or g * 2.0, 32.0), (lambda g: g + 0.0, 16.0)):  # 4x² at 2
        x = zero_d(2.0)
        y = x * 2.0
        x.register_hook(lambda g, hook=hook: hook(g))
        y.register_hook(lambda g: seen.append(g))
        y.retain_grad()
        (y * y).backward()
        assert float(to_host(x.grad)) == expected and "tensor(" in repr(x.grad) + repr(y.grad)
        for t in (x.grad, y.grad, *seen):
            assert isinstance(t._data, mg.backend.get(backend).ndarray) and t.shape == () and repr(t) and t.backend == backend


@pytest.mark.parametrize("create_graph", [False, True])
def test_0d_gradients_of_every_way_are_arrays(no_scalars, create_graph, backend):
    x, w = zero_d(2.0), zero_d(3.0)
    y = mg.exp(x * w) * x + mg.where(x > 1.0, x, w) - mg.maximum(x, w) ** 2 / w
    total = mg.stack([y, x]).sum() + mg.concatenate([mg.reshape(x, (1,)), mg.reshape(w, (1,))]).max()
    grads = mg.grad(total, [x, w], create_graph=create_graph)
    (mg.logsumexp(mg.stack([x, w])) * x).backward(create_graph=create_graph)
    (x * w).backward()
    optim.clip_grad_norm_([x, w], 0.5)
    optim.clip_grad_value_([x, w], 0.1)
    for t in (*grads, x.grad, w.grad):
        assert isinstance(t._data, mg.backend.get(backend).ndarray) and repr(t)


def test_0d_parameters_are_trained_and_their_gradients_zeroed(no_scalars, backend):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(zero_d(2.0, False))

        def forward(self, x):
            return x * self.factor

    for make in (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1), lambda p: optim.RMSprop(p, lr=0.1)):
        model = Scale()
        optimizer = make(model.parameters())
        for _ in range(3):
            (model(zero_d(3.0, False)) ** 2).backward()
            optimizer.step()
            for zero in (optimizer, model):
                zero.zero_grad(set_to_none=False)
                assert model.factor.grad.shape == () and repr(model.factor.grad) and float(to_host(model.factor.grad)) == 0.0
        assert isinstance(model.factor._data, mg.backend.get(backend).ndarray) and float(to_host(model.factor)) < 2.0


def test_zeroed_gradients_are_zero_whatever_they_were(backend):
    model = nn.Linear(2, 2)
    for zero in (model, optim.SGD(model.parameters(), lr=0.1)):
        for bad in ("nan", "inf"):
            model.weight.grad = mg.tensor(np.full((2, 2), float(bad), "float32"), backend=backend)
            zero.zero_grad(set_to_none=False)
            assert (to_host(model.weight.grad) == 0).all()


def test_what_by_hand_ops_save_is_given_as_tensors(no_scalars, backend):
    @mg.by_hand(save=lambda x: ((x * x).sum(), x.max()), backward=lambda g, saved, x: (g * 2.0 * x,))
    def square_sum(xp, x, *, saved):
        return saved[0]
    y, saved = mg.with_saved(square_sum, mg.tensor([1.0, 2.0], requires_grad=True))
    assert y.shape == () and all(isinstance(s, Tensor) and s.shape == () and repr(s) for s in saved)


def test_layers_make_no_tensor_of_a_scalar(no_scalars, backend, rng):
    x = mg.tensor(rng.normal(size=(4, 3, 4, 4)).astype("float32"), requires_grad=True, backend=backend)
    for model in (layers.BatchNorm2d(3, momentum=None), layers.DecorrelatedBatchNorm2d(3), layers.parametrize(nn.Conv2d(3, 2, 3), "spectral_norm"),
                  layers.RMSNorm((3, 4, 4)), layers.InPlaceABN(3)):
        y = model(x * 1.0)
        y.backward(mg.tensor(random_cotangent(rng, y.shape, "float32"), backend=backend))
        model.eval()(x * 1.0)
        repr(model.state_dict())
