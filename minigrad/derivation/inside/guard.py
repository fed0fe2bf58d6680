"""Audit hooks: what a submission must not do is refused at the student's own line, with a sentence that says what it was.

Hooks are no wall (Python's documentation says so): confine.py is. They explain, and where there is no wall they are what there is.
They refuse network connections and look-ups, new programs, forks and signals, calls into C by ctypes, reading and listing what
is neither the submission's nor Python's nor NumPy's, and changing anything outside of the submission's own folders.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NULL = os.path.realpath(os.devnull)
QUIET = ("/etc/", "/sys/", "/usr/", "/proc/cpuinfo", "/proc/meminfo", "/proc/self/status")  # libraries look there; refused and not noted

# Audit events (https://docs.python.org/3/library/audit_events.html) and what a person would say for them.
NETWORK = {"urllib.Request": "open {0}", "socket.connect": "open a network connection to {1}", "socket.bind": "listen on the network at {1}",
           "socket.sendto": "send to {1} over the network", "socket.sendmsg": "send to {1} over the network",
           "socket.getaddrinfo": "open a network connection to {0}:{1}", "socket.gethostbyname": "look up the network name {0}",
           "socket.gethostbyaddr": "look up the network address {0}", "socket.getnameinfo": "look up the network address {0}"}
PROCESSES = {"subprocess.Popen": "start the program {1}", "os.system": "start the program {0}", "os.exec": "become the program {0}",
             "os.posix_spawn": "start the program {0}", "os.spawn": "start the program {1}", "os.startfile": "start the program {0}",
             "os.fork": "start a process (fork)", "os.forkpty": "start a process (fork)", "pty.spawn": "start the program {0}",
             "webbrowser.open": "open a browser at {0}", "os.kill": "send a signal to a process", "os.killpg": "send a signal to processes",
             "signal.pthread_kill": "send a signal to a thread", "resource.setrlimit": "change its limits", "resource.prlimit": "change its limits"}
# Events that change files: what they do, and for each path the position of its argument and of its dir_fd.
CHANGES: dict[str, tuple[str, tuple[tuple[int, int | None], ...]]] = {
    "os.remove": ("delete", ((0, 1),)), "os.rmdir": ("delete", ((0, 1),)), "shutil.rmtree": ("delete", ((0, 1),)),
    "os.rename": ("rename", ((0, 2), (1, 3))), "os.link": ("link", ((0, 2), (1, 3))), "os.symlink": ("make a link at", ((1, 2),)),
    "os.mkdir": ("make the folder", ((0, 2),)), "os.truncate": ("empty", ((0, None),)), "os.chmod": ("change the mode of", ((0, 2),)),
    "os.chown": ("change the owner of", ((0, 3),)), "os.utime": ("change the times of", ((0, 3),)), "os.chflags": ("change", ((0, None),)),
    "os.setxattr": ("change", ((0, None),)), "os.removexattr": ("change", ((0, None),)), "sqlite3.connect": ("write", ((0, None),))}
UNSEEN = ("readline", "_sqlite3", "_dbm", "_gdbm", "_posixshmem")
LISTINGS = ("os.listdir", "os.scandir")


class Refused(PermissionError):
    """Something that a submission must not do."""


class Policy(NamedTuple):
    """Where a submission may write and read. Paths are real paths."""

    folder: str            # the student's files
    write: Sequence[str]   # folders in which it may change everything
    read: Sequence[str]    # what it may read besides

    def writable(self, path: str) -> bool:
        return path == NULL or any(inside(path, root) for root in self.write)

    def readable(self, path: str) -> bool:
        return self.writable(path) or inside(path, self.folder) or any(inside(path, root) for root in self.read)


def inside(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies below it; both are real paths."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def real(path: Any, dir_fd: Any = None) -> str | None:
    """The real path of an audited path; None where it is a descriptor that is open already."""
    if isinstance(path, int):
        return None
    text = os.fsdecode(path) if path is not None else os.curdir
    if isinstance(dir_fd, int) and dir_fd >= 0 and not os.path.isabs(text):
        try:
            text = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text)
        except OSError:
            text = os.path.join("(unknown folder)", text)
    return os.path.realpath(text)


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
        return (NETWORK.get(event) or PROCESSES[event]).format(*map(said, args), "", "")
    if event == "import" and str(args[0]).startswith("multiprocessing.popen_"):
        return "start a process (multiprocessing)"
    if event == "import" and str(args[0]) in UNSEEN:
        return f"import {args[0]}, which opens files that no audit hook sees"
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


def watch(policy: Policy, note: Callable[[str], None], own: Callable[[], bool]) -> None:
    """Install the guard; there is no way to take an audit hook away again.

    Args:
        policy: what may be read and written.
        note: is told what was refused, as "tried to write notes.txt at line 3 of lines.py".
        own: whether the worker itself is at work, which may fork and set limits.
    """
    listed = {os.path.dirname(p) for p in policy.read}  # Python looks through the folders of its library for modules

    def circumstances(event: str) -> tuple[bool, str]:
        """Whether to overlook the event, and at which line of the student it happened.

        A library that opens its C libraries or looks for programs while it is imported is not the student's doing.
        """
        importing = False
        for frame in frames(sys._getframe(2)):
            name = frame.f_code.co_filename
            if not name.startswith("<") and inside(os.path.realpath(name), policy.folder):
                return importing, f" at line {frame.f_lineno} of {os.path.relpath(os.path.realpath(name), policy.folder)}"
            importing = importing or name.startswith("<frozen importlib")
        return importing or event.startswith("ctypes."), ""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        what = refusal(event, args, policy)
        if what is None or own():
            return
        if event in LISTINGS and real(args[0]) in listed:
            return
        overlook, where = circumstances(event)
        if overlook and event.startswith("ctypes."):
            return
        if not overlook and not what.removeprefix("read ").removeprefix("list the folder ").startswith(QUIET):
            note(f"tried to {what}{where}")
        raise Refused(f"a submission must not {what}")

    sys.addaudithook(hook)
