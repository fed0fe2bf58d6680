"""The CUDA sources compiled by NVRTC with CuPy's options, which needs no GPU, and what each kernel takes of a multiprocessor."""

import ctypes
import glob
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from minigrad.kernels.cuda import launch

# What CuPy adds to a module's own options (cupy/cuda/compiler.py of CuPy 14.2; --pch comes to it only with CUPY_NVRTC_USE_PCH).
CUPY = "-ftz=true", "-arch={}", "--device-as-default-execution-space"


class Usage(NamedTuple):
    """Of one kernel: registers per thread, bytes of spilled registers and stack per thread, bytes of shared memory per block."""

    registers: int
    spilled: int
    stack: int
    shared: int


@cache
def nvrtc():
    """The library, or None."""
    found = [f for folder in sys.path for f in glob.glob(f"{glob.escape(folder)}/nvidia/**/libnvrtc.so.*", recursive=True) if "alt" not in Path(f).name]
    return ctypes.CDLL(found[0]) if found else None


@cache
def compiled(file, dtype, architecture):
    """The device code of a module, and the compiler's log; an AssertionError with the log if it does not compile."""
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), launch.source(file).encode(), b"kernels.cu", 0, None, None) == 0
    options = [o.format(architecture).encode() for o in (*launch.options(dtype), *CUPY, "--ptxas-options=-v")]
    code = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert code == 0, log.value.decode()
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    binary = ctypes.create_string_buffer(size.value)
    library.nvrtcGetCUBIN(program, binary)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return binary.raw, log.value.decode()


def usage(log):
    """Kernel -> Usage, as ptxas says it."""
    found = {}
    for text in re.split(r"Compiling entry function '", log)[1:]:
        numbers = {what: int(n) for n, what in re.findall(r"(\d+) (?:bytes )?(registers|stack frame|spill stores|spill loads|smem)", text)}
        found[text[:text.index("'")]] = Usage(numbers["registers"], max(numbers["spill stores"], numbers["spill loads"]), numbers["stack frame"],
                                              numbers.get("smem", 0))
    return found


def table(files, dtypes, architectures):
    """A line per kernel: its registers, its spills and its shared memory for each dtype and architecture."""
    columns = [(dtype, architecture) for dtype in dtypes for architecture in architectures]
    lines = [f"{'registers/spilled bytes/shared bytes':38}" + "".join(f"{f'{dtype} {architecture}':>18}" for dtype, architecture in columns)]
    for file in files:
        found = [usage(compiled(file, *column)[1]) for column in columns]
        lines += [f"{f'{file}.cu {name}':38}" + "".join(f"{f'{u[name].registers}/{u[name].spilled}/{u[name].shared}':>18}" for u in found)
                  for name in launch.names(file)]
    return "\n".join(lines)
