"""Share work between threads: the one place that knows how many there are.

BLAS runs single-threaded under minigrad, and each of minigrad's threads calls it for its own share of the images, rows
or columns. Letting BLAS start threads of its own as well takes all the gain back: after each call they wait for the
next one without sleeping, on the processors that these threads need. (A training step on two processors, in ms: 76 on
one thread; 50 with BLAS's threads alone; 76, and at times 500, with both; 44 with these alone.) So the first question
for the number of threads takes over the number that BLAS was allowed, and leaves BLAS with one.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

from ..errors import describe, error

T = TypeVar("T")

_threads = 0  # 0: not asked yet
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()
_here = threading.local()  # .inside: this thread works on a share, and does not share further


def num_threads() -> int:
    """The number of threads: at first what BLAS was allowed, by OPENBLAS_NUM_THREADS for example."""
    if not _threads:
        set_num_threads(min((b.num_threads for b in _blas()), default=1))
    return _threads


def set_num_threads(n: int) -> None:
    """Share work between ``n`` threads from now on.

    BLAS itself is left with one thread, also for NumPy calls of your own in this process; a BLAS that threadpoolctl does not
    know is left as it is.

    Raises:
        ValueError: `n` is not a positive integer.
    """
    global _threads
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise error(ValueError, "set_num_threads", got=describe(n), needs="an integer of at least 1", fix="pass the number of cores to use")
    for b in _blas():
        b.set_num_threads(1)
    _threads = n


def share(work: Callable[[int, int], T], count: int, least: int) -> list[T]:
    """[work(start, stop), ...] for consecutive ranges that cover range(count): one a thread, none below ``least``."""
    parts = 1 if getattr(_here, "inside", False) else max(1, min(num_threads(), count // least))
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


@cache
def _blas() -> list[Any]:
    controller = importlib.import_module("threadpoolctl").ThreadpoolController()
    return list(controller.select(user_api="blas").lib_controllers)


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
