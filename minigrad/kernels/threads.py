"""Share a batch between threads, without BLAS and Python getting into each other's way.

A kernel that copies and multiplies block by block gains little from a threaded BLAS: the copies stay on one core. So
the images are shared out, each thread does everything for its own, and BLAS is held at one thread meanwhile. How many
threads is BLAS's own limit (``OPENBLAS_NUM_THREADS``, threadpoolctl, ``minigrad.set_num_threads``): there is no second
setting to keep in step. Where threadpoolctl knows no BLAS to limit, everything runs in the calling thread.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_inside = 0  # how many shared calls are running, from any thread: the first limits BLAS, the last lifts the limit
_before: list[int] = []
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def share(work: Callable[[int, int], T], count: int, least: int) -> list[T]:
    """[work(start, stop), ...] for consecutive ranges that cover range(count): one a thread, none below ``least``."""
    parts = max(1, min(num_threads(), count // least))
    if parts == 1:
        return [work(0, count)]
    edges = [count * i // parts for i in range(parts + 1)]
    with _blas_at_one_thread():
        here = _cpu()
        futures = [_executor(parts - 1).submit(_elsewhere, here, work, *edge) for edge in pairwise(edges[1:])]
        try:
            first = work(0, edges[1])
        finally:  # never return while a thread still writes into the caller's arrays
            rest = [f.exception() for f in futures]
    for error in filter(None, rest):
        raise error
    return [first, *(f.result() for f in futures)]


def _elsewhere(there: int | None, work: Callable[[int, int], T], start: int, stop: int) -> T:
    """work(start, stop), but not on processor ``there``, which is busy with the caller.

    Linux in a virtual machine may wake a thread on the processor that wakes it while others are idle, and leave both
    there for a second: two threads would then take twice the time. One step aside, and they stay apart by themselves.
    """
    if there is not None and there == _cpu():
        allowed = os.sched_getaffinity(0)
        if len(allowed) > 1:
            os.sched_setaffinity(0, allowed - {there})
            os.sched_setaffinity(0, allowed)
    return work(start, stop)


@cache
def _sched_getcpu() -> Callable[[], int] | None:
    return getattr(ctypes.CDLL(None), "sched_getcpu", None) if sys.platform == "linux" else None


def _cpu() -> int | None:
    """The processor this thread runs on, where the system tells."""
    ask = _sched_getcpu()
    return ask() if ask else None


def num_threads() -> int:
    """The number of threads BLAS would use now; 1 while it is held at one."""
    return min((b.num_threads for b in _blas()), default=1)


@cache
def _blas() -> list[Any]:
    controller = importlib.import_module("threadpoolctl").ThreadpoolController()
    return list(controller.select(user_api="blas").lib_controllers)


@contextmanager
def _blas_at_one_thread() -> Iterator[None]:
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _before[:] = [b.num_threads for b in _blas()]
            for b in _blas():
                b.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for b, n in zip(_blas(), _before):
                    b.set_num_threads(n)


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="minigrad"), size
        return _pool


def _forget_pool() -> None:  # a forked child has none of the parent's threads
    global _pool, _pool_size, _lock, _inside
    _pool, _pool_size, _lock, _inside = None, 0, threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
