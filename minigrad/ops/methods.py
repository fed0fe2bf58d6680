"""Tensor's operators and methods are the ops themselves, put in place here because tensor.py lies below the ops."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import elementwise, linalg, reduce, shape


def _reflected(op: Any) -> Any:
    return lambda self, other: op(other, self)


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
    "__rand__": _reflected(elementwise.logical_and), "__ror__": _reflected(elementwise.logical_or),
    "__getitem__": shape.getitem,
}
_METHODS: dict[Any, str] = {
    elementwise: "abs astype clip exp log sqrt square sigmoid tanh relu",
    reduce: "argmax cumsum logsumexp max mean min softmax log_softmax std sum var",
    shape: "expand_dims flatten moveaxis reshape split squeeze swapaxes take transpose",
    linalg: "diagonal matmul trace",
}
for _name, _op in _OPERATORS.items():
    setattr(Tensor, _name, _op)
for _module, _names in _METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, getattr(_module, _name))
for _name, _view in {"T": shape.transpose, "mT": lambda self: shape.swapaxes(self, -1, -2)}.items():
    setattr(Tensor, _name, property(_view))
