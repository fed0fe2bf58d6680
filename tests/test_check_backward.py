"""Somebody else's backward: right ones pass in every dtype, and a wrong one gets the term that is wrong, or the bits that it lacks."""

import io
import json
import re
import textwrap
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

import layers
import minigrad as mg
from minigrad.derivation import TaskError, check_backward
from minigrad.derivation.__main__ import main

PAGE = (Path(__file__).parents[1] / "docs" / "check_a_backward.md").read_text("utf-8")
EPS = {"eps": 1e-3}


def rms(x, w, *, eps):
    ms = mg.named("ms", mg.mean(x * x, -1, keepdims=True))
    rstd = mg.named("rstd", 1.0 / mg.sqrt(ms + eps))
    xhat = mg.named("xhat", x * rstd)
    return mg.named("y", xhat * w)


def right(dy, x, w, eps):
    xp = mg.backend.namespace(x)
    rstd = 1 / xp.sqrt((x * x).mean(-1, keepdims=True) + eps)
    xhat, h = x * rstd, dy * w
    return rstd * (h - xhat * (h * xhat).mean(-1, keepdims=True)), (dy * xhat).sum(0)


def arrays(rows=6, columns=4, dtype="float64", backend="numpy"):
    return {n: mg.backend.from_numpy(np.zeros(s, dtype), backend) for n, s in (("x", (rows, columns)), ("w", (columns,)))}


def lines(report):
    return {line.line: line for line in report.lines}


# -- the page ---------------------------------------------------------------------------------------------------------------


@pytest.mark.more
def test_the_page_prints_what_it_says():
    """Every block runs, and prints what the page shows: among them are the four faults, each named by its term."""
    space = {"__name__": "page"}
    for code, shown in re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```", PAGE, re.DOTALL):
        if "import torch" in code:
            pytest.importorskip("torch")
        with redirect_stdout(io.StringIO()) as said:
            exec(compile(code, "check_a_backward.md", "exec"), space)
        assert said.getvalue() == shown, code


@pytest.mark.parametrize(("function", "says"), [
    ("grn_backward", ["d_x      wrong (missing path): the path from x through response, average, share, scaled to y is missing"]),
    ("group_norm_backward", ["sum for mean | It is wrong where x has 4 axes, and right where it has 3"]),
    ("rms_norm_backward", ["d_w  wrong (low precision): the formula is right", "accumulated in low precision", "in float16"]),
    ("layer_norm_backward", ["d_gamma  wrong", "it must be 0 here", "x is used where xc is needed", "only where x has one element along axis -1"])])
def test_the_four_faults_of_the_page_are_named(function, says):
    code, shown = next(b for b in re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```", PAGE, re.DOTALL) if f"def {function}(" in b[0])
    assert all(words in shown for words in says) and "torch" not in code


# -- right ones ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_right_backward_is_right_on_every_backend_and_in_every_dtype(dtype, backend):
    def inside_float32(dy, x, w, eps):
        assert mg.backend.name_of(x) == mg.backend.name_of(dy) == backend
        wide = "float32" if x.dtype == "float16" else x.dtype
        return [g.astype(x.dtype) for g in right(dy.astype(wide), x.astype(wide), w.astype(wide), eps)]
    report = check_backward(rms, inside_float32, inputs=arrays(dtype=dtype, backend=backend), keywords=EPS)
    assert report and [line.verdict for line in report.lines] == ["right", "right"], report


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.more] * (seed > 0)) for seed in range(3)])
@pytest.mark.parametrize("name", ["grn", *(pytest.param(n, marks=pytest.mark.more) for n in ("layer_norm", "group_norm", "instance_norm", "batch_norm"))])
def test_the_layers_own_backwards_are_right(name, seed):
    """On the layer's own cases: a single element, constant channels, a mean of 1e4."""
    layer = layers.REGISTRY[name]
    for case, given, keywords in layer.cases("float64", np.random.default_rng(seed)):
        def derived(dy, *args, keywords=keywords):
            xs = [mg.tensor(a, requires_grad=True) for a in args[:3]]
            return [g.numpy() for g in mg.grad(layer.form("derived")(*xs, **keywords), xs, mg.tensor(dy))]
        names = dict(zip(("x", "gamma", "beta"), given, strict=True))
        try:
            report = check_backward(layer.composed, derived, inputs=names, keywords=keywords, seed=seed)
        except ValueError:
            assert keywords["eps"] == 0  # fresh numbers may meet a constant channel, which the layer refuses
            continue
        assert report, f"{case}\n{report}"


CALLS = {
    "in another order": lambda x, eps, w, dy: right(dy, x, w, eps),
    "by keywords": lambda dout, **given: right(dout, **given),
    "keyword-only": lambda dy, *, x, w, eps: right(dy, x, w, eps),
    "positions, other names": lambda upstream, a, b, c: right(upstream, a, b, c),
    "starred": lambda dy, *rest: right(dy, *rest),
    "what the forward saved": lambda dy, x, w, xhat, rstd: (rstd * (dy * w - xhat * (dy * w * xhat).mean(-1, keepdims=True)), (dy * xhat).sum(0)),
    "a default": lambda dy, x, w, eps=1e-3, block=32: right(dy, x, w, eps),
    "a dict": lambda dy, x, w, eps: dict(zip(("dx", "d_w"), right(dy, x, w, eps), strict=True)),
    "None for eps": lambda dy, x, w, eps: (*right(dy, x, w, eps), None),
}


@pytest.mark.parametrize("how", CALLS)
def test_arguments_are_found_by_name_and_else_by_order(how):
    report = check_backward(rms, CALLS[how], inputs=arrays(), keywords=EPS)
    assert report and len(report.lines) == 2, report


def test_names_say_the_order_of_the_gradients():
    def swapped(dy, x, w, eps):
        return right(dy, x, w, eps)[::-1]
    assert check_backward(rms, swapped, inputs=arrays(5, 5), keywords=EPS, names=("w", "x"))
    assert not check_backward(rms, swapped, inputs=arrays(), keywords=EPS)
    assert [x.line for x in check_backward(rms, lambda dy, x, w, eps: ("spare", right(dy, x, w, eps)[1]), inputs=arrays(), keywords=EPS,
                                           names=(None, "w")).lines] == ["d_w"]


def test_inputs_may_stand_in_another_order_than_the_forwards():
    assert check_backward(rms, right, inputs=dict(reversed(arrays().items())), keywords=EPS)


# -- wrong ones ---------------------------------------------------------------------------------------------------------------

WRONG = [
    (lambda dy, x, w, eps: (right(dy, x, w, eps)[0], -right(dy, x, w, eps)[1]), "d_w", "sign"),
    (lambda dy, x, w, eps: (right(dy, x, w, eps)[0], right(dy, x, w, eps)[1] / len(x)), "d_w", "mean for sum"),
    (lambda dy, x, w, eps: (right(dy, x, w, eps)[0], (dy * x).sum(0)), "d_w", "wrong operand"),
    (lambda dy, x, w, eps: (dy * w / np.sqrt((x * x).mean(-1, keepdims=True) + eps), right(dy, x, w, eps)[1]), "d_x", "missing path"),
    (lambda dy, x, w, eps: (right(dy, x, w, 0.0)[0], right(dy, x, w, eps)[1]), "d_x", "epsilon misplaced"),
    (lambda dy, x, w, eps: (right(dy, x, w, eps)[0], dy * x), "d_w", "not reduced"),
    (lambda dy, x, w, eps: (right(dy, x, w, eps)[0], None), "d_w", "missing path")]


@pytest.mark.parametrize(("backward", "line", "code"), WRONG)
def test_a_wrong_gradient_is_named_by_its_term_and_the_other_is_not_blamed(backward, line, code):
    found = lines(check_backward(rms, backward, inputs=arrays(), keywords={"eps": 0.1}))
    assert found.pop(line).code == code and [x.verdict for x in found.values()] == ["right"]


def test_a_kernel_in_float32_alone_gets_its_wrong_term_named(backend):
    def single(dy, x, w, eps):
        if x.dtype != "float32":
            raise TypeError("this kernel takes float32")
        d_x, d_w = right(dy, x, w, eps)
        return d_x, d_w / len(x)
    found = lines(check_backward(rms, single, inputs=arrays(dtype="float32", backend=backend), keywords=EPS))
    assert found["d_x"].verdict == "rounding" and "judged without float64, where it raises TypeError: this kernel takes float32" in found["d_x"].message
    assert (found["d_w"].verdict, found["d_w"].code) == ("wrong", "mean for sum")


def test_a_mistake_in_one_dtype_alone_is_found():
    def branch(dy, x, w, eps):
        d_x, d_w = right(dy, x, w, eps)
        return d_x, 1.25 * d_w if x.dtype == "float32" else d_w
    found = lines(check_backward(rms, branch, inputs=arrays(), keywords=EPS))
    assert found["d_x"].verdict == "right" and found["d_w"].code == "float32" and "right in float64, but in float32" in found["d_w"].message


@pytest.mark.parametrize("rows", [256, pytest.param(1024, marks=pytest.mark.more)])
def test_a_sum_in_low_precision_is_told_from_a_rounded_result(rows, backend):
    """The bound does not grow with the number of rows; what is accumulated in float16 does."""
    def halves(dy, x, w, eps, last):
        wide = np.promote_types(x.dtype, "float32")
        xhat = x.astype(wide) / mg.backend.namespace(x).sqrt((x.astype(wide) ** 2).mean(-1, keepdims=True) + eps)
        terms = (dy.astype(wide) * xhat).astype(x.dtype)
        return right(dy.astype(wide), x.astype(wide), w.astype(wide), eps)[0].astype(x.dtype), last(terms, wide)

    def rounded(dy, x, w, eps):
        return halves(dy, x, w, eps, lambda terms, wide: terms.astype(wide).sum(0).astype(x.dtype))

    def accumulated(dy, x, w, eps):
        def add(terms, wide):
            total = 0 * terms[0]
            for row in terms:
                total = total + row
            return total
        return halves(dy, x, w, eps, add)
    given = arrays(rows, 8, "float16", backend)
    assert check_backward(rms, rounded, inputs=given, keywords=EPS)
    found = lines(check_backward(rms, accumulated, inputs=given, keywords=EPS))
    assert found["d_x"].verdict == "right" and (found["d_w"].verdict, found["d_w"].code) == ("wrong", "low precision")
    assert "accumulated in low precision: a single term is right" in found["d_w"].message and found["d_w"].error > found["d_w"].bound == 4 * 2.0**-11


def test_inputs_of_several_dtypes_are_given_in_their_own():
    seen = set()

    def mixed(dy, x, w, eps):
        seen.add((str(dy.dtype), str(x.dtype), str(w.dtype)))
        wide = np.promote_types(x.dtype, "float32")
        d_x, d_w = right(dy.astype(wide), x.astype(wide), w, eps)
        return mg.tensor(d_x.astype(x.dtype)), d_w.astype(w.dtype)
    assert check_backward(rms, mixed, inputs={"x": np.zeros((6, 4), "float16"), "w": np.zeros(4, "float32")}, keywords=EPS)
    assert seen == {("float64",) * 3, ("float32",) * 3, ("float16", "float16", "float32")}


def test_a_kernel_in_float16_alone_is_judged_without_terms():
    def half(dy, x, w, eps, factor=1.0):
        if x.dtype != "float16":
            raise TypeError("float16 only")
        d_x, d_w = right(dy.astype("float32"), x.astype("float32"), w.astype("float32"), eps)
        return d_x.astype(x.dtype), (factor * d_w).astype(x.dtype)
    given = arrays(dtype="float16")
    assert {x.verdict for x in check_backward(rms, half, inputs=given, keywords=EPS).lines} == {"rounding"}
    found = lines(check_backward(rms, lambda dy, x, w, eps: half(dy, x, w, eps, 1.5), inputs=given, keywords=EPS))
    assert found["d_x"].verdict == "rounding" and found["d_w"].verdict == "wrong" and "let it run in float32 or float64" in found["d_w"].message


def test_a_statistic_in_low_precision_is_no_sum():
    def coarse(dy, x, w, eps):
        rstd = (1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)).astype("float16").astype(x.dtype)
        return right(dy, x, w, eps)[0], (dy * x * rstd).sum(0)
    found = lines(check_backward(rms, coarse, inputs=arrays(64, 4), keywords=EPS))
    assert found["d_w"].code == "low precision" and "a single term is off already" in found["d_w"].message


def test_float32_inside_is_rounding():
    def single(dy, x, w, eps):
        return [g.astype(x.dtype) for g in right(dy.astype("float32"), x.astype("float32"), w.astype("float32"), eps)]
    report = check_backward(rms, single, inputs=arrays(), keywords=EPS)
    assert report and {line.verdict for line in report.lines} == {"rounding"}


def test_nan_where_the_derivative_is_finite():
    def nan(dy, x, w, eps):
        d_x, d_w = right(dy, x, w, eps)
        return d_x * np.where(np.arange(len(x)) == 1, np.nan, 1)[:, None], d_w
    assert lines(check_backward(rms, nan, inputs=arrays(), keywords=EPS))["d_x"].code == "not finite"


# -- what stands around it ----------------------------------------------------------------------------------------------------


def two(x, index, *, shift):
    z = mg.named("z", x[index] + shift)
    return z, mg.named("t", mg.tanh(z))


def two_backward(dy, x, index, shift):
    d_z, d_t = dy
    found = np.zeros_like(x)
    np.add.at(found, index, d_z + d_t * (1 - np.tanh(x[index] + shift) ** 2))
    return found, None


def test_several_outputs_integers_and_array_keywords():
    """z is an output, and on the way to the other one."""
    given = {"x": np.zeros((5, 3)), "index": np.array([0, 2, 2, 4])}, {"shift": np.array([0.5, 1.0, 2.0])}
    report = check_backward(two, two_backward, inputs=given[0], keywords=given[1])
    assert report and [x.line for x in report.lines] == ["d_x"], report
    wrong = check_backward(two, lambda dy, x, index, shift: two_backward((dy[0], 0 * dy[1]), x, index, shift), inputs=given[0], keywords=given[1])
    assert wrong.lines[0].code == "missing path" and "through z, t to outputs" in wrong.lines[0].message


@pytest.mark.parametrize(("spare", "verdict"), [(None, "right"), (np.zeros_like, "right"), (np.ones_like, "wrong")])
def test_an_input_that_the_output_does_not_depend_on_has_gradient_0(spare, verdict):
    report = check_backward(lambda x, unused: mg.named("y", x * x), lambda dy, x, unused: (2 * dy * x, spare and spare(unused)),
                            inputs={"x": np.zeros(3), "unused": np.ones(2)})
    assert [x.verdict for x in report.lines] == ["right", verdict]


def test_writing_into_an_argument_is_remarked():
    def inplace(dy, x, w, eps):
        found = right(dy, x, w, eps)
        x *= 0
        return found
    report = check_backward(rms, inplace, inputs=arrays(), keywords=EPS)
    assert report and all("it writes into x" in line.message for line in report.lines)


@pytest.mark.parametrize(("backward", "says"), [
    (lambda dy, x, w, eps: 1 / 0, "ZeroDivisionError: division by zero"),
    (lambda dy, x, w, eps: dy, "got 1 gradient; needs: 2: d_x, d_w"),
    (lambda dy, x, w, eps: (dy, "w"), "got a str in the place of a gradient"),
    (lambda dy, x, w, eps: {"x": dy, "gain": w}, "got a gradient called 'gain'"),
    (lambda dy, q: (dy, dy), "the parameters q, of which q is not known")])
def test_what_cannot_be_called_says_why(backward, says):
    report = check_backward(rms, backward, inputs=arrays(), keywords=EPS)
    assert not report and {line.verdict for line in report.lines} == {"error"} and all(says in line.message for line in report.lines)


def test_a_truth_that_is_nan_is_the_forwards_fault():
    with pytest.raises(TaskError, match="check_backward: got a forward whose derivative d_x is Inf at x"):
        check_backward(lambda x: mg.named("y", mg.sqrt(x)), lambda dy, x: dy, inputs={"x": np.array([0.0, 1.0])})


def test_positive_inputs_stay_positive():
    seen = []

    def backward(dy, x):
        seen.append(x.min())
        return dy / (2 * np.sqrt(x))
    assert check_backward(lambda x: mg.named("y", mg.sqrt(x)), backward, inputs={"x": np.array([0.1, 1.0, 4.0])}) and min(seen) > 0


@pytest.mark.parametrize(("options", "error", "says"), [
    ({"inputs": {}}, ValueError, "no inputs"), ({"inputs": arrays(), "names": ("x", "gain")}, ValueError, "names with 'gain'")])
def test_wrong_options_are_named(options, error, says):
    with pytest.raises(error, match=says):
        check_backward(rms, right, keywords=EPS, **options)
    with pytest.raises(TypeError, match="a int as the backward"):
        check_backward(rms, 3, inputs=arrays(), keywords=EPS)


# -- PyTorch ------------------------------------------------------------------------------------------------------------------


def function(forward_eps=1.0, mean=True):
    torch = pytest.importorskip("torch")

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, eps):
            rstd = torch.rsqrt((x * x).mean(-1, keepdim=True) + forward_eps * eps)
            ctx.save_for_backward(x, w, rstd)
            return x * rstd * w

        @staticmethod
        def backward(ctx, dy):
            x, w, rstd = ctx.saved_tensors
            xhat, h = x * rstd, dy * w
            projection = (h * xhat).mean(-1, keepdim=True) if mean else (h * xhat).sum(-1, keepdim=True)
            return rstd * (h - xhat * projection), (dy * xhat).sum(0), None
    return torch, Norm


def test_a_function_of_pytorch_is_judged_with_its_forward():
    torch, norm = function()
    given = {n: torch.tensor(a) for n, a in arrays().items()}
    assert [(x.line, x.verdict) for x in check_backward(rms, norm, inputs=given, keywords=EPS).lines] == [("y", "right"), ("d_x", "right"), ("d_w", "right")]
    assert check_backward(rms, norm, inputs=arrays(), keywords=EPS)  # NumPy's arrays will do
    found = lines(check_backward(rms, function(mean=False)[1], inputs=given, keywords=EPS))
    assert found["y"].verdict == found["d_w"].verdict == "right" and found["d_x"].code == "sum for mean"
    found = lines(check_backward(rms, function(forward_eps=2.0)[1], inputs=given, keywords=EPS))
    assert found["y"].code == "forward" and "another function" in found["d_x"].message


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_plain_function_gets_pytorchs_tensors(dtype):
    torch, _ = function()

    def plain(dy, x, w, eps):
        wide = torch.promote_types(x.dtype, torch.float32)
        dy, z, w = dy.to(wide), x.to(wide), w.to(wide)
        rstd = torch.rsqrt((z * z).mean(-1, keepdim=True) + eps)
        xhat, h = z * rstd, dy * w
        return (rstd * (h - xhat * (h * xhat).mean(-1, keepdim=True))).to(x.dtype), (dy * xhat).sum(0).to(x.dtype)
    given = {n: torch.tensor(a).to(getattr(torch, dtype)) for n, a in arrays(300, 5).items()}
    assert check_backward(rms, plain, inputs=given, keywords=EPS)

    def adds_up(dy, x, w, eps):
        total = torch.zeros_like(w)
        for g, z in zip(dy, x.double() * torch.rsqrt((x.double() ** 2).mean(-1, keepdim=True) + eps), strict=True):
            total += (g * z).to(w.dtype)
        return plain(dy, x, w, eps)[0], total
    found = lines(check_backward(rms, adds_up, inputs=given, keywords=EPS))
    assert found["d_w"].code == ("low precision" if dtype != "float32" else None), found


# -- the command line -----------------------------------------------------------------------------------------------------------

FILE = """
import numpy as np
import minigrad as mg

def forward(x, w):
    return mg.named("y", x * w)

def backward(dy, x, w):
    return dy * w, FOUND

inputs = {"x": np.zeros((4, 3)), "w": np.zeros(3)}
"""


@pytest.mark.parametrize(("found", "status", "says"), [
    ("(dy * x).sum(0)", 0, "2 of 2"), ("(dy * x).mean(0)", 1, "mean for sum"), ("1 / 0", 1, "line 9: return")])
def test_a_file_is_checked_from_the_command_line(found, status, says, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(FILE).replace("FOUND", found), "utf-8")
    assert main(["--backward", str(path)]) == status and says in capsys.readouterr().out
    assert main(["--backward", str(path), "--json"]) == status and json.loads(capsys.readouterr().out)["file"] == str(path)


@pytest.mark.parametrize(("text", "says"), [
    (None, "no file"), ("forward = 1", "without backward and inputs"), ("import nothing_of_this_name", "ModuleNotFoundError")])
def test_a_file_that_cannot_be_judged_says_why(text, says, tmp_path, capsys):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text, "utf-8")
    assert main(["--backward", str(path)]) == 2 and says in capsys.readouterr().err
