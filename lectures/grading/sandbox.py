"""Judges, and what comes of a check: each judge is a process of its own, and a submission costs at most its own row.

A judge starts the workers in which students' code runs. No student's code reaches it: there are walls (minigrad/derivation/inside/confine.py).
Where a system has none, a submission that kills the judge gets no report, and another judge goes on with the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.files import remove_folder

ROOT = Path(__file__).resolve().parents[2]
SANDBOXES = ("auto", "landlock", "bwrap", "none")
GRACE = 30.0  # seconds beyond a submission's own, for the judge's own work
MOST_ANSWER = 16 << 20  # bytes


class SandboxLimits(NamedTuple):
    """What one submission may use."""

    seconds: float = 120.0  # of wall time, as a whole
    megabytes: int = 4096   # of address space, in each process


class SandboxOutcome(NamedTuple):
    """What came of a check: the checker's report, or why there is none."""

    report: dict[str, Any] | None
    failure: str            # in words; "" with a report
    timed_out: bool
    refused: list[str]      # what the student's code tried and must not do
    sandbox: str            # "landlock", "bwrap", "none"; "" where it was never started
    seconds: float


class CannotJudge(RuntimeError):
    """No submission can be judged here: the sandbox that was asked for is not to be had, or the judge does not start."""


class Judges:
    """Processes that judge, as many as threads ask at the same time.

    Args:
        limits: of each submission.
        sandbox: one of `SANDBOXES`.
    """

    def __init__(self, limits: SandboxLimits | None = None, sandbox: str = "auto") -> None:
        self.limits, self.sandbox = limits or SandboxLimits(), sandbox
        self._idle: queue.SimpleQueue[_Judge] = queue.SimpleQueue()
        self._closed = False
        self._all: list[_Judge] = []
        self._lock = threading.Lock()

    def check(self, homework: Path, fill: Callable[[Path], None], file: str, seed: int) -> SandboxOutcome:
        """Judge a submission.

        Args:
            homework: the folder of its task.
            fill: writes the student's files into a folder, which is deleted afterwards.
            file: the one to judge, in that folder.
            seed: of the random numbers.

        Raises:
            CannotJudge: nothing can be judged here, or no more: the judges were closed.
        """
        start = time.monotonic()
        folder = os.path.realpath(tempfile.mkdtemp(prefix="grading-"))
        judge = None
        try:
            fill(Path(folder))
            judge = self._judge()
            answer = judge.ask({"homework": os.path.abspath(homework), "file": os.path.join(folder, file), "folder": folder, "seed": seed,
                                "sandbox": self.sandbox, "seconds": self.limits.seconds, "megabytes": self.limits.megabytes}, self.limits.seconds + GRACE)
        finally:
            if judge is not None and judge.alive:
                self._idle.put(judge)
            remove_folder(folder)
        report = answer.get("report")
        if answer.get("fatal"):
            raise CannotJudge(answer["failure"])
        refused = [str(text) for text in report.get("refused", [])] if report else []
        return SandboxOutcome(report, answer.get("failure", ""), bool(answer.get("timed out")), refused, report.get("sandbox", "") if report else "",
                              time.monotonic() - start)

    def _judge(self) -> _Judge:
        while True:
            try:
                judge = self._idle.get_nowait()
            except queue.Empty:
                with self._lock:
                    if self._closed:
                        raise CannotJudge("the judges are closed") from None
                    judge = _Judge()
                    self._all.append(judge)
            if judge.alive:
                return judge

    def close(self) -> None:
        """End all judges, whatever they are at."""
        with self._lock:
            self._closed = True
            for judge in self._all:
                judge.close()

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Judge:
    """A judge's process, and the conversation with it."""

    COMMAND: Sequence[str] = (sys.executable, "-m", "lectures.grading.judge")

    def __init__(self) -> None:
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))), "OPENBLAS_NUM_THREADS": "1",
                     "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg", **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), tempfile.gettempdir())}
        self.process = subprocess.Popen(self.COMMAND, cwd=ROOT, env=variables, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.count, self._data = 0, bytearray()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer; where there is none in time, the process is ended and the answer says so."""
        assert self.process.stdin and self.process.stdout
        self.count += 1
        try:
            self.process.stdin.write(json.dumps({**order, "id": self.count}).encode() + b"\n")
            self.process.stdin.flush()
            line = self._line(time.monotonic() + seconds)
            answer = json.loads(line) if line else {}
            if isinstance(answer, dict) and answer.get("id") == self.count:
                return answer
            timed_out = line is None
        except (OSError, ValueError):
            timed_out = False
        self.close()
        how = (f"was ended after {seconds:g} s" if timed_out else f"was ended by {signal.Signals(-self.process.returncode).name}"
               if self.process.returncode < 0 else f"ended with status {self.process.returncode}")
        return {"failure": f"the judge {how} before it answered", "timed out": timed_out}

    def _line(self, deadline: float) -> bytes | None:
        """The next line; b"" at the end; None if there is none in time."""
        assert self.process.stdout
        while (end := self._data.find(b"\n")) < 0:
            if os.name != "nt" and not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part or len(self._data) > MOST_ANSWER:
                return b""
            self._data += part
        line = bytes(self._data[:end])
        del self._data[:end + 1]
        return line

    def close(self) -> None:
        """End the process, and its workers."""
        if os.name != "nt":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
