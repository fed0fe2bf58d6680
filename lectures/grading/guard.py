"""The inside of the sandbox: limits and audit hooks, in place before a student's code is.

`main` reads its orders as JSON from standard input, sets the limits, makes sure of the guard and then runs the checker in this
process. What the checker prints is its answer; it goes back with a nonce through a descriptor of its own, so that whatever a
student prints lands elsewhere.

The guard sleeps until code from the student's folder is executed, in this process or in one that it starts (`inherited/`
carries it there), and never sleeps again. From then on it refuses, with a PermissionError at the student's line, and writes down:

    network connections and name look-ups           new programs, forks and signals to other processes
    writing, deleting and renaming elsewhere        reading what is hidden: other submissions and the solutions
    calling C libraries by ctypes

Only the standard library is imported here: every module that a guard needs is loaded before it watches.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

try:
    import fcntl
    import resource
except ImportError:  # Windows: the deadline of sandbox.py is the only limit there
    fcntl = resource = None  # type: ignore[assignment]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
watching = False
NULL = os.path.realpath(os.devnull)

# Audit events (https://docs.python.org/3/library/audit_events.html) and what a person would say for them.
NETWORK = {"urllib.Request": "open {0}", "socket.connect": "open a network connection to {1}", "socket.bind": "listen on the network at {1}",
           "socket.sendto": "send to {1} over the network", "socket.sendmsg": "send to {1} over the network",
           "socket.getaddrinfo": "open a network connection to {0}:{1}", "socket.gethostbyname": "look up the network name {0}",
           "socket.gethostbyaddr": "look up the network address {0}", "socket.getnameinfo": "look up the network address {0}"}
PROCESSES = {"subprocess.Popen": "start the program {1}", "os.system": "start the program {0}", "os.exec": "become the program {0}",
             "os.posix_spawn": "start the program {0}", "os.spawn": "start the program {1}", "os.startfile": "start the program {0}",
             "os.fork": "start a process (fork)", "os.forkpty": "start a process (fork)", "pty.spawn": "start the program {0}",
             "webbrowser.open": "open a browser at {0}", "os.kill": "send a signal to a process", "os.killpg": "send a signal to processes",
             "resource.setrlimit": "change its limits", "resource.prlimit": "change its limits"}
# Events that change files: what they do, and for each path the position of its argument and of its dir_fd.
CHANGES: dict[str, tuple[str, tuple[tuple[int, int | None], ...]]] = {
    "os.remove": ("delete", ((0, 1),)), "os.rmdir": ("delete", ((0, 1),)), "shutil.rmtree": ("delete", ((0, 1),)),
    "os.rename": ("rename", ((0, 2), (1, 3))), "os.link": ("link", ((0, 2), (1, 3))), "os.symlink": ("make a link at", ((1, 2),)),
    "os.mkdir": ("make the folder", ((0, 2),)), "os.truncate": ("empty", ((0, None),)), "os.chmod": ("change the mode of", ((0, 2),)),
    "os.chown": ("change the owner of", ((0, 3),)), "os.utime": ("change the times of", ((0, 3),)), "os.chflags": ("change", ((0, None),)),
    "os.setxattr": ("change", ((0, None),)), "os.removexattr": ("change", ((0, None),)), "sqlite3.connect": ("write", ((0, None),))}
LISTINGS = ("os.listdir", "os.scandir")
# The checker runs each line of a loaded file in a fork with limits, and ends it at its deadline. It may, where no student's code asked for it.
CHECKER = str(Path(__file__).resolve().parents[2] / "minigrad" / "derivation" / "child.py")
CHECKERS = ("os.fork", "os.kill", "resource.setrlimit")


class Refused(PermissionError):
    """Something that a submission must not do."""


class Policy(NamedTuple):
    """Where a submission may write, and what it must not read. Paths are real paths."""

    folder: str             # the student's files; code from here wakes the guard
    scratch: str            # TMPDIR and HOME
    hidden: tuple[str, ...]  # folders and files that must not be read ...
    shown: tuple[str, ...]   # ... except what lies in these
    log: str                # where the guard writes down that it woke, and what it refused

    def writable(self, path: str) -> bool:
        return path == NULL or inside(path, self.folder) or inside(path, self.scratch)

    def readable(self, path: str) -> bool:
        if self.writable(path) or any(inside(path, root) for root in self.shown):
            return True
        return not any(inside(path, root) for root in self.hidden)


def inside(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies below it; both are real paths."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def real(path: Any, dir_fd: Any = None) -> str | None:
    """The real path of an audited path; None where it is a descriptor that is open already."""
    if isinstance(path, int):
        return None
    text = os.fsdecode(path) if path is not None else os.curdir
    if isinstance(dir_fd, int) and dir_fd >= 0 and not os.path.isabs(text):
        text = os.path.join(folder_of(dir_fd), text)
    return os.path.realpath(text)


def folder_of(descriptor: int) -> str:
    """The folder that a descriptor stands for; a name that is nowhere where the platform cannot tell."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        get_path = getattr(fcntl, "F_GETPATH", None)  # macOS
        return os.fsdecode(fcntl.fcntl(descriptor, get_path, b"\0" * 1024).rstrip(b"\0")) if get_path else "(unknown folder)"


def refusal(event: str, args: tuple[Any, ...], policy: Policy) -> str | None:
    """What the event would do that is not allowed, as the words after "tried to"; None if it may pass."""
    if event == "open":
        path, mode, flags = args
        target = real(path)
        if target is None:
            return None
        writing = any(c in mode for c in "wax+") if isinstance(mode, str) else bool(isinstance(flags, int) and flags & WRITING)
        if writing:
            return None if policy.writable(target) else f"write {target}"
        return None if policy.readable(target) else f"read {target}"
    if event in LISTINGS:
        target = real(args[0])
        return None if target is None or policy.readable(target) else f"list the folder {target}"
    if event in CHANGES:
        verb, paths = CHANGES[event]
        for at, fd_at in paths:
            if event == "sqlite3.connect" and args[at] in (":memory:", ""):
                continue
            target = real(args[at], args[fd_at] if fd_at is not None and fd_at < len(args) else None)
            if target is not None and not policy.writable(target):
                return f"{verb} {target}"
        return None
    if event in NETWORK or event in PROCESSES:
        return (NETWORK.get(event) or PROCESSES[event]).format(*map(said, args))
    if event == "import" and str(args[0]).startswith("multiprocessing.popen_"):
        return "start a process (multiprocessing)"
    if event.startswith("ctypes.") and event != "ctypes.set_errno":
        return "call a C library by ctypes"
    return None


def said(value: Any) -> str:
    """An argument of an event in words: an address as host:port, a command line as one string."""
    if isinstance(value, tuple) and len(value) >= 2 and isinstance(value[1], int):
        return f"{value[0]}:{value[1]}"
    if isinstance(value, (list, tuple)):
        return " ".join(map(said, value))
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and those that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def watch(policy: Policy, log: int) -> None:
    """Install the guard; there is no way to take an audit hook away again."""
    awake = False

    def students(code: CodeType) -> bool:
        return not code.co_filename.startswith("<") and inside(os.path.realpath(code.co_filename), policy.folder)

    def note(kind: str, text: str) -> None:
        os.write(log, (json.dumps([kind, text]) + "\n").encode())

    def circumstances(event: str) -> tuple[bool, str]:
        """Whether to overlook the event, and at which line of the student it happened.

        A library that opens its C libraries or looks for programs while it is imported, or opens C libraries for itself, is not
        the student's doing.
        """
        importing = False
        for frame in frames(sys._getframe(2)):
            name = frame.f_code.co_filename
            if students(frame.f_code):
                return importing, f" at line {frame.f_lineno} of {os.path.relpath(os.path.realpath(name), policy.folder)}"
            importing = importing or name.startswith("<frozen importlib")
            in_ctypes = name.startswith("<") or os.path.basename(os.path.dirname(name)) == "ctypes"
            if event.startswith("ctypes.") and not in_ctypes:
                return True, ""
        return event.startswith("ctypes."), ""

    def checkers_own(event: str) -> bool:
        callers = list(frames(sys._getframe(2)))
        return event in CHECKERS and callers[0].f_code.co_filename == CHECKER and not any(students(frame.f_code) for frame in callers)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal awake
        if not awake:
            if event == "exec" and students(args[0]):
                awake = True
                note("awake", str(os.getpid()))
            return
        what = refusal(event, args, policy)
        if what is None or checkers_own(event):
            return
        overlook, where = circumstances(event)
        if overlook and event.startswith("ctypes."):
            return
        if not overlook or what.startswith(("read ", "list ")):  # no library looks at other submissions
            note("refused", f"tried to {what}{where}")
        raise Refused(f"a submission must not {what}")

    sys.addaudithook(hook)


def inherit() -> None:
    """Guard this process by the policy that its environment names."""
    global watching
    watching = True
    fields = json.loads(Path(os.environ["MINIGRAD_GUARD"]).read_text(encoding="utf-8"))
    policy = Policy(fields["folder"], fields["scratch"], tuple(fields["hidden"]), tuple(fields["shown"]), fields["log"])
    watch(policy, os.open(policy.log, os.O_WRONLY | os.O_APPEND))


def limit(seconds: float, megabytes: int) -> None:
    """Limits of this process and its children, where the platform has them; one that it refuses is left out."""
    if resource is None:
        return
    wanted = {"RLIMIT_CPU": int(seconds) + 1, "RLIMIT_AS": megabytes << 20, "RLIMIT_FSIZE": 16 << 20, "RLIMIT_NOFILE": 256, "RLIMIT_CORE": 0}
    threads = threads_of_this_user()
    if threads is not None:
        wanted["RLIMIT_NPROC"] = threads + 256  # counts all that the user runs, not only this; the system ignores it for root
    for name, value in wanted.items():
        if not hasattr(resource, name):
            continue
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):  # macOS knows RLIMIT_AS but does not take it
            pass


def threads_of_this_user() -> int | None:
    """How many threads run under this user id, which is what RLIMIT_NPROC counts; None without /proc."""
    total = 0
    try:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    if entry.stat().st_uid == os.getuid():
                        total += len(os.listdir(f"/proc/{entry.name}/task"))
                except OSError:  # it ended meanwhile
                    pass
    except OSError:
        return None
    return total


def main() -> None:
    """Read the orders, set limits and guard, run the checker, and send back what it printed."""
    orders = json.loads(sys.stdin.buffer.read())
    channel = os.dup(1)                # no other program inherits it; standard output becomes the student's
    if hasattr(os, "register_at_fork"):
        held = [channel]               # a student's process must not even hold it; a fork of a fork does not, and may use its number
        os.register_at_fork(after_in_child=lambda: os.close(held.pop()) if held else None)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    limit(orders["seconds"], orders["megabytes"])
    if not watching:                   # a Python that does not import sitecustomize
        inherit()
    sys.argv = [orders["checker"], *orders["arguments"]]
    sys.stdout = answer = io.StringIO()
    failure = ""
    try:
        if orders["checker"].endswith(".py"):
            runpy.run_path(orders["checker"], run_name="__main__")
        else:
            runpy.run_module(orders["checker"], run_name="__main__", alter_sys=True)
    except SystemExit:
        pass
    except BaseException:
        failure = traceback.format_exc(limit=-3)
    message = json.dumps({"nonce": orders["nonce"], "answer": answer.getvalue(), "failure": failure}).encode()
    with os.fdopen(channel, "wb") as f:
        f.write(message)
    os._exit(0)                        # without what the student left behind for exit
