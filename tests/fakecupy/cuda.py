"""cupy.cuda on the fake device: one GPU that says it is there, and kernels that are recorded but never run.

So every code path with CUDA source needs a twin in array operations.
`FakeCupy.compile_requests` holds what was asked for; a test can hand the sources to NVRTC, which needs no GPU.
"""

import types
from typing import NamedTuple


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
    def __init__(self, name):
        self.name = self.__name__ = name

    def __call__(self, *args, **kwargs):
        raise NoDeviceCode(f"the fake device cannot run the CUDA kernel {self.name!r}: choose its array-operation twin "
                           "unless the array's backend is 'cupy'")


def _require(kind, parameter, value, expected):
    if not isinstance(value, expected):  # the real ones are typed, too: `options` as a list is a TypeError
        raise TypeError(f"{kind}: {parameter} must be a {expected.__name__}, got {type(value).__name__}")


def kernel_classes(requests):
    """The four classes with CuPy's signatures; each adds to the list `requests` (CuPy compiles at first launch)."""

    class RawKernel(_Kernel):
        def __init__(self, code, name, options=(), backend="nvrtc", *, translate_cucomplex=False,
                     enable_cooperative_groups=False, jitify=None):
            for parameter, value, expected in (("code", code, str), ("name", name, str), ("options", options, tuple)):
                _require("RawKernel", parameter, value, expected)
            super().__init__(name)
            self.code, self.options, self.backend = code, options, backend
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
            requests.append(CompileRequest("RawModule", "", code or "", options, self.name_expressions))

        def get_function(self, name):
            """A kernel of this module, which refuses to be launched."""
            if self.name_expressions and name not in self.name_expressions:
                raise KeyError(f"{name!r} is not among name_expressions {self.name_expressions}")
            return _Kernel(name)

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
    cuda.runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, is_hip=False,
                                         deviceSynchronize=lambda: sync("deviceSynchronize"))
    return cuda
