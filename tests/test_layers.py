"""Every registered layer: composed, every derivation and central differences give the same derivatives, in both orders.

Nothing here knows a layer by name: a new file in `layers` that registers itself is tested by these lines.
"""

import zlib

import numpy as np
import pytest
from helpers import relative_error

import layers
import minigrad as mg

PAIRS = [(name, derivation) for name, layer in layers.REGISTRY.items() for derivation in layer.derived]
DEGENERATE = "degenerate"  # a case whose name contains this word asks for more than the derivations in this table can give
SINGULAR = {("decorrelated_batch_norm", "staged"), ("decorrelated_batch_norm", "simplified")}  # they divide by eigenvalue gaps


def seeded(*words):
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def cases_of(name, derivation=None, dtype="float64"):
    for case in layers.REGISTRY[name].cases(dtype, seeded(name, "cases")):
        if not (DEGENERATE in case[0] and (name, derivation) in SINGULAR):
            yield case


def on_backend(keywords, backend, dtype=None):
    """Array keywords as constants on the backend."""
    return {k: mg.tensor(v if dtype is None else v.astype(dtype), backend=backend) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}


def derivatives(form, arrays, keywords, backend, seed, order=1, dtype=None):
    """Value, gradients and, for order 2, gradients of the gradients, all with random cotangents, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    xs = [mg.tensor(a if dtype is None else a.astype(dtype), requires_grad=True, backend=backend) for a in arrays]
    y = form(*xs, **on_backend(keywords, backend, dtype))
    v = mg.tensor(rng.normal(size=y.shape).astype(y.dtype), requires_grad=order == 2, backend=backend)
    first = mg.grad(y, xs, v, create_graph=order == 2)
    results = [y, *first]
    if order == 2:
        cotangents = [mg.tensor(rng.normal(size=g.shape), backend=backend) for g in first]
        pairs = [(g, u) for g, u in zip(first, cotangents, strict=True) if g.requires_grad]
        results += mg.grad([g for g, _ in pairs], [*xs, v], [u for _, u in pairs], allow_unused=True)
    return [None if r is None else r.numpy() for r in results]


def agree(found, expected, bound):
    """Each pair of arrays to a relative error of `bound`; a reference of zero asks for smallness against the largest."""
    scale = max(np.linalg.norm(e) for e in expected if e is not None)
    for f, e in zip(found, expected, strict=True):
        f, e = (np.zeros_like(o) if a is None else a for a, o in ((f, e), (e, f)))
        if (f is None and e is None) or not f.size:
            continue
        assert f.shape == e.shape and f.dtype == e.dtype
        assert np.linalg.norm(f - e) <= bound * max(np.linalg.norm(e), 1e-3 * scale)


def bound_of(name, tight, whitening):
    return whitening if name in {"decorrelated_batch_norm", "iter_norm", "orthogonal_weight_norm"} else tight


@pytest.mark.parametrize(("name", "derivation"), PAIRS)
def test_derived_equals_composed_in_first_order(name, derivation, backend):
    layer = layers.REGISTRY[name]
    for case, arrays, keywords in cases_of(name, derivation):
        found, expected = (derivatives(form, arrays, keywords, backend, 1) for form in (layer.derived[derivation], layer.composed))
        agree(found, expected, bound_of(name, 1e-11, 1e-9)), case


@pytest.mark.parametrize(("name", "derivation"), PAIRS)
def test_derived_equals_composed_in_second_order(name, derivation, backend):
    layer = layers.REGISTRY[name]
    for _case, arrays, keywords in cases_of(name, derivation):
        found, expected = (derivatives(form, arrays, keywords, backend, 2, order=2) for form in (layer.derived[derivation], layer.composed))
        agree(found, expected, 1e-9)


@pytest.mark.parametrize(("name", "derivation"), [(n, d) for n, layer in layers.REGISTRY.items() for d in ("composed", *layer.derived)])
@pytest.mark.parametrize("order", [1, 2])
def test_every_form_agrees_with_central_differences(name, derivation, order):
    layer = layers.REGISTRY[name]
    powerful = 0
    for case, arrays, keywords in cases_of(name, derivation):
        if "mean 1e4" in case:  # the difference quotient, not the layer, loses its digits there
            continue
        report = mg.gradcheck(lambda *xs, keywords=keywords: layer.form(derivation)(*xs, **on_backend(keywords, "numpy")), [mg.tensor(a) for a in arrays], order=order)
        verdicts = {row.verdict for row in report.rows}
        assert "wrong" not in verdicts, (case, str(report))
        powerful += "right" in verdicts
    assert powerful, "no case had power"


@pytest.mark.parametrize(("name", "derivation"), PAIRS)
def test_float32_is_within_the_rounding_of_its_inputs(name, derivation):
    """|float32 − float64| ≤ 64 × the effect of perturbing every input by one unit of rounding + 64 units of the result
    + 8 × the error of the composed form in float32.

    The first two say that the result is the exact one for inputs that are wrong in their last bits. The third allows for
    cancellation inside the layer (with n = 2, dx is the small difference of large terms), where no form can do better.
    """
    layer, eps = layers.REGISTRY[name], np.finfo("float32").eps
    for case, arrays, keywords in cases_of(name, derivation, "float32"):
        if DEGENERATE in case and (name, derivation) in SINGULAR:
            continue
        exact = derivatives(layer.composed, arrays, keywords, "numpy", 3, dtype="float64")
        single = derivatives(layer.derived[derivation], arrays, keywords, "numpy", 3)
        taped = derivatives(layer.composed, arrays, keywords, "numpy", 3)
        moved = []
        for trial in range(4):
            rng = seeded(name, case, trial)
            nearby = [a.astype("float64") * (1 + eps * rng.uniform(-1, 1, a.shape)) for a in arrays]
            moved.append(derivatives(layer.composed, nearby, keywords, "numpy", 3, dtype="float64"))
        for i, (s, e) in enumerate(zip(single, exact, strict=True)):
            sensitivity = max(np.linalg.norm(m[i] - e) for m in moved)
            assert s.dtype == np.float32
            assert np.linalg.norm(s - e) <= 64 * sensitivity + 64 * eps * np.linalg.norm(e) + 8 * np.linalg.norm(taped[i] - e), (case, i)


@pytest.mark.parametrize(("name", "derivation"), PAIRS)
def test_the_layout_of_inputs_and_cotangents_does_not_matter(name, derivation):
    """Non-contiguous and read-only inputs, and a stride-0 (but not constant along the batch) cotangent."""
    layer = layers.REGISTRY[name]
    case, arrays, keywords = next(iter(cases_of(name, derivation)))
    def spread(a):
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype) if a.ndim else np.zeros((2,), a.dtype)
        view = wide[..., ::2] if a.ndim else wide[0:1].reshape(())
        view[...] = a
        view.flags.writeable = False
        return view
    results = []
    for prepare in (lambda a: a, spread):
        xs = [mg.from_array(prepare(a), requires_grad=True, copy=False) for a in arrays]
        y = layer.derived[derivation](*xs, **on_backend(keywords, "numpy"))
        row = np.random.default_rng(5).normal(size=(*y.shape[:-1], 1))
        v = mg.from_array(np.broadcast_to(row, y.shape), copy=False)
        results.append([y.numpy(), *(g.numpy() for g in mg.grad(y, xs, v))])
    for a, b in zip(*results, strict=True):
        assert relative_error(a, b) < 1e-12 or np.linalg.norm(b) < 1e-12


@pytest.mark.parametrize("name", layers.REGISTRY)
def test_raw_arrays_give_raw_results(name, xp):
    layer = layers.REGISTRY[name]
    _case, arrays, keywords = next(iter(cases_of(name)))
    raw = [xp.asarray(a) for a in arrays]
    raw_keywords = {k: xp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    for form in (layer.composed, *layer.derived.values()):
        assert isinstance(form(*raw, **raw_keywords), xp.ndarray)


def test_a_wrong_form_is_named():
    with pytest.raises(ValueError, match="one_line"):
        layers.REGISTRY["batch_norm"].form("two_lines")
