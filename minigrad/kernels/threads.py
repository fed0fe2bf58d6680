"""Share work between threads: the one place that knows how many there are.

At first there is one, and BLAS keeps the threads that it has: importing minigrad changes nothing in the rest of a program.
`set_num_threads` (or `tune_process`) reverses that. BLAS is then held at one thread, and each of minigrad's threads calls it
for its own share of the images, rows or columns. Both with threads at the same time take all the gain back: after each call
those of BLAS wait for the next one without sleeping, on the processors that ours need. (A training step on two processors, in
ms: 76 on one thread; 50 with BLAS's threads alone; 76, and at times 500, with both; 44 with ours alone.)
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

from ..core.errors import integer

T = TypeVar("T")

_threads = 1
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()
_here = threading.local()  # .inside: this thread works on a share, and does not share further


def num_threads() -> int:
    """The number of threads that share work: 1 until `set_num_threads` or `tune_process` is called."""
    return _threads


def blas_threads() -> list[tuple[Any, int]]:
    """Each BLAS library of this process (NumPy's, SciPy's), to be set, and its number of threads now."""
    controller = importlib.import_module("threadpoolctl").ThreadpoolController()
    return [(b, b.num_threads) for b in controller.select(user_api="blas").lib_controllers]


def set_num_threads(n: int) -> None:
    """Share work between ``n`` threads from now on, in the whole process.

    BLAS itself is held at one thread, also for your own calls of NumPy and SciPy; a BLAS that threadpoolctl does not know is
    left as it is. `tune_process` does this and more, and can be undone.

    Raises:
        ValueError: `n` is not a positive integer.
    """
    n = integer("set_num_threads", "n", n, 1, fix="pass the number of cores to use")
    restore(n, [(b, 1) for b, _ in blas_threads()])


def restore(n: int, blas: Sequence[tuple[Any, int]]) -> None:
    """Set the number of threads that share work, and that of each BLAS library."""
    global _threads
    for library, number in blas:
        library.set_num_threads(number)
    _threads = n


def share(work: Callable[[int, int], T], count: int, least: int) -> list[T]:
    """[work(start, stop), ...] for consecutive ranges that cover range(count): one per thread, none below ``least``."""
    parts = 1 if getattr(_here, "inside", False) else max(1, min(_threads, count // least))
    if parts == 1:
        return [work(0, count)]

    task = [work]  # emptied below: a worker reports before it lets go, and should not go on holding the caller's arrays

    def one(start: int, stop: int) -> T:
        _here.inside = True
        try:
            return task[0](start, stop)
        finally:
            _here.inside = False

    edges = [count * i // parts for i in range(parts + 1)]
    futures = [_executor(parts - 1).submit(one, *edge) for edge in pairwise(edges[1:])]
    try:
        first = one(0, edges[1])
    finally:  # never return while a thread still writes into the caller's arrays
        errors = [f.exception() for f in futures]
        task.clear()
    for e in filter(None, errors):
        raise e
    return [first, *(f.result() for f in futures)]


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="minigrad"), size
        return _pool


def _forget_pool() -> None:  # a forked child has none of the parent's threads
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
