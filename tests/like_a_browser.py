"""A process that can do what Pyodide's can: one thread, no other process, no signals; NumPy and the course's zip, unpacked. For tests/test_practice.py.

    python -I -S tests/like_a_browser.py FOLDER_OF_NUMPY COURSE < orders.json > answers.json

Orders are {"homework": [[name, text], ...], "playground": [text, ...]}; each is judged as the page's worker would have it judged.
"""

import json
import sys

ABSENT = ("_lzma", "_multiprocessing", "_posixsubprocess", "fcntl", "grp", "lzma", "pwd", "resource", "sqlite3", "ssl", "termios")  # of Python's own
MORE = ("matplotlib", "safetensors", "threadpoolctl", "tqdm")
USED = []  # what was tried and cannot be done


def forbidden(name):
    """What stands in the place of a function that has no meaning in a browser."""
    def refuse(*arguments, **keywords):
        USED.append(name)
        raise OSError(f"a browser has no {name}")
    return refuse


def forbid():
    """Take away what a browser does not have; returns a call for each thing, which must fail."""
    import multiprocessing
    import os
    import signal
    import socket
    import subprocess
    import threading
    walls = {os: ("fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve", "system", "popen", "kill", "killpg", "waitpid"),
             signal: ("signal", "alarm", "setitimer", "raise_signal", "pthread_kill"), subprocess: ("Popen", "run"), socket: ("socket", "socketpair"),
             multiprocessing: ("Process", "Pool"), threading.Thread: ("start",)}
    for place, names in walls.items():
        for name in names:
            assert hasattr(place, name), name
            setattr(place, name, forbidden(f"{getattr(place, '__name__', place)}.{name}"))
    return {"os.fork": os.fork, "os.system": lambda: os.system("true"), "signal.signal": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            "subprocess.run": lambda: subprocess.run(["true"]), "Thread.start": lambda: threading.Thread(target=print).start(),
            "multiprocessing.Process": lambda: multiprocessing.Process(target=print), **{f"import {n}": lambda n=n: __import__(n) for n in (*ABSENT, *MORE)}}


def raises(call):
    """Whether a wall holds."""
    try:
        call()
    except (OSError, ImportError):
        return True
    return False


def judged(call, *arguments):
    """The answer and the lines that were announced; what reaches the worker as an exception is a fault of ours."""
    announced = []
    try:
        return {**json.loads(call(*arguments, announced.append)), "announced": announced}
    except BaseException as e:
        return {"raised": f"{type(e).__name__}: {e}"}


def main(numpys, course):
    """Everything; the answers go to where prints cannot reach."""
    sys.platform = "emscripten"
    sys.modules.update(dict.fromkeys(ABSENT))
    walls = forbid()
    sys.path.append(numpys)
    import numpy as np
    sys.path.remove(numpys)
    before = set(sys.modules)
    sys.path.insert(0, course)
    import bridge
    loaded = sorted(set(sys.modules) - before)
    orders, out, sys.stdout = json.load(sys.stdin), sys.stdout, sys.stderr
    np.seterr(all="ignore")
    found = {"modules": loaded, "files": [bridge.__file__, bridge.mg.__file__],
             "homework": [judged(bridge.homework, f"{course}/homework/{name}", text) for name, text in orders["homework"]],
             "playground": [judged(bridge.playground, text) for text in orders["playground"]],
             "used": list(USED), "open": [name for name, call in walls.items() if not raises(call)]}
    json.dump(found, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
