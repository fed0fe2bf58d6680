"""Every registered layer: composed, every derivation and central differences give the same derivatives, in both orders.

Nothing here knows a layer by name: a new file in `layers` that registers itself is tested by these lines.
"""

import numpy as np
import pytest

import layers
import minigrad as mg
from helpers import relative_error, to_host
from layers.verify.agreement import bound, cases_of, derivatives, differences, float32_errors, on_backend, relative_errors, worst

PAIRS = [(name, derivation) for name, layer in layers.REGISTRY.items() for derivation in layer.derived]


@pytest.mark.parametrize(("name", "derivation"), PAIRS)
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.more)])
def test_derived_equals_composed(name, derivation, order, backend):
    layer = layers.REGISTRY[name]
    for case, arrays, keywords in cases_of(name, derivation, order=order):
        found, expected = (derivatives(form, arrays, keywords, backend, order, order) for form in (layer.derived[derivation], layer.composed))
        assert worst(relative_errors(found, expected)) <= bound(name, order), case


@pytest.mark.parametrize(("name", "derivation"), [pytest.param(n, d, marks=[pytest.mark.more] * (d != layer.default))
                                                  for n, layer in layers.REGISTRY.items() for d in ("composed", *layer.derived)])
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.more)])
def test_every_form_agrees_with_central_differences(name, derivation, order):
    powerful = 0
    for case in cases_of(name, derivation, order=order):
        report = differences(layers.REGISTRY[name], derivation, case, order=order)
        verdicts = {row.verdict for row in report.rows} if report is not None else set()
        assert "wrong" not in verdicts, (case[0], str(report))
        powerful += "right" in verdicts
    assert powerful, "no case had power"


@pytest.mark.more
@pytest.mark.parametrize(("name", "derivation"), PAIRS)
@pytest.mark.parametrize("order", [1, 2])
def test_float32_is_within_the_rounding_of_its_inputs(name, derivation, order):
    for case in cases_of(name, derivation, "float32", order):
        for i, (error, allowed) in enumerate(float32_errors(layers.REGISTRY[name], derivation, case, order=order)):
            assert error <= allowed, (case[0], i)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "bool"])
@pytest.mark.parametrize("name", layers.REGISTRY)
def test_integer_data_is_refused_by_name_and_dtype_and_the_fix_works(name, dtype, backend):
    layer = layers.REGISTRY[name]
    _case, arrays, keywords = next(iter(layer.cases("float32", np.random.default_rng(0))))
    data, parameters = mg.tensor(np.abs(20 * arrays[0]) % 100, backend=backend).astype(dtype), [mg.tensor(a, backend=backend) for a in arrays[1:]]
    keywords = on_backend(keywords, backend)
    for form in (layer.composed, *layer.derived.values()):
        with pytest.raises(TypeError, match=rf"^{name}: got \w+: a \w+ \w+ of shape .* and dtype {dtype}\n.*\n  fix:   \w+.astype\('float32'\)"):
            form(data, *parameters, **keywords)
        if dtype != "bool":
            assert form(data.astype("float32"), *parameters, **keywords).dtype == np.float32


@pytest.mark.parametrize(("name", "derivation"), PAIRS)
def test_the_layout_of_inputs_and_cotangents_does_not_matter(name, derivation):
    """Non-contiguous and read-only inputs, and a stride-0 (but not constant along the batch) cotangent."""
    layer = layers.REGISTRY[name]
    _case, arrays, keywords = next(iter(cases_of(name, derivation)))
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
        row = np.random.default_rng(5).normal(size=(*y.shape[:-1], 1)[:y.ndim])
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
        assert isinstance(form(*raw, **raw_keywords), (xp.ndarray, np.generic))  # NumPy's 0-d results are scalars


def test_a_wrong_form_is_named():
    with pytest.raises(ValueError, match="one_line"):
        layers.REGISTRY["batch_norm"].form("two_lines")


WITH_PARAMETERS = [(n, d) for n, layer in layers.REGISTRY.items() for d in ("composed", *layer.derived)]


@pytest.mark.more
@pytest.mark.parametrize("taped", [False, True], ids=["arrays", "tensors"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("name", "form"), WITH_PARAMETERS)
def test_integer_parameters_and_statistics_follow_x(name, form, dtype, taped, backend):
    """Beside x they give what the same numbers give as floats: the value, its dtype and the derivative in x."""
    f = layers.REGISTRY[name].form(form)
    _, (x, *rest), keywords = next(iter(layers.REGISTRY[name].cases("float64", np.random.default_rng(0))))
    x, wide = x.astype(dtype), "float32" if dtype == "float16" else dtype
    whole = [np.rint(3 * np.abs(a)).astype("int64") + 1 for a in rest]
    arrays = {k: np.rint(3 * np.abs(v)).astype("int64") + 1 for k, v in keywords.items() if isinstance(v, np.ndarray)}
    found = []
    for kind in ("int64", wide):
        variable = mg.tensor(x, requires_grad=taped, backend=backend)
        others = [mg.tensor(a.astype(kind), backend=backend) for a in whole]
        more = {k: mg.tensor(v.astype(kind), backend=backend) for k, v in arrays.items()}
        if not taped:
            variable, others, more = variable.data, [t.data for t in others], {k: t.data for k, t in more.items()}
        y = f(variable, *others, **{**keywords, **more})
        g = mg.tensor(np.random.default_rng(1).normal(size=y.shape).astype(y.dtype), backend=backend)
        found.append([y, *(mg.grad(y, [variable], g) if taped else [])])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(to_host(one), to_host(other))


@pytest.mark.parametrize("norm", [lambda: layers.RMSNorm(3), lambda: layers.RMSNorm(3, eps=1e-5), lambda: layers.LayerNorm(3)],
                         ids=["RMSNorm", "with eps", "LayerNorm"])
def test_integer_data_is_refused_by_its_dtype(norm, backend):
    for dtype in ("int64", "uint8", "bool"):
        with pytest.raises(TypeError, match=rf"dtype {dtype}\b[\s\S]*fix: +x.astype\('float32'\)"):
            norm().to(backend)(mg.tensor(np.ones((1, 3), dtype), backend=backend))
