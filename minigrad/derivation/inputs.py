"""A user's own arrays as the cases of a task: as they are given, and fresh ones that stay where the given ones are.

A fresh value lies between the given one and another of the same array, so what is positive stays positive and what is below 1
stays below 1; where all values of an array are equal, it is up to half larger or smaller. Sizes grow, equal ones alike, so
that no accident of a shape hides a mistake. Where the forward pass does not take such arrays (a matrix that must be
positive definite, sizes that belong to a keyword), they come closer to the given ones, and keep their sizes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..core import backend
from ..core.backend import Array, np
from ..core.errors import error
from ..core.tensor import Tensor
from .task import Case, TaskError

NEARER = (1.0, 0.25, 0.05, 0.01)  # how far fresh values go at most on the way to the other ones


def own_cases(inputs: Mapping[str, Any], keywords: Mapping[str, Any], runs: Callable[[Case], bool]) -> Callable[[Any, str], Iterator[Case]]:
    """``cases(rng, dtype)`` of a user's own arrays.

    Args:
        inputs: arrays by argument name. Zeros alone say a shape, and stand for normal numbers. Integers and booleans are never
            changed: in larger sizes they are repeated.
        keywords: arrays among them are treated like inputs.
        runs: whether the forward pass and its derivatives are finite there.
    """
    given = {k: on_host(v) for k, v in inputs.items()}
    beside = {k: on_host(v) for k, v in keywords.items() if is_array(v)}
    if given and not any(a.dtype.kind == "f" for a in given.values()):
        raise error(TaskError, "derivation", got=f"inputs without floats: {', '.join(f'{k} holds {a.dtype}' for k, a in given.items())}",
                    needs="an input of floats, which has a derivative", fix="x.astype('float64')")
    plain = {k: v for k, v in keywords.items() if k not in beside}
    sizes = {n for a in (*given.values(), *beside.values()) for n in a.shape if n > 1}

    def case(change: Callable[[Array], Array]) -> Case:
        return {k: change(a) for k, a in given.items()}, {**plain, **{k: change(a) for k, a in beside.items()}}

    def cases(rng: Any, dtype: str) -> Iterator[Case]:
        yield case(lambda a: _filled(a, rng))
        for extra in (1, 2):
            for grown, part in [(extra, part) for part in NEARER] + [(0, part) for part in NEARER]:
                drawn = case(lambda a: _fresh(a, rng, {n: n + grown for n in sizes}, part))  # noqa: B023  used at once
                if runs(drawn):
                    yield drawn
                    break
    return cases


def _filled(a: Array, rng: Any) -> Array:
    return rng.normal(size=a.shape) if a.dtype.kind == "f" and not a.any() else a


def _fresh(a: Array, rng: Any, sizes: Mapping[int, int], part: float) -> Array:
    shape = tuple(sizes.get(n, n) for n in a.shape)
    base = a[np.ix_(*(np.arange(n) % old for n, old in zip(shape, a.shape, strict=True)))] if a.size else np.resize(a, shape)
    if a.dtype.kind != "f" or not base.size:
        return base
    if not a.any():
        return rng.normal(size=shape)
    other = base * rng.uniform(0.5, 1.5, shape) if (a == a.flat[0]).all() else rng.permutation(base.ravel()).reshape(shape)
    return base + part * rng.uniform(size=shape) * (other - base)


# -- arrays of any library, on the host -----------------------------------------------------------------------------------


def is_torch(value: Any) -> bool:
    """Whether it is a tensor of PyTorch; PyTorch itself is never imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether it is an array or a tensor of any library."""
    return isinstance(value, (np.ndarray, Tensor)) or is_torch(value) or backend.is_array(value)


def on_host(value: Any) -> Array:
    """An input of any library on the host; floats in float64."""
    if is_torch(value):
        value = value.detach().to("cpu")
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    elif isinstance(value, Tensor):
        value = value.numpy()
    a = backend.to_numpy(value) if backend.is_array(value) else np.asarray(value)
    return a.astype("float64") if a.dtype.kind == "f" else a


def in_order(forward: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs in the order of the forward's parameters, where it has them by these names."""
    try:
        names = list(inspect.signature(forward).parameters)
    except (TypeError, ValueError):
        return dict(inputs)
    return {n: inputs[n] for n in sorted(inputs, key=names.index)} if all(n in names for n in inputs) else dict(inputs)
