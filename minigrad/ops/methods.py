"""Tensor's operators and methods are the ops themselves, put in place here because tensor.py lies below the ops."""

from __future__ import annotations

from typing import Any

from ..core import backend
from ..core.errors import TapeError, describe, error
from ..core.tensor import Tensor, refusal_of_numpy, state
from . import bits, elementwise, linalg, reduce, shape


def _reflected(op: Any) -> Any:
    return lambda self, other: op(other, self)


def _in_place(sign: str, op: Any) -> Any:
    """``x += y``: under `no_grad` it writes into a leaf that has room for the result, else x becomes the name of a new tensor.

    A variable refuses it outside `no_grad`, where the name would silently stop being the variable.
    """
    def assign(self: Any, other: Any) -> Any:
        if not self.is_leaf or (state.recording and not self.requires_grad):
            return op(self, other)
        if state.recording:
            raise error(TapeError, f"x {sign}= value", got=f"{describe(self)} that requires grad", needs="no_grad() for an update of a variable",
                        fix=f"`with minigrad.no_grad():` around the update; for a new tensor: y = x {sign} value")
        new = op(self, other)  # all of it before the write: the two may overlap
        fits = new.shape == self.shape and new.dtype == self.dtype
        if fits and (self.requires_grad or getattr(self._data.flags, "writeable", True)):
            self._write(..., new._data, f"x {sign}= value")
            return self
        if self.requires_grad:
            raise error(ValueError, f"x {sign}= value", got=f"{describe(self)} and a result of shape {new.shape} and dtype {new.dtype}",
                        needs="a result that fits into x", fix="sum the value to the shape of x (minigrad.sum_to), or astype it")
        return new
    return assign


_OPERATORS: dict[str, Any] = {
    "__add__": elementwise.add, "__radd__": _reflected(elementwise.add),
    "__sub__": elementwise.subtract, "__rsub__": _reflected(elementwise.subtract),
    "__mul__": elementwise.multiply, "__rmul__": _reflected(elementwise.multiply),
    "__truediv__": elementwise.divide, "__rtruediv__": _reflected(elementwise.divide),
    "__pow__": elementwise.power, "__rpow__": _reflected(elementwise.power),
    "__matmul__": linalg.matmul, "__rmatmul__": _reflected(linalg.matmul),
    "__neg__": elementwise.negative, "__abs__": elementwise.abs, "__invert__": bits._invert,
    "__gt__": elementwise.greater, "__ge__": elementwise.greater_equal, "__lt__": elementwise.less, "__le__": elementwise.less_equal,
    "__eq__": elementwise.equal, "__ne__": elementwise.not_equal,
    "__and__": bits._bitwise_and, "__rand__": _reflected(bits._bitwise_and),
    "__or__": bits._bitwise_or, "__ror__": _reflected(bits._bitwise_or),
    "__xor__": bits._bitwise_xor, "__rxor__": _reflected(bits._bitwise_xor),
    "__getitem__": shape.getitem,
}
_METHODS: dict[Any, str] = {
    elementwise: "abs astype clip clone exp log round sqrt square sigmoid tanh relu",
    reduce: "all any argmax argmin argsort cumprod cumsum logsumexp max mean min prod softmax log_softmax std sum var",
    shape: "expand_dims flatten moveaxis reshape split squeeze swapaxes take transpose",
    linalg: "diagonal dot matmul trace",
}
_COMPARISONS: dict[Any, Any] = {getattr(backend.np, name): getattr(elementwise, name) for name in (
    "greater", "greater_equal", "less", "less_equal", "equal", "not_equal")}
_UFUNCS: dict[Any, Any] = _COMPARISONS | {getattr(backend.np, name): op for name, op in {
    "add": elementwise.add, "subtract": elementwise.subtract, "multiply": elementwise.multiply, "divide": elementwise.divide, "power": elementwise.power,
    "matmul": linalg.matmul, "bitwise_and": bits._bitwise_and, "bitwise_or": bits._bitwise_or,
    "bitwise_xor": bits._bitwise_xor}.items()}


def _ufunc_of_numpy(self: Tensor, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
    """What NumPy calls for `array * tensor` and for numpy.multiply(array, tensor) alike: the op; everything else is refused."""
    op = _UFUNCS.get(ufunc)
    if op is not None and method == "__call__" and not isinstance(inputs[0], Tensor):
        if not keywords:
            a, x = inputs
            return op(a[()] if ufunc in _COMPARISONS and not getattr(a, "ndim", 1) else a, x)  # NumPy compares its scalars as 0-d arrays
        if keywords.keys() == {"out"} and keywords["out"][0] is inputs[0]:
            raise error(TypeError, f"numpy.{ufunc.__name__}", got=f"{describe(inputs[0])}, to be changed in place by {describe(self)}",
                        needs="a new Tensor for the result, which may be on the tape", fix="a = a + x in the place of a += x, or x.numpy()")
    raise refusal_of_numpy(ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}", self)


class _UfuncOfNumpy:
    """NumPy asks the class and calls what it finds. CuPy asks the object: None leaves `array * tensor` to the Tensor."""

    def __get__(self, instance: Tensor | None, owner: type) -> Any:
        return _ufunc_of_numpy if instance is None else None


for _name, _op in _OPERATORS.items():
    setattr(Tensor, _name, _op)
for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "matmul": "@", "and": "&", "or": "|", "xor": "^"}.items():
    setattr(Tensor, f"__i{_name}__", _in_place(_sign, _OPERATORS[f"__{_name}__"]))
for _module, _names in _METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, getattr(_module, _name))
Tensor.__array_ufunc__ = _UfuncOfNumpy()  # type: ignore[attr-defined]
for _name, _view in {"T": shape.transpose, "mT": lambda self: shape.swapaxes(self, -1, -2)}.items():
    setattr(Tensor, _name, property(_view))
