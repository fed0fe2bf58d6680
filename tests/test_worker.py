"""The judge sits outside: what a submission cannot reach, by which wall, and that an honest one is not hurt by it."""

import os
import shutil
import signal
import socket
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from test_verdicts import TASK, in_a_file

from minigrad import derivation
from minigrad.derivation import Limits, runner, workers
from minigrad.derivation.inside import confine, guard, messages
from minigrad.files import remove_folder

ROOT = Path(__file__).resolve().parents[1]
LINES = "import numpy as np\n\n\ndef d_z(d_loss, z):\n    return 2 * d_loss * z\n\n\ndef d_xhat(d_y, gamma):\n    return d_y * gamma\n"
BOTH = {"lines": ["d_z", "d_xhat"]}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and namespaces are Linux'")
LANDLOCK = confine.landlock_version()
WALLS = ["none", *(["landlock"] if LANDLOCK else []), *(["bwrap"] if shutil.which("bwrap") else [])]


def in_line(statements):
    """A file whose d_xhat runs these statements first."""
    return LINES.replace("    return d_y", textwrap.indent(textwrap.dedent(statements).strip(), "    ") + "\n    return d_y")


# -- nothing of the judge's is in there --------------------------------------------------------------------------------------

SEARCHES = {
    "frames": "import sys\nf, seen = sys._getframe(), []\nwhile f:\n    seen += [*f.f_globals, *f.f_locals]\n    f = f.f_back\n"
              "assert not {'probe', 'adjoints', 'TASK', 'task', 'Probe'} & set(seen), seen",
    "objects": "import gc\nassert not [o for o in gc.get_objects() if type(o).__module__.startswith(('minigrad', 'layers', 'lectures'))]",
    "modules": "import sys\nassert not [m for m in sys.modules if m.split('.')[0] in ('minigrad', 'layers', 'lectures', 'models')]",
    "import": "import minigrad, layers\nassert type(minigrad).__name__ == type(layers).__name__ == 'AbsentModule'",
    "arguments": "import gc\nshapes = {o.shape for o in gc.get_objects() if isinstance(o, np.ndarray) and o.size > 1}\n"
                 "assert shapes <= {d_y.shape, gamma.shape}",
    "environment": "import os\nassert 'COURSE_TOKEN' not in os.environ and os.environ['HOME'] == os.environ['TMPDIR'] != '/'",
}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_of_the_process_finds_nothing_of_the_judges(search, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_TOKEN", "secret")
    statements = SEARCHES[search].replace("import minigrad, layers\n", "")
    found = in_a_file(tmp_path, ("import minigrad, layers\n" if search == "import" else "") + in_line(statements), **BOTH)
    assert found.lines[1].verdict == "right", str(found)


def test_a_line_is_given_its_own_arguments_and_is_judged_before_those_further_up(tmp_path):
    """d_mu is given the true d_xhat. A file that keeps it has nothing from it: d_xhat has been judged by then."""
    keeps = LINES + ("\n\nkept = []\n\n\ndef d_x(d_xhat, d_var, d_mu):\n    kept.append(d_xhat)\n    raise NotImplementedError\n").replace("LINES", "")
    spy = keeps.replace("return d_y * gamma", "return kept[0]")
    found = in_a_file(tmp_path, spy, lines=["d_x", "d_z", "d_xhat"])
    assert [x.line for x in found.lines] == ["d_x", "d_z", "d_xhat"]
    assert found.lines[2].verdict == "error" and "IndexError" in found.lines[2].message


def test_a_task_function_is_served_by_the_judge(tmp_path):
    task = derivation.load_task(ROOT / "lectures/homework/05_whitening_stable")
    solution = (ROOT / "lectures/homework/05_whitening_stable/lines.py").read_text("utf-8")
    file = tmp_path / "lines.py"
    file.write_text(solution)
    assert derivation.check(task, str(file))
    for wrong, said in (("lyapunov('text', R)", "could not convert string"), ("lyapunov(R)", "TypeError"), ("lyapunov(R[0], R)", "Error")):
        file.write_text(solution + f"\n\ndef d_sigma(d_W, R, lyapunov):\n    return {wrong}\n")
        line = next(x for x in derivation.check(task, str(file)).lines if x.line == "d_sigma")
        assert line.verdict == "error" and said in line.message, line


# -- walls ---------------------------------------------------------------------------------------------------------------------


def confined(work, read=(), write=()):
    """What `work` says, in a fork behind Landlock alone: no hooks."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine.landlock([*confine.readable(workers.numpy_folder()), *map(str, read)], list(map(str, write)))
            try:
                said = str(work())
            except BaseException as e:
                said = type(e).__name__
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as f:
        return f.read()


@pytest.mark.skipif(not LANDLOCK, reason="no Landlock here")
def test_landlock_holds_without_any_hook(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        (folder / "text").write_text("text")
    assert confined(lambda: (mine / "text").read_text(), read=[mine]) == "text"
    assert confined(lambda: (mine / "new").write_text("x"), write=[mine]) == "1"
    for work in (lambda: (other / "text").read_text(), lambda: (mine / "text").write_text("x"), lambda: os.listdir(other), lambda: os.unlink(mine / "text"),
                 lambda: os.symlink("a", mine / "b"), lambda: os.mkdir(mine / "c"), lambda: os.rename(mine / "text", other / "x"),
                 lambda: open(ROOT / "minigrad" / "__init__.py").close(), lambda: open("/proc/1/environ").close(), lambda: open("/etc/passwd").close(),
                 lambda: os.execv("/bin/sh", ["sh", "-c", "true"])):
        assert confined(work, read=[mine]) == "PermissionError", work
    if LANDLOCK >= 4:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert confined(lambda: socket.create_connection(server.getsockname(), 1)) == "PermissionError"
    if LANDLOCK >= 6:
        parent = os.getpid()
        assert confined(lambda: os.kill(parent, 0)) == "PermissionError"
    import json
    assert confined(lambda: json.dumps([float(np.linalg.norm([3.0, 4.0]))])) == "[5.0]"


@LINUX
def test_namespaces_hide_processes_and_the_network_and_end_together():
    reading, writing = os.pipe()
    pid, parent = os.fork(), os.getpid()
    if pid == 0:
        try:
            if not confine.namespaces([]):
                os.write(writing, b"not to be had")
                os._exit(0)
            said = []
            for work in (lambda: os.kill(parent, 0), lambda: socket.create_connection(("127.0.0.1", 9), 1)):
                try:
                    work()
                    said.append("done")
                except OSError as e:
                    said.append(type(e).__name__)
            if os.fork() == 0:  # a process that outlives its parent, in a session of its own
                os.setsid()
                signal.pause()
            os.write(writing, f"{said} {os.getppid()}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as f:
        said = f.read()  # comes to an end: nobody is left who holds the pipe
    os.waitpid(pid, 0)
    assert said in ("not to be had", "['ProcessLookupError', 'OSError'] 1")


@LINUX
def test_a_judges_memory_is_for_no_other_process_of_the_user():
    assert confined(lambda: (confine.no_peeking(), confine.ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))[1]) == "0"  # PR_GET_DUMPABLE


@pytest.mark.more
@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("statements", ["os.kill(os.getppid(), 9)", "os.kill(-1, 9)", "import _posixsubprocess", "os._exit(0)", "os.closerange(3, 64)"])
def test_killing_what_is_near_costs_that_line_only(statements, wall, tmp_path):
    if wall == "none" and "-1" in statements:
        pytest.skip("without a wall this is an attack on the machine")
    hooked = in_line("import os\n" + statements)
    found = in_a_file(tmp_path, hooked, sandbox=wall, **BOTH)
    assert found.sandbox == wall and found.lines[0].verdict == "right", str(found)


@pytest.mark.parametrize("wall", WALLS)
def test_an_honest_file_finds_what_it_needs(wall, tmp_path):
    honest = "import collections, functools, itertools, json, math, random, tempfile\nimport numpy.testing\nfrom helper import twice\n" + in_line("""
        np.random.default_rng(0).normal(size=3), np.linalg.svd(np.eye(3)), np.fft.fft(np.ones(4))
        with tempfile.TemporaryDirectory() as folder:
            np.save(folder + "/a.npy", d_y)
            numpy.testing.assert_array_equal(np.load(folder + "/a.npy"), d_y)
        np.savetxt("notes.txt", d_y)
        assert open("data.txt").read() == "data" and math.sqrt(random.random()) >= 0 and json.dumps([1])""").replace("2 * d_loss", "twice(d_loss)")
    (tmp_path / "helper.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "data.txt").write_text("data")
    found = in_a_file(tmp_path, honest, sandbox=wall, **BOTH)
    assert found and not found.refused, (str(found), found.refused)
    assert (tmp_path / "notes.txt").exists()


def test_a_sandbox_that_is_not_there_is_an_error_and_nobodys_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(confine.CannotConfine, match="install the package bubblewrap"):
        in_a_file(tmp_path, LINES, sandbox="bwrap", **BOTH)


def test_what_is_refused_is_said_at_the_students_line(tmp_path):
    found = in_a_file(tmp_path, in_line("import os\ntry:\n    open('/etc/nowhere.txt', 'w')\nexcept OSError:\n    pass\nos.system('true')"), **BOTH)
    assert found.refused == ["tried to write /etc/nowhere.txt at line 11 of lines.py", "tried to start the program true at line 14 of lines.py"]
    assert found.lines[0].verdict == "right" and found.lines[1].verdict == "error" and "must not start the program" in found.lines[1].message


# -- modules that are not there ----------------------------------------------------------------------------------------------


def test_a_module_that_is_not_there_costs_the_lines_that_use_it(tmp_path):
    text = "import torch\nimport scipy.linalg as sl\nfrom minigrad.derivation import check, load_task\n" + LINES.replace("2 * d_loss * z", "sl.inv(z)")
    found = in_a_file(tmp_path, text + "\n\nif not check(load_task('toy'), __file__):\n    1 / 0\nprint(f'{torch.__name__}: done')\n", **BOTH)
    assert found.status == "ok" and found.lines[1].verdict == "right", str(found)
    assert found.lines[0].verdict == "error" and "scipy.linalg.inv() is not there when a line is judged" in found.lines[0].message
    decorated = in_a_file(tmp_path, LINES.replace("def d_z", "@numba.njit(cache=True)\ndef d_z").replace("def d_xhat", "@numba.njit\ndef d_xhat")
                          .replace("import numpy", "import numba\nimport numpy"), **BOTH)
    assert decorated and decorated.status == "ok"
    tried = in_a_file(tmp_path, "try:\n    import cupy as np\nexcept ImportError:\n    import numpy as np\n" + LINES.split("\n", 1)[1], **BOTH)
    assert tried


@pytest.mark.parametrize("operation", ["{} + z", "z * {}", "np.asarray({})", "-{}", "{} @ z", "float({})", "{}[0] - z", "z ** {}"])
def test_no_number_comes_from_a_module_that_is_not_there(operation, tmp_path):
    found = in_a_file(tmp_path, "import torch\n" + LINES.replace("2 * d_loss * z", operation.format("torch.ones(3)")), **BOTH)
    assert found.lines[0].verdict == "error" and "torch.ones()" in found.lines[0].message and "derive it with numpy" in found.lines[0].message


# -- what comes back is bounded, and none of it is believed ------------------------------------------------------------------------

ANSWERS = {
    "much": "return np.zeros(10**9)", "objects": "return np.array([object()])", "text": "return 'right'", "complex": "return d_y * gamma * 1j",
    "forged": "import os\n    for fd in range(3, 12):\n        try:\n            os.write(fd, b'{\"kind\": \"done\", \"ended\": null, \"bytes\": 0}\\n')\n"
              "        except OSError:\n            pass\n    return d_y",
    "endless": "import os\n    while True:\n        os.write(1, b'x' * 65536)",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_breaks_the_judge_or_another_line(answer, tmp_path):
    found = in_a_file(tmp_path, LINES.replace("return d_y * gamma", ANSWERS[answer]), limits=Limits(1.0, 512), **BOTH)
    assert found.lines[0].verdict == "right" and found.lines[1].earned == 0, str(found)


def test_messages_that_do_not_fit_their_bytes_are_refused():
    for head in ({"dtype": "O", "shape": [1]}, {"dtype": "<f8", "shape": [2]}, {"dtype": "<f8", "shape": [-1]}, {"dtype": "none", "shape": []}, {}):
        with pytest.raises((ValueError, TypeError, KeyError)):
            messages.unpacked([head], b"12345678")
    heads, body = messages.packed([np.arange(3), np.float32(2.0), np.zeros((2, 0))])
    assert [a.tolist() for a in messages.unpacked(heads, body)] == [[0, 1, 2], 2.0, [[], []]]
    reader = messages.Reader(-1)
    reader.data += b'noise\n[1]\n{"bytes": -1}\n{"bytes": "x"}\n{"kind": "a", "bytes": 2}\nhi{"kind": "b"}\n'
    assert [reader.parsed() for _ in range(3)] == [({"kind": "a", "bytes": 2}, b"hi"), ({"kind": "b"}, b""), None]


def test_the_whole_submission_has_a_limit(tmp_path):
    slow = LINES.replace("    return 2", "    while True:\n        pass\n    return 2")
    found = in_a_file(tmp_path, slow, limits=Limits(30.0, 512, 30.0, total=1.0), **BOTH)  # where the machine is busy, loading alone may take the second
    assert [x.verdict for x in found.lines] == ["stopped", "stopped"], found
    assert any(said in found.lines[0].message for said in ("whole file", "1 seconds", "more than")), found


def test_the_disk_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "MOST_DISK", 4 << 20)
    fills = in_line("import os, time\nfor i in range(4):\n    with open(os.environ['TMPDIR'] + f'/{i}', 'wb') as f:\n        f.write(bytes(2 << 20))\n"
                    "while True:\n"
                    "    time.sleep(0.01)")
    found = in_a_file(tmp_path, fills, limits=Limits(20.0, 512), **BOTH)
    assert found.lines[1].verdict == "stopped" and "on the disk" in found.lines[1].message and found.lines[0].verdict == "right"


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(runner.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    deep = in_line("import os\nos.chdir(os.environ['TMPDIR'])\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\n"
                   "os.symlink('.', 'loop')\nos.chmod('.', 0)")
    assert in_a_file(tmp_path, deep, **BOTH).lines[0].verdict == "right"
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.more
def test_a_folder_is_removed_however_deep(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    base, here = tmp_path / "base", os.getcwd()
    base.mkdir()
    try:
        os.chdir(base)
        for _ in range(2100):  # longer than a path may be
            os.mkdir("d")
            os.chdir("d")
        Path("file").write_text("x")
        os.symlink(outside, "link")
        os.chmod(".", 0o500)
    finally:
        os.chdir(here)
    remove_folder(base)
    assert not base.exists() and (outside / "kept").read_text() == "kept"
    remove_folder(base)  # nothing there: nothing to do


# -- flags ---------------------------------------------------------------------------------------------------------------------

F = """
def f(var, xc, eps):
    return xc * (var + eps) ** -0.5


"""
CENTRAL = """
def d_gamma(d_y, xhat, gamma, beta):
    h, out = 1e-5, np.zeros_like(gamma)
    for i in range(len(gamma)):
        e = np.zeros_like(gamma)
        e[i] = h
        out[i] = np.sum(d_y * ((xhat * (gamma + e) + beta) - (xhat * (gamma - e) + beta))) / (2 * h)
    return out
"""
RICHARDSON = F + """
def d_var(d_xhat, var, xc, eps):
    def slope(h):
        return np.sum(d_xhat * (f(var + h, xc, eps) - f(var - h, xc, eps)), 0, keepdims=True) / (2 * h)
    a = [slope(2e-3 / 2**k) for k in range(4)]
    for n in (4, 16, 64):
        a = [(n * v - u) / (n - 1) for u, v in zip(a, a[1:])]
    return a[0]
"""
COMPLEX = F + """
def d_var(d_xhat, var, xc, eps):
    return np.sum(d_xhat * f(var + 1e-30j, xc, eps).imag / 1e-30, 0, keepdims=True)
"""
MACHINE = F + """
h = np.finfo(np.longdouble).eps ** 0.3333


def d_var(d_xhat, var, xc, eps):
    v, d, x = np.longdouble(var), np.longdouble(d_xhat), np.longdouble(xc)
    return np.sum(d * (f(v + h, x, eps) - f(v - h, x, eps)) / (2 * h), 0, keepdims=True).astype(float)
"""
HIDDEN = F + """
def d_var(d_xhat, var, xc, eps):
    h = 1 / len(range(8192))
    up, down = f(var + h, xc, eps), f(var - h, xc, eps)
    a = f(var + h, xc, eps)
    b = f(var - h, xc, eps)
    c = f(var + h / 2, xc, eps) - f(var - h / 2, xc, eps)
    d = f(var + h / 4, xc, eps) - f(var - h / 4, xc, eps)
    one, two, three = (a - b) / (2 * h), c / h, 2 * d / h
    x, y = (4 * two - one) / 3, (4 * three - two) / 3
    return np.sum(d_xhat * (16 * y - x) / 15, 0, keepdims=True)
"""
FLAGGED = {
    "hidden step": (HIDDEN, "two neighbouring places"), "long": ("def d_xhat(d_y, gamma):\n    return d_y * gamma" + " + 0.001 - 0.001" * 300, "too long"),
    "all names": ("from helper import *", "all names of helper"), "a name": ("from helper import d_xhat", "not in this file"),
    "made from text": ("exec('def twice(x): return x + x')\n\n\ndef d_xhat(d_y, gamma):\n    return twice(d_y) * gamma / 2", "made from text"),
    "central difference": (CENTRAL, "numerical"), "Richardson": (RICHARDSON, "numerical"), "complex step": (COMPLEX, "complex"),
    "step from the machine": (MACHINE, "finfo, longdouble"), "text": ("def d_xhat(d_y, gamma):\n    return eval('d_y * gamma')", "it uses eval"),
    "another module": ("import statistics\n\n\ndef d_xhat(d_y, gamma):\n    return d_y * gamma * statistics.mean([1, 1])", "it uses statistics"),
    "no arguments": ("def d_beta(d_y):\n    return TABLE", "none of its arguments"),
}


@pytest.mark.parametrize("kind", FLAGGED)
def test_what_is_no_derivation_is_flagged(kind, tmp_path):
    code, said = FLAGGED[kind]
    name = code.partition("def d_")[2].partition("(")[0] or "xhat"
    (tmp_path / "helper.py").write_text("def d_xhat(d_y, gamma):\n    return d_y * gamma\n")
    if kind == "no arguments":
        probes = list(derivation.judge._probes(TASK, np.random.default_rng(0)))
        assert len({p.adjoints["beta"].shape for p in probes}) > 1  # no table fits all shapes, so the flag is read from the tree alone
        lines = runner.LiveRunner({"d_beta": lambda d_y: 0}, Limits(), text=code)
        trial = derivation.changes.Trial.of(probes[0], "beta", ["y"], probes[0].adjoints["beta"])
        assert derivation.flags.flags(derivation.attempt.Attempt(lines, TASK, probes), "d_beta", trial) == ["it uses none of its arguments"]
        return
    found = in_a_file(tmp_path, f"import numpy as np\n\n\n{code}\n", lines=["d_" + name]).lines[0]
    assert found.verdict in ("right", "rounding") and any(said in flag for flag in found.flags), found
    assert all(flag in found.message for flag in found.flags)


@pytest.mark.more
def test_no_solution_is_flagged():
    for folder in sorted((ROOT / "lectures/homework").glob("*/lines.py")):
        found = derivation.check(derivation.load_task(folder.parent), str(folder))
        assert found and not [x for x in found.lines if x.flags], str(found)


# -- the explanation, beside the wall -----------------------------------------------------------------------------------------------


def test_a_path_is_inside_a_folder_by_its_parts_not_its_letters():
    assert guard.inside("/a/b", "/a/b") and guard.inside("/a/b/c", "/a/b") and not guard.inside("/a/bc", "/a/b") and guard.inside("/a", "/")


def test_the_process_that_forks_is_started_again_when_it_has_ended(tmp_path):
    assert in_a_file(tmp_path, LINES, **BOTH)
    if workers.Forker._one is not None:
        workers.Forker._one.process.kill()
        workers.Forker._one.process.wait()
    assert in_a_file(tmp_path, LINES, **BOTH)
