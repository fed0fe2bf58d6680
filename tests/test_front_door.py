"""What ``minigrad.`` offers: the public names, errors for names that are elsewhere, and the creation functions."""

import copy
import inspect
import re
import types

import numpy as np
import pytest
from test_fixes import unknown

import layers
import minigrad as mg
from helpers import to_host
from minigrad import elsewhere, nn
from minigrad.core import errors
from minigrad.ops import creation

ROOMS = {"backend", "checkpoint", "data", "derivation", "nn", "optim"}

# -- names --------------------------------------------------------------------------------------------------------------


def test_dir_shows_public_names_and_no_other_module_than_the_rooms():
    names = dir(mg)
    assert names == sorted(set(names)) == mg.__all__ and not any(name.startswith("_") for name in names)
    assert {name for name in names if isinstance(getattr(mg, name), types.ModuleType)} == ROOMS
    assert set(mg.ops.__all__) < set(names)


def test_a_star_import_gives_the_same_names():
    scope: dict = {}
    exec("from minigrad import *", scope)
    assert set(scope) - {"__builtins__"} == set(dir(mg))


def test_no_file_of_the_ops_is_a_name_of_minigrad():
    files = [name for name, value in vars(mg.ops).items() if isinstance(value, types.ModuleType)]
    assert {"shape", "reduce", "linalg", "creation", "methods"} <= set(files)
    for name in files:
        with pytest.raises(AttributeError, match=r"(?s)minigrad: got the name '\w+'.*needs: .*fix:"):
            getattr(mg, name)


def fix_for(name):
    with pytest.raises(AttributeError) as caught:
        getattr(mg, name)
    assert f"got the name {name!r}" in str(caught.value)
    return str(caught.value).partition("fix:   ")[2]


SAID = {**elsewhere._OPS, **elsewhere._SAID, **errors.OTHER_NAMES}


@pytest.mark.parametrize("name", [*SAID, *elsewhere._LAYERS, "Linear", "Adam", "save", "digits", "Parameter", "no_such_thing", "softmx", "_private"])
def test_the_fix_for_a_name_that_stands_elsewhere_names_what_exists(name):
    assert not hasattr(mg, name)
    assert not list(unknown(fix_for(name)))


@pytest.mark.parametrize("name, fix", [
    ("BatchNorm2d", "import layers; layers.BatchNorm2d"), ("Linear", "minigrad.nn.Linear"), ("Adam", "minigrad.optim.Adam"), ("cat", "minigrad.concatenate"),
    ("from_numpy", "minigrad.tensor"), ("int32", "dtype='int32'"), ("load", "minigrad.checkpoint.load"),
    ("absolute", "minigrad.abs"), ("softmx", "minigrad.softmax"),
    ("shape", "x.shape, or minigrad.reshape(x, (2, 3))"), ("zzz", "help(minigrad) and the README say what there is")])
def test_the_fix_is_the_place(name, fix):
    assert fix_for(name).startswith(fix)


# -- attributes of PyTorch's and NumPy's arrays and modules ---------------------------------------------------------------


def unable(holder, name):
    with pytest.raises(AttributeError, match=re.escape(f"got the attribute {name!r}, which it does not have")) as caught:
        getattr(holder, name)
    return str(caught.value).partition("fix:   ")[2]


EXPRESSIONS = {name: text.partition(" under ")[0] for name, text in elsewhere._OF_TENSORS.items()
               if name not in ("contiguous", "cuda", "is_cuda", "retain_graph", "grad_fn", "repeat", "median")}


@pytest.mark.parametrize("name", [*elsewhere._OF_TENSORS, *elsewhere._OPS, "softplus", "norm", "reshap"])
def test_an_attribute_that_a_tensor_lacks_is_explained_by_one_that_works(name, backend):
    x = mg.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True, backend=backend)
    if hasattr(type(x), name):
        return
    fix = unable(x, name)
    assert fix.startswith(("x", "minigrad.", "help(", "numpy.", "1 / ")) and not list(unknown(fix))
    if name in EXPRESSIONS:
        with mg.no_grad():
            exec(EXPRESSIONS[name], {"minigrad": mg, "x": x.clone(), "y": 2.0, "value": 1.0, "shape": (3, 2), "axis": 0, "mask": x > 0})


def test_what_protocols_ask_of_a_tensor_is_not_disturbed():
    x = mg.ones(2)
    assert not hasattr(x, "__cuda_array_interface__") and not hasattr(x, "nothing") and getattr(x, "view", None) is None
    assert copy.deepcopy(x).numpy().tolist() == [1, 1]


@pytest.mark.parametrize("name", [name for name in elsewhere._OF_MODULES if not hasattr(nn.Module, name)])
def test_an_attribute_that_a_module_lacks_is_explained(name):
    model = nn.Linear(2, 3)
    fix = unable(model, name)
    if fix.startswith("model.") and "cupy" not in fix:
        assert eval(fix, {"model": model}) is model


@pytest.mark.parametrize("name", ["softmx", "reshap", "concatenat"])
def test_a_name_that_is_only_spelt_alike_is_not_given_as_the_same(name):
    assert fix_for(name).endswith(", if that is what you mean")


def test_what_stands_for_another_function_gives_its_values(backend):
    values = np.array([[4.0, 1.0, 2.0, 9.0], [3.0, 8.0, 5.0, 7.0]])
    x = mg.tensor(values, backend=backend)
    names = {"minigrad": mg, "x": x, "k": 2, "mask": x > 2, "y": mg.zeros_like(x), "numpy": np, "shape": (2, 4)}
    there = {name: eval(elsewhere._OF_TENSORS[name], names) for name in ("topk", "where", "rsqrt")}
    np.testing.assert_array_equal(to_host(there["topk"]), [[3, 0], [1, 3]])
    np.testing.assert_array_equal(to_host(there["where"]), np.where(values > 2, values, 0))
    np.testing.assert_allclose(to_host(there["rsqrt"]), values**-0.5, rtol=1e-12)


@pytest.mark.parametrize("name", elsewhere._ABSENT)
def test_a_name_that_is_near_to_another_thing_is_not_taken_for_a_misspelling(name):
    with pytest.raises(AttributeError) as caught:
        getattr(nn if name[0].isupper() else mg, name)
    fix = str(caught.value).partition("fix:   ")[2]
    assert fix.startswith("there is none: ")
    assert not list(unknown(fix.replace("numpy.", "")))


@pytest.mark.parametrize("name, there", [("ReLU6", lambda x, t: mg.clip(x, 0, 6)), ("SELU", lambda x, t: 1.0507 * mg.elu(x, 1.67326)),
                                         ("Mish", lambda x, t: x * mg.tanh(mg.softplus(x))), ("Hardtanh", lambda x, t: mg.clip(x, -1, 1))])
def test_what_is_to_be_written_instead_is_the_same(name, there):
    torch = pytest.importorskip("torch")
    values = np.linspace(-8, 8, 41)
    expected = getattr(torch.nn, name)()(torch.tensor(values)).numpy()
    np.testing.assert_allclose(there(mg.tensor(values), None).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, fix", [("cuda", "'cupy'"), ("cuda:0", "'cupy'"), ("cpu", "'numpy'"), ("float16", "astype"), ("nupmy", "check the spelling")])
def test_a_device_of_another_framework_is_explained_wherever_a_backend_is_named(name, fix):
    for f in (mg.use, mg.ones(2).to, nn.Linear(2, 2).to):
        with pytest.raises(mg.BackendError, match=f"fix:   .*{fix}"):
            f(name)


@pytest.mark.parametrize("f, fix", [
    (lambda x: mg.zeros(x), "zeros_like(x)"), (lambda x: mg.full(x, 1), "full_like(x)"), (lambda x: mg.permutation(x), "x[permutation(len(x))]"),
    (lambda x: mg.full(3, [1, 2, 3]), "broadcast_to(minigrad.tensor([1, 2, 3]), (2, 3))"), (lambda x: mg.cross_entropy(x, [0, 1]), "minigrad.tensor([0, 1])"),
    (lambda x: nn.Embedding(3, 2)([0, 1]), "minigrad.tensor([0, 1])"), (lambda x: mg.jacobian(lambda a, b: a * b, (x, x)), "jacobian(lambda a: f(a, b), a)")])
def test_the_fix_fits_what_was_given(f, fix, backend):
    with pytest.raises((TypeError, ValueError), match=re.escape(fix)):
        f(mg.tensor(np.ones((2, 3)), backend=backend))


PARAMETERS = {"batch_norm": ("gamma", "beta"), "group_norm": ("gamma", "beta"), "instance_norm": ("gamma", "beta"), "layer_norm": ("gamma", "beta"),
              "rms_norm": ("gamma",), "grn": ("gamma", "beta"), "inplace_abn": ("gamma", "beta")}


@pytest.mark.parametrize("layer", PARAMETERS)
@pytest.mark.parametrize("form", ["composed", "derived"])
def test_a_layer_without_its_parameters_says_what_they_are(layer, form, backend):
    x = mg.tensor(np.ones((4, 3, 2), "float32"), backend=backend)
    keywords = {"eps": 1e-5, **({"groups": 1} if layer == "group_norm" else {"activation": "identity", "slope": 1.0} if layer == "inplace_abn" else {})}
    shape = (2,) if layer in ("layer_norm", "rms_norm") else (3,)
    for i, name in enumerate(PARAMETERS[layer]):
        given = [mg.ones(shape, backend=backend) for _ in PARAMETERS[layer]]
        given[i] = None
        with pytest.raises(TypeError, match=f"{layer}: got {name}=None"):
            layers.REGISTRY[layer].form(form)(x, *given, **keywords)


def test_every_layer_is_found():
    modules = {name for name, value in vars(layers).items() if inspect.isclass(value) and issubclass(value, nn.Module)}
    bases = {"BatchNorm", "BatchRenorm", "InstanceNorm", "DBN", "DecorrelatedBatchNorm", "IterNorm", "PCAWhitening", "Whitening", "Modulated", "Normalization"}
    assert (modules - bases) | set(layers.REGISTRY) == set(elsewhere._LAYERS)


def test_what_python_asks_of_a_module_is_not_disturbed():
    assert getattr(mg, "__wrapped__", None) is None and not hasattr(mg, "nothing") and mg.__version__
    with pytest.raises(ImportError):
        exec("from minigrad import nothing")
    assert mg.float32 == "float32" and mg.tensor([1.0]).dtype == mg.float32 and mg.zeros(2, dtype=mg.float64).dtype == mg.float64


# -- creation -------------------------------------------------------------------------------------------------------------

GIVEN = {"zeros": ((2, 3),), "ones": ((2, 3),), "full": ((2, 3), 1.5), "eye": (3,), "arange": (0.0, 2.0, 0.25), "linspace": (0, 1, 5),
         "rand": ((2, 3),), "randn": ((2, 3),)}
LIKE = {"zeros_like": (), "ones_like": (), "full_like": (2.5,)}
INTEGERS = {"randint": (0, 9, (2, 3)), "permutation": (6,)}


def test_every_creation_function_is_tested_here():
    assert {*GIVEN, *LIKE, *INTEGERS} == set(creation.__all__)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("dtype", [None, "float64", "float16", np.float32])
def test_dtype_backend_and_requires_grad(name, dtype, backend):
    make = getattr(mg, name)
    x = make(*GIVEN[name], dtype=dtype, requires_grad=True)
    assert isinstance(x, mg.Tensor) and x.dtype == (dtype or "float32") and x.backend == backend and x.requires_grad and x.is_leaf
    y = make(*GIVEN[name])
    assert not y.requires_grad and y.dtype == "float32" and make(*GIVEN[name], backend="numpy").backend == "numpy"
    (g,) = mg.grad(mg.exp(x), [x], x * 0.0 + 2.0)
    np.testing.assert_allclose(to_host(g), 2 * np.exp(to_host(x)), rtol=1e-2)
    with pytest.raises(TypeError, match="needs: "):
        make(*GIVEN[name], dtype="complex64")
    with pytest.raises(TypeError, match=r"integers and booleans have no derivative|floating dtype"):
        make(*GIVEN[name], dtype="int64", requires_grad=True)


@pytest.mark.parametrize("name", LIKE)
@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "bool"])
def test_like_a_model(name, dtype, backend, xp):
    model = mg.tensor(np.ones((2, 3)), dtype=dtype, requires_grad=dtype.startswith("float"), backend=backend)
    mg.use("numpy")  # the model decides, not the current backend
    expected = getattr(np, name)(np.ones((2, 3), dtype), *LIKE[name])
    for like in (model, model._data):
        y = getattr(mg, name)(like, *LIKE[name])
        assert (y.shape, y.dtype, y.backend, y.requires_grad) == ((2, 3), dtype, backend, False)
        np.testing.assert_array_equal(to_host(y), expected)
    z = getattr(mg, name)(model, *LIKE[name], dtype="float32", backend="numpy", requires_grad=True)
    assert (z.dtype, z.backend, z.requires_grad) == ("float32", "numpy", True)
    with pytest.raises(TypeError, match="needs: a Tensor or an array"):
        getattr(mg, name)([1.0, 2.0], *LIKE[name])


@pytest.mark.parametrize("name", ["zeros", "ones", "rand", "randn"])
def test_a_shape_is_a_tuple_or_its_sizes(name, backend):
    make = getattr(mg, name)
    for given, shape in [(((2, 3),), (2, 3)), ((2, 3), (2, 3)), (([2, 3],), (2, 3)), ((4,), (4,)), (((),), ()), ((), ()), ((0, 3), (0, 3)),
                         ((np.int64(2), mg.tensor(3)), (2, 3)), ((mg.tensor(np.ones((2, 3))).shape,), (2, 3))]:
        assert make(*given).shape == shape
    for wrong in ((-1,), (2.0,), ((2, 3), "float32"), ("2",), (True,), ((2, None),)):
        with pytest.raises(ValueError, match=r"needs: an integer of at least 0\n  fix:   \w+\(\(2, 3\)\) or"):
            make(*wrong)


def test_values(backend):
    def same(got, expected, dtype):
        assert (got.dtype, got.shape) == (dtype, np.shape(expected))
        np.testing.assert_allclose(to_host(got), expected, rtol=1e-7)
    same(mg.full((2,), 7), [7, 7], "int64")
    same(mg.full(2, True), [True, True], "bool")
    same(mg.full((2,), np.float64(0.1)), [0.1, 0.1], "float64")  # as tensor(np.float64(0.1)) is
    same(mg.full((1,), 3, dtype="float32"), [3.0], "float32")
    same(mg.eye(2, 3, -1), np.eye(2, 3, -1), "float32")
    same(mg.eye(0), np.eye(0), "float32")
    same(mg.arange(4), [0, 1, 2, 3], "int64")
    same(mg.arange(5, 1, -2), [5, 3], "int64")
    same(mg.arange(3.0), [0, 1, 2], "float32")
    same(mg.arange(3, dtype="float64"), [0, 1, 2], "float64")
    same(mg.arange(3, 1), [], "int64")
    same(mg.arange(0, 1, 0.1), np.arange(0, 1, 0.1), "float32")
    same(mg.arange(np.int8(3)), [0, 1, 2], "int64")
    same(mg.linspace(1, 0, 5), [1, 0.75, 0.5, 0.25, 0], "float32")
    same(mg.linspace(2, 3, 1), [2], "float32")
    same(mg.linspace(0, 1, 0), [], "float32")
    x = mg.linspace(-1.0, 1.0, 101, dtype="float64")
    np.testing.assert_array_equal(to_host(x), np.linspace(-1, 1, 101))


@pytest.mark.parametrize("wrong, kind", [
    (lambda: mg.full((2,), [1, 2]), TypeError), (lambda: mg.full((2,), "1"), TypeError),
    (lambda: mg.full((2,), 300, dtype="int8"), ValueError), (lambda: mg.arange(300, dtype="int8"), ValueError),
    (lambda: mg.randint(-9, -2, (3,), dtype="uint8"), ValueError),
    (lambda: mg.eye(2.5), ValueError), (lambda: mg.eye(-1), ValueError), (lambda: mg.arange("3"), TypeError), (lambda: mg.arange(1, 2, 0), ValueError),
    (lambda: mg.arange(float("inf")), ValueError), (lambda: mg.linspace(0, 1, -1), ValueError), (lambda: mg.linspace([0], 1, 3), TypeError),
    (lambda: mg.randint(0), ValueError), (lambda: mg.randint(3, 3), ValueError), (lambda: mg.randint(0, 2.5), ValueError),
    (lambda: mg.permutation(-1), ValueError),
    (lambda: mg.rand(2, dtype="int64"), TypeError), (lambda: mg.randn(2, dtype="bool"), TypeError)])
def test_bad_arguments_have_a_taught_error(wrong, kind, backend):
    with pytest.raises(kind, match=r"(?s): got .*\n  needs: .*\n  fix:   "):
        wrong()


@pytest.mark.parametrize("make", [lambda **k: mg.rand(3, 4, **k), lambda **k: mg.randn(3, 4, **k), lambda **k: mg.randint(-5, 5, (3, 4), **k),
                                  lambda **k: mg.permutation(9, **k)], ids=["rand", "randn", "randint", "permutation"])
def test_one_seed_gives_the_same_values_on_every_backend(make, backend):
    mg.seed(11)
    here = [make(), make()]
    mg.seed(11)
    there = [make(backend="numpy"), make(backend="numpy")]
    for a, b in zip(here, there, strict=True):
        assert a.backend == backend and a.dtype == b.dtype
        np.testing.assert_array_equal(to_host(a), b.numpy())
    assert (to_host(here[0]) != to_host(here[1])).any()


def test_one_seed_gives_the_same_values_in_every_dtype():
    for make in (mg.rand, mg.randn):
        def draw(dtype, make=make):
            mg.seed(2)
            return make(50, dtype=dtype).numpy().astype("float64")
        exact = draw("float64")
        for dtype in ("float32", "float16"):
            np.testing.assert_allclose(draw(dtype), exact, rtol=0, atol=4 * np.finfo(dtype).eps)


def test_random_numbers_are_distributed_as_they_say():
    mg.seed(5)
    for dtype in ("float16", "float32", "float64"):
        u, z = mg.rand(20000, dtype=dtype).numpy().astype(float), mg.randn(20000, dtype=dtype).numpy().astype(float)
        assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.02 and abs(u.var() - 1 / 12) < 0.005
        assert abs(z.mean()) < 0.04 and abs(z.var() - 1) < 0.05
    k = mg.randint(2, 5, (3000,)).numpy()
    assert set(k) == {2, 3, 4} and k.dtype == np.int64 and mg.randint(7).shape == ()
    assert sorted(mg.permutation(100).tolist()) == list(range(100))


def test_what_is_made_has_memory_of_its_own(backend):
    a = mg.arange(3.0)
    b = mg.ones_like(a)
    b[0] = 5.0
    a[0] = 7.0
    assert to_host(a).tolist() == [7, 1, 2] and to_host(b).tolist() == [5, 1, 1]


# -- results that NumPy keeps apart from their inputs ---------------------------------------------------------------------


@pytest.mark.parametrize("f", [
    lambda x: mg.prod(x, 0), lambda x: mg.prod(x, ()), lambda x: mg.cumprod(x, 0), lambda x: mg.tile(x, 1), lambda x: mg.repeat(x, 1, 0),
    lambda x: mg.repeat(x, [1], 0),
    lambda x: mg.roll(x, 0), lambda x: mg.roll(x, 0, 0), lambda x: mg.sort(x, 0), mg.floor, mg.ceil, mg.round, mg.nan_to_num, lambda x: mg.vstack([x]),
    lambda x: mg.hstack([x]), lambda x: mg.dot(x, 1), lambda x: mg.diag(x[0])])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_a_write_into_the_result_does_not_reach_the_input(f, dtype, backend):
    x = mg.tensor(np.array([[0, 1, 1]]), dtype=dtype)
    for given in (x, x.detach()):
        y = f(given)
        y[...] = 0
        assert to_host(x).tolist() == [[0, 1, 1]]
        y = f(given)
        x[...] = 0
        assert to_host(y).any()
        x[...] = to_host(mg.tensor(np.array([[0, 1, 1]]), dtype=dtype)) if backend == "numpy" else mg.tensor(np.array([[0, 1, 1]]), dtype=dtype)


@pytest.mark.parametrize("name, keyword", [("pca_whitening", "eps"), ("decorrelated_batch_norm", "eps"), ("iter_norm", "eps"), ("spectral_norm", "u"),
                                           ("batch_norm", "eps"), ("group_norm", "groups")])
def test_a_keyword_that_is_missing_is_named(name, keyword, backend):
    _, arrays, _ = next(iter(layers.REGISTRY[name].cases("float32", np.random.default_rng(0))))
    for form in ("composed", "derived"):
        with pytest.raises(TypeError, match=rf"(got no |argument.*){keyword}"):
            layers.REGISTRY[name].form(form)(*(mg.tensor(a, backend=backend) for a in arrays))


def test_saving_in_the_order_of_another_framework_is_explained(tmp_path):
    model = nn.Linear(2, 3)
    with pytest.raises(TypeError, match=r"the name of a file first[\s\S]*save\('model.safetensors', model.state_dict\(\)\)"):
        mg.checkpoint.save(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(TypeError, match=r"got the Sequential[\s\S]*model.state_dict\(\)"):
        mg.checkpoint.save(tmp_path / "model.safetensors", nn.Sequential(model))


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"])
def test_an_epsilon_that_is_no_number_from_0_on_is_refused(name):
    _, arrays, keywords = next(iter(layers.REGISTRY[name].cases("float32", np.random.default_rng(0))))
    for eps in (-1.0, float("nan")):
        for form in ("composed", "derived"):
            with pytest.raises(ValueError, match=f"{name}: got eps="):
                layers.REGISTRY[name].form(form)(*map(mg.tensor, arrays), **{**keywords, "eps": eps})
