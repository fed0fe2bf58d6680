"""Runs the project's CUDA source on the CPU, on NumPy arrays: compiled with g++ against cuda_on_cpu.h, run and watched by emulator.cpp."""

import ctypes
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") if sys.platform == "linux" else None  # elsewhere it is another compiler, and files are not of the ELF format
GUARD = 64  # elements before and after each array that a kernel gets
WATCHED = ["-fsanitize=thread,alignment,object-size,signed-integer-overflow"]  # what is found calls functions of emulator.cpp


class EmulatorError(AssertionError):
    """A kernel did what no kernel may do: a race, a misaligned or foreign address, a barrier that not all threads reach."""


class Launch(ctypes.Structure):
    """As in emulator.cpp."""

    _fields_ = [("grid", ctypes.c_uint * 3), ("threads", ctypes.c_uint), ("first", ctypes.c_uint64), ("last", ctypes.c_uint64), ("seed", ctypes.c_uint64),
                ("ranges", ctypes.c_void_p), ("count", ctypes.c_uint64), ("races", ctypes.c_uint64)]


def _compile(*arguments):
    subprocess.run([COMPILER, "-std=c++17", "-O1", "-fPIC", "-fno-gnu-unique", "-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", *map(str, arguments)],
                   check=True, capture_output=True, text=True)


@cache
def emulator(folder):
    """The object file of emulator.cpp."""
    path = Path(folder) / "emulator.o"
    _compile("-c", HERE / "emulator.cpp", "-o", path)
    return path


@cache
def library(source, options, folder, more=()):
    """The compiled source, with a function run_NAME for each kernel."""
    names = re.findall(r"__launch_bounds__\(THREADS\)\s+(\w+)\(", source)
    text = f'#include "{HERE / "cuda_on_cpu.h"}"\n#line 1\n{source}\n' + "".join(f"RUNNABLE({name})\n" for name in names)
    path = Path(folder) / f"kernels{abs(hash((source, options, more)))}"
    path.with_suffix(".cpp").write_text(text, "utf-8")
    _compile("-c", *WATCHED, *[o for o in options if o.startswith("-D")], *more, path.with_suffix(".cpp"), "-o", path.with_suffix(".o"))
    _compile("-shared", "-Wl,-Bsymbolic", path.with_suffix(".o"), emulator(folder), "-o", path.with_suffix(".so"))
    return ctypes.CDLL(str(path.with_suffix(".so")))


def run_source(source, options, folder, name, grid, block, arguments, *, seed=0, arrays=None, blocks=None, races=True):
    """Run kernel `name`: arrays and None as pointers, NumPy scalars and records by value.

    `arrays` are those that it may touch: unless given, all of its arguments. `blocks` (first, last) runs a part of the grid.
    """
    given = [a for a in arguments if isinstance(a, np.ndarray) and a.dtype.names is None]
    kept = [np.array(0 if a is None else a.ctypes.data) if a is None or any(a is b for b in given) else np.ascontiguousarray(a) for a in arguments]
    addresses = (ctypes.c_void_p * len(kept))(*[k.ctypes.data for k in kept])
    ranges = np.array(sorted({(a.ctypes.data, a.ctypes.data + a.nbytes) for a in (given if arrays is None else arrays)}), np.uint64)
    first, last = blocks or (0, int(np.prod(grid, dtype=np.int64)))
    run = getattr(library(source, options, folder), f"run_{name}")
    run.restype = ctypes.c_char_p
    said = run(ctypes.byref(Launch((ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid))), int(np.prod(block)), first, last, seed, ranges.ctypes.data,
                                   len(ranges), races)), addresses)
    if said:
        raise EmulatorError(f"{name}: {said.decode()}{_line(source, said.decode())}")


def _line(source, said):
    """The source line that is named."""
    found = re.search(r"line (\d+):", said)
    return f": {source.splitlines()[int(found[1]) - 1].strip()}" if found else ""


class Launched:
    """One launch: copies of its arrays between guard zones, made before the twin runs, and what the twin leaves."""

    def __init__(self, kernel, grid, block, arguments):
        self.kernel, self.grid, self.block, self.arguments, self._guarded = kernel, grid, block, [], []
        for a in arguments:
            if hasattr(a, "_values"):
                self.arguments.append(self._copied(a._values))
            else:
                self.arguments.append(self._copied_table(a.copy()) if isinstance(a, np.ndarray) else a)
        self._cancels = self._size_of_terms() if kernel.name == "rows_backward" else 0
        self._before = [whole.copy() for _, _, whole in self._guarded]

    def keep(self):
        """Remember what the twin made, whatever becomes of the arrays."""
        self._guarded = [(original.copy(), copy, whole) for original, copy, whole in self._guarded]

    @property
    def dtype(self):
        """The arrays' dtype."""
        return self._guarded[0][0].dtype

    @property
    def key(self):
        """What tells it from launches of another shape or way."""
        return (self.kernel.name, self.dtype.char, self.grid, *("memory" if isinstance(a, np.ndarray) else a for a in self.arguments),
                *((original.size, copy.ctypes.data % 16) for original, copy, _ in self._guarded))

    @property
    def size(self):
        """Elements of all arrays."""
        return sum(original.size for original, _, _ in self._guarded)

    def replay(self, source, folder, seed):
        """Run a source, the kernel's own or another, on the same arrays, and compare with the twin's."""
        for before, (_, _, whole) in zip(self._before, self._guarded, strict=True):
            whole[...] = before
        name, arrays = self.kernel.name, [copy for _, copy, _ in self._guarded]
        run_source(source, self.kernel.options, folder, name, self.grid, self.block, self.arguments, seed=seed, arrays=arrays)
        for original, copy, whole in self._guarded:
            assert np.isnan(whole[:GUARD]).all() and np.isnan(whole[-GUARD:]).all(), f"{name} wrote outside of an array"
            scale = max(self._cancels, np.abs(original[np.isfinite(original)]).max(initial=1e-30))
            bound = 200 * np.finfo(original.dtype).eps * scale
            np.testing.assert_allclose(copy, original.reshape(-1), rtol=0, atol=bound, err_msg=name)

    def _size_of_terms(self):
        """The size of the three terms of dx, which may cancel: in rows of two elements they almost vanish."""
        g, _, w, _, variance = self.arguments[:5]
        return np.abs(g).max() * np.abs(w).max() / np.sqrt(variance.min() + self.arguments[8])

    def _copied(self, a):
        """A copy between NaN, aligned or not like the original; the same copy for the same array."""
        for original, copy, _ in self._guarded:
            if original is a or (original.ctypes.data == a.ctypes.data and original.size == a.size):
                return copy
        raw = np.full(a.size + 2 * GUARD + 32, np.nan, a.dtype)
        shift = (a.ctypes.data - (raw.ctypes.data + GUARD * a.itemsize)) % 16 // a.itemsize
        whole = raw[shift:shift + a.size + 2 * GUARD]
        copy = whole[GUARD:GUARD + a.size]
        copy[...] = a.reshape(-1)
        self._guarded.append((a, copy, whole))
        return copy

    def _copied_table(self, table):
        kind = ctypes.c_float if "-DREAL=float" in self.kernel.options else ctypes.c_double
        for name in ("p", "g", "first", "second"):
            for i, size in enumerate(table["size"][0]):
                if table[name][0, i]:
                    a = np.ctypeslib.as_array((kind * int(size)).from_address(int(table[name][0, i])))
                    table[name][0, i] = self._copied(a).ctypes.data
        return table


class Emulation:
    """Runs each launch by the emulator too, and compares every array afterwards."""

    def __init__(self, folder):
        self.folder, self.seen, self.seed = folder, [], 0

    def __call__(self, kernel, grid, block, arguments, run):
        case = Launched(kernel, grid, block, arguments)
        run()
        self.seed += 1
        case.replay(kernel.code, self.folder, self.seed)
        self.seen.append((kernel.name, case.dtype.char))


class Recording:
    """Keeps one launch of each kind, to be replayed."""

    def __init__(self):
        self.cases, self.seen = {}, []

    def __call__(self, kernel, grid, block, arguments, run):
        case = Launched(kernel, grid, block, arguments)
        run()
        case.keep()
        self.cases.setdefault(case.key, case)
        self.seen.append((kernel.name, case.dtype.char))
