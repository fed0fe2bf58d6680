"""cupy.cuda on the fake device: one GPU that says it is there, and kernels whose NumPy twins run in their place.

`TWINS` maps a kernel's name to ``twin(grid, *arguments)``, which gets pointers as flat NumPy arrays. A kernel without a twin
refuses to be launched. `OBSERVERS` are called with (kernel, grid, block, arguments as given, run), and must call ``run()``.
`FakeCupy.compile_requests` holds what was asked for; a test can hand the sources to NVRTC, which needs no GPU.
"""

import types
from typing import NamedTuple

import numpy as np

TWINS = {}
OBSERVERS = []


class NoDeviceCode(RuntimeError):
    """A CUDA kernel was launched on the fake device."""


class CompileRequest(NamedTuple):
    """One kernel or module: enough to compile it elsewhere."""

    kind: str  # "RawKernel", "RawModule", "ElementwiseKernel" or "ReductionKernel"
    name: str
    source: str
    options: tuple
    name_expressions: tuple = ()


class _Kernel:
    def __init__(self, name, code="", options=(), launched=None):
        self.name = self.__name__ = name
        self.code, self.options, self._launched = code, options, launched

    def __call__(self, grid, block=None, args=(), *, shared_mem=0, **kwargs):
        if self.name not in TWINS or block is None:
            raise NoDeviceCode(f"the fake device cannot run the CUDA kernel {self.name!r}: give it a twin in TWINS, or choose "
                               "array operations unless the array's backend is 'cupy'")
        if not 0 < len(grid) <= 3 or not 0 < np.prod(block) <= 1024 or shared_mem > 48 << 10:
            raise ValueError(f"{self.name}: grid {grid}, block {block}, {shared_mem} bytes of shared memory")
        if not all(0 < n < limit for n, limit in zip(grid, (1 << 31, 1 << 16, 1 << 16))):
            raise ValueError(f"{self.name}: a grid of {grid} is invalid")
        values = [_argument(self.name, a) for a in args]

        def run():
            with np.errstate(all="ignore"):
                TWINS[self.name](grid, *values)
        self._launched()
        for observer in OBSERVERS:
            observer(self, grid, block, args, run)
        if not OBSERVERS:
            run()


def _argument(kernel, a):
    """What a twin gets: pointers as flat arrays. CuPy takes no lists and no text, and a Python number chooses its own width."""
    if a is None or isinstance(a, (np.int64, np.float32, np.float64)):
        return a if a is None or isinstance(a, np.floating) else int(a)
    if isinstance(a, np.ndarray) and a.size == 1 and a.dtype.names:
        return a  # a struct, by value
    if hasattr(a, "_values"):
        if not a.flags.c_contiguous:
            raise ValueError(f"{kernel}: a pointer to an array of shape {a.shape} and strides {a.strides}")
        return a._values.reshape(-1)
    raise TypeError(f"{kernel}: the argument {a!r} of {type(a).__name__}")


def _require(kind, parameter, value, expected):
    if not isinstance(value, expected):  # the real ones are typed, too: `options` as a list is a TypeError
        raise TypeError(f"{kind}: {parameter} must be a {expected.__name__}, got {type(value).__name__}")


def kernel_classes(requests, launched):
    """The four classes with CuPy's signatures; each adds to the list `requests` (CuPy compiles at first launch)."""

    class RawKernel(_Kernel):
        def __init__(self, code, name, options=(), backend="nvrtc", *, translate_cucomplex=False,
                     enable_cooperative_groups=False, jitify=None):
            for parameter, value, expected in (("code", code, str), ("name", name, str), ("options", options, tuple)):
                _require("RawKernel", parameter, value, expected)
            super().__init__(name, code, options, launched)
            self.backend = backend
            requests.append(CompileRequest("RawKernel", name, code, options))

        def compile(self, log_stream=None):
            """Nothing to do: the request is on record."""

    class RawModule:
        def __init__(self, *, code=None, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
                     enable_cooperative_groups=False, name_expressions=None, jitify=None):
            if (code is None) == (path is None):
                raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
            _require("RawModule", "options", options, tuple)
            self.name_expressions = tuple(name_expressions or ())
            self.code, self.options = code or "", options
            requests.append(CompileRequest("RawModule", "", code or "", options, self.name_expressions))

        def get_function(self, name):
            """A kernel of this module, which refuses to be launched."""
            if self.name_expressions and name not in self.name_expressions:
                raise KeyError(f"{name!r} is not among name_expressions {self.name_expressions}")
            return _Kernel(name, self.code, self.options, launched)

        def compile(self, log_stream=None):
            """Nothing to do: the request is on record."""

    class ElementwiseKernel(_Kernel):
        def __init__(self, in_params, out_params, operation, name="kernel", reduce_dims=True, preamble="",
                     no_return=False, return_tuple=False, **kwargs):
            super().__init__(name)
            source = f"{preamble}\n// {in_params} -> {out_params}\n{operation}"
            requests.append(CompileRequest("ElementwiseKernel", name, source, kwargs.get("options", ())))

    class ReductionKernel(_Kernel):
        def __init__(self, in_params, out_params, map_expr, reduce_expr, post_map_expr, identity, name="reduce_kernel",
                     reduce_type=None, reduce_dims=True, preamble="", options=()):
            super().__init__(name)
            source = f"{preamble}\n// {in_params} -> {out_params}\n{map_expr}; {reduce_expr}; {post_map_expr}"
            requests.append(CompileRequest("ReductionKernel", name, source, options))

    return {cls.__name__: cls for cls in (RawKernel, RawModule, ElementwiseKernel, ReductionKernel)}


def namespace(sync):
    """The module `cupy.cuda`; `sync(what)` is called when the host waits for the device."""
    class Device:
        def __init__(self, device=0):
            self.id = device

        def __eq__(self, other):
            return isinstance(other, Device) and self.id == other.id

        def synchronize(self):
            """Wait for the device."""
            sync("Device.synchronize")

    class Stream:
        def synchronize(self):
            """Wait for the stream."""
            sync("Stream.synchronize")

    Stream.null = Stream()
    cuda = types.ModuleType("fakecupy.cuda")
    cuda.Device, cuda.Stream = Device, Stream
    cuda.is_available = lambda: True
    cuda.get_current_stream = lambda: Stream.null
    cuda.runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0, is_hip=False,
                                         deviceSynchronize=lambda: sync("deviceSynchronize"))
    return cuda
