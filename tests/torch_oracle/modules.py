"""Layers, losses and optimizers on the samples of PyTorch's own tables (`module_db`, `optim_db`)."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_modules import module_db
from torch.testing._internal.common_optimizers import optim_db

import layers
import minigrad as mg

from .differential import EPS, Difference, Ours, Results, Theirs, Without, differences, mapped, moved, run, shown, widened

MODULES = {info.name.rpartition(".")[2]: info for info in module_db}
OPTIMIZERS = {info.name: info for info in optim_db}
NAMES = [name for name in MODULES if hasattr(mg.nn, name) or hasattr(layers, name)]

# Arguments of PyTorch's that minigrad's class may lack; where it has one of them, it is compared.
OPTIONAL = {"return_indices", "divisor_override", "bias", "threshold", "ceil_mode", "padding_mode", "weight", "pos_weight", "ignore_index", "inplace",
            "maximize", "amsgrad", "centered", "differentiable", "foreach", "fused", "capturable"}


def our_class(name: str) -> Any:
    """minigrad's class of this name."""
    return getattr(layers, name, None) or getattr(mg.nn, name)


def forms_of(name: str) -> list[str | None]:
    """The forms of a normalization layer; [None] for others."""
    layer = getattr(our_class(name), "layer", None)
    return [None] if not layer else ["composed", *layers.REGISTRY[layer].derived]


def bound_arguments(theirs: Any, ours: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's arguments by name, those at their default left out.

    Raises:
        Without: minigrad's class has no such (optional) argument.
    """
    bound = inspect.signature(theirs).bind(*args, **keywords).arguments
    known = inspect.signature(ours).parameters
    given = {}
    for k, v in bound.items():
        if k in ("device", "dtype"):
            continue
        if k not in known and k in OPTIONAL:
            raise Without(f"no {k}")
        given[k] = v
    return given


def module_samples(name: str, dtype: str, training: bool) -> list[Any]:
    """PyTorch's module inputs, the same in every run."""
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
    info = MODULES[name]
    return list(info.module_inputs_func(info, "cpu", getattr(torch, dtype), requires_grad=True, training=training))


def compare_module(name: str, sample: Any, dtype: str, training: bool, form: str | None, seed: int) -> tuple[int, list[Difference]]:
    """As `differential.compare`; inputs are those of forward, then the parameters; values are the output, then the buffers."""
    theirs, ours, made = MODULES[name].module_cls, our_class(name), sample.constructor_input
    indices = made.kwargs.get("return_indices", False)  # of a pooling module: minigrad's returns the values alone
    given = bound_arguments(theirs, ours, tuple(made.args), {k: v for k, v in made.kwargs.items() if k != "return_indices"})
    if sample.forward_input is None:
        raise Without("no input")
    torch.manual_seed(seed)
    model = theirs(*made.args, **made.kwargs).to(getattr(torch, dtype)).train(training)
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-1, 1)
        for k, b in model.named_buffers():
            if b.is_floating_point():
                b.uniform_(0.5, 2) if "var" in k else b.uniform_(-1, 1)
    names = [k for k, _ in model.named_parameters()]
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    call = inspect.signature(theirs.forward).bind(None, *sample.forward_input.args, **sample.forward_input.kwargs)
    tree = (list(call.args[1:]), (call.kwargs, [p.detach().clone().requires_grad_() for p in model.parameters()]), {})

    def their_call(args: Any, keywords: Any, parameters: Any) -> Any:
        # the constructor's tensors (weights of a loss) are buffers too
        state = {k: b.clone().to(_float_dtype(tree_dtype, b)) for k, b in buffers.items()}
        y = torch.func.functional_call(model, {**dict(zip(names, parameters, strict=True)), **state}, tuple(args), keywords)
        return [y[0] if indices else y, *state.values()]

    def our_call(args: Any, keywords: Any, parameters: Any) -> Any:
        kinds = {} if "dtype" not in inspect.signature(ours).parameters else {"dtype": dtype}
        mine = ours(**mapped(given, lambda t: mg.tensor(t.numpy())), **kinds, **({} if form is None else {"form": form}))
        mine.train(training)
        for k, p in zip(names, parameters, strict=True):
            mine._parameters[k] = p
        for k, b in buffers.items():
            if k in mine._buffers:
                mine._buffers[k] = mg.tensor(b.numpy())
        y = mine(*args, **keywords)
        return [y, *(mine._buffers[k] if k in mine._buffers else mg.tensor(b.numpy()) for k, b in buffers.items())]

    tree_dtype = getattr(torch, dtype)
    order = 2
    while True:
        try:
            reference = run(Theirs, their_call, tree, seed, order)
            break
        except (RuntimeError, NotImplementedError, ValueError, IndexError) as e:
            order -= 1
            if order < 0:
                raise Without(f"PyTorch raises: {str(e).splitlines()[0][:90]}") from None
    mine = run(Ours, our_call, tree, seed, order)
    exact, wide = None, widened(tree)

    def in_float64(sample: Any) -> Results:
        nonlocal tree_dtype
        tree_dtype = torch.float64
        return run(Theirs, their_call, sample, seed, order)

    if dtype == "float32":
        exact = in_float64(wide)

    def sensitivity() -> list[Results]:
        rng = np.random.default_rng(seed)
        return [in_float64(moved(wide, EPS[dtype], rng)) for _ in range(3)]

    return order, differences(mine, reference, dtype, exact, sensitivity)


def _float_dtype(dtype: Any, b: torch.Tensor) -> Any:
    return dtype if b.is_floating_point() else b.dtype


def described(sample: Any) -> str:
    """A module's sample in one line."""
    made, forward = sample.constructor_input, sample.forward_input
    return f"({', '.join([*map(shown, made.args), shown(dict(made.kwargs))])}) on {shown(tuple(forward.args)) if forward else 'nothing'}"


# -- optimizers ---------------------------------------------------------------------------------------------------------------


def optimizer_options(name: str) -> Iterator[dict[str, Any]]:
    """The options of PyTorch's optimizer tests."""
    for sample in OPTIMIZERS[name].optim_inputs_func(device="cpu"):
        yield dict(sample.kwargs)


def optimizer_paths(name: str, options: dict[str, Any], dtype: str, steps: int = 12) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The parameters after each step, minigrad's and PyTorch's, from the same gradients; one parameter has none in some steps."""
    if any(isinstance(v, torch.Tensor) for v in options.values()):
        raise Without("numbers as options")
    ours = getattr(mg.optim, name)
    known = {*inspect.signature(ours).parameters}
    missing = sorted(k for k, v in options.items() if k not in known and v)
    if missing:
        if not {*missing} <= OPTIONAL:
            raise AssertionError(f"{name} of minigrad has no {missing}")
        raise Without(f"no {', '.join(missing)}")
    rng = np.random.default_rng(5)
    start = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in ((3, 4), (5,), (), (2, 1, 3))]
    mine = [mg.tensor(a, requires_grad=True) for a in start]
    other = [torch.tensor(a, requires_grad=True) for a in start]
    optimizers = (ours(mine, **{k: v for k, v in options.items() if k in known}), getattr(torch.optim, name)(other, **options))
    path: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for step in range(steps):
        for i, (p, q) in enumerate(zip(mine, other, strict=True)):
            g = np.asarray(rng.standard_normal(p.shape)).astype(dtype) * 10.0 ** float(rng.uniform(-3, 1))
            given = not (i == 1 and step % 3 == 1)
            p.grad = mg.tensor(np.asarray(g, dtype)) if given else None
            q.grad = torch.tensor(np.asarray(g, dtype)) if given else None
        for optimizer in optimizers:
            optimizer.step()
        path[0].extend(p.numpy().copy() for p in mine)
        path[1].extend(q.detach().numpy().copy() for q in other)
    return path
