"""fakecupy: a CPU stand-in for CuPy 14 that is *stricter* than CuPy, for tests on machines without a GPU.

    xp = FakeCupy()              # drop-in for `import cupy as xp`
    x = xp.asarray(numpy_array)  # the only way in;  xp.asnumpy(x) or x.get() the only way out
    with xp.no_sync():           # float(), bool(), .item(), x[mask], nonzero ... raise HostSync
        train_step()
    with xp.count() as counts:   # .syncs .h2d .d2h .implicit .launches .log
        train_step()

Refused, as by CuPy: conversion through __array__, NumPy arrays mixed into an operation, `x[...] = numpy_array`, lists
for ufuncs, numbers and lists where a function needs an array, names and keywords that are not in cupy14_api.json.
Refused, though CuPy lets it through with a silent copy: np.exp(x), np.sum(x), np.float64(2) * x (which also makes
float64 of float32), x[numpy_index], x[[0, 1]], xp.take(x, [0, 1]). `FakeCupy(strict=False)` allows and counts these.
Kept as CuPy has it: the identity of `.base`, results that are the input itself, 0-d results on the device, dtypes
by NEP 50, plain tuples and no errors from linalg, no NumPy warnings.

Not imitated: CuPy wraps indices that are out of bounds (here: IndexError); its broadcast_to, diagonal and
sliding_window_view are writable; the order of sums, so that results agree to rounding only; random streams.
"""

import contextlib
import dataclasses
import operator
import types
import weakref

import numpy as np

from . import cuda, linalg, rules


class HostSync(RuntimeError):
    """The host waited for the device inside `no_sync()`."""


class ImplicitTransfer(TypeError):
    """A host value would have been copied to the device without anybody asking for it."""


@dataclasses.dataclass(eq=False)
class Counter:
    """What happened inside one `with xp.count()`."""

    launches: int = 0  # operations that run at least one kernel
    syncs: int = 0  # the host waits for the device
    h2d: int = 0  # copies host -> device, asked for or not
    d2h: int = 0  # copies of whole arrays device -> host
    implicit: int = 0  # those of h2d that no asarray/array spelled out: x[device_index] = 0.0, xp.isclose(x, 1.0), ...
    log: list = dataclasses.field(default_factory=list)  # what synced, and what was transferred implicitly, in order


class Flags:
    """`x.flags`: CuPy has no WRITEABLE."""

    def __init__(self, values, owns):
        self.c_contiguous, self.f_contiguous, self.owndata = values.flags.c_contiguous, values.flags.f_contiguous, owns
        self.fnc, self.forc = values.flags.fnc, values.flags.forc

    def __getitem__(self, name):
        if name not in ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA"):
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return getattr(self, name.lower())


class Memory:
    """One allocation on the device. All arrays that look into it share this object: `x.data.mem is y.data.mem`."""

    def __init__(self, buffer):
        self._buffer = buffer


@dataclasses.dataclass
class MemoryPointer:
    """`x.data`: the allocation and the address of the first element."""

    mem: Memory
    ptr: int
    device_id: int = 0


# Live arrays by the id of their NumPy array, and owners and allocations by the id of the NumPy array that owns the
# buffer. The values keep those NumPy arrays alive, so an id is not used twice while its entry exists.
_WRAPPERS = weakref.WeakValueDictionary()
_OWNERS = weakref.WeakValueDictionary()
_MEMORIES = weakref.WeakValueDictionary()


def _buffer_owner(values):
    """The end of a NumPy view's chain of bases; an as_strided array ends its chain, as on CuPy (its `base` is None)."""
    while isinstance(values.base, np.ndarray):
        values = values.base
    return values


def _allocation(values):
    """As `_buffer_owner`, but looking through as_strided."""
    while getattr(values, "base", None) is not None:
        values = values.base
    return values


class FakeArray:
    """cupy.ndarray: values that may not be seen by the host, a namespace, and the array that owns the memory."""

    __slots__ = ("__weakref__", "_base", "_values", "_xp")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, *args, **kwargs):
        raise TypeError("make arrays with xp.empty, xp.zeros, xp.asarray, ...")

    @classmethod
    def _wrap(cls, values, xp):
        """The array for these values: the existing one if there is one, else a view of its owner or a new owner."""
        existing = _WRAPPERS.get(id(values))
        if existing is not None:
            return existing
        if values.dtype.kind not in "biufc" or values.dtype.char in "gG":
            raise ValueError(f"Unsupported dtype {values.dtype}")
        self = object.__new__(cls)
        owner = id(_buffer_owner(values))
        self._values, self._xp, self._base = values, xp, _OWNERS.get(owner)
        _WRAPPERS[id(values)] = self
        if self._base is None:
            _OWNERS[owner] = self
        return self

    # -- what the array is: known to the host, free of charge

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    strides = property(lambda self: self._values.strides)
    base = property(lambda self: self._base, doc="The array that owns the memory, collapsed; None for an owner.")
    flags = property(lambda self: Flags(self._values, self._base is None))
    device = property(lambda self: self._xp.cuda.Device(0))
    T = property(lambda self: self._view(self._values.T))
    mT = property(lambda self: self._view(self._values.mT))
    real = property(lambda self: self._view(self._values.real))
    imag = property(lambda self: self._xp._run(np.imag, (self,), {}, "imag"))

    @property
    def data(self):
        allocation = _allocation(self._values)
        memory = _MEMORIES.get(id(allocation))
        if memory is None:
            memory = _MEMORIES[id(allocation)] = Memory(allocation)
        return MemoryPointer(memory, self._values.ctypes.data)

    def _view(self, values):
        return FakeArray._wrap(values, self._xp)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # -- device to host: each of these waits for the device. No __index__ and no __contains__: CuPy has neither.

    def _host(self, what):
        self._xp._sync(what)
        return self._values

    def get(self, stream=None, order="C", out=None, blocking=True):
        """A copy on the host."""
        self._xp._note("d2h")
        return self._host("get").copy(order)

    def item(self):
        """The only element as a Python number."""
        return self._host("item").item()

    def tolist(self):
        """The elements as nested lists."""
        return self._host("tolist").tolist()

    def __float__(self):
        return float(self._host("float").item())

    def __int__(self):
        return int(self._host("int").item())

    def __complex__(self):
        return complex(self._host("complex").item())

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        return bool(self._host("bool"))

    def __repr__(self):
        return repr(self._host("repr")).replace("array", "fakecupy", 1)

    def __str__(self):
        return str(self._host("str"))

    def __format__(self, spec):
        values = self._host("format")
        return format(values.item() if not self.ndim else values, spec)

    # -- what CuPy forbids, or lets through at a cost

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
                        "array explicitly.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if self._xp.strict:
            raise TypeError(f"stray np.{ufunc.__name__}() on a device array: use xp.{ufunc.__name__} (a NumPy scalar "
                            "on the left of an operator comes here, too: make a Python number of it)")
        return self._xp._run(getattr(ufunc, method), inputs, kwargs, ufunc.__name__)

    def __array_function__(self, function, types_, args, kwargs):
        if self._xp.strict:
            raise TypeError(f"stray np.{function.__name__}() on a device array: use xp.{function.__name__}")
        return self._xp._run(function, args, kwargs, function.__name__)

    # -- indexing

    def _index(self, key, what):
        """`key` for NumPy, and whether it is advanced (the result of reading is a copy)."""
        items = key if isinstance(key, tuple) else (key,)
        advanced = False
        for item in items:
            if isinstance(item, np.ndarray | list | tuple):
                self._xp._implicit(f"{what} with a host {type(item).__name__} as index")
            elif isinstance(item, bool | np.bool_):
                self._xp._note("implicit", f"{what} with a host bool as index")
            elif isinstance(item, FakeArray):
                if item.dtype == bool:  # the number of True is read back, when writing as well
                    self._xp._sync(f"boolean-mask {what}")
            else:
                continue
            advanced = True
        if not advanced and not any(item is Ellipsis for item in items):
            items = (*items, Ellipsis)  # so that NumPy gives a 0-d view, as CuPy does, and not a scalar
        return _unwrap(items), advanced

    def __getitem__(self, key):
        index, advanced = self._index(key, "getitem")
        if not advanced:
            return self._view(self._values[index])
        self._xp._note("launches")
        return self._view(np.array(self._values[index]))

    def __setitem__(self, key, value):
        index, advanced = self._index(key, "setitem")
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if isinstance(value, list | tuple):
            self._xp._implicit(f"setitem of a {type(value).__name__}")
        elif advanced and not isinstance(value, FakeArray):  # a slice is filled by a kernel, an index needs an array
            self._xp._note("implicit", "setitem of a host number at a device index")
        self._xp._note("launches")
        with np.errstate(all="ignore"):
            self._values[index] = _unwrap(value)

    # -- methods

    def set(self, array, stream=None):
        """Copy a host array into this one."""
        self._xp._note("h2d")
        self._values[...] = array

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __getattr__(self, name):
        parameters = rules.API["ndarray"].get(name)
        if parameters is None:
            raise AttributeError(f"cupy.ndarray has no attribute {name!r}" if name not in rules.API["ndarray"] else
                                 f"the fake device has no ndarray.{name}")
        method = getattr(np.ndarray, name)

        def call(*args, **kwargs):
            return self._xp._run(method, (self, *args), kwargs, name, ["self", *parameters])
        return call


def _add_operators():
    """Arithmetic, comparison and in-place operators. CuPy has no __imatmul__ (`x @= y` rebinds x), and here neither."""
    def forward(function, name):
        def operate(self, other):  # CuPy leaves the operation to classes that say `__array_ufunc__ = None`
            if getattr(other, "__array_ufunc__", True) is None:
                return NotImplemented
            return self._xp._run(function, (self, other), {}, name)
        return operate

    def reflected(function, name):
        return lambda self, other: self._xp._run(function, (other, self), {}, name)

    def unary(function, name):
        return lambda self: self._xp._run(function, (self,), {}, name)

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift",
                 "matmul"):
        function, plain = getattr(operator, name), name.strip("_")
        setattr(FakeArray, f"__{plain}__", forward(function, plain))
        setattr(FakeArray, f"__r{plain}__", reflected(function, plain))
        if name != "matmul":
            setattr(FakeArray, f"__i{plain}__", forward(getattr(operator, f"i{plain}"), f"i{plain}"))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(FakeArray, f"__{name}__", forward(getattr(operator, name), name))
    for name in ("neg", "pos", "abs", "invert"):
        setattr(FakeArray, f"__{name}__", unary(getattr(operator, name), name))


_add_operators()


class FakeUfunc:
    """A ufunc: called, or through the few methods that CuPy has."""

    def __init__(self, xp, ufunc, parameters):
        self._xp, self._ufunc, self._parameters, self.__name__ = xp, ufunc, parameters, ufunc.__name__
        self.nin, self.nout = ufunc.nin, ufunc.nout

    def __call__(self, *args, **kwargs):
        for arg in args:
            if isinstance(arg, list | tuple):
                raise TypeError(f"Unsupported type {type(arg)}")
        return self._xp._run(self._ufunc, args, kwargs, self.__name__, self._parameters)

    def at(self, a, indices, b=None):
        """a[indices] (op)= b, duplicates accumulated, for the dtypes that have an atomic operation."""
        dtypes = rules.ATOMIC_DTYPES.get(self.__name__)
        if dtypes is None:
            raise NotImplementedError(f"`cupy_{self.__name__}.at` is not supported yet")
        _, advanced = a._index(indices, f"{self.__name__}.at")
        if advanced and a.dtype.name not in dtypes:
            raise TypeError(f"cupy.{self.__name__}.at only supports {sorted(dtypes)} as data type, got {a.dtype}")
        if advanced and not isinstance(b, FakeArray | np.ndarray):
            self._xp._note("implicit", f"{self.__name__}.at of a host number")
        return self._xp._run(self._ufunc.at, (a, indices, b), {}, f"{self.__name__}.at")

    def reduce(self, array, *args, **kwargs):
        """Sum or product."""
        return self._method("reduce", ["array", "axis", "dtype", "out", "keepdims"], (array, *args), kwargs)

    def accumulate(self, array, *args, **kwargs):
        """Running sum or product."""
        return self._method("accumulate", ["array", "axis", "dtype", "out"], (array, *args), kwargs)

    def outer(self, a, b, **kwargs):
        """All pairs; both operands become device arrays."""
        for operand in (a, b):
            if not isinstance(operand, FakeArray):
                self._xp._implicit(f"{self.__name__}.outer of a host value")
        return self._xp._run(self._ufunc.outer, (a, b), kwargs, "outer", self._parameters)

    def _method(self, name, parameters, args, kwargs):
        if self.__name__ not in rules.REDUCIBLE:
            raise NotImplementedError(f"`cupy_{self.__name__}.{name}` is not supported yet")
        return self._xp._run(getattr(self._ufunc, name), args, kwargs, name, parameters)


class FakeGenerator:
    """cupy.random.Generator: without normal, permutation, choice, shuffle. (The numbers are NumPy's.)"""

    def __init__(self, xp, seed):
        self._xp, self._generator = xp, np.random.default_rng(seed)

    def __getattr__(self, name):
        parameters = rules.API["Generator"].get(name)
        if parameters is None:
            raise AttributeError(f"cupy.random.Generator has no method {name!r}")
        method = getattr(self._generator, name)
        return lambda *args, **kwargs: self._xp._run(method, args, kwargs, name, parameters)


class Namespace(types.ModuleType):
    """One of CuPy's modules: looks a name up in cupy14_api.json, takes NumPy's function and gives it CuPy's manners."""

    def __init__(self, root, name, module):
        super().__init__(f"fakecupy.{name}".rstrip("."))
        self._root, self._name, self._module = root, name, module

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = self._root._make_namespace(f"{self._name}.{name}".lstrip("."))
        if value is None:
            value = self._look_up(name)
        setattr(self, name, value)  # found without __getattr__ next time
        return value

    def _look_up(self, name):
        if name not in rules.API.get(self._name, {}):
            raise AttributeError(f"module 'cupy{'.' * bool(self._name)}{self._name}' has no attribute {name!r}")
        parameters = rules.API[self._name][name]
        value = linalg.FUNCTIONS.get(name) if self._name == "linalg" else None
        if value is None:
            value = getattr(self._module, name)
        if isinstance(value, np.ufunc):
            return FakeUfunc(self._root, value, parameters)
        if parameters is not None and not isinstance(value, type):
            return lambda *args, **kwargs: self._root._run(value, args, kwargs, name, parameters)
        if isinstance(value, type) and not issubclass(value, (np.generic, np.dtype, np.finfo, np.iinfo, Exception)):
            raise AttributeError(f"the fake device has no {name}")  # NumPy's would make host arrays
        return value  # float32, newaxis, pi, LinAlgError, ...


class FakeCupy(Namespace):
    """The module `cupy`."""

    ndarray = FakeArray
    __version__ = rules.API["version"]

    def __init__(self, strict=True):
        super().__init__(self, "", np)
        self.strict = strict
        self.compile_requests = []  # cuda.CompileRequest, in the order in which they were made
        self._counters, self._syncs_forbidden = [], False
        for name, cls in cuda.kernel_classes(self.compile_requests, lambda: self._note("launches")).items():
            setattr(self, name, cls)
        self.cuda = cuda.namespace(self._sync)
        self.get_default_memory_pool = lambda: _MEMORY_POOL
        self.get_default_pinned_memory_pool = lambda: _MEMORY_POOL
        self.is_available = self.cuda.is_available

    def _make_namespace(self, name):
        modules = {"linalg": np.linalg, "fft": np.fft, "random": np.random, "exceptions": np.exceptions, "lib": np.lib,
                   "lib.stride_tricks": np.lib.stride_tricks}
        if name not in modules:
            return None
        namespace = Namespace(self, name, modules[name])
        if name == "random":
            namespace.default_rng = lambda seed=None: FakeGenerator(self, seed)
        return namespace

    # -- what is measured

    @contextlib.contextmanager
    def count(self):
        """Count launches, syncs and transfers inside the block; blocks nest."""
        counter = Counter()
        self._counters.append(counter)
        try:
            yield counter
        finally:
            self._counters.remove(counter)

    @contextlib.contextmanager
    def no_sync(self):
        """Inside the block whatever waits for the device raises HostSync."""
        before, self._syncs_forbidden = self._syncs_forbidden, True
        try:
            yield
        finally:
            self._syncs_forbidden = before

    def _note(self, event, what=None):
        for counter in self._counters:
            setattr(counter, event, getattr(counter, event) + 1)
            if event == "implicit":
                counter.h2d += 1
            if what:
                counter.log.append(what)

    def _sync(self, what):
        self._note("syncs", what)
        if self._syncs_forbidden:
            raise HostSync(f"host sync ({what}) inside no_sync()")

    def _implicit(self, what):
        """A host array or list that CuPy would copy to the device: refused when strict."""
        self._note("implicit", what)
        if self.strict:
            raise ImplicitTransfer(f"{what}: CuPy copies it to the device each time; make it with xp.asarray once")

    # -- in and out

    def array(self, obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
        """A device array of a device array, a nested sequence of device arrays, or host values."""
        is_device = _is_device_value(obj)
        if not is_device or copy is None:
            copy = None if is_device else True
        self._note("launches" if is_device else "h2d")
        values = np.array(_unwrap(obj), dtype=dtype, copy=copy, order=order or "K", ndmin=ndmin)
        return FakeArray._wrap(values, self)

    def asarray(self, a, dtype=None, order=None, *, copy=None, blocking=False):
        """`a` itself if it is a device array of that dtype, else a new device array."""
        if isinstance(a, FakeArray) and not copy and dtype in (None, a.dtype) and order in (None, "K"):
            return a
        return self.array(a, dtype, copy, order)

    asanyarray = asarray

    def ascontiguousarray(self, a, dtype=None):
        """`a` itself if it is contiguous, else a contiguous copy (at least 1-d)."""
        if not isinstance(a, FakeArray):
            raise TypeError(f"Argument 'a' has incorrect type (expected cupy.ndarray, got {type(a).__name__})")
        return self._run(np.ascontiguousarray, (a, dtype), {}, "ascontiguousarray")

    def asnumpy(self, a, stream=None, order="C", out=None, *, blocking=True):
        """A host copy of a device array; waits for the device."""
        return a.get(order=order) if isinstance(a, FakeArray) else np.asarray(a, order=order)

    def get_array_module(self, *args):
        """This module if one of the arguments is a device array, else numpy."""
        return self if any(isinstance(arg, FakeArray) for arg in args) else np

    # -- running one operation

    def _run(self, function, args, kwargs, name, parameters=None):
        """`function(*args, **kwargs)` on the arrays' values, after the checks and counts that CuPy would deserve."""
        rules.check_signature(name, parameters, args, kwargs)
        self._check_arguments(name, parameters or (), args, kwargs)
        if name not in rules.NO_LAUNCH:
            self._note("launches")
        if name in rules.SYNCS and rules.SYNCS[name](args, kwargs):
            self._sync(name)
        with np.errstate(all="ignore"):  # the device never warns
            result = function(*_unwrap(args), **_unwrap(kwargs))
        if name in rules.HOST_RESULTS:
            return result
        if name in rules.RETURNS_ITS_INPUT and rules.RETURNS_ITS_INPUT[name](args[0], result):
            return args[0] if name == "squeeze" else [args[0]]
        return self._wrap(result)

    def _check_arguments(self, name, parameters, args, kwargs):
        for value in (*args, *kwargs.values()):
            if _holds_host_array(value, scalars=self.strict):
                raise TypeError(f"Unsupported type <class 'numpy.ndarray'> (host array passed to {name})")
        out = kwargs.get("out")
        if out is not None and not all(isinstance(o, FakeArray) for o in (out if isinstance(out, tuple) else (out,))):
            raise TypeError(f"{name}: out must be a cupy.ndarray, got {type(out).__name__}")
        for parameter, value in rules.bind(parameters, args, kwargs):
            if parameter in rules.HOST_PARAMETERS and _holds_device_array(value):
                raise TypeError(f"{name}: {parameter} must be a host value; a device array is not an integer")
            if parameter == rules.ARRAY_SEQUENCE and not all(isinstance(v, FakeArray) for v in value):
                raise TypeError(f"{name}: only cupy arrays can be joined")
            if parameter in rules.ARRAY_PARAMETERS and not isinstance(value, FakeArray | str | None):
                self._check_host_value(name, parameter, value)

    def _check_host_value(self, name, parameter, value):
        """A number or a list where an array belongs: fine, converted silently, or an error."""
        is_number = np.isscalar(value)
        if is_number and (name, parameter) in rules.NUMBER_IS_FINE:
            return
        if (name, parameter) not in rules.CONVERTED_SILENTLY:
            raise TypeError(f"cupy {name}() needs a cupy.ndarray for {parameter!r}, got {type(value).__name__}")
        if is_number:
            self._note("implicit", f"{name} of a host number")
        else:
            self._implicit(f"{name} of a host {type(value).__name__}")

    def _wrap(self, result):
        if isinstance(result, np.ndarray):
            return FakeArray._wrap(result, self)
        if isinstance(result, np.generic | bool | int | float | complex):
            return FakeArray._wrap(np.array(result), self)
        if isinstance(result, list | tuple):
            members = [self._wrap(member) for member in result]
            return type(result)(*members) if hasattr(result, "_fields") else type(result)(members)
        return result


def _unwrap(value):
    """`value` with the NumPy arrays and functions inside."""
    if isinstance(value, FakeArray):
        return value._values
    if isinstance(value, FakeUfunc):
        return value._ufunc
    if type(value) in (list, tuple):
        return type(value)(_unwrap(v) for v in value)
    if isinstance(value, dict):
        return {k: _unwrap(v) for k, v in value.items()}
    return value


def _holds_host_array(value, scalars):
    """Is there a NumPy array in it? 0-d ones count if `scalars`."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0 or scalars
    return type(value) in (list, tuple) and any(_holds_host_array(v, scalars) for v in value)


def _holds_device_array(value):
    return isinstance(value, FakeArray) or (isinstance(value, list | tuple) and any(map(_holds_device_array, value)))


def _is_device_value(value):
    """Is it a device array, or a nested sequence of device arrays alone? One that also holds host values raises."""
    if not isinstance(value, list | tuple):
        return isinstance(value, FakeArray)
    kinds = {_is_device_value(v) for v in value}
    if len(kinds) > 1:
        raise TypeError("device arrays and host values in one sequence: implicit conversion is not allowed")
    return kinds == {True}


class _MemoryPool:
    """The default memory pool: the bytes of all live arrays that own memory."""

    def used_bytes(self):
        """Bytes in use now."""
        return sum(array.nbytes for array in list(_OWNERS.values()))

    total_bytes = used_bytes

    def free_all_blocks(self):
        """Nothing is cached, so there is nothing to free."""


_MEMORY_POOL = _MemoryPool()
