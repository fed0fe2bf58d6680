"""Tensor: a value and the tape line that made it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from . import backend, ownership, storage
from .backend import Array, DType
from .errors import TapeError, describe, error, op_named
from .state import no_grad as no_grad
from .state import state as state
from .storage import tick

Value: TypeAlias = Any  # what ops take and give: Tensors, raw arrays (as in rules), and beside them numbers
FREED: tuple[Any, ...] = ("freed",)  # what a used line keeps


class Line:
    """One line of the tape: which op ran, on which lines, and what its derivative rule needs.

    A line links to its parents' *lines*, never to their values. `saved` holds the arguments of the op's rule and
    nothing else; a leaf's line holds a weak reference to its tensor instead.
    """

    __slots__ = ("__weakref__", "_notes", "dtype", "index", "parents", "plan", "saved", "shape")

    def __init__(self, plan: Any, parents: tuple[Line | None, ...], saved: Any, shape: Any, dtype: Any) -> None:
        self.index = tick()
        self.plan = plan
        self.parents = parents  # None where an input was a constant
        self.saved = saved
        self.shape = shape
        self.dtype = dtype
        self._notes: dict[str, Any] | None = None  # name, hooks, retained tensor, source line: all optional

    @property
    def op(self) -> str:
        """Name of the primitive, "leaf" for a variable."""
        return self.plan.name

    @property
    def name(self) -> str | None:
        """What `named` (or a Module) called this line."""
        return None if self._notes is None else self._notes.get("name")

    @property
    def inputs(self) -> tuple[Line, ...]:
        """Lines of the inputs that require gradients, in the op's order."""
        return tuple(p for p in self.parents if p is not None)

    @property
    def kept(self) -> dict[str, Array]:
        """The arrays that this line holds for its backward, by the rule's parameter name."""
        return {} if self.freed else self.plan.arrays_in(self.saved)

    @property
    def freed(self) -> bool:
        """Has a backward used this line and dropped what it kept?"""
        return self.saved is FREED

    @property
    def is_leaf(self) -> bool:
        """Is this the line of a variable rather than of an op?"""
        return self.plan.is_leaf

    def note(self, key: str, value: Any) -> None:
        """Attach an optional remark."""
        if self._notes is None:
            self._notes = {}
        self._notes[key] = value

    def noted(self, key: str) -> Any:
        """Read an optional remark."""
        return None if self._notes is None else self._notes.get(key)

    def __repr__(self) -> str:
        return f"<line {self.index}: {self.op}{f' {self.name!r}' if self.name else ''} {self.shape} {self.dtype}>"


class _LeafPlan:
    name, is_leaf, is_output, steps = "leaf", True, False, ()

    @staticmethod
    def arrays_in(saved: Any) -> dict[str, Array]:
        return {}


LEAF: Any = _LeafPlan()


if TYPE_CHECKING:
    from ..ops.signatures import Methods
else:
    Methods = object


class Hook:
    """What `Tensor.register_hook` returns."""

    def __init__(self, hooks: list[Any], hook: Callable[[Any], Any]) -> None:
        self.hooks, self.hook = hooks, hook

    def remove(self) -> None:
        """Call the hook no more."""
        if self.hook in self.hooks:
            self.hooks.remove(self.hook)

    __call__ = remove


class Tensor(Methods):
    """An array together with the tape line that made it (none for a constant).

    Make one with `minigrad.tensor`. Attributes: ``data`` (the raw array), ``grad`` (a Tensor or None), ``shape``,
    ``dtype``, ``ndim``, ``size``, ``backend``, ``requires_grad``, ``is_leaf``.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_line")
    __array_priority__ = 1000  # and __array_ufunc__: see ops/methods.py
    __hash__ = object.__hash__  # by identity, although == compares elements

    def __init__(self, data: Array, line: Line | None = None) -> None:
        self._data = data if line is not None or type(data) in backend.NAMESPACES else _array_of(data)
        self._line = line
        self._grad: Tensor | None = None

    # -- the array -----------------------------------------------------------------------------------------------------
    @property
    def data(self) -> Array:
        """The raw array. Of a taped op's result, NumPy users get a read-only view: a line may still need the values."""
        if self._line is not None and not self._line.plan.is_leaf:
            return backend.read_only_view(self._data)
        idle = ownership.others([self._data]) == 1
        storage.expose(self._data, idle)
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if self._line is not None and not self._line.plan.is_leaf:
            raise error(TapeError, "x.data = ...", got="the result of a taped op", needs="a leaf or a constant",
                        fix="compute a new tensor, or assign to x.detach().clone()")
        array = _numbers(value, "x.data = ...")
        if not backend.is_array(array) or isinstance(value, (list, tuple)):
            array = backend.asarray(array, self.dtype, self.backend)
        if array.shape != self.shape or array.dtype != self.dtype or type(array) is not type(self._data):
            raise error(ValueError, "x.data = ...", got=describe(array), needs=describe(self._data),
                        fix="reshape, astype or move the new value first")
        storage.record_write(self._data, "an assignment to .data")
        if array is not self._data:  # ``x.data += ...`` has written already
            self._data = array.copy()  # never the caller's own array, nor a read-only view of another Tensor's

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._data.shape

    @property
    def dtype(self) -> DType:
        """dtype of the array."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._data.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self._data.nbytes

    @property
    def backend(self) -> str:
        """Name of the backend that owns the array."""
        return backend.name_of(self._data)

    def numpy(self) -> Array:
        """A new NumPy array with the values (from a GPU: waits for it and copies)."""
        array = backend.to_numpy(self._data)
        return array.copy() if array is self._data else array

    def item(self) -> float | int | bool:
        """The one element as a Python number (from a GPU: waits for it)."""
        if self.size != 1:
            raise error(ValueError, "item", got=describe(self), needs="exactly one element", fix="index or reduce first: x[0].item(), x.mean().item()")
        return self._data.item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self.numpy().tolist()

    def to(self, name: str) -> Tensor:
        """A copy on another backend, as a constant; a leaf that requires grad gives a new leaf. On the same backend: itself."""
        if name == self.backend:
            return self
        if self._line is not None and not self.is_leaf:
            raise error(TapeError, "to", got="the result of a taped op", needs="a leaf or a constant (moving is not differentiable)",
                        fix="move the inputs before the computation, or x.detach().to(...)")
        moved = Tensor(backend.asarray(backend.to_numpy(self._data), None, name))
        if self._line is not None:
            moved.requires_grad = True
        return moved

    def detach(self) -> Tensor:
        """The same values as a constant: no gradient flows back from it. Shares memory."""
        return Tensor(self.data if self._line is not None and not self._line.plan.is_leaf else self._data)

    # -- gradients -----------------------------------------------------------------------------------------------------
    @property
    def requires_grad(self) -> bool:
        """Does this tensor have a tape line?"""
        return self._line is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted == (self._line is not None):
            return
        if wanted:
            if not backend.is_float(self.dtype):
                raise error(TypeError, "requires_grad", got=f"dtype {self.dtype}", needs="a floating dtype: integers and booleans have no derivative",
                            fix="x.astype('float32') before requires_grad=True")
            self._line = Line(LEAF, (), weakref.ref(self), self._data.shape, self._data.dtype)
        elif self.is_leaf:
            self._line = None
        else:
            raise error(TapeError, "requires_grad = False", got="the result of a taped op", needs="a leaf", fix="use x.detach()")

    @property
    def is_leaf(self) -> bool:
        """True for variables and constants, False for results of taped ops."""
        return self._line is None or self._line.plan.is_leaf

    @property
    def grad(self) -> Tensor | None:
        """Where `backward` accumulates: a Tensor of this tensor's shape and dtype, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise error(TypeError, "x.grad = ...", got=describe(value), needs="a Tensor or None", fix="wrap it: minigrad.tensor(value)")
            if value.shape != self.shape or value.dtype != self.dtype:
                raise error(ValueError, "x.grad = ...", got=describe(value), needs=describe(self), fix="a gradient has its tensor's shape and dtype")
        self._grad = value

    def retain_grad(self) -> Tensor:
        """Make `backward` fill ``.grad`` of this taped result too (a leaf's is filled anyway). Returns the tensor."""
        line = self._need_line("retain_grad")
        if not line.is_leaf:
            line.note("retained", weakref.ref(self))
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Hook:
        """Call ``hook(gradient)`` when this tensor's gradient is complete; a returned Tensor replaces it.

        The hook's argument is a copy: what the hook writes into it becomes this tensor's gradient, and no other's.
        Returns a handle: ``handle.remove()``, or ``handle()``, removes the hook. A hook that changes the gradient makes it something other than the
        derivative: gradient checks will (rightly) fail.
        """
        line = self._need_line("register_hook")
        if not callable(hook):
            raise error(TypeError, "register_hook", got=describe(hook), needs="a function of the gradient", fix="x.register_hook(lambda g: 2 * g)")
        if (hooks := line.noted("hooks")) is None:
            line.note("hooks", hooks := [])
        hooks.append(hook)
        return Hook(hooks, hook)

    def _need_line(self, what: str) -> Line:
        if self._line is None:
            raise error(TapeError, what, got="a tensor that does not require grad", needs="a variable or a taped result",
                        fix="create it with requires_grad=True, outside no_grad()")
        return self._line

    # -- Python's protocols --------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        values = backend.np.array2string(backend.to_numpy(self._data), separator=", ", prefix="tensor(", threshold=60, precision=5)
        if self._line is None:
            tail = ""
        elif self.is_leaf:
            tail = ", requires_grad=True"
        else:
            tail = f", op={self._line.op}"
        place = "" if self.backend == "numpy" else f", backend={self.backend!r}"
        return f"tensor({values}, dtype={self.dtype}{place}{tail})"

    def __len__(self) -> int:
        if not self.ndim:
            raise error(TypeError, "len", got="a 0-d tensor", needs="at least one axis", fix="use x.item() for its value")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise error(TypeError, "iteration", got="a 0-d tensor", needs="at least one axis", fix="use x.item() for its value")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise error(ValueError, "bool(tensor)", got=describe(self), needs="exactly one element: the truth of many is ambiguous",
                        fix="use minigrad.where(cond, a, b), or reduce to one element first")
        return bool(self._data.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise error(TypeError, "index", got=describe(self), needs="one integer", fix="use int(x) if rounding down is meant")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(repr(self), spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise error(TypeError, "numpy.asarray(tensor)", got=describe(self), needs="an explicit conversion, because it leaves the tape and may copy from a GPU",
                    fix="use x.numpy(), or on the tape minigrad's own functions")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise refusal_of_numpy(func.__name__, self)

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._line is not None and not self.is_leaf:
            raise error(TapeError, "copy.deepcopy", got="the result of a taped op", needs="a leaf or a constant",
                        fix="copy x.detach(), or copy the module before the forward pass")
        twin = type(self).__new__(type(self))
        Tensor.__init__(twin, self._data.copy())
        if self._line is not None:
            twin.requires_grad = True
            if self._line.name is not None:
                twin._line.note("name", self._line.name)  # type: ignore[union-attr]
        if self._grad is not None:
            twin._grad = self._grad.detach().clone()
        memo[id(self)] = twin
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise error(TypeError, "pickle", got=describe(self), needs="a format that runs no code when it is read",
                    fix="use minigrad.checkpoint.save / load (safetensors), or x.numpy()")

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._line is not None and not (self.is_leaf and not state.recording):
            raise error(TapeError, "x[...] = value", got="a tensor that is on the tape", needs="a constant, or a leaf inside no_grad()",
                        fix="use minigrad.where(...) or concatenate to build a new tensor, or `with minigrad.no_grad():` for a leaf")
        if isinstance(value, Tensor) and value._line is not None and state.recording:
            raise error(TapeError, "x[...] = value", got=f"a value that requires grad ({value._line.op}) for a constant, which is not on the tape",
                        needs="a value without a gradient: it would be lost here",
                        fix="collect the values in a list and minigrad.stack or concatenate them, or choose with minigrad.where; "
                            "to write the numbers alone: x[...] = value.detach()")
        index = tuple(_raw(k) for k in key) if isinstance(key, tuple) else _raw(key)
        values = _numbers(value, "x[...] = value")
        self._write(index, backend.from_numpy(values, self.backend) if isinstance(value, (list, tuple)) else values, "x[...] = value")

    def _write(self, index: Any, values: Any, writer: str) -> None:
        """Write raw `values` into the array of this leaf, and say so to the tape."""
        if backend.is_array(values) and type(values) is not type(self._data):
            raise error(TypeError, writer, got=describe(values), needs=f"an array of backend {self.backend!r}", fix="move it with .to(...)")
        if not getattr(self._data.flags, "writeable", True):
            raise error(ValueError, writer, got=f"{describe(self)}, whose memory is read-only", needs="memory of its own",
                        fix="write into a copy: x.detach().clone()")
        self._data[index] = values
        storage.record_write(self._data, writer)


def refusal_of_numpy(name: str, x: Tensor) -> TypeError:
    """The error for NumPy's function `name` on a Tensor: it advises what minigrad has instead."""
    own = f"x.{name}" if isinstance(getattr(Tensor, name, None), property) else op_named(name)
    needs = "minigrad's own function: NumPy's would leave the tape" if own else "a plain array: minigrad has no function of this name"
    return error(TypeError, f"numpy.{name}(tensor)", got=describe(x), needs=needs,
                 fix=("" if own is None else f"use {own}, or " if own.startswith("x.") else f"use {own}(...), or ") + "x.numpy() for a plain array")


def _raw(value: Any) -> Any:
    return value._data if isinstance(value, Tensor) else backend.plain(value, "x[...] = value")


def _numbers(value: Any, op: str) -> Any:
    """What may be written into a tensor, as a raw array or a number: real numbers, and nothing that would lose something as such."""
    if isinstance(value, Tensor):
        return value._data
    if type(value) in (float, int, bool):
        return value
    value = backend.plain(value, op)
    if not hasattr(value, "dtype"):
        value = _from_lists(value)
    if value.dtype.kind not in "fiub":
        raise error(TypeError, op, got=f"{describe(value)}", needs="real numbers, integers or booleans", fix="convert the data first: .real of complex numbers")
    return value


def _array_of(data: Any) -> Array:
    """What a Tensor may hold, of what was given to its constructor: NumPy's scalars become 0-d arrays."""
    if isinstance(data, backend.np.generic):
        return backend.np.asarray(data)
    data = backend.plain(data, "Tensor")
    if not backend.is_array(data):
        raise error(TypeError, "Tensor", got=describe(data), needs="a raw array", fix="use minigrad.tensor for lists and numbers")
    return data


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, backend: str | None = None) -> Tensor:
    """Make a Tensor that owns a copy of `data`.

    Args:
        data: a number, nested lists, a raw array of any backend, or a Tensor (its values).
        requires_grad: record the ops on it, so that gradients can flow to it.
        dtype: default: arrays keep theirs; Python floats become float32, integers int64, booleans bool.
        backend: "numpy", "cupy", ...; default: the data's own, or for lists the current one (see `use`).

    Raises:
        TypeError: integers or booleans with requires_grad=True, or data that are not numbers.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0]], requires_grad=True)
    >>> x.shape, str(x.dtype), x.backend
    ((1, 2), 'float32', 'numpy')
    """
    from_array = _backend.is_array(raw := data._data if isinstance(data, Tensor) else _backend.plain(data, "tensor"))
    if not from_array:
        raw = _from_lists(raw)
        if dtype is None and raw.dtype == _backend.float64 and not hasattr(data, "dtype"):  # lists; what has a dtype keeps it
            dtype = _backend.default_dtype
    array = _backend.asarray(raw, dtype, backend or (_backend.name_of(raw) if from_array else None))
    if array.dtype.kind not in "fiub":
        raise error(TypeError, "tensor", got=f"dtype {array.dtype}", needs="real numbers, integers or booleans", fix="convert the data first")
    made = Tensor(array.copy() if array is raw or _backend.owner(array) is not array else array)
    if requires_grad:
        made.requires_grad = True
    return made


def _from_lists(data: Any) -> Array:
    _refuse_losses(data)
    try:
        array = _backend.np.array(data)
    except ValueError as e:
        raise error(ValueError, "tensor", got="nested lists of unequal lengths", needs="a rectangular nesting", fix="pad the rows to one length") from e
    if array.dtype.kind not in "fiub":
        raise error(TypeError, "tensor", got=describe(data), needs="numbers", fix="convert text or objects to numbers first")
    return array


def _refuse_losses(data: Any) -> None:
    """Refuse lists of Tensors, which would leave the tape, and of arrays that lose something as plain numbers."""
    for value in data if isinstance(data, (list, tuple)) else ():
        if type(value) is float or type(value) is int:
            continue
        if isinstance(value, Tensor):
            raise error(TypeError, "tensor", got="a list of Tensors", needs="numbers", fix="use minigrad.stack([...]), which stays on the tape")
        if isinstance(value, (list, tuple)):
            _refuse_losses(value)
        else:
            _backend.plain(value, "tensor")


def from_array(array: Array, requires_grad: bool = False, *, copy: bool = True) -> Tensor:
    """Wrap a raw array; with ``copy=False`` the Tensor shares its memory (and sees whatever you write there)."""
    array = _numbers(array, "from_array") if hasattr(array, "dtype") else array
    if not _backend.is_array(array):
        raise error(TypeError, "from_array", got=describe(array), needs="a raw array", fix="use minigrad.tensor for lists and numbers")
    if not copy:
        storage.expose(array)
    made = Tensor(array.copy() if copy else array)
    if requires_grad:
        made.requires_grad = True
    return made


_backend = backend  # `tensor` has a parameter called backend
