"""One check in a process of its own: started, bounded, listened to, and ended with everything that it started.

The process is `guard.py`. It works on a copy of the student's folder, with an environment made from nothing, without input, and
its answer comes back with a nonce on a pipe that the student's output does not use.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MOST_ANSWER, MOST_OUTPUT = 4 << 20, 20_000  # bytes


class SandboxLimits(NamedTuple):
    """What one check may use."""

    seconds: float = 120.0  # of wall time, and of processor time in each process
    megabytes: int = 4096   # of address space, in each process


class SandboxOutcome(NamedTuple):
    """What came of a check: the checker's report, or why there is none."""

    report: dict[str, Any] | None
    failure: str            # in words; "" with a report
    timed_out: bool
    refused: list[str]      # what the student's code tried and the guard refused
    awake: bool             # whether student code ran under the guard
    output: str             # what was printed, cut
    seconds: float


def check(checker: str, arguments: Callable[[Path], Sequence[str]], fill: Callable[[Path], None], *, limits: SandboxLimits,
          hidden: Sequence[Path] = (), shown: Sequence[Path] = ()) -> SandboxOutcome:
    """Run the checker on a folder that `fill` makes.

    Args:
        checker: a module (run as by ``python -m``) or the path of a program; prints its report as JSON.
        arguments: from the folder to the checker's command line.
        fill: writes the student's files into the folder.
        hidden: what student code must not read, except what lies in `shown`.
    """
    base = Path(os.path.realpath(tempfile.mkdtemp(prefix="grading-")))
    try:
        folder, scratch, log = base / "submission", base / "scratch", base / "guard.log"
        folder.mkdir()
        scratch.mkdir()
        log.touch()
        fill(folder)
        policy = base / "policy.json"
        policy.write_text(json.dumps({"folder": str(folder), "scratch": str(scratch), "log": str(log),
                                      "hidden": [os.path.realpath(p) for p in hidden], "shown": [os.path.realpath(p) for p in shown]}), encoding="utf-8")
        nonce = secrets.token_hex(16)
        orders = {"nonce": nonce, "checker": checker, "arguments": list(arguments(folder)), "seconds": limits.seconds, "megabytes": limits.megabytes}
        return _run(folder, log, orders, environment(scratch, policy), limits.seconds)
    finally:
        _remove(base)


def environment(scratch: Path, policy: Path) -> dict[str, str]:
    """The variables of a check, made from nothing: no tokens, proxies or paths of the instructor."""
    guard = Path(__file__).resolve().with_name("inherited")
    libraries = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []  # found by HOME, which is another one here
    found = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([str(guard), str(ROOT), *libraries]), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1",
             "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1", "MINIGRAD_GUARD": str(policy), "HOME": str(scratch),
             "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch), "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(scratch),
             "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    return found | {name: os.environ[name] for name in ("SYSTEMROOT", "SYSTEMDRIVE") if name in os.environ}  # Python needs them on Windows


def _run(folder: Path, log: Path, orders: dict[str, Any], variables: dict[str, str], seconds: float) -> SandboxOutcome:
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", "from lectures.grading import guard; guard.main()"], cwd=folder, env=variables,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert process.stdin and process.stdout and process.stderr
    answer, output = bytearray(), bytearray()
    readers = [threading.Thread(target=_read, args=args, daemon=True)
               for args in ((process.stdout, answer, MOST_ANSWER), (process.stderr, output, MOST_OUTPUT))]
    for reader in readers:
        reader.start()
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(orders).encode())
    except BrokenPipeError:  # it died before it listened: said below
        pass
    timed_out = False
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        _end(process, [int(text) for kind, text in _notes(log) if kind == "awake"], variables["MINIGRAD_GUARD"])
    for reader in readers:
        reader.join(5)  # a moment after the last writer is gone
    notes = _notes(log)
    here = str(folder)  # its random name would make two gradings differ
    refused = list(dict.fromkeys(text.replace(here + os.sep, "") for kind, text in notes if kind == "refused"))
    report, failure = (None, "") if timed_out else _report(bytes(answer), orders["nonce"], process.returncode, here)
    if timed_out:
        failure = f"not finished after {seconds:g} s"
    return SandboxOutcome(report, failure, timed_out, refused, any(kind == "awake" for kind, _ in notes),
                   bytes(output).decode("utf-8", "replace"), time.monotonic() - start)


def _read(pipe: IO[bytes], into: bytearray, most: int) -> None:
    """Read to the end, and keep the first `most` bytes: a full pipe would block the writer."""
    while piece := pipe.read1(1 << 16):  # type: ignore[attr-defined]
        into += piece[:max(0, most - len(into))]


def _notes(log: Path) -> list[tuple[str, str]]:
    """What the guards of all processes wrote down."""
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[:1000]:
        try:
            kind, text = json.loads(line)
        except (ValueError, TypeError):  # not a line of the guards'
            continue
        found.append((kind, text))
    return found


def _end(process: subprocess.Popen[bytes], others: Sequence[int], policy: str) -> None:
    """End the process, its group, and processes with student code that left the group."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in others:
            with contextlib.suppress(OSError):
                if policy.encode() in Path(f"/proc/{pid}/environ").read_bytes():  # else it ended, and the number is another's
                    os.kill(pid, signal.SIGKILL)
    process.wait()


def _report(answer: bytes, nonce: str, status: int, folder: str = "") -> tuple[dict[str, Any] | None, str]:
    """The checker's report, or why there is none."""
    try:
        message = json.loads(answer)
        if message["nonce"] != nonce:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return None, f"the checker {how} before it answered"
    inside = json.dumps(folder + os.sep)[1:-1]
    try:
        return dict(json.loads(message["answer"].replace(inside, "") if folder else message["answer"])), ""
    except (ValueError, TypeError):
        last = message["failure"].strip().splitlines()[-1:] or [message["answer"].strip()[:200] or "nothing"]
        return None, f"the checker gave no report but: {last[0]}"


def _remove(base: Path) -> None:
    """Delete the copy, also where the student took away the permission to; links are not followed."""
    for folder, folders, _ in os.walk(base):
        for name in folders:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(base, ignore_errors=True)  # better a folder left in the temporary folder than no grades
