"""What makes training fast and concerns the whole process: threads and freed memory. Off until somebody asks for it."""

from __future__ import annotations

from .memory import keep_freed_memory, return_freed_memory
from .threads import blas_threads, num_threads, restore, set_num_threads


class tune_process:
    """Let minigrad use this process as it likes, from now on or inside a ``with`` block. For your own programs that train.

    - minigrad shares work between `threads` of its threads, and BLAS is held at one: see `set_num_threads`. That holds for
      every use of NumPy and SciPy in the process.
    - Freed memory stays with the process (on Linux with glibc): large arrays of the next step are made without page faults.
      ``MINIGRAD_MALLOC=system`` in the environment leaves this out.

    A library should leave it to the program that uses it. Calling it again changes nothing, except the number of threads
    where that is given. At the end of the block threads and memory are as they were before, but glibc's thresholds, which
    it raises by itself at first, stay at their starting values.

    Args:
        threads: default: what BLAS is allowed now (by OPENBLAS_NUM_THREADS, for example), or, where BLAS is held at one
            already, as many as there are.

    Raises:
        ValueError: `threads` is not a positive integer.

    >>> import minigrad as mg
    >>> with mg.tune_process(threads=2):
    ...     mg.kernels.threads.num_threads()
    2
    """

    def __init__(self, threads: int | None = None) -> None:
        before, blas = num_threads(), blas_threads()
        if threads is None:
            threads = max(before, min((number for _, number in blas), default=1))
        set_num_threads(threads)  # a wrong number fails here
        self._before, self._blas, self._kept = before, blas, keep_freed_memory()

    def __enter__(self) -> tune_process:
        return self

    def __exit__(self, *_: object) -> None:
        restore(self._before, self._blas)
        if self._kept:
            return_freed_memory()
