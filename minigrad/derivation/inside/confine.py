"""The wall around a student's code: what the kernel refuses, whatever Python is told.

Three layers, each where the system offers it. Landlock (Linux 5.13; no package, any user): no file but those of Python and NumPy
and the submission's own can be opened, nothing but in its own folders changed, no TCP port reached (Linux 6.7), no signal sent out
(Linux 6.12). Namespaces: a network without wires, and process numbers in which nobody else has one; when the first of them ends, all do.
Limits of memory, processor time, file size, open files and processes. See docs/security.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from typing import Any

NEW_USER, NEW_PROCESSES, NEW_NETWORK, NEW_IPC, NEW_MOUNTS = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x00020000  # linux/sched.h
BIND, RECURSIVE, PRIVATE, READ_ONLY, WHOLE_TREE, HERE = 1 << 12, 1 << 14, 1 << 18, 1, 0x8000, -100  # linux/mount.h, fcntl.h
NO_NEW_PRIVILEGES, DEATH_SIGNAL, DUMPABLE = 38, 1, 4  # linux/prctl.h
CAPABILITIES = 0x20080522  # the version of linux/capability.h
RULESET, RULE, RESTRICT, MOUNT_SETATTR, UNSHARE = 444, 445, 446, 442, {"x86_64": 272, "aarch64": 97}  # system calls; the first four are the same everywhere
# linux/landlock.h: rights to files, by the version that knows them.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
TCP, SCOPES = 0b11, 0b11
MOST_FILE, MOST_OPEN, MOST_PROCESSES = 16 << 20, 256, 64


class CannotConfine(RuntimeError):
    """The sandbox that was asked for is not to be had here."""


def libraries() -> list[str]:
    """Where the system keeps C libraries, as far as there is no Python in it."""
    machine = f"{platform.machine()}-linux-gnu"
    found = [f"{root}/{name}" for root in ("", "/usr") for name in (f"lib/{machine}", "lib64")] + ["/etc/ld.so.cache"]
    return [p for p in found if os.path.exists(p) and not (os.path.isdir(p) and any(n.startswith("python") for n in os.listdir(p)))]


def readable(numpy: str) -> list[str]:
    """What a worker reads besides the submission: Python's own library, NumPy, C libraries, and no installed package else.

    Args:
        numpy: the folder in which NumPy lies.
    """
    found = [f"{numpy}/numpy", f"{numpy}/numpy.libs", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", *libraries()]
    for root in dict.fromkeys(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")):
        with contextlib.suppress(OSError):
            found += [f"{root}/{name}" for name in os.listdir(root) if name not in ("site-packages", "dist-packages")]
    return [os.path.realpath(p) for p in found if os.path.exists(p)]


def landlock_version() -> int:
    """The version of Landlock that this kernel has; 0: none."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError, AttributeError):
        return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(RULESET, None, 0, 1)))
    return 0


def landlock(read: Sequence[str], write: Sequence[str]) -> int:
    """Confine this process and all its children for good; returns Landlock's version, 0 where there is none.

    Args:
        read: files and folders that may be read and executed.
        write: folders in which everything may be done.
    """
    version = landlock_version()
    if not version:
        return 0
    call = ctypes.CDLL(None, use_errno=True)
    rights = 0
    for since, bits in FILE_RIGHTS.items():
        rights |= bits if version >= since else 0
    fields = (ctypes.c_uint64 * 3)(rights, TCP, SCOPES)
    ruleset = call.syscall(RULESET, fields, ctypes.c_size_t(8 if version < 4 else 16 if version < 6 else 24), 0)
    if ruleset < 0:
        return 0
    library = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    wanted = [(p, READ_FILE | EXECUTE | READ_DIR) for p in read] + [(p, READ_DIR) for p in library] + [(p, rights & ~EXECUTE) for p in write]
    wanted += [("/dev/null", READ_FILE | WRITE_FILE)]
    for path, allowed in wanted:
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = (allowed & rights & (~0 if os.path.isdir(path) else ON_FILES)).to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
            call.syscall(RULE, ruleset, 1, rule, 0)
            os.close(fd)
    call.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    failed = call.syscall(RESTRICT, ruleset, 0)
    os.close(ruleset)
    return 0 if failed else version


def namespaces(held: Sequence[int], writable: Sequence[str] = ()) -> bool:
    """Go on in a process that sees no other process and no network, if the system allows it. Returns whether it does.

    All file systems are read-only there (Linux 5.12): Landlock alone does not refuse to change the mode or the times of a file.

    Two processes stay behind: one waits, the other is the first of the new process numbers, and ends all others when it ends.

    Args:
        held: descriptors that those two close.
        writable: folders that can be changed all the same.
    """
    number = UNSHARE.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return False
    call = ctypes.CDLL(None, use_errno=True)
    new = NEW_PROCESSES | NEW_NETWORK | NEW_IPC | NEW_MOUNTS
    if call.syscall(number, NEW_USER | new) and call.syscall(number, new):
        return False
    read_only(writable)
    for _ in range(2):  # the first of the new numbers, then the one that goes on
        pid = os.fork()
        if pid:
            for fd in (0, 1, 2, *held):
                with contextlib.suppress(OSError):
                    os.close(fd)
            with contextlib.suppress(OSError):
                while os.wait()[0] != pid:  # the first one also inherits what others leave behind
                    pass
            os._exit(0)
        end_with_parent()
    return True


def read_only(but: Sequence[str]) -> None:
    """Make all file systems of this process's own mount namespace read-only, except for these folders, where the system can do that."""
    call = ctypes.CDLL(None, use_errno=True)
    call.mount(None, b"/", None, ctypes.c_ulong(RECURSIVE | PRIVATE), None)
    folders = [os.fsencode(folder) for folder in but]
    for folder in folders:
        call.mount(folder, folder, None, ctypes.c_ulong(BIND), None)
    for path, tree, setting, clearing in [(b"/", WHOLE_TREE, READ_ONLY, 0), *((folder, 0, 0, READ_ONLY) for folder in folders)]:
        call.syscall(MOUNT_SETATTR, ctypes.c_long(HERE), path, tree, (ctypes.c_uint64 * 4)(setting, clearing, 0, 0), ctypes.c_size_t(32))
    os.chdir(os.getcwd())  # the folder that is writable, not the one below it


def no_capabilities() -> None:
    """Give up what root may do, and what anybody may do in a namespace of their own, such as mounting its file systems again."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).capset((ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)())


def end_with_parent() -> None:
    """Be killed when the process that started this one ends, where the system knows such a thing."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def no_peeking() -> None:
    """Keep other processes of this user, except for root's, from debugging this one and from reading its memory, where the system can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(DUMPABLE, 0, 0, 0, 0)


def limit(megabytes: int, seconds: float) -> None:
    """Limits of this process and its children, where the platform has them; one that it refuses is left out.

    Args:
        megabytes: of address space beyond what is in use.
        seconds: of processor time, for each process.
    """
    try:
        import resource
    except ImportError:  # Windows: the deadline of the judge is the only limit there
        return
    wanted = {"RLIMIT_AS": own_bytes() + (megabytes << 20), "RLIMIT_CPU": int(seconds) + 2, "RLIMIT_FSIZE": MOST_FILE, "RLIMIT_NOFILE": MOST_OPEN,
              "RLIMIT_CORE": 0}
    threads = threads_of_this_user()
    if threads is not None:
        wanted["RLIMIT_NPROC"] = threads + MOST_PROCESSES  # counts all that the user runs, not only this; the system ignores it for root
    for name, value in wanted.items():
        if hasattr(resource, name):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with contextlib.suppress(ValueError, OSError):  # macOS knows RLIMIT_AS but does not take it
                resource.setrlimit(kind, (value, value))


def own_bytes() -> int:
    """How much address space this process has."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm") as f:
            return int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30


def threads_of_this_user() -> int | None:
    """How many threads run under this user id, which is what RLIMIT_NPROC counts; None without /proc."""
    total = 0
    try:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    if entry.stat().st_uid == os.getuid():
                        total += len(os.listdir(f"/proc/{entry.name}/task"))
    except OSError:
        return None
    return total


def confine(order: Mapping[str, Any], held: Sequence[int]) -> tuple[str, bool]:
    """Put up the wall that an order asks for.

    Returns:
        Its name, "landlock", "none", or that of what was there before; and whether process numbers are the worker's own.

    Raises:
        CannotConfine: Landlock was asked for, and this system has none.
    """
    os.chdir(order["folder"])
    scratch = order["scratch"]
    os.environ.update(HOME=scratch, TMPDIR=scratch, TEMP=scratch, TMP=scratch, MPLCONFIGDIR=scratch)
    name = str(order["sandbox"])
    writable = [scratch, *([order["folder"]] if order["writable"] else [])]
    apart = name == "bwrap" or (name in ("auto", "landlock") and namespaces(held, writable))
    limit(int(order["megabytes"]), max(float(order["loading"]), float(order["seconds"])))
    if name != "none":
        version = landlock([*order["read"], order["folder"]], writable)
        if not version and name == "landlock":
            raise CannotConfine("this system has no Landlock (Linux 5.13 or newer, switched on)")
        name = name if name == "bwrap" else "landlock" if version else "none"
        no_capabilities()
    return name, apart
