"""Random graphs of ops. What must hold for each of them:

- the value is the same without a tape, and on the fake device;
- gradients and Hessian-vector products agree with difference quotients;
- `grad` fills no ``.grad``; `backward` gives the same gradients, leaves and retained results alike; twice gives twice;
- the gradient of a result can be pulled further back, although the tape from there on is used up;
- gradients share memory with nothing, and do not change once they are handed out; a hook that writes changes nothing.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import minigrad as mg

from .programs import ProgramRun, agrees, explains_itself, host

UNARY = ("mg.tanh({a})", "mg.sin({a})", "mg.cos({a})", "mg.sigmoid({a})", "mg.exp(-mg.square({a}))", "mg.log1p(mg.square({a}))", "mg.sqrt(1.5 + mg.sin({a}))",
         "mg.softplus({a})", "mg.square({a})", "-{a}", "mg.elu({a}, 0.7)", "mg.abs({a})", "mg.relu({a})", "mg.leaky_relu({a}, 0.2)",
         "mg.expm1(mg.tanh({a}))", "{a} ** 3", "(1.5 + mg.sin({a})) ** -1.5", "mg.clip({a}, -0.7, 0.9)", "2.0 ** mg.sin({a})", "mg.identity({a})",
         "mg.named('n', {a})", "mg.log(1.5 + mg.square({a}))", "1.0 / (2.0 + {a} * {a})", "{a} - 0.5", "0.3 * {a}", "mg.gelu({a})")
BINARY = ("{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / (1.5 + mg.square({b}))", "mg.maximum({a}, {b})", "mg.minimum({a}, {b})",
          "mg.where({a} > {b}, {a} * {b}, {b})", "(1.5 + mg.sin({a})) ** mg.tanh({b})", "{a} @ {b}", "mg.stack([{a}, {b}, {a}])", "mg.concatenate([{a}, {b}])",
          "mg.einsum('...i,...i->...', {a}, {b})", "mg.outer({a}, {b})", "mg.mse_loss({a}, {b})", "mg.solve(mg.tanh({a}) + 3.0 * np.eye({a}.shape[-1]), {b})")
AXES = ("mg.sum({a}, {x})", "mg.mean({a}, {x}, True)", "mg.var({a}, {x})", "mg.max({a}, {x})", "mg.min({a}, {x}, True)", "mg.logsumexp({a}, {x})",
        "mg.softmax({a}, {x})", "mg.log_softmax({a}, {x})", "mg.cumsum({a}, {x})", "mg.norm({a} + 0.5, axis={x})", "mg.moments({a}, {x})[{k}]",
        "mg.flip({a}, {x})", "mg.expand_dims({a}, {x})", "mg.moveaxis({a}, {x}, 0)", "mg.std({a}, {x}) if {a}.shape[{x}] > 2 else {a}",
        "mg.take({a}, [0, -1, 0], {x})", "mg.split({a}, [1], {x})[{k}]", "mg.swapaxes({a}, {x}, -1)", "mg.swapaxes({a}, 0, {x}) * {a}.T")
SHAPE = ("{a}.reshape(-1)", "{a}.T", "{a}[1:]", "{a}[..., ::-1]", "{a}[None]", "{a}[[0, -1, 0]]", "{a}[mg.tensor([0, 0, -1])]", "{a}[np.array([0, -1, 0, 0])]",
         "{a}[0]", "{a}[((0, -1, 0),)]", "mg.split({a}, [2, 1])[{k}]",
         "mg.pad({a}, 1)", "mg.broadcast_to({a}, (2, *{a}.shape))", "mg.sum_to({a}, {a}.shape[1:])", "mg.squeeze({a})", "mg.flatten({a})",
         "mg.tril({a})", "mg.triu({a}, 1)", "mg.diagonal({a})", "mg.trace({a})", "{a} @ mg.swapaxes({a}, -1, -2)", "mg.sum({a})", "mg.mean({a}, (0, -1))",
         "mg.take_along_axis({a}, np.argsort(draw({k}, {a}.shape), -1), -1)", "mg.inv(mg.tanh({a}) + 3.0 * np.eye({a}.shape[-1]))",
         "mg.det(mg.tanh({a}) + 3.0 * np.eye({a}.shape[-1]))", "mg.embedding(np.array([[0, 1], [1, 1]]), {a})",
         "mg.inv_sqrtm({a} @ mg.swapaxes({a}, -1, -2) + 2.0 * np.eye({a}.shape[-2]))",
         "mg.cholesky({a} @ mg.swapaxes({a}, -1, -2) + 2.0 * np.eye({a}.shape[-2]))", "mg.conv2d({a}[None, None], {a}[None, None, :2, :2], padding={k})",
         "mg.avg_pool2d({a}[None, None], 2, 1)", "mg.max_pool2d({a}[None, None], 2, 1)", "mg.adaptive_avg_pool2d({a}[None, None], (2, 1))",
         "mg.cross_entropy({a}, np.arange({a}.shape[0]) % {a}.shape[1])", "mg.binary_cross_entropy_with_logits({a}, mg.sigmoid({a}))")
LAYERS = ("layers.REGISTRY['layer_norm'].form({f})({a}, 1.0 + {a}[0], {a}[-1], eps=0.1)", "layers.REGISTRY['rms_norm'].form({f})({a}, 1.0 + {a}[0], eps=0.1)",
          "layers.REGISTRY['batch_norm'].form({f})({a}, 1.0 + {a}[0], {a}[-1], eps=0.1)",
          "layers.REGISTRY['group_norm'].form({f})({a}, 1.0 + {a}[0], {a}[-1], groups=1, eps=0.1)",
          "layers.REGISTRY['weight_norm'].form({f})({a} + 0.3, {a}[:, 0])", "layers.REGISTRY['weight_standardization'].form({f})({a}, eps=0.1)",
          "layers.REGISTRY['centered_weight_norm'].form({f})({a})")
EFFECTS = ("{a}.retain_grad()", "{a}.register_hook(spoil)", "{a}.register_hook(lambda g: None)",
           "{a}.register_hook(lambda g: g * 1.0)")
SHAPES = ((), (3,), (4,), (2, 3), (3, 3), (3, 1), (1, 4), (2, 1, 3), (4, 3))


def generate(rng: Any) -> list[str]:
    """Leaves, then ops on what is there; each statement is tried when it is drawn, and dropped where it does not fit."""
    statements = [f"x{i} = leaf('x{i}', {rng.integers(10**6)}, {SHAPES[rng.integers(len(SHAPES))]})" for i in range(rng.integers(1, 4))]
    if rng.random() < 0.5:
        statements.append(f"c0 = constant({rng.integers(10**6)}, {SHAPES[rng.integers(len(SHAPES))]})")
    run = ProgramRun(statements)
    wanted = int(rng.integers(3, 14))
    for _ in range(4 * wanted):
        names = [k for k, v in run.tensors().items() if v.size < 200]
        made = [k for k in names if k.startswith("v")]
        if len(made) >= wanted:
            break
        pick = lambda names=names: names[min(int(rng.exponential(3)), len(names) - 1) if rng.random() < 0.3 else int(rng.integers(len(names)))]
        group = (UNARY, BINARY, BINARY, AXES, SHAPE, LAYERS, EFFECTS)[rng.integers(7)]
        a, b = pick(), pick()
        form = ("'composed'", "'derived'")[rng.integers(2)]
        text = group[rng.integers(len(group))].format(a=a, b=b, x=int(rng.integers(-2, 2)), k=int(rng.integers(2)), f=form)
        name = f"v{len(made)}"
        statement = text if group is EFFECTS else f"{name} = {text}"
        if group is EFFECTS and not run.env[a].requires_grad:
            continue
        try:
            exec(statement, run.env)
        except Exception as e:
            if explains_itself(e) or str(e) == "tuple index out of range":  # the shapes do not fit
                continue
            return [*statements, statement, "loss = 0"]  # a useless error: let it fail
        value = run.env.get(name)
        if group is not EFFECTS and not (isinstance(value, mg.Tensor) and value.size and np.isfinite(host(value)).all() and np.abs(host(value)).max() < 30):
            run.env.pop(name, None)
            continue
        statements.append(statement)
        if group is not EFFECTS and rng.random() < 0.1:  # a sum, whose terms' gradients may be one array
            leaf, other = f"x{10 + len(made)}", f"v{len(made) + 1}"
            statements += [f"{leaf} = leaf('{leaf}', {rng.integers(10**6)}, {value.shape})", f"{other} = mg.sin({leaf})", f"{other}.register_hook(spoil)",
                           f"v{len(made) + 2} = {name} + {other}"]
            for s in statements[-4:]:
                exec(s, run.env)
    ends = [k for k, v in run.tensors().items() if v.requires_grad]
    chosen = [ends[-1], *(k for k in ends[:-1] if rng.random() < 0.3)]
    return [*statements, "loss = 0.0", *(f"loss = loss + weigh({k}, {rng.integers(10**6)})" for k in chosen)]


def check(statements: list[str]) -> str:
    """Everything above. Returns "right", "kinked" where no difference quotient was sharp, or "refused by backward"."""
    run = ProgramRun(statements)
    loss = run.env["loss"]
    if not isinstance(loss, mg.Tensor):
        return "no loss"
    with mg.no_grad():
        np.testing.assert_array_equal(host(ProgramRun([s for s in statements if "_hook" not in s and "retain_grad" not in s]).env["loss"]), host(loss),
                                      err_msg="the value without a tape")
    names = [k for k in run.leaves]
    leaves = [run.leaves[k] for k in names]
    first = mg.grad(loss, leaves, retain_graph=True, allow_unused=True)
    if any(t.grad is not None for t in run.tensors().values()):
        raise AssertionError("grad() filled .grad")
    gradients = {k: np.zeros(x.shape) if g is None else host(g) for k, x, g in zip(names, leaves, first, strict=True)}
    _backward_agrees(run, loss, first, gradients)
    _on_the_fake_device(statements, float(host(loss)), gradients)
    claimed, size = run.along(gradients)
    value = lambda s: float(host(ProgramRun(statements, s).env["loss"]))
    one = agrees(claimed, value, size)
    if one is False:
        hooked = " with a hook that writes" if _right_without_hooks(statements) else ""
        raise AssertionError(f"first order{hooked}: {claimed} against {quotient_text(value)}")
    try:
        two = _second_order(statements)
    except mg.TapeError as e:
        if "overwritten" in str(e) and any(s.endswith("(spoil)") for s in statements):
            return "refused by backward"  # a hook wrote into what the second order needs, and is told so
        raise
    _in_two_steps(statements)
    return "right" if one and two else "kinked"


def _right_without_hooks(statements: list[str]) -> bool:
    quiet = [s for s in statements if not s.endswith("(spoil)")]
    try:
        return quiet != statements and bool(check(quiet))
    except Exception:
        return False


def quotient_text(f: Any) -> str:
    """The quotients with two steps."""
    return ", ".join(f"{(f(h) - f(-h)) / (2 * h):.9g}" for h in (2.0**-12, 2.0**-14))


def _backward_agrees(run: ProgramRun, loss: Any, first: Any, gradients: dict[str, np.ndarray]) -> None:
    asked = [k for k, v in run.tensors().items() if v.requires_grad and any(v is t for t in _retained(run))]
    wanted = mg.grad(loss, [run.env[k] for k in asked], retain_graph=True, allow_unused=True) if asked else ()
    loss.backward(retain_graph=True)
    for k, x in run.leaves.items():
        got = np.zeros(x.shape) if x.grad is None else host(x.grad)
        if run.directions[k].any() and not np.allclose(got, gradients[k], rtol=1e-12, atol=1e-12):
            raise AssertionError(f"backward: .grad of a leaf is not what grad() returns: {got} against {gradients[k]}")
    for k, g in zip(asked, wanted, strict=True):
        t = run.env[k]
        leaf = any(t is x for x in run.leaves.values())
        if g is not None and not leaf and (t.grad is None or not np.allclose(host(t.grad), host(g), rtol=1e-12, atol=1e-12)):
            raise AssertionError("backward: .grad of a retained result is not what grad() returns")
    tensors = {id(t): t for t in run.tensors().values()}
    handed = [t.grad for t in tensors.values() if t.grad is not None]
    _own_memory([g for g in (*first, *wanted, *handed) if g is not None], list(tensors.values()))
    before = [host(g) for g in handed]
    loss.backward()
    for k, x in run.leaves.items():
        if run.directions[k].any() and x.grad is not None and not np.allclose(host(x.grad), 2 * gradients[k], rtol=1e-12, atol=1e-12):
            raise AssertionError("backward twice: .grad is not twice the gradient")
    for g, b in zip(handed, before, strict=True):
        if not np.array_equal(host(g), b):
            raise AssertionError("a gradient changed after it was handed out")
    if loss._line.inputs:
        try:
            loss.backward()
        except mg.TapeError:
            return
        raise AssertionError("a third backward found a tape that the second has freed")


def _retained(run: ProgramRun) -> list[Any]:
    return [t for t in run.tensors().values() if t.requires_grad and t._line.noted("retained") is not None]


def _in_two_steps(statements: list[str]) -> None:
    """To a result in the middle, and from there: the second step needs no line that the first has used."""
    results = []
    for retain in (True, False):
        run = ProgramRun([s for s in statements if "_hook" not in s])
        made = [k for k, v in run.tensors().items() if k.startswith("v") and v.requires_grad and not v.is_leaf]
        if not made:
            return
        middle, leaves = run.env[made[len(made) // 2]], list(run.leaves.values())
        (g,) = mg.grad(run.env["loss"], [middle], allow_unused=True, retain_graph=retain)
        if g is None:
            return
        results.append([None if d is None else host(d) for d in mg.grad(middle, leaves, g, allow_unused=True)])
    if not all(np.array_equal(a, b) if a is not None and b is not None else a is b for a, b in zip(*results, strict=True)):
        raise AssertionError("in two steps: another gradient")


def _own_memory(gradients: list[Any], tensors: list[Any]) -> None:
    for g, h in itertools.combinations(gradients, 2):
        if g is not h and np.shares_memory(g._data, h._data):
            raise AssertionError("two gradients share memory")
    for g, t in itertools.product(gradients, tensors):
        if g is not t and np.shares_memory(g._data, t._data):
            raise AssertionError("a gradient shares memory with a tensor of the program")


def _second_order(statements: list[str]) -> bool | None:
    """Hessian times direction, along a second direction, against quotients of the gradient."""
    def slope(s: float, create: bool = False) -> tuple[ProgramRun, Any]:
        run = ProgramRun(statements, s)
        leaves = list(run.leaves.values())
        first = mg.grad(run.env["loss"], leaves, create_graph=create, allow_unused=True)
        terms = [mg.sum(g * mg.tensor(run.directions[k])) for k, g in zip(run.leaves, first, strict=True) if g is not None]
        return run, sum(terms[1:], terms[0]) if terms else None

    run, along = slope(0.0, True)
    if along is None:
        return True
    leaves = run.leaves
    second = mg.grad(along, list(leaves.values()), allow_unused=True) if along.requires_grad else [None] * len(leaves)
    claimed, size = run.along({k: np.zeros(x.shape) if h is None else host(h) for (k, x), h in zip(leaves.items(), second, strict=True)})
    value = lambda s: float(host(slope(s)[1]))
    right = agrees(claimed, value, size, 1e-5)
    if right is False:
        raise AssertionError(f"second order: {claimed} against {quotient_text(value)}")
    return right


def _on_the_fake_device(statements: list[str], loss: float, gradients: dict[str, np.ndarray]) -> None:
    """The same numbers, for programs without host arrays."""
    if any(word in s for s in statements for word in ("np.", "draw(", "mg.tensor(", "((0", "spoil")):
        return
    if "fake" not in mg.backend.NAMES:
        from cuda_twins import TWINS

        from fakecupy import FakeCupy, cuda
        cuda.TWINS.update(TWINS)
        mg.backend.register("fake", FakeCupy())
    run = ProgramRun(statements, backend="fake")
    found = mg.grad(run.env["loss"], list(run.leaves.values()), allow_unused=True)
    same = [np.allclose(float(host(run.env["loss"])), loss, rtol=1e-9, atol=1e-9)]
    same += [g is None or np.allclose(host(g), gradients[k], rtol=1e-9, atol=1e-9) for k, g in zip(run.leaves, found, strict=True)]
    if not all(same):
        raise AssertionError("the fake device has other numbers")
