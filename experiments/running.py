"""All runs of an experiment: those that the journal has are taken from it, the others are done, one after the other or side by side.

A run uses one thread, whether one or many are done at a time, so that its result does not depend on that. An experiment that measures
time has `threads` among its sizes, and its runs are done one at a time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

import minigrad as mg
from scripts.trainer import machine

from . import images, journal
from .registry import Experiment, ExperimentError, Run, Runs, find

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
Outcome = tuple[dict[str, Any] | None, float, str]  # what a run returned (None: it failed), seconds, traceback


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def complete(found: Experiment, *, sizes: Mapping[str, Any], dataset: str | None, folder: Path, jobs: int | None = None, data: str | None = None,
             quiet: bool = False) -> Runs:
    """All runs of an experiment in these sizes, each of them in the journal of `folder`.

    Raises:
        ExperimentError: data are missing, the journal cannot be used, or runs failed; what was finished is kept.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    if jobs is None:
        jobs = 1 if found.timing else processors()
    if found.timing and jobs > 1:
        raise ExperimentError(f"{found.name} measures time: with --jobs {jobs} its runs would measure each other. Leave --jobs out")
    wanted = found.settings(sizes, dataset)
    with journal.opened(folder) as book:
        missing = [settings for settings in wanted if settings not in book]
        if missing and found.reads_images:
            check_images(missing[0], data)
        failed = []
        with tqdm(total=len(wanted), initial=len(wanted) - len(missing), unit="run", desc=found.name, disable=quiet) as bar, terminated_as_interrupted():
            for settings, (result, seconds, trouble) in outcomes(missing, min(jobs, len(missing)), data):
                bar.set_postfix_str(f"{settings['arm']}, seed {settings['seed']}")
                bar.update()
                if result is None:
                    failed.append(f"{settings['arm']}, seed {settings['seed']}: {trouble}")
                else:
                    book.append(Run(settings, result, seconds), machine())
        if failed:
            raise ExperimentError(f"{len(failed)} of {len(wanted)} runs failed; the others are in {book.path}.\n" + "\n".join(failed))
        return Runs((book[settings] for settings in wanted), sizes)


def check_images(settings: Mapping[str, Any], data: str | None) -> None:
    """Load what the runs will load, so that missing data are found before anything is run."""
    try:
        images.load(settings["dataset"], folder=data, **{k: v for k, v in settings.items() if k in images.SHAPES_IMAGES})
    except (OSError, ValueError) as e:
        raise ExperimentError(f"{settings['experiment']} --dataset {settings['dataset']}: {e}\nNothing was run. --data FOLDER says where the files are; "
                              "--dataset synthetic needs none") from e


def outcomes(wanted: list[dict[str, Any]], jobs: int, data: str | None) -> Iterator[tuple[dict[str, Any], Outcome]]:
    """Do these runs, and give each as it is finished."""
    if jobs <= 1:
        for settings in wanted:
            yield settings, one(settings, data)
        return
    with one_thread_each(), ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin_worker) as pool:
        futures: dict[Future[Outcome], dict[str, Any]] = {pool.submit(one, settings, data): settings for settings in wanted}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as e:
            raise ExperimentError("a process of a run has died (killed? out of memory?). What was finished is kept: start again, with --jobs 1 perhaps") from e
        finally:  # nothing to do where all is done; else (Ctrl-C, a full disk) nobody waits for the rest
            if not all(future.done() for future in futures):
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()


def one(settings: Mapping[str, Any], data: str | None) -> Outcome:
    """One run, in this process."""
    start = time.perf_counter()
    with mg.tune_process(settings.get("threads", 1)):
        mg.seed(settings["seed"])
        try:
            result = find(settings["experiment"]).perform(settings, partial(images.load, folder=data))
            journal.key(result)  # what JSON cannot say is found here
        except Exception:
            return None, time.perf_counter() - start, traceback.format_exc()
    return result, time.perf_counter() - start, ""


def begin_worker() -> None:
    """The parent handles Ctrl-C, and a worker ends with its parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)
    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started inside have a BLAS of one thread."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the runs as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # Python has signals there only
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
