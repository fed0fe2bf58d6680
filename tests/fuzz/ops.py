"""Every op of tests/op_cases.py on odd inputs. What must hold for each of them:

- layouts: strided, read-only, Fortran-ordered and raw inputs give the same values and gradients;
- dtypes: float32 and float16 are near float64 on the same rounded inputs; integers and booleans are refused, or mean float32;
- NaN and Inf: what one element is changes nothing in results that do not depend on it, nor in their gradients;
- emptiness: an empty batch gives an empty result, or an error that explains itself;
- ownership: gradients share memory with nothing.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import op_cases
from op_cases import CASES, Case

import minigrad as mg

from .programs import explains_itself

BY_ID = {case.id: case for case in CASES}
CHECKS = ("layout", "half", "single", "integers", "special", "empty")
SPREADS = {"max": "no element equals NaN: 0/0 for all", "min": "no element equals NaN: 0/0 for all", "cumsum": "a running sum of NaN is NaN",
           "sort": "NaN comes last", "prod": "0·NaN is NaN", "cumprod": "0·NaN is NaN", "dot": "0·NaN is NaN", "tensordot": "0·NaN is NaN",
           "nan_to_num": "where the case adds it to an infinity, what is replaced becomes another number",
           "matmul": "0·NaN is NaN", "einsum": "0·NaN is NaN", "contract": "0·NaN is NaN", "outer": "0·NaN is NaN", "solve": "all of a system",
           "inv": "all of a matrix", "det": "all of a matrix", "cholesky": "all of a matrix", "eigh": "all of a matrix", "eigvalsh": "all of a matrix",
           "inv_sqrtm": "all of a matrix", "lyapunov": "all of a matrix", "cofactor": "all of a matrix", "cofactor_slope": "all of a matrix",
           "conv2d": "0·NaN is NaN, and padding is 0", "conv2d_input": "0·NaN is NaN", "conv2d_weight": "0·NaN is NaN",
           "binary_cross_entropy_with_logits": "an infinite weight times a target of 0",
           "cross_entropy": "NaN logits make the gradient of their own sample NaN, even where its label is ignored"}
SUMS = ("moments", "paired_sums")  # of float16 they are float32: 65504 is not much for a sum
EPS = {"float16": 2.0**-10, "float32": 2.0**-23}


def generate(rng: Any) -> list[str]:
    """One check of one op."""
    names = [*BY_ID]
    return [f"{CHECKS[rng.integers(len(CHECKS))]}({names[rng.integers(len(names))]!r}, {rng.integers(10**6)})"]


def check(statements: list[str]) -> str:
    """Runs them; returns what the last one was."""
    word = ""
    for s in statements:
        word = eval(s, {name: globals()[f"_{name}"] for name in CHECKS})
    return word


def _inputs(case: Case, seed: int) -> list[np.ndarray]:
    return [np.asarray(a, np.float64) for a in case.inputs(np.random.default_rng(seed))]


def _parts(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def _pulled(case: Case, arrays: Any, seed: int, wrap: Any = mg.tensor) -> tuple[list[Any], list[Any], list[Any]]:
    """(inputs, outputs, gradients at random cotangents, which are exact in float16)."""
    mg.seed(7)
    xs = [wrap(a) for a in arrays]
    for x in xs:
        x.requires_grad = x.dtype.kind == "f"
    ys = list(_parts(case.f(mg, *xs)))
    rng = np.random.default_rng(seed)
    gs = [mg.tensor(np.asarray(rng.standard_normal(y.shape).astype("float16")).astype(y.dtype)) for y in ys]
    moving = [(y, g) for y, g in zip(ys, gs, strict=True) if y.requires_grad]
    inputs = [x for x in xs if x.requires_grad]
    found = mg.grad([y for y, _ in moving], inputs, [g for _, g in moving], allow_unused=True) if moving and inputs else []
    held = [*xs, *ys, *gs]
    for d in found:
        if d is not None and any(np.shares_memory(d._data, t._data) for t in held):
            raise AssertionError(f"{case.op}: a gradient shares memory with an input, an output or a cotangent")
    for d, e in itertools.combinations([d for d in found if d is not None], 2):
        if np.shares_memory(d._data, e._data):
            raise AssertionError(f"{case.op}: two gradients share memory")
    return xs, ys, list(found)


def _as_arrays(results: tuple[list[Any], list[Any], list[Any]]) -> list[Any]:
    return [None if t is None else t.numpy() for t in (*results[1], *results[2])]


def _near(case: Case, got: list[Any], expected: list[Any], eps: float, what: str) -> None:
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        if g is None or e is None:
            continue
        g, e = np.asarray(g, np.float64), np.asarray(e, np.float64)
        if g.shape != e.shape:
            raise AssertionError(f"{case.op}: {what}: shape {g.shape} for {e.shape}")
        size = np.max(np.abs(e[np.isfinite(e)]), initial=0.0)
        off = np.max(np.abs(np.where(np.isfinite(e), g - e, 0.0)), initial=0.0)
        if not off <= eps * max(size, 1.0) or not (np.isnan(g) == np.isnan(e)).all():
            raise AssertionError(f"{case.op}: {what}: result {i} is off by {off} at size {size}: {case.id}")


def _layout(name: str, seed: int) -> str:
    case, rng = BY_ID[name], np.random.default_rng(seed)
    arrays = _inputs(case, seed)

    def odd(a: np.ndarray) -> Any:
        how = rng.integers(4)
        if how == 0 and a.ndim:
            wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan)
            a, wide[..., ::2] = wide[..., ::2], a
        elif how == 1 and a.ndim:
            a = np.asfortranarray(a)
        elif how == 2 and a.ndim:
            a = np.flip(np.flip(a, 0).copy(), 0)
        if how == 3:
            a = a.copy()
            a.flags.writeable = False
        return mg.from_array(a, copy=False)

    plain = _as_arrays(_pulled(case, arrays, seed))
    _near(case, _as_arrays(_pulled(case, arrays, seed, odd)), plain, 64 * 2.0**-52 * case.condition, "another layout")
    with mg.no_grad():
        mg.seed(7)
        raw = [np.asarray(y) for y in _parts(case.f(mg, *arrays))]
    _near(case, raw, plain[: len(raw)], 64 * 2.0**-52 * case.condition, "raw arrays")
    return "layout"


def _rounded(name: str, seed: int, dtype: str) -> str:
    case = BY_ID[name]
    if (dtype == "float16" and not case.half) or case.tolerance is not None:
        return "not in float16"
    arrays = [a.astype(dtype) for a in _inputs(case, seed)]
    exact = _as_arrays(_pulled(case, [a.astype("float64") for a in arrays], seed))
    if max((np.max(np.abs(e), initial=0.0) for e in exact if e is not None), default=0.0) > 1e4:
        return "too large"
    got = _pulled(case, arrays, seed)
    if any(t is not None and t.dtype.kind == "f" and t.dtype != dtype for t in (*(() if case.op in SUMS else got[1]), *got[2])):
        raise AssertionError(f"{case.op}: results of {dtype} have another dtype")
    _near(case, _as_arrays(got), exact, 64 * EPS[dtype] * case.condition, dtype)
    return dtype


def _half(name: str, seed: int) -> str:
    return _rounded(name, seed, "float16")


def _single(name: str, seed: int) -> str:
    return _rounded(name, seed, "float32")


def _integers(name: str, seed: int) -> str:
    """Small integers of a random dtype, against the same numbers in float32 wherever the result is floating."""
    case, rng = BY_ID[name], np.random.default_rng(seed)
    if "gradient" in case.name or case.op in ("gate", "astype") or not hasattr(mg, case.op):  # adjoints get gradients, which are floating
        return "not for integers"
    dtype = ("int64", "int32", "uint8", "int8", "bool", "int16")[rng.integers(6)]
    low = 0 if dtype in ("uint8", "bool") else -3
    arrays = [rng.integers(low, 2 if dtype == "bool" else 5, a.shape).astype(dtype) for a in _inputs(case, seed)]
    results, like = [], op_cases.like
    op_cases.like = lambda x, values: like(mg.tensor(np.zeros(0, "float32")) if np.asarray(values).dtype.kind == "f" else x, values)  # constants of the case
    try:
        for kind in (dtype, "float32"):
            mg.seed(7)
            results.append([y.numpy() for y in _parts(case.f(mg, *(mg.tensor(a.astype(kind)) for a in arrays)))])
    except Exception as e:
        if not explains_itself(e):
            raise AssertionError(f"{case.op}: a useless error for {kind}: {e!r}") from e
        return "refused"
    finally:
        op_cases.like = like
    for got, expected in zip(*results, strict=True):
        if got.dtype.kind == "f":
            if got.dtype not in ("float32", "float64"):
                raise AssertionError(f"{case.op}: {dtype} gives {got.dtype}")
            with np.errstate(all="ignore"):
                if not np.allclose(got, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
                    raise AssertionError(f"{case.op}: of {dtype} it is something else than of the same numbers in float32")
        elif got.dtype != "bool" and dtype in ("int64", "int32") and np.abs(expected).max(initial=0) < 2**20 and not np.array_equal(got, expected) and (
                not np.array_equal(expected, np.round(expected))):
            raise AssertionError(f"{case.op}: of {dtype} it is rounded to integers: {got.ravel()[:4]} for {expected.ravel()[:4]}")
    return "integers"


def _special(name: str, seed: int) -> str:
    """NaN or Inf in one element, and which results and gradients that may change: those that another finite value there changes too."""
    case, rng = BY_ID[name], np.random.default_rng(seed)
    arrays = _inputs(case, seed)
    if case.op in SPREADS or not any(a.size for a in arrays):
        return "spreads"
    which = int(rng.choice([i for i, a in enumerate(arrays) if a.size]))
    place = tuple(int(rng.integers(n)) for n in arrays[which].shape)
    value = (np.nan, np.inf, -np.inf)[rng.integers(3)]

    def at(v: float) -> list[Any]:
        changed = [a.copy() for a in arrays]
        changed[which][place] = v
        try:
            return _as_arrays(_pulled(case, changed, seed))
        except Exception as e:
            if explains_itself(e):
                return []
            raise

    plain, odd = at(arrays[which][place]), at(value)
    if not plain or not odd:
        return "refused"
    others = [r for r in (at(v) for v in (1e3, -1e3, 0.37, 2.5, 0.0)) if r]
    for i, (p, o) in enumerate(zip(plain, odd, strict=True)):
        if p is None or o is None:
            continue
        depends = np.zeros(p.shape, bool)
        for r in others:
            depends |= ~((r[i] == p) | (np.isnan(r[i]) & np.isnan(p)))
        if i == len(plain) - len(arrays) + which:
            depends[place] = True  # its own gradient may be what it likes
        changed = ~((o == p) | (np.isnan(o) & np.isnan(p)))
        if (changed & ~depends & ~np.isclose(o, p, rtol=1e-12, atol=1e-12)).any():
            raise AssertionError(f"{case.op}: {value} in one element changes elements of result {i} that do not depend on it: {case.id}, "
                                 f"{int((changed & ~depends).sum())} of them")
    return "special"


def _empty(name: str, seed: int) -> str:
    """The first axis of all inputs that share its size cut to nothing."""
    case = BY_ID[name]
    arrays = _inputs(case, seed)
    size = arrays[0].shape[0] if arrays[0].ndim else None
    cut = [a[:0] if a.ndim and a.shape[0] == size else a for a in arrays]
    try:
        _pulled(case, cut, seed)
    except AssertionError:
        raise
    except Exception as e:
        if not explains_itself(e) and not isinstance(e, IndexError) and "could not be broadcast" not in str(e):
            raise AssertionError(f"{case.op}: a useless error for an empty input: {e!r}") from e
        return "refused"
    return "empty"
