"""The seam between minigrad and the array libraries.

Data decides the backend: an op takes its namespace from the arrays it receives. `use` only says where *new* arrays are
made. This file (with `kernels/`) is the only place that imports NumPy or CuPy; a third module that speaks NumPy's
language joins through `register(name, module)`.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np

from ..kernels.cuda.find import import_cupy
from .errors import BackendError, describe, error

Array = Any  # an array of any registered backend: numpy.ndarray, cupy.ndarray, ...
Namespace = Any  # the module that works on it: numpy, cupy, ...
DType = np.dtype

NAMES: dict[str, Any] = {}  # "numpy" -> module
NAMESPACES: dict[type, Any] = {}  # array type -> module: how an op finds its namespace
_NAME_OF_TYPE: dict[type, str] = {}


class _ThreadBackend(threading.local):
    name = "numpy"  # where this thread makes new arrays


_here = _ThreadBackend()

float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
int64, bool_ = np.dtype("int64"), np.dtype("bool")
default_dtype: DType = float32
REAL = frozenset(np.dtype(c) for c in "?bBhHiIlLqQefd")  # what a tensor may hold (long double, and another byte order, too, but seldom)


def register(name: str, module: Any) -> None:
    """Make `module` (NumPy's names, an `ndarray` type, `asarray`, `asnumpy` unless it is NumPy) available as `name`."""
    NAMES[name] = module
    NAMESPACES[module.ndarray] = module
    _NAME_OF_TYPE[module.ndarray] = name


register("numpy", np)


_MEANT = {"cuda": "'cupy'", "gpu": "'cupy'", "cpu": "'numpy'", **dict.fromkeys(("float16", "float32", "float64"), "astype() converts to a dtype")}


def get(name: str) -> Any:
    """The array module called `name`; imports CuPy on first demand.

    Raises:
        BackendError: unknown name, or CuPy without an installation, a driver or a GPU.
    """
    if name not in NAMES:
        if name != "cupy":
            raise error(BackendError, "backend", got=f"the name {name!r}", needs=f"one of {sorted({*NAMES, 'cupy'})}",
                        fix=_MEANT.get(str(name).split(":")[0], "check the spelling, or call minigrad.backend.register(name, module) first"))
        register("cupy", import_cupy())
    return NAMES[name]


class use:
    """Create new tensors on this backend from now on, or inside a ``with`` block, in this thread.

    Another thread begins with "numpy" and chooses for itself, as with `no_grad`; what ops do follows from their arrays alone.

    >>> import minigrad as mg
    >>> with mg.use("numpy"):
    ...     mg.tensor([1.0]).backend
    'numpy'
    """

    def __init__(self, name: str) -> None:
        get(name)
        self.name, self._before, _here.name = name, _here.name, name

    def __enter__(self) -> use:
        _here.name = self.name
        return self

    def __exit__(self, *_: object) -> None:
        _here.name = self._before


def current_name() -> str:
    """Name of the backend on which this thread makes new arrays."""
    return _here.name


def is_array(value: object) -> bool:
    """Is `value` an array of a known backend, and of no subclass? (Registers CuPy when it meets its first CuPy array.)"""
    if type(value).__module__.partition(".")[0] == "cupy" and hasattr(value, "shape"):
        get("cupy")
    return type(value) in NAMESPACES


def plain(value: Any, op: str) -> Any:
    """`value` as it may enter minigrad, wherever it enters: an array of a subclass as the array that it is, anything else unchanged.

    A memmap, a matrix or a record array without fields only adds methods and operators (``matrix * matrix``):
    it is taken as the plain array with the same memory. Others hold more than their numbers, which would be lost.

    Raises:
        TypeError: a masked array, or another subclass; `op` is named.
    """
    if type(value) in NAMESPACES or not isinstance(value, np.ndarray):
        return value
    if isinstance(value, (np.memmap, np.matrix, np.recarray)):
        return np.asarray(value)
    masked = isinstance(value, np.ma.MaskedArray)
    raise error(TypeError, op, got=f"a {type(value).__module__}.{type(value).__name__}",
                needs="a plain array: what this one knows besides its numbers would be lost",
                fix="x.filled(0), and where needed the mask: numpy.ma.getmaskarray(x)" if masked else "numpy.asarray(x), if its numbers alone are meant")


def namespace(array: Array) -> Any:
    """The module whose functions work on `array`."""
    if type(array) not in NAMESPACES and not is_array(array):
        raise error(TypeError, "backend", got=describe(array), needs="an array of a registered backend",
                    fix="make a tensor of it with minigrad.tensor(...)")
    return NAMESPACES[type(array)]


def name_of(array: Array) -> str:
    """"numpy", "cupy", ... for a raw array."""
    namespace(array)
    return _NAME_OF_TYPE[type(array)]


def asarray(value: Any, dtype: Any = None, name: str | None = None) -> Array:
    """An array on backend `name` (default: the current one). Copies only where the backend or dtype must change."""
    xp = get(name or _here.name)
    value = plain(value, "asarray")
    if is_array(value) and NAMESPACES[type(value)] is not xp:
        value = to_numpy(value)
    return xp.asarray(value, dtype=dtype)


def from_numpy(array: np.ndarray, name: str | None = None) -> Array:
    """Copy a host array to backend `name` (default: the current one): the one explicit way in."""
    xp = get(name or _here.name)
    return array if xp is np else xp.asarray(array)


def to_numpy(array: Array) -> np.ndarray:
    """Copy a device array to the host (waits for the device); a NumPy array is returned as it is."""
    xp = NAMESPACES.get(type(array), np)
    return np.asarray(array) if xp is np else xp.asnumpy(array)


def owner(array: Array) -> Array:
    """The array that owns the buffer `array` looks into: itself, or the end of its chain of views."""
    while (base := getattr(array, "base", None)) is not None and (type(base) in NAMESPACES or isinstance(base, np.ndarray)):
        array = base
    return array


def read_only_view(array: Array) -> Array:
    """On NumPy a view that refuses writes; elsewhere the array itself (CuPy has no such flag)."""
    if type(array) is not np.ndarray or not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def broadcast_view(xp: Namespace, array: Array, shape: tuple[int, ...]) -> Array:
    """``xp.broadcast_to``; on NumPy, where that takes longer than a small op, made from strides directly."""
    if xp is not np or not array.flags.c_contiguous:
        return xp.broadcast_to(array, shape)
    lead = len(shape) - array.ndim
    strides = (0,) * lead + tuple([0 if n == 1 else s for n, s in zip(array.shape, array.strides)])
    view = np.ndarray(shape, array.dtype, array, 0, strides)
    view.flags.writeable = False
    return view


def is_float(dtype: Any) -> bool:
    """Does `dtype` take part in differentiation? (float16, float32, float64)"""
    return dtype.kind == "f"


@lru_cache(maxsize=4096)
def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's broadcasting rule on shapes alone."""
    return np.broadcast_shapes(*shapes)


# -- randomness: drawn on the host, so that one seed gives the same numbers on every backend ----------------------------

_generator = np.random.default_rng()


def seed(n: int) -> None:
    """Seed every random draw of minigrad: initial weights, dropout masks. The same seed gives the same values on every
    backend, because draws are made on the host. One generator serves all threads: which of them draws first is random."""
    global _generator
    _generator = np.random.default_rng(n)


def generator() -> np.random.Generator:
    """The host generator behind `seed`."""
    return _generator


def set_generator(state: dict[str, Any]) -> None:
    """Put the host generator back into a state read from ``generator().bit_generator.state``."""
    _generator.bit_generator.state = state
