"""What an op takes: inputs of one backend and one floating dtype, and keywords that it knows. What it says of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import backend
from .backend import NAMESPACES, Array, Namespace
from .errors import BackendError, TapeError, describe, error, op_named
from .plan import Plan, Primitive
from .tensor import Tensor, Value, state

# -- inputs -----------------------------------------------------------------------------------------------------------------

def namespace_of_like_tensors(p: Primitive, given: Sequence[Value]) -> Any:
    """The namespace, where all of `given` are Tensors of one backend, the first floating, and other floats and data of its dtype; else None."""
    if not isinstance(given[0], Tensor):
        return None
    kind, dtype = type(given[0]._data), given[0]._data.dtype
    for i, a in enumerate(given):
        if not isinstance(a, Tensor):
            return None
        data = a._data
        if type(data) is not kind or (data.dtype is not dtype and (data.dtype.kind == "f" or _is_data(p, i))):
            return None
    return NAMESPACES[kind] if dtype.kind == "f" else None


def one_namespace(p: Primitive, given: list[Value]) -> Any:
    """The namespace of all arrays in `given` (except numbers), after replacing NumPy scalars by Python's."""
    xp: Namespace = None
    for i, a in enumerate(given):
        data = a._data if isinstance(a, Tensor) else a
        if isinstance(data, (float, int)) or data is None:  # bool is an int; numpy.float64 is a float
            given[i] = data.item() if isinstance(data, backend.np.generic) else data
            continue
        if isinstance(data, backend.np.generic):
            given[i] = data.item()
            continue
        if type(data) not in NAMESPACES:
            given[i] = data = backend.plain(data, p.name)
        if not backend.is_array(data):
            raise error(TypeError, p.name, got=describe(a), needs="Tensors, raw arrays or numbers", fix="make a tensor of it: minigrad.tensor(...)")
        if data is a and data.dtype.kind not in "fiub":
            raise error(TypeError, p.name, got=describe(a), needs="real numbers, integers or booleans", fix="convert the data first: .real of complex numbers")
        mine = NAMESPACES[type(data)]
        if xp is not None and mine is not xp:
            names = sorted({backend.name_of(b._data if isinstance(b, Tensor) else b) for b in given if isinstance(b, Tensor) or backend.is_array(b)})
            raise error(BackendError, p.name, got=f"arrays of the backends {' and '.join(names)}", needs="all inputs on one backend",
                        fix=f"move one of them: {' or '.join(f'x.to({n!r})' for n in names)}; a raw array: minigrad.tensor(a, backend=...)")
        xp = mine
    return xp or backend.np


def one_float_dtype(p: Primitive, given: Sequence[Value]) -> Any:
    """The floating dtype of all floating arrays in `given`, or None. Two of them are an error."""
    found: Any = None
    for a in given:
        dtype = getattr(a, "dtype", None)
        if dtype is not None and dtype.kind == "f":
            if found is not None and dtype != found:
                raise error(TypeError, p.name, got=f"the dtypes {found} and {dtype}", needs="one floating dtype: nothing is converted silently",
                            fix=f"x.astype('{dtype}') for the {found} one, or x.astype('{found}') for the {dtype} one; "
                                f"a whole module: model.astype('{found}')")
            found = dtype
    return found


def integers_follow(p: Primitive, given: list[Value], dtype: Any) -> None:
    """Where a float decides the dtype, integers and booleans that are data follow it."""
    for i, a in enumerate(given) if dtype is not None else ():
        if getattr(a, "dtype", dtype).kind != "f" and _is_data(p, i):
            given[i] = Tensor(a._data.astype(dtype)) if isinstance(a, Tensor) else a.astype(dtype)


def _is_data(p: Primitive, position: int) -> bool:
    """Has this input a rule? (Indices, labels and masks have none.)"""
    return (p.inputs[position] if position < len(p.inputs) else p.variadic) in p.rules


# -- keywords ---------------------------------------------------------------------------------------------------------------

def checked_keywords(p: Primitive, meta: dict[str, Any]) -> dict[str, Any]:
    """The keywords, Tensors among them as the raw constants they must be."""
    for k in meta:
        if k not in p.keywords:
            raise error(TypeError, p.name, got=f"the keyword {k!r}", needs=f"keywords among {p.keywords}",
                        fix="leave it out: ops never write into their input" if k == "inplace" else "check the spelling")
    return {k: _constant(p, k, v) if isinstance(v, Tensor) else backend.plain(v, f"{p.name}, {k}=") if isinstance(v, backend.np.ndarray) else v
            for k, v in meta.items()}


def _constant(p: Primitive, name: str, value: Tensor) -> Array:
    if value._line is not None and state.recording:
        raise error(TapeError, p.name, got=f"a tensor that requires grad as the keyword {name!r}", needs="a constant: keywords have no derivative",
                    fix=f"pass {name}.detach()")
    return value._data


def only_numbers_in_keywords(p: Primitive) -> bool:
    """May a line keep this op's keywords as they are? minigrad's own pass no arrays there; of others nobody knows."""
    return not p.keywords or (p.forward.__module__ or "").startswith("minigrad.ops.")


def own_arrays(p: Primitive, plan: Plan, given: list[Value], arrays: list[Array], meta: dict[str, Any]) -> tuple[list[Array], dict[str, Any]]:
    """Copies in the place of arrays that the caller may change, where a line will keep them: raw inputs, and all in keywords.

    A Tensor among the inputs needs no copy, because writes into it are known. An op made by hand may keep any input in its cache.
    """
    arrays = [a.copy() if type(g) in NAMESPACES and (i in plan.kept_positions or p.joint is not None) else a
              for i, (g, a) in enumerate(zip(given, arrays, strict=True))]
    return arrays, {k: _copied(v) for k, v in meta.items()} if meta else meta


def _copied(value: Any) -> Any:
    """A keyword's value with copies of the raw arrays in it."""
    if type(value) in NAMESPACES:
        return value.copy()
    if type(value) in (tuple, list) and not all(type(v) is int for v in value):
        return type(value)(_copied(v) for v in value)
    return value


# -- errors -----------------------------------------------------------------------------------------------------------------

def explained(p: Primitive, given: Sequence[Value], meta: dict[str, Any], e: Exception) -> Exception:
    """The library's error with the op's name, shapes and dtypes, unless it explains itself already."""
    known, missing = (ValueError, TypeError, IndexError, ArithmeticError, MemoryError), [k for k in p.keywords if k not in meta and k not in p.defaults]
    if "\n  needs: " in str(e) or (not isinstance(e, (*known, KeyError) if missing else known) and "LinAlgError" not in type(e).__name__):
        return e
    if not meta.keys() <= {*p.keywords}:  # the fast ways find it out here
        try:
            checked_keywords(p, meta)
        except TypeError as unknown:
            return unknown
    if missing:
        return error(TypeError, p.name, got=f"no {' and no '.join(missing)}", needs=f"the keywords {p.keywords}", fix=f"{p.name}(..., {missing[0]}=...)")
    if isinstance(e, FloatingPointError):  # NumPy's errstate was asked to raise
        return error(FloatingPointError, p.name, got=", ".join(map(describe, given)), needs=f"no {e}, as numpy.errstate demands here",
                     fix="numpy.errstate(all='ignore') around it, or mg.debug() to find the first NaN or Inf")
    kind: type[Exception] = next((k for k in (ValueError, TypeError, IndexError, MemoryError) if isinstance(e, k)), ValueError)
    words = [describe(a) for a in given] + [f"{k}={v!r}" for k, v in meta.items() if not hasattr(v, "shape")]
    public = op_named(p.name)
    needs, fix = ("more memory than there is", "a smaller batch; see docs/gpu.md for what CuPy keeps") if kind is MemoryError else (
        "inputs that fit each other", f"check the {'dtypes' if kind is TypeError else 'shapes'}{f'; see help({public})' if public else ''}")
    return error(kind, p.name, got=", ".join(words), needs=f"{needs} ({e})", fix=fix)
