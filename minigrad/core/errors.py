"""Errors that teach: which op, what it got, what it needs, and the usual fix."""

from __future__ import annotations

import operator
import sys
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)


class TapeError(RuntimeError):
    """The tape cannot answer: it was freed, a kept array was overwritten, or a rule broke its contract."""


class BackendError(TypeError):
    """Arrays of two backends met in one op, or a backend is not installed."""


class NonFiniteError(FloatingPointError):
    """Raised inside ``mg.debug()`` where the first NaN or Inf appears."""


class AxisError(ValueError, IndexError):
    """An axis that the array does not have."""


def error(kind: type[E], op: str, *, got: str, needs: str, fix: str) -> E:
    """Build an exception of `kind` whose text has the four parts every minigrad error has.

    >>> print(error(ValueError, "matmul", got="a b", needs="c", fix="d"))
    matmul: got a b
      needs: c
      fix:   d
    """
    return kind(f"{op}: got {got}\n  needs: {needs}\n  fix:   {fix}")


def left_out(op: str, name: str, value: object, default: object, fix: str) -> None:
    """Refuse an argument that PyTorch has and minigrad does not have, unless it has PyTorch's default: then nothing is lost.

    >>> left_out("Embedding", "sparse", False, False, "dense gradients")
    >>> left_out("Embedding", "sparse", True, False, "dense gradients: leave it out")
    Traceback (most recent call last):
        ...
    NotImplementedError: Embedding: got sparse=True, which minigrad leaves out
      needs: sparse=False, or nothing there
      fix:   dense gradients: leave it out
    """
    if type(value) is not type(default) or value != default:
        phrase = f"{value!r}" if isinstance(value, (bool, int, float, str)) else describe(value)
        raise error(NotImplementedError, op, got=f"{name}={phrase}, which minigrad leaves out", needs=f"{name}={default!r}, or nothing there", fix=fix)


def integer(op: str, name: str, value: Any, least: int, *, fix: str | None = None) -> int:
    """`value` as a Python integer of at least `least`. NumPy's integers are integers; booleans and floats are not.

    Raises:
        ValueError: something else.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        got = f"{name}: {describe(value)}" if hasattr(value, "shape") else f"{name}={value!r}"
        raise error(ValueError, op, got=got, needs=f"an integer of at least {least}", fix=fix or f"{name}={least}, or more")
    return number


OTHER_NAMES = {"absolute": "abs", "amax": "max", "amin": "min", "around": "round", "concat": "concatenate", "copy": "clone", "fabs": "abs",
               "permute_dims": "transpose", "ravel": "flatten", "rint": "round"}  # of NumPy's functions, for which minigrad keeps one


def op_named(name: str) -> str | None:
    """How a user calls the op of this name ("minigrad.exp") or of NumPy's other name for it, or None if minigrad has no such op."""
    name = OTHER_NAMES.get(name, name)
    ops = sys.modules.get("minigrad.ops")  # above this file, but imported before anything can go wrong
    return f"minigrad.{name}" if callable(getattr(ops, name, None)) and not name.startswith("_") else None


def describe(value: object) -> str:
    """One phrase for a value in an error text: an array by shape, dtype and backend, anything else by its type.

    >>> describe(2.0), describe("relu")
    ('the float 2.0', "the str 'relu'")
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        if callable(value) and hasattr(value, "__name__"):
            return f"the {'class' if isinstance(value, type) else 'function'} {value.__name__}"
        text = repr(value)
        return f"the {type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
    name = getattr(value, "backend", None) or type(value).__module__.split(".")[0]
    kind = "tensor" if hasattr(value, "requires_grad") else "array"
    return f"a {name} {kind} of shape {tuple(shape)} and dtype {dtype}"
