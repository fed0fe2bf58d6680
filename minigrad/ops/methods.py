"""Tensor's operators and methods are the ops themselves, put in place here because tensor.py lies below the ops."""

from __future__ import annotations

from typing import Any

from ..errors import TapeError, describe, error
from ..tensor import Tensor, state
from . import elementwise, linalg, reduce, shape


def _reflected(op: Any) -> Any:
    return lambda self, other: op(other, self)


def _in_place(sign: str, op: Any) -> Any:
    """``x += y``: under `no_grad` it writes into a leaf that has room for the result, else x becomes the name of a new tensor.

    A variable refuses it outside `no_grad`, where the name would silently cease to be the variable.
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
    "__neg__": elementwise.negative, "__abs__": elementwise.abs, "__invert__": elementwise.logical_not,
    "__gt__": elementwise.greater, "__ge__": elementwise.greater_equal, "__lt__": elementwise.less, "__le__": elementwise.less_equal,
    "__eq__": elementwise.equal, "__ne__": elementwise.not_equal, "__and__": elementwise.logical_and, "__or__": elementwise.logical_or,
    "__getitem__": shape.getitem,
}
_METHODS: dict[Any, str] = {
    elementwise: "abs astype clip clone exp log sqrt square sigmoid tanh relu",
    reduce: "argmax cumsum logsumexp max mean min softmax log_softmax std sum var",
    shape: "expand_dims flatten moveaxis reshape split squeeze swapaxes take transpose",
    linalg: "diagonal matmul trace",
}
for _name, _op in _OPERATORS.items():
    setattr(Tensor, _name, _op)
for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "matmul": "@", "and": "&", "or": "|"}.items():
    setattr(Tensor, f"__i{_name}__", _in_place(_sign, _OPERATORS[f"__{_name}__"]))
for _module, _names in _METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, getattr(_module, _name))
for _name, _view in {"T": shape.transpose, "mT": lambda self: shape.swapaxes(self, -1, -2)}.items():
    setattr(Tensor, _name, property(_view))
