"""The fix that an error advises works: every name in it exists, and what it says is done here."""

import ast
import copy
import operator
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import layers
import minigrad as mg
from helpers import random_cotangent, to_host
from minigrad import checkpoint, nn, optim
from minigrad.core import errors

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"minigrad": mg, "mg": mg, "nn": nn, "optim": optim, "data": mg.data, "layers": layers, "checkpoint": checkpoint, "numpy": np, "np": np}


def fixes(text):
    """(line, string) for every piece of text in a ``fix=``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            given = [k.value for k in node.keywords if k.arg in ("fix", "needs")]
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("_error", "_refusal"):
                given += node.args
            for value in given:
                yield from ((node.lineno, c.value) for c in ast.walk(value) if isinstance(c, ast.Constant) and isinstance(c.value, str))


def unknown(text):
    """The dotted names in `text` that begin with a name of ours and lead nowhere."""
    for name in re.findall(r"(?<![\w./'])((?:" + "|".join(NAMES) + r")(?:\.[A-Za-z_]\w*)+)", text):
        first, *rest = name.split(".")
        thing = NAMES[first]
        for part in rest:
            if not hasattr(thing, part):
                yield name
                break
            thing = getattr(thing, part)


@pytest.mark.more
def test_every_name_in_a_fix_exists():
    files = [f for folder in ("minigrad", "layers", "models", "scripts") for f in sorted((ROOT / folder).rglob("*.py"))]
    problems = [f"{f.relative_to(ROOT)}:{line}: {name}" for f in files for line, text in fixes(f.read_text("utf-8")) for name in unknown(text)]
    assert not problems, "\n".join(problems)
    assert sum(len(list(fixes(f.read_text("utf-8")))) for f in files) > 200


def test_every_name_in_the_catalogue_exists():
    assert not list(unknown((ROOT / "tests" / "snapshots" / "errors.txt").read_text("utf-8")))


@pytest.mark.parametrize("text, names", [
    ("use minigrad.dodo(...)", ["minigrad.dodo"]), ("minigrad.checkpoint.save / load", []), ("nn.Linear, nn.Lineer", ["nn.Lineer"]),
    ("see docs/minigrad.md; minigrad.{name}", [])])
def test_names_that_do_not_exist_are_found(text, names):
    assert list(unknown(text)) == names


def text_of(f, kind=Exception):
    with pytest.raises(kind) as caught:
        f()
    return str(caught.value)


def fix_of(f, kind=Exception):
    return text_of(f, kind).partition("fix:   ")[2]


# -- NumPy's functions --------------------------------------------------------------------------------------------------


def test_an_op_is_found_by_its_name_alone():
    assert errors.op_named("exp") == "minigrad.exp" and errors.op_named("matmul") == "minigrad.matmul"
    for name in ("shape", "reduce", "linalg", "tensor", "record", "_sum", "nothing", "methods"):
        assert errors.op_named(name) is None


UFUNCS = [f for f in map(np.__dict__.get, dir(np)) if isinstance(f, np.ufunc)]


NUMPY = """exp log log1p expm1 sqrt square abs absolute fabs sign sin cos tan arctan sinh tanh floor ceil round around rint trunc isnan isinf isfinite
    nan_to_num clip negative reciprocal add subtract multiply divide true_divide power float_power maximum minimum hypot arctan2 mod greater less_equal equal
    not_equal logical_not logical_and logical_or sum mean std var prod max min amax amin ptp median percentile cumsum cumprod diff any all argmax argmin argsort
    sort unique count_nonzero nonzero average histogram where take take_along_axis reshape ravel transpose swapaxes moveaxis squeeze expand_dims
    broadcast_to flip roll rot90 tile repeat concatenate stack vstack hstack dstack column_stack split array_split pad copy dot vdot inner outer matmul
    tensordot einsum kron trace diag diagonal tril triu linalg.inv linalg.norm linalg.svd linalg.solve linalg.det linalg.eigh linalg.cholesky fft.fft
    zeros_like ones_like full_like empty_like shape ndim size""".split()
X = object()  # stands for the tensor
ARGUMENTS = {
    **dict.fromkeys("add subtract multiply divide true_divide power float_power maximum minimum hypot arctan2 mod greater less_equal equal not_equal dot vdot "
                    "inner outer matmul tensordot kron linalg.solve".split(), (X, X)), "logical_and": (X, X), "logical_or": (X, X),
    **dict.fromkeys("concatenate stack vstack hstack dstack column_stack".split(), ([X, X],)), "where": (X, X, X), "clip": (X, 1.5, 3.0),
    "expand_dims": (X, 0), "take": (X, [0, 1]), "take_along_axis": (X, [[0], [1]], 1), "reshape": (X, (4,)), "swapaxes": (X, 0, 1), "moveaxis": (X, 0, 1),
    "broadcast_to": (X, (3, 2, 2)), "roll": (X, 1), "tile": (X, 2), "repeat": (X, 2), "split": (X, 2), "array_split": (X, 2), "pad": (X, 1),
    "einsum": ("ij->j", X), "full_like": (X, 2.0), "percentile": (X, 50)}


HERE = """dot tensordot prod cumprod tile repeat roll sort argsort argmin any all vstack hstack diag round around rint floor ceil isnan isinf isfinite
    nan_to_num absolute fabs amax amin ravel copy zeros_like ones_like full_like""".split()


def test_more_than_81_functions_of_numpy_are_tried():
    assert len(set(NUMPY)) == len(NUMPY) >= 81


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_on_a_tensor_advises_what_exists(name, backend):
    x = mg.tensor([[1.0, 2.0], [2.0, 7.0]], requires_grad=True)
    f = operator.attrgetter(name)(np)
    def given(t):
        return [[t if v is X else v for v in a] if isinstance(a, list) else t if a is X else a for a in ARGUMENTS.get(name, (X,))]

    arguments = given(x)
    text = text_of(lambda: f(*arguments), TypeError)
    assert text.startswith("numpy.") and f"a {backend} tensor" in text and text.endswith("x.numpy() for a plain array")
    assert not list(unknown(text.partition("fix:")[2]))
    advised = re.search(r"minigrad\.(\w+)\(\.\.\.\)", text)
    if name in HERE:
        assert advised or "use x." in text, "minigrad has it"
    if name in ("logical_not", "logical_and", "logical_or", "where"):  # of booleans
        x = x > 1.5
        arguments = given(x)
    host = given(x.numpy())
    if name == "take_along_axis":
        host[1] = np.array(host[1])
    expected = f(*host)
    if advised:
        got = getattr(mg, advised[1])(*arguments)
        for one, other in zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]:
            one = to_host(one)
            np.testing.assert_allclose(abs(one) if advised[1] == "eigh" else one, abs(other) if advised[1] == "eigh" else other, rtol=1e-5)
    elif "use x." in text:
        assert getattr(x, name) == expected


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_every_ufunc_of_numpy_is_refused_with_the_taught_error(ufunc, backend):
    x = mg.tensor([[1.0, 2.0], [2.0, 7.0]], requires_grad=True)
    text = text_of(lambda: ufunc(*[x] * ufunc.nin), TypeError)
    assert ": got a " in text and "\n  needs: " in text and not list(unknown(text))
    assert "x.numpy() for a plain array" in text_of(lambda: ufunc(*[np.ones((2, 2), "float32")] * ufunc.nin, out=(x,) * ufunc.nout), TypeError)
    if (ufunc.nin, ufunc.nout, ufunc.signature) == (2, 1, None):
        assert f"{ufunc.__name__}.reduce" in text_of(lambda: ufunc.reduce(x), TypeError)


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul,
             operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne]


@pytest.mark.parametrize("f", OPERATORS, ids=lambda f: f.__name__)
def test_an_array_on_the_left_of_an_operator_asks_the_tensor(f, xp, backend, rng):
    a, b = rng.uniform(1, 2, (3, 3)).astype("float32"), rng.uniform(1, 2, (3, 3)).astype("float32")
    x = mg.tensor(b, requires_grad=True, backend=backend)
    y = f(xp.asarray(a), x)
    assert isinstance(y, mg.Tensor) and y.backend == backend
    np.testing.assert_allclose(to_host(y), f(a, b), rtol=1e-5)
    if y.dtype.kind == "f":
        assert y.requires_grad
        v = mg.tensor(random_cotangent(rng, (3, 3), "float32"), backend=backend)
        (left,), (right,) = mg.grad(y, [x], v), mg.grad(f(mg.tensor(a, backend=backend), x), [x], v)
        np.testing.assert_array_equal(to_host(left), to_host(right))
    for number in (np.float32(2.0), np.float64(2.0), np.int64(2)):
        if f is not operator.matmul:
            got = f(number, x)
            assert isinstance(got, mg.Tensor) and got.dtype == f(2.0, x).dtype
            np.testing.assert_allclose(to_host(got), f(np.float32(2.0), b), rtol=1e-5)


@pytest.mark.parametrize("f", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow], ids=lambda f: f.__name__)
def test_an_array_is_not_changed_in_place_by_a_tensor(f, rng):
    a, x = np.full((2, 2), 2.0, "float32"), mg.tensor(rng.uniform(1, 2, (2, 2)).astype("float32"), requires_grad=True)
    fix = fix_of(lambda: f(a, x), TypeError)
    assert fix == "a = a + x in the place of a += x, or x.numpy()" and (a == 2.0).all()
    assert (a + x).requires_grad
    f(a, x.numpy())
    assert (a != 2.0).any()


# -- dtypes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, shape", [
    (lambda: nn.Linear(3, 2), (4, 3)), (lambda: nn.Conv2d(3, 2, 3), (2, 3, 5, 5)), (lambda: layers.BatchNorm2d(3), (2, 3, 4, 4)),
    (lambda: layers.LayerNorm(4), (2, 3, 4)), (lambda: layers.GroupNorm(1, 3), (2, 3, 4)),
    (lambda: nn.Sequential(nn.Linear(3, 2), nn.ReLU()), (4, 3))], ids=["Linear", "Conv2d", "BatchNorm2d", "LayerNorm", "GroupNorm", "Sequential"])
def test_both_fixes_for_a_float64_input_of_a_float32_layer_work(make, shape, backend, rng):
    model, x = make(), mg.tensor(rng.normal(size=shape), backend=backend)
    text = text_of(lambda: model(x), TypeError)
    assert "float64 and float32" in text and "x.astype('float32') for the float64 one" in text and "model.astype('float64')" in text
    assert model(x.astype("float32")).dtype == "float32"
    assert model.astype("float64")(x).dtype == "float64"


# -- integers -------------------------------------------------------------------------------------------------------------

SIZED = {
    "Linear": lambda n: nn.Linear(n, 4), "Linear, out": lambda n: nn.Linear(4, n), "Conv2d": lambda n: nn.Conv2d(n, 4, 3),
    "Conv2d, out": lambda n: nn.Conv2d(4, n, 3), "Conv2d, groups": lambda n: nn.Conv2d(4, 4, 3, groups=n), "Conv2d, kernel": lambda n: nn.Conv2d(4, 4, n),
    "Conv2d, stride": lambda n: nn.Conv2d(4, 4, 3, stride=(n, 1)), "Embedding": lambda n: nn.Embedding(n, 4), "Embedding, dim": lambda n: nn.Embedding(4, n),
    **{name: getattr(layers, name) for module in (layers.modules.batch, layers.modules.sample, layers.modules.whitening, layers.modules.inplace)
       for name in module.__all__ if name not in ("GroupNorm", "Whitening")},
    "GroupNorm, groups": lambda n: layers.GroupNorm(n, 4), "GroupNorm": lambda n: layers.GroupNorm(1, n),
    "LayerNorm, several": lambda n: layers.LayerNorm((4, n)), "RMSNorm, several": lambda n: layers.RMSNorm([4, n]),
    "group_size": lambda n: layers.DecorrelatedBatchNorm2d(4, n), "iterations": lambda n: layers.IterNorm2d(4, iterations=n),
    "spectral_norm": lambda n: layers.parametrize(nn.Linear(3, 2), "spectral_norm", n_power_iterations=n),
    "orthogonal_weight_norm": lambda n: layers.parametrize(nn.Linear(3, 2), "orthogonal_weight_norm", group_size=n).weight,
    "tune_process": lambda n: mg.tune_process(n).__exit__(),
}


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("wrong", [pytest.param(w, id=repr(w), marks=[pytest.mark.more] * (k > 1)) for k, w in enumerate(
    [2.0, 0, -1, np.float64(2.0), True, "2", np.array([2, 2]), np.int64(0)])])
def test_sizes_that_are_none_are_refused_where_the_module_is_made(name, wrong, backend):
    text = text_of(lambda: SIZED[name](wrong), ValueError)
    assert ": got " in text and "integer" in text and "at least 1" in text


@pytest.mark.parametrize("name", SIZED)
def test_numpys_integers_are_sizes(name, backend):
    for right in (np.prod((2, 1)), np.int32(2), np.uint8(2), np.array(2), mg.tensor(2)):
        made = SIZED[name](right)
        if isinstance(made, nn.Module):
            assert repr(made) == repr(SIZED[name](2))  # plain numbers inside


def test_numpys_integers_are_integers_in_ops(backend, rng):
    two, x = np.int64(2), mg.tensor(rng.normal(size=(2, 4, 6, 6)).astype("float32"), backend=backend)
    w = mg.tensor(rng.normal(size=(4, 2, 3, 3)).astype("float32"), backend=backend)
    same = [(mg.conv2d(x, w, stride=two, padding=np.int8(1), groups=two), mg.conv2d(x, w, stride=2, padding=1, groups=2)),
            (mg.max_pool2d(x, two), mg.max_pool2d(x, 2)), (mg.avg_pool2d(x, (two, np.uint8(2))), mg.avg_pool2d(x, 2)),
            (mg.adaptive_avg_pool2d(x, np.int16(3)), mg.adaptive_avg_pool2d(x, 3)), (mg.split(x, two, np.int64(1))[1], mg.split(x, 2, 1)[1]),
            (mg.split(x, np.array([1, 2]), 1)[2], mg.split(x, [1, 2], 1)[2]), (x.sum(np.int64(1)), x.sum(1)), (x.reshape(two, np.int64(-1)), x.reshape(2, -1)),
            (x ** two, x ** 2), (x[two - 1], x[1]), (x[:, :two], x[:, :2])]
    for got, expected in same:
        np.testing.assert_array_equal(to_host(got), to_host(expected))
    model = nn.Sequential(nn.Linear(np.prod((8, 8)), np.int64(10)), nn.ReLU())
    assert model[np.int64(0)] is model[0] and model[np.int64(-1)] is model[1] and type(model[0].in_features) is int
    assert nn.summary(model, (two, np.int64(64))) == nn.summary(model, (2, 64))
    with pytest.raises(IndexError, match="index 2"):
        model[2]
    with pytest.raises(IndexError, match=r"index 0\.5"):
        model[0.5]
    with pytest.raises(ValueError, match="indices at which to cut"):
        mg.split(x, 2.0)


# -- saving -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda: nn.Linear(3, 2), lambda: layers.parametrize(nn.Linear(3, 2), "weight_norm"), lambda: layers.parametrize(nn.Linear(3, 2), "spectral_norm"),
    lambda: nn.Sequential(nn.Conv2d(3, 2, 3), layers.BatchNorm2d(2)), lambda: nn.ReLU()], ids=["Linear", "weight norm", "spectral norm", "Sequential", "ReLU"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_module_refuses_pickle_and_the_fix_saves_it(make, protocol, tmp_path, backend):
    model = make()
    text = text_of(lambda: pickle.dumps(model, protocol), TypeError)
    assert text.startswith(f"pickle: got a {type(model).__name__}") and "minigrad.checkpoint.save(path, model.state_dict())" in text
    path = tmp_path / "model.safetensors"
    mg.checkpoint.save(path, model.state_dict())
    other = make()
    other.load_state_dict(mg.checkpoint.load(path))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(to_host(other.state_dict()[name]), to_host(value))


def test_a_tensor_refuses_pickle_and_the_fix_saves_it(tmp_path, backend):
    x = mg.tensor([1.0, 2.0])
    assert "minigrad.checkpoint.save / load" in text_of(lambda: pickle.dumps(x), TypeError)
    mg.checkpoint.save(tmp_path / "x", {"x": x})
    np.testing.assert_array_equal(to_host(mg.checkpoint.load(tmp_path / "x")["x"]), to_host(x))
    assert pickle.loads(pickle.dumps(x.numpy())).tolist() == [1.0, 2.0]


def test_modules_are_copied_as_before(backend):
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, layers.parametrize(nn.Linear(3, 2), "weight_norm"), shared)
    model.note = {"model": model}
    twin = copy.deepcopy(model)
    assert twin[0] is twin[2] and twin[0] is not shared and twin.note["model"] is twin and type(twin[1]) is type(model[1])
    for (name, a), (other, b) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert name == other and a is not b and a._line.name == b._line.name
        np.testing.assert_array_equal(to_host(a), to_host(b))
    shallow = copy.copy(model)
    assert shallow[0] is shared and shallow is not model and vars(shallow).keys() == vars(model).keys()


def test_assigning_to_a_computed_weight_has_a_fix_that_works(backend):
    for name, kind in (("weight_norm", "original1"), ("weight_standardization", "original")):
        model = layers.parametrize(nn.Linear(3, 2), name)
        fix = fix_of(lambda: setattr(model, "weight", nn.Parameter(mg.tensor([[1.0, 2.0, 4.0]] * 2))), TypeError)  # noqa: B023
        assert f"an nn.Parameter for module.parametrizations.weight.{kind}" in fix
        setattr(model.parametrizations.weight, kind, nn.Parameter(mg.tensor([[1.0, 2.0, 4.0]] * 2)))
        assert model.weight.shape == (2, 3)
        layers.remove_parametrization(model, "weight").weight = nn.Parameter(mg.tensor([[1.0, 2.0, 4.0]] * 2))
        assert float(to_host(model.weight)[0, 2]) == 4.0


class ForeignTensor:
    """A tensor of another framework: no array, but it says how to become NumPy's."""

    def __init__(self, array, problem=None):
        self.array, self.problem, self.shape, self.dtype = array, problem, array.shape, f"their.{array.dtype}"

    def detach(self):
        return self

    def cpu(self):
        return ForeignTensor(self.array)

    def float(self):
        return ForeignTensor(self.array.astype("float32"))

    def numpy(self):
        if self.problem:
            raise self.problem
        return self.array


def test_load_state_dict_takes_the_tensors_of_another_framework(backend, rng):
    model = nn.Sequential(nn.Conv2d(3, 2, 3), layers.BatchNorm2d(2))
    values = {k: np.asarray(rng.normal(size=v.shape)).astype(v.dtype) for k, v in model.state_dict().items()}
    model.load_state_dict({k: ForeignTensor(v) for k, v in values.items()})
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(to_host(v), values[k])
    values["0.bias"] = values["0.bias"] + 1
    model.load_state_dict({k: ForeignTensor(v) for k, v in values.items()})
    np.testing.assert_array_equal(to_host(model[0].bias), values["0.bias"])
    values["0.bias"][...] = 7.0  # copied, not shared
    assert not (to_host(model[0].bias) == 7.0).any()
    with pytest.raises(RuntimeError, match=r"0\.bias"):
        model.load_state_dict({**{k: ForeignTensor(v) for k, v in values.items()}, "0.bias": ForeignTensor(np.zeros(5, "float32"))})


@pytest.mark.parametrize("problem", [
    TypeError("can't convert cuda:0 device type tensor to numpy"), RuntimeError("can't call numpy() on a tensor that requires grad"),
    TypeError("unsupported ScalarType BFloat16")])
def test_a_foreign_tensor_that_gives_no_array_has_a_fix_that_works(problem, backend, rng):
    model = nn.Linear(3, 2)
    state = {k: ForeignTensor(rng.normal(size=v.shape).astype("float32"), problem) for k, v in model.state_dict().items()}
    before = {k: to_host(v).copy() for k, v in model.state_dict().items()}
    text = text_of(lambda: model.load_state_dict(state), TypeError)
    assert str(problem) in text and "{k: v.detach().cpu().float().numpy() for k, v in state.items()}" in text
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(to_host(v), before[k])
    model.load_state_dict({k: v.detach().cpu().float().numpy() for k, v in state.items()})
    np.testing.assert_array_equal(to_host(model.weight), state["weight"].array)


def test_a_state_dict_of_pytorch_is_loaded(rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5))
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), layers.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))
    ours.load_state_dict(theirs.state_dict())
    x = rng.normal(size=(2, 3, 8, 8)).astype("float32")
    np.testing.assert_allclose(ours.eval()(mg.tensor(x)).numpy(), theirs.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in theirs.state_dict().items()}
    with pytest.raises(TypeError, match=r"float\(\)\.numpy\(\)"):
        ours.load_state_dict(half)
    ours.load_state_dict({k: v.float().numpy() if v.is_floating_point() else v for k, v in half.items()})


# -- running statistics -------------------------------------------------------------------------------------------------

TRACKING = ["BatchNorm2d", "InPlaceABN", "InstanceNorm2d", "IterNorm2d", "DecorrelatedBatchNorm2d"]


def tracking(name, track):
    return getattr(layers, name)(3, track_running_stats=track)


@pytest.mark.parametrize("name", TRACKING)
@pytest.mark.parametrize("training", [True, False])
def test_tracking_switched_on_without_statistics_is_refused_with_a_fix_that_works(name, training, backend, rng):
    x = mg.tensor(rng.normal(size=(4, 3, 5, 5)).astype("float32"), backend=backend)
    model = tracking(name, False)
    model.train(training)(x)
    model.track_running_stats = True
    assert fix_of(lambda: model(x), ValueError) == "make the layer with track_running_stats=True"
    right = tracking(name, True)
    right(x)
    assert right.eval()(x).shape == x.shape and int(right.num_batches_tracked.item()) <= 1


@pytest.mark.parametrize("name", TRACKING)
def test_tracking_switched_off_stops_updates_and_on_again_goes_on(name, backend, rng):
    x, other = (mg.tensor(rng.normal(size=(4, 3, 5, 5)).astype("float32") + k, backend=backend) for k in (0, 5))
    model = tracking(name, True)
    model(x)
    before = {k: to_host(v).copy() for k, v in model.state_dict().items()}
    trained = to_host(model.eval()(x))
    model.track_running_stats = False
    model.train()(other)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(to_host(v), before[k])
    y = to_host(model.eval()(x))
    if name != "InstanceNorm2d":  # there PyTorch goes over to the sample's own
        np.testing.assert_array_equal(y, trained)
    else:
        assert abs(y - trained).max() > 0.1
    model.track_running_stats = True
    np.testing.assert_array_equal(to_host(model.eval()(x)), trained)
    model.train()(other)
    assert any((to_host(v) != before[k]).any() for k, v in model.state_dict().items())


def test_tracking_switched_off_is_as_in_pytorch(rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(4, 3, 5, 5)).astype("float32") + 2
    for ours, theirs in ((layers.BatchNorm2d(3), torch.nn.BatchNorm2d(3)),
                         (layers.InstanceNorm2d(3, track_running_stats=True), torch.nn.InstanceNorm2d(3, track_running_stats=True))):
        ours(mg.tensor(x))
        theirs(torch.tensor(x))
        ours.track_running_stats = theirs.track_running_stats = False
        np.testing.assert_allclose(ours.eval()(mg.tensor(x)).numpy(), theirs.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


# -- other advice ---------------------------------------------------------------------------------------------------------


def test_help_is_advised_only_for_ops_that_are_there(backend):
    @mg.primitive(a=lambda g: g, b=lambda g: g)
    def mine(xp, a, b):
        return xp.add(a, b)
    x, y = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert fix_of(lambda: mine(x, y), ValueError) == "check the shapes"
    for f in (lambda: x[7], lambda: x[mg.tensor([9])]):
        if backend == "numpy":
            assert not list(unknown(fix_of(f)))


def test_a_singular_matrix_has_a_fix_that_works(backend):
    if backend != "numpy":
        pytest.skip("a device gives no error, because looking would wait")
    a = mg.tensor(np.ones((3, 3), "float32"), requires_grad=True)
    assert "a + 1e-5 * minigrad.eye(n, dtype=a.dtype, backend=a.backend)" in fix_of(lambda: mg.cholesky(a - 1.0))
    n = 3
    b = a + 1e-5 * mg.eye(n, dtype=a.dtype, backend=a.backend)
    assert mg.cholesky(b).requires_grad


def test_arrays_of_two_backends_have_a_fix_that_works():
    host, device = mg.tensor([1.0]), mg.tensor([2.0], backend="fake")
    fix = fix_of(lambda: host + device, mg.BackendError)
    assert fix == "move one of them: x.to('fake') or x.to('numpy'); a raw array: minigrad.tensor(a, backend=...)"
    assert (host.to("fake") + device).backend == "fake" and (host + device.to("numpy")).backend == "numpy"
    assert (mg.tensor(np.ones(1, "float32"), backend="fake") + device).backend == "fake"
