"""Compile and launch the kernels of this folder."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

Array = Any

THREADS = 256  # of every block: as in common.cu
TILE = 16  # elements that a thread keeps in registers: as in common.cu
BLOCKS = 2048  # enough for every multiprocessor of a large GPU, several times
_kernels: WeakKeyDictionary[Any, dict[tuple[str, str, str], Any]] = WeakKeyDictionary()


def usable(xp: Any, x: Array, *others: Any) -> bool:
    """Can kernels work on these: arrays of the current device, float32 or float64 and all of one dtype, C-contiguous, not empty? None is ignored."""
    if xp is np or not hasattr(xp, "RawModule") or x.dtype.char not in "fd" or not x.size:
        return False
    device = xp.cuda.runtime.getDevice()  # a kernel is launched there, wherever its pointers point
    return all(a is None or (type(a) is type(x) and a.dtype == x.dtype and a.flags.c_contiguous and a.data.device_id == device) for a in (x, *others))


@cache
def source(file: str) -> str:
    """The CUDA source of a module: its file, after the helpers that all share."""
    return "\n".join(Path(__file__).with_name(f"{name}.cu").read_text("utf-8") for name in ("common", file))


@cache
def names(file: str) -> list[str]:
    """The kernels in a module's source."""
    return re.findall(r"__launch_bounds__\(THREADS\)\s+(\w+)\(", source(file))


def options(dtype: Any) -> tuple[str, ...]:
    """The compiler's options for a dtype."""
    real = {"f": "float", "d": "double"}[np.dtype(dtype).char]
    return ("-std=c++17", f"-DREAL={real}", f"-DVEC={16 // np.dtype(dtype).itemsize}")


def launch(xp: Any, file: str, name: str, dtype: Any, grid: tuple[int, ...], *arguments: Any) -> None:
    """Run a kernel: arrays and None (a null pointer) as pointers, integers as long long, floats as the kernel's REAL, records by value."""
    kernels = _kernels.setdefault(xp, {})
    key = (file, dtype.char, name)
    if key not in kernels:
        module = xp.RawModule(code=source(file), options=options(dtype))
        kernels.update({(file, dtype.char, n): module.get_function(n) for n in names(file)})
    kernels[key](grid, (THREADS,), tuple([
        np.int64(a) if isinstance(a, (int, np.integer, np.bool_)) else dtype.type(a) if isinstance(a, (float, np.floating)) else a for a in arguments]))


def vectors(dtype: Any, length: int, *arrays: Array | None) -> bool:
    """Can 16 bytes be loaded at once: rows of this length begin, like the arrays, at multiples of 16 bytes?"""
    return length % (16 // dtype.itemsize) == 0 and all(a is None or a.data.ptr % 16 == 0 for a in arrays)
