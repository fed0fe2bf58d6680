"""Errors that teach: which op, what it got, what it needs, and the usual fix."""

from __future__ import annotations

from typing import TypeVar

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


def describe(value: object) -> str:
    """One phrase for a value in an error text: an array by shape, dtype and backend, anything else by its type.

    >>> describe(2.0), describe("relu")
    ('the float 2.0', "the str 'relu'")
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        if callable(value) and hasattr(value, "__name__"):
            return f"the function {value.__name__}"
        text = repr(value)
        return f"the {type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
    name = getattr(value, "backend", None) or type(value).__module__.split(".")[0]
    kind = "tensor" if hasattr(value, "requires_grad") else "array"
    return f"a {name} {kind} of shape {tuple(shape)} and dtype {dtype}"
