"""Runs the project's CUDA source on the CPU, compiled with g++ against cuda_on_cpu.h, on NumPy arrays."""

import ctypes
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")


@cache
def library(source, options, folder, more=()):
    """The compiled source, with a function run_NAME for each kernel."""
    names = re.findall(r"__launch_bounds__\(THREADS\)\s+(\w+)\(", source)
    text = f'#include "{HERE / "cuda_on_cpu.h"}"\n{source}\n' + "".join(f"RUNNABLE({name})\n" for name in names)
    path = Path(folder) / f"kernels{abs(hash((source, options, more)))}"
    path.with_suffix(".cpp").write_text(text, "utf-8")
    defines = [o for o in options if o.startswith("-D")]
    subprocess.run([COMPILER, "-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", *defines, *more,
                    "-o", path.with_suffix(".so"), path.with_suffix(".cpp")], check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(path.with_suffix(".so")))


def run(source, options, folder, name, grid, block, arguments, more=()):
    """Run kernel `name`: arrays and None as pointers, NumPy scalars and records by value."""
    kept = [np.array(a.ctypes.data if isinstance(a, np.ndarray) and a.dtype.names is None else 0 if a is None else a)
            if a is None or (isinstance(a, np.ndarray) and a.dtype.names is None) else np.ascontiguousarray(a) for a in arguments]
    addresses = (ctypes.c_void_p * len(kept))(*[k.ctypes.data for k in kept])
    dimensions = (ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid)))
    getattr(library(source, options, folder, more), f"run_{name}")(dimensions, ctypes.c_uint(int(np.prod(block))), addresses)
