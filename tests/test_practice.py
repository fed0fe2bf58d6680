"""Homework in the browser, without a browser: what the pages hold, what their worker answers, and where Python and the editor come from.

`make browser-test` types into the pages in Chromium.
"""

import ast
import base64
import functools
import hashlib
import http.client
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import types
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from helpers import contrast
from lectures.site import check, serve
from lectures.site.practice import bridge, editor, engine, pyodide
from lectures.tools import release
from minigrad.derivation import check as judge
from minigrad.derivation import load_task, tape_of

ROOT = Path(__file__).resolve().parents[1]
HOMEWORK = ROOT / "lectures" / "homework"
SOLUTIONS = {p.parent.name: p.read_text("utf-8") for p in sorted(HOMEWORK.glob("*/lines.py"))}
WEB = ROOT / "lectures" / "site" / "practice" / "web"
EXAMPLES = {p.stem: p.read_text("utf-8") for p in sorted((WEB / "examples").glob("*.py"))}

# Homework -> a mistake in its solution: (right, wrong), the line that has it, and words of the explanation.
MUTANTS = {
    "01_own_op": (("2.0 * x * d_q", "-2.0 * x * d_q"), "d_x", "wrong sign"),
    "02_batch_norm": (("share * (d_var * 2.0 * xc + d_mu)", "share * d_mu"), "d_x", "the path from x through xc to var is missing"),
    "03_inplace_abn": (("(d_y - xhat * np.mean(d_y * xhat, axis=0))", "d_y"), "d_x_form_1", "missing"),
    "04_jacobian": ((" + d_vbar / m", ""), "d_v", "straight to vbar"),
    "04_orthonormality": (("d_gram @ W + d_gram.T @ W", "d_gram @ W"), "d_W", "1/2 times"),
    "05_whitening": (("d_xhat.T @ xtilde + xc.T @ d_rotated", "d_xhat.T @ xtilde"), "d_D", "missing"),
    "05_whitening_stable": (("W.T @ d_xhat + (d_sigma + d_sigma.T) @ xc / m", "W.T @ d_xhat"), "d_xc", "missing"),
    "06_centered_weight_norm": (("d_w * gain / norm + d_norm * vc / norm", "d_w * gain / norm"), "d_vc", "missing"),
    "06_spectral_norm": ((" + np.outer(u, d_t)", ""), "d_W", "missing"),
    "06_weight_norm": (("d_vhat / (norm + eps) + d_norm * v / norm", "d_vhat / (norm + eps) - d_norm * v / norm"), "d_v", "sign"),
    "07_layer_norm": ((" + 2.0 * d_var * xc / (D - 1)", ""), "d_xc", "missing"),
    "07_rms_norm": ((" + 2.0 * d_ms * share * x", ""), "d_x", "missing"),
    "08_iter_norm": (("d_A / size + d_size * sigma / size", "d_A / size"), "d_sigma", "missing"),
    "09_cost": (("return ", "return 2 * "), "kept_composed", "measured"),
    "10_double_backward": (("d_r + d_gbar / m + d_p * xhat / m", "d_r + d_gbar / m"), "d_g", "missing"),
    "11_design_a_layer": ((" + d_dev * np.sign(xc) / m", ""), "d_xc", "missing"),
}
each_homework = pytest.mark.parametrize("name", SOLUTIONS)


@functools.cache
def task_of(name):
    return load_task(str(HOMEWORK / name))


def mutated(name):
    """A file in which only the line with the mistake is written, and the row of the mistake."""
    (right, wrong), line, _ = MUTANTS[name]
    parts = [node for node in ast.parse(SOLUTIONS[name]).body if isinstance(node, ast.Import) or getattr(node, "name", "") == line]
    text = "\n\n\n".join(ast.get_source_segment(SOLUTIONS[name], node) for node in parts)
    assert text.count(right) == 1
    return text.replace(right, wrong), text[:text.index(right)].count("\n") + 1


# -- our own code for the browser --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive():
    return engine.archive()


@pytest.fixture(scope="module")
def course(archive, tmp_path_factory):
    """The zip, unpacked."""
    folder = tmp_path_factory.mktemp("course")
    zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
    return folder


def test_the_zip_is_the_same_bytes_twice_and_holds_what_a_check_needs(archive):
    assert archive == engine.archive()
    file = zipfile.ZipFile(io.BytesIO(archive))
    expected = {p.relative_to(ROOT).as_posix() for folder in ("minigrad", "layers") for p in (ROOT / folder).rglob("*.py")}
    expected |= {f"homework/{name}/task.py" for name in SOLUTIONS} | {"bridge.py"}
    assert set(file.namelist()) == expected and len(file.namelist()) == len(expected)
    assert all(info.date_time == engine.EPOCH for info in file.infolist())
    assert file.read("bridge.py") == Path(bridge.__file__).read_bytes() and file.read("layers/__init__.py") == (ROOT / "layers/__init__.py").read_bytes()


def shown(folder, course, pages):
    """What the release finds of solutions in the zip's files and in all texts of pages, apart from the library, which is public."""
    tree, root, gone = folder / "tree", folder / "root", []
    shutil.copytree(course, tree)
    for name, text in pages.items():
        place = tree / "pages" / name.removesuffix(".html")
        place.mkdir(parents=True)
        reader = parsed(text)
        for script, data in reader.data.items():
            for k, inner in enumerate(strings(json.loads(data))):
                if "\n" in inner:
                    (place / f"{script}{k}.py").write_text(inner, "utf-8", newline="\n")
        words = [f"`{inner}`" for data in reader.data.values() for inner in strings(json.loads(data)) if "\n" not in inner]
        (place / "page.md").write_text("\n".join([*reader.texts, *words]), "utf-8", newline="\n")
    shutil.copytree(tree, root, ignore=shutil.ignore_patterns("minigrad", "layers"))
    for name, text in SOLUTIONS.items():
        lines = f"lectures/homework/{name}/lines.py"
        (root / lines).parent.mkdir(parents=True)
        (root / lines).write_text(text, "utf-8", newline="\n")
        gone += release.strip(text, lines)[1]
    assert len(gone) >= 100
    return release.leaks(root, tree, gone)


def strings(value):
    """All texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def test_neither_the_zip_nor_a_page_shows_a_solution(course, site, tmp_path):
    assert shown(tmp_path, course, site.pages) == []
    texts = [p.read_text("utf-8") for p in (*course.glob("homework/*/*"), course / "bridge.py", *site.folder.glob("*.html"), *site.folder.glob("*.js"))]
    assert len(texts) > 40 and not [t for t in texts if "BEGIN SOLUTION" in t]


def test_a_planted_solution_is_found_in_the_zip_and_on_a_page(course, site, tmp_path):
    planted = tmp_path / "course"
    shutil.copytree(course, planted, ignore=shutil.ignore_patterns("minigrad", "layers", "0[3-9]*", "1*"))
    (planted / "minigrad").mkdir()
    task = planted / "homework" / "02_batch_norm" / "task.py"
    task.write_text(task.read_text("utf-8") + "\nKEY = lambda u, v, c, a, p, rho: rho * a + p * (2 * v * c + u)\n", "utf-8")
    page = site.pages["02_batch_norm.html"]
    answer = "np.sum(d_xhat * xc, axis=0, keepdims=True) * -0.5 * (var + eps) ** -1.5"
    pages = {"stub.html": page.replace('raise NotImplementedError(\\"d_var: your turn\\")', f"return {answer}"),
             "story.html": page.replace("</h1>", f"</h1><p><code>{answer}</code></p>")}
    assert all(text != page for text in pages.values())
    found = "\n".join(shown(tmp_path, planted, pages))
    assert "homework/02_batch_norm/task.py:" in found and "pages/stub/" in found and "pages/story/page.md" in found and "in other names" in found


# -- the checker where there are no processes --------------------------------------------------------------------------


ODD = {  # texts for the playground -> what the message begins with, and the line it is at
    "def forward(x:\n    pass": ("'(' was never closed (line 1)", 1),
    "x = 1\n\ny = = 2": ("invalid syntax (line 3)", 3),
    "": ("forward is missing: write def forward(x, ...)", None),
    "inputs = {}": ("forward is missing: write def forward(x, ...)", None),
    "def forward(x):\n    return x": ('inputs is missing: write inputs = {"x": ...}', None),
    "def forward(x):\n    return x\n\ninputs = 5": ('inputs must be a dict: write inputs = {"x": ...}', None),
    "inputs = {'x': [1.0]}\nkeywords = []\n\n\ndef forward(x):\n    return x": ("keywords must be a dict", None),
    "inputs = {'x': [1.0, 2.0]}\n\n\ndef forward(x):\n    y = 1 // 0\n    return y": ("ZeroDivisionError: integer division or modulo by zero (line 5)", 5),
    "inputs = {'x': [1.0, 2.0]}\n\n\ndef forward(x):\n    return y": ("name 'y' is not defined (line 5)", 5),
    "inputs = {'x': [1.0, 2.0]}\n\n\ndef forward(x):\n    return forward(x)": ("RecursionError: maximum recursion depth exceeded", 5),
    "import sys\nsys.exit()": ("SystemExit (line 2)", 2),
    "raise KeyboardInterrupt": ("KeyboardInterrupt (line 1)", 1),
    "inputs = {'x': [1.0, 2.0]}\n\n\ndef forward(x):\n    raise SystemExit(3)": ("SystemExit: 3 (line 5)", 5),
    "assert 0, 'of my own'": ("AssertionError: of my own (line 1)", 1),
    "import nothing_like_this": ("ModuleNotFoundError: No module named 'nothing_like_this' (line 1)", 1),
    "x = 'a\0b'": ("source code string cannot contain null bytes", None),
    "x = '\ud800'": ("UnicodeEncodeError", None),
    "inputs = {'x': [1.0, 2.0]}\n\n\ndef forward(x):\n    return 3.0": ("", None),
}
START = "import numpy as np\n\nimport minigrad as mg\n\n"
FORMS = {  # texts whose lines are right
    "integers": "inputs = {'x': np.zeros((5, 2)), 'i': np.array([0, 2, 1, 2])}\n\n\ndef forward(x, i):\n    return mg.named('y', x[i] * x[i])\n\n\n"
                "def d_x(d_y, x, i):\n    d = np.zeros_like(x)\n    np.add.at(d, i, 2 * x[i] * d_y)\n    return d\n",
    "tuple": "inputs = {'x': np.zeros((3, 2))}\n\n\ndef forward(x):\n    return mg.named('y', mg.tanh(x)), mg.named('z', x * x)\n\n\n"
             "def d_x(d_y, d_z, x, y):\n    return d_y * (1 - y * y) + 2 * x * d_z\n",
    "dict": "inputs = {'x': mg.tensor([[0.0] * 2] * 3)}\n\n\ndef forward(x):\n    return {'a': mg.named('y', mg.tanh(x)), 'b': mg.named('z', x * x)}\n\n\n"
            "def d_x(d_y, d_z, x, y):\n    return d_y * (1 - y * y) + 2 * x * d_z\n",
    "keywords": "inputs = {'x': np.zeros((3, 2))}\nkeywords = {'eps': 0.5}\n\n\ndef forward(x, *, eps):\n    return mg.named('y', x * eps)\n\n\n"
                "def d_x(d_y, eps):\n    return d_y * eps\n",
    "names": "inputs = {'x': np.zeros((3, 2))}\n\n\ndef forward(x):\n    z = mg.named('<b>&\"', x * 2.0)\n    return mg.named('y', mg.tanh(z))\n\n\n"
             "def d_x(d_y, y):\n    return 2 * d_y * (1 - y * y)\n",
    "raised": "inputs = {'x': np.zeros((3, 2))}\n\n\ndef forward(x):\n    z = mg.named('z', x * 2.0)\n    return mg.named('y', mg.tanh(z))\n\n\n"
              "def d_z(d_y):\n    raise SystemExit(3)\n\n\ndef d_x(d_z):\n    raise KeyboardInterrupt\n",
}
FILES = {  # texts for a homework -> its status
    "def d_x(:": "syntax error", "import sys\nsys.exit(2)": "import error", "raise KeyboardInterrupt": "import error", "x = '\ud800'": "syntax error",
    "x = 'a\0b'": "syntax error", "import os\nprint('hello')\nos.fork()": "import error", "": "blank"}


@pytest.fixture(scope="module")
def browser(course):
    """What a process says that has nothing but the zip and NumPy, and can do only what a browser can."""
    orders = {"homework": [*SOLUTIONS.items(), *((name, mutated(name)[0]) for name in MUTANTS), *(("02_batch_norm", text) for text in FILES)],
              "playground": [*EXAMPLES.values(), *ODD, *(START + text for text in FORMS.values())]}
    command = [sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("like_a_browser.py")), str(Path(np.__file__).parents[1]), str(course)]
    done = subprocess.run(command, input=json.dumps(orders), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    files, texts = iter(found["homework"]), iter(found["playground"])
    return types.SimpleNamespace(**found, solutions=dict(zip(SOLUTIONS, files)), mutants=dict(zip(MUTANTS, files)), broken=dict(zip(FILES, files)),
                                 examples=dict(zip(EXAMPLES, texts)), odd=dict(zip(ODD, texts)), forms=dict(zip(FORMS, texts)))


def test_the_process_is_like_a_browser_and_the_checker_needs_no_more(browser, course):
    assert browser.open == []  # every wall holds
    assert [name for name in browser.used if name != "os.fork"] == [] and len(browser.used) == 1  # which a student has tried
    assert all(Path(file).is_relative_to(course) for file in browser.files)


def test_the_bridge_imports_nothing_beside_numpy_and_our_engine(browser):
    tops = {name.partition(".")[0] for name in browser.modules}
    assert not tops & {"layers", "lectures", "matplotlib", "safetensors", "tqdm", "threadpoolctl", "cupy", "scipy", "jinja2", "markdown_it"}
    assert {n for n in tops - set(sys.stdlib_module_names) if not n.startswith(("_cython", "cython"))} == {"bridge", "minigrad", "numpy"}
    assert not {"asyncio", "http", "unittest", "sqlite3", "xml", "email.message"} & set(browser.modules)
    parts = {name.split(".")[1] for name in browser.modules if name.startswith("minigrad.")}
    along = {"checkpoint", "data", "derivatives", "downloads", "finite", "nn", "optim"}  # minigrad imports them; no check needs them
    assert parts <= {"check", "core", "derivation", "elsewhere", "files", "kernels", "ops", "show"} | along


@each_homework
def test_every_solution_is_right_in_a_browser(name, browser):
    report, task = browser.solutions[name], task_of(name)
    assert {line["verdict"] for line in report["lines"]} == {"right"} and all(line["good"] and line["ways"] == [] for line in report["lines"])
    assert report["status"] == "ok" and report["earned"] == report["points"] > 0 and report["drawing"] is None
    assert sorted(report["announced"]) == sorted(task.lines) and [line["line"] for line in report["lines"]] == list(task.lines)


@pytest.mark.parametrize("name", [name if k % 2 else pytest.param(name, marks=pytest.mark.more) for k, name in enumerate(MUTANTS)])
def test_a_wrong_line_is_named_in_a_browser_as_it_is_elsewhere(name, browser, tmp_path):
    (text, row), (_, line, words) = mutated(name), MUTANTS[name]
    (found,) = [x for x in browser.mutants[name]["lines"] if x["verdict"] != "not implemented"]
    assert found["line"] == line and words in found["message"]
    (tmp_path / "lines.py").write_text(text, "utf-8")
    (elsewhere,) = judge(task_of(name), str(tmp_path / "lines.py"), lines=[line]).lines
    assert (found["verdict"], found["code"], found["message"], found["text"]) == (elsewhere.verdict, elsewhere.code, elsewhere.message, elsewhere.text())
    assert [(tuple(r["names"]), r["kind"]) for r in found["routes"]] == list(elsewhere.routes) and len(found["ways"]) == len(elsewhere.routes)
    assert found["at"] == {"line": row}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_cannot_run_is_an_answer(text, browser):
    report = browser.broken[text]
    assert report["status"] == FILES[text] and len(report["lines"]) == 7 and not [line for line in report["lines"] if line["good"]]
    if "hello" in text:
        assert "os.fork" in report["message"] and report["lines"][0]["at"]["line"] == 3


# -- the playground ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, verdicts, words", [
    ("1_centred", {"d_z": "right", "d_gain": "right", "d_xc": "right", "d_x": "wrong"}, "the path from x through mu to xc is missing"),
    ("2_grn", {"d_gamma": "right", "d_n": "right", "d_m": "right", "d_g": "wrong", "d_x": "right"}, "the path from g through m to n is missing"),
    ("3_attention", {"d_v": "right", "d_a": "right", "d_s": "wrong", "d_q": "right", "d_k": "right"}, "minus a times the sum over axis 1"),
    ("4_empty", {"d_x": "not implemented"}, "not written yet")])
def test_an_example_is_what_its_comments_promise(name, verdicts, words, browser):
    report = browser.examples[name]
    assert {line["line"]: line["verdict"] for line in report["lines"]} == verdicts and set(report["announced"]) == set(verdicts)
    (wrong,) = [line for line in report["lines"] if not line["good"]]
    row = EXAMPLES[name].splitlines()[wrong["at"]["line"] - 1]
    assert words in wrong["text"] and (" # " in row or (name == "4_empty" and row.startswith("def d_x")))  # the comment that asks is at the line that is marked


def test_every_example_is_tested():
    assert list(EXAMPLES) == ["1_centred", "2_grn", "3_attention", "4_empty"]


@pytest.mark.parametrize("text", ODD)
def test_a_text_that_cannot_be_judged_is_an_answer(text, browser):
    (words, line), report = ODD[text], browser.odd[text]
    assert report["status"] == "error" and report["lines"] == [] and report["message"].startswith(words) and report["message"].strip()
    assert report["at"] == ({"line": line} if line else None)


@pytest.mark.parametrize("name", [name for name in FORMS if name != "raised"])
def test_the_playground_takes_every_kind_of_forward(name, browser):
    report = browser.forms[name]
    assert [(line["line"], line["verdict"]) for line in report["lines"]] == [("d_x", "right")]
    assert report["drawing"].count("<svg") == 2


def test_names_are_shown_and_never_used_as_html(browser):
    drawing = browser.forms["names"]["drawing"]
    assert "<b>" not in drawing and drawing.count('data-name="&lt;b&gt;&amp;&quot;"') == 2
    tags = set(re.findall(r"<(\w+)", drawing))
    assert tags <= {"div", "svg", "style", "defs", "marker", "path", "g", "rect", "text", "tspan", "title", "desc", "circle", "line", "use"}, tags


def test_a_line_that_ends_python_is_an_error_of_that_line(browser):
    report = browser.forms["raised"]
    assert {line["line"]: (line["verdict"], line["text"].split(" (")[0].rstrip(": ")) for line in report["lines"]} == {
        "d_z": ("error", "SystemExit: 3"), "d_x": ("error", "KeyboardInterrupt")}


def test_a_forward_without_a_line_is_drawn(tmp_path):
    report = json.loads(bridge.playground(START + "inputs = {'x': np.zeros((3, 2))}\n\n\ndef forward(x):\n    return mg.named('y', mg.tanh(x))\n", print))
    assert report["status"] == "blank" and "d_<name>" in report["message"] and report["lines"] == [] and 'data-name="y"' in report["drawing"]


# -- where it is shown -------------------------------------------------------------------------------------------------


def drawn(drawing):
    """(boxes, arrows) of each of the two pictures."""
    wide, narrow = drawing.split('<div class="narrow">')
    return [({int(n) for n in re.findall(r'data-line="(\d+)"', part)},
             {(int(a), int(b)) for a, b in re.findall(r'data-from="(\d+)" data-to="(\d+)"', part)}) for part in (wide, narrow)]


def assert_drawn(ways, drawing):
    for boxes, arrows in drawn(drawing):
        for found in ways:
            assert found["lines"] and found["edges"] and found["kind"] in ("missing", "wrong")
            assert set(found["marked"]) <= set(found["lines"]) <= boxes and {tuple(edge) for edge in found["edges"]} <= arrows


@each_homework
def test_ways_of_a_homework_are_in_its_drawing(name, browser, site):
    task = task_of(name)
    drawing = bridge.drawing(tape_of(task))
    assert drawing in site.pages[f"{name}.html"]
    ways = [w for line in browser.mutants[name]["lines"] for w in line["ways"]]
    assert ways or name in ("01_own_op", "03_inplace_abn", "04_orthonormality", "09_cost")  # mistakes on no path, or on every one
    assert_drawn(ways, drawing)
    for line in task.lines:
        assert task.measured or (drawing.count('class="mg-box') and f'data-name="{task.line(line).target}"' in drawing)


@pytest.mark.parametrize("name", EXAMPLES)
def test_ways_of_an_example_are_in_its_drawing(name, browser):
    report = browser.examples[name]
    ways = [w for line in report["lines"] for w in line["ways"]]
    assert bool(ways) == (name in ("1_centred", "2_grn"))
    assert_drawn(ways, report["drawing"])


@pytest.mark.parametrize("text, message, line", [
    ("def d_x(a):\n    b = a\n    return b\n", "", 3), ("def d_x(a):\n    if a:\n        return 1\n    return 2\n", "", 4), ("def d_x(a):\n    pass\n", "", 1),
    ("@f\n@g(1)\ndef d_x(a):\n    pass\n", "", 3), ("@f\ndef d_x(a):\n    return 1\n", "", 3),
    ("def d_x(a):\n    if a:\n        return 1\n\n    def inner(b):\n        return b\n", "", 3),
    ("def d_x(a):\n    class C:\n        def f(self):\n            return 1\n", "", 1),
    ("def d_x(a):\n    def inner(b):\n        return b\n    return inner(a)\n", "", 4),
    ("def d_x(a):\n    for b in a:\n        try:\n            return b\n        finally:\n            pass\n", "", 4),
    ("def d_x(a):\n    return 1\n\n\ndef d_x(a):\n    return 2\n", "", 6), ("def d_y(a):\n    return 1\n", "", None), ("def d_x(:", "", None), ("\0", "", None),
    ("def d_x(a):\n    return 1\n", "the number 2 should be 1 (line 7)", 7), ("def d_x(a):\n    return 1\n", "x (line 7, twice)", 7)])
def test_a_line_is_placed_where_it_returns(text, message, line):
    assert bridge.placed(text, "d_x", message) == (line and {"line": line})


# -- where Python comes from -------------------------------------------------------------------------------------------


def copy_of_pyodide(folder, version="0.99.0", **changes):
    """A folder that looks like a release of Pyodide; its NumPy needs two other packages, one of them through the other."""
    folder.mkdir(exist_ok=True)
    texts = {name: f"this is {name}".encode() for name in (*pyodide.CORE, "numpy-3.whl", "blas-1.whl", "libc-2.zip", "scipy-2.whl", "pyodide.d.ts")}
    packages = {"numpy": ("numpy-3.whl", ["blas"]), "blas": ("blas-1.whl", ["libc", "numpy"]), "libc": ("libc-2.zip", []), "scipy": ("scipy-2.whl", ["numpy"])}
    lock = {"info": {"version": version}, "packages": {name: {
        "file_name": file, "depends": depends, "sha256": hashlib.sha256(texts[file]).hexdigest()} for name, (file, depends) in packages.items()}}
    texts["pyodide-lock.json"] = json.dumps({**lock, **changes}).encode()
    for name, data in texts.items():
        (folder / name).write_bytes(data)
    return texts


NEEDED = sorted([*pyodide.CORE, "pyodide-lock.json", "numpy-3.whl", "blas-1.whl", "libc-2.zip"])


def test_python_comes_from_the_network_in_the_tested_version_with_checksums(tmp_path):
    found = pyodide.source(None, tmp_path)
    assert found == pyodide.source(pyodide.VERSION, tmp_path) and found.tested and found.version == pyodide.VERSION
    assert found.address == f"https://cdn.jsdelivr.net/pyodide/v{pyodide.VERSION}/full/" and found.policy == f" {found.address}"
    assert set(found.integrity) == {*pyodide.CORE, *pyodide.NUMPY} and len(pyodide.NUMPY) == 1
    for name, digest in (pyodide.CORE | pyodide.NUMPY).items():
        kind, _, data = found.integrity[name].partition("-")
        assert kind == "sha256" and base64.b64decode(data, validate=True).hex() == digest and len(digest) == 64
    assert list(tmp_path.iterdir()) == []


def test_another_version_is_named_as_untested_and_has_no_checksums(tmp_path):
    found = pyodide.source("0.28.0", tmp_path)
    assert found == pyodide.PyodideFiles("https://cdn.jsdelivr.net/pyodide/v0.28.0/full/", "0.28.0", False, {})


def test_a_folder_is_copied_as_far_as_numpy_needs_it(tmp_path):
    texts = copy_of_pyodide(tmp_path / "given")
    found = pyodide.source(str(tmp_path / "given"), tmp_path / "dest")
    assert (found.address, found.version, found.tested, found.policy) == ("pyodide/", "0.99.0", False, "")
    assert sorted(p.name for p in (tmp_path / "dest").rglob("*") if p.is_file()) == NEEDED == sorted(found.integrity)
    for name in NEEDED:
        assert (tmp_path / "dest" / "pyodide" / name).read_bytes() == texts[name]
        assert found.integrity[name] == "sha256-" + base64.b64encode(hashlib.sha256(texts[name]).digest()).decode()


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_file_of_a_folder_is_named(name, tmp_path):
    copy_of_pyodide(tmp_path / "given")
    (tmp_path / "given" / name).unlink()
    with pytest.raises(pyodide.NoPyodide, match=re.escape(name)):
        pyodide.source(str(tmp_path / "given"), tmp_path)


@pytest.mark.parametrize("name", ["numpy-3.whl", "libc-2.zip"])
def test_a_damaged_package_of_a_folder_is_named(name, tmp_path):
    copy_of_pyodide(tmp_path / "given")
    (tmp_path / "given" / name).write_bytes(b"this is something else")
    with pytest.raises(pyodide.NoPyodide, match=f"{re.escape(name)} is damaged: its SHA-256 is {hashlib.sha256(b'this is something else').hexdigest()}"):
        pyodide.source(str(tmp_path / "given"), tmp_path)


def test_the_core_of_the_tested_version_must_be_the_one_that_was_tested(tmp_path, monkeypatch):
    texts = copy_of_pyodide(tmp_path / "given", pyodide.VERSION)
    with pytest.raises(pyodide.NoPyodide, match=r"pyodide\.mjs is damaged"):
        pyodide.source(str(tmp_path / "given"), tmp_path / "one")
    monkeypatch.setattr(pyodide, "CORE", {name: hashlib.sha256(texts[name]).hexdigest() for name in pyodide.CORE})
    assert pyodide.source(str(tmp_path / "given"), tmp_path / "two").tested


@pytest.mark.parametrize("changes, words", [
    ({"packages": {}}, "names no NumPy"), ({"info": {}}, "is no list of Pyodide's files"), ({"packages": [1]}, "is no list of Pyodide's files"),
    ({"packages": {"numpy": {"file_name": "numpy-3.whl", "sha256": None, "depends": ["gone"]}}}, "names no gone, which NumPy needs"),
    ({"packages": {"numpy": {"file_name": "../numpy-3.whl", "sha256": None, "depends": []}}}, "is no list of Pyodide's files")])
def test_a_lock_that_leads_nowhere_is_said(changes, words, tmp_path):
    copy_of_pyodide(tmp_path / "given", **changes)
    with pytest.raises(pyodide.NoPyodide, match=words):
        pyodide.source(str(tmp_path / "given"), tmp_path / "dest")


@pytest.mark.parametrize("given", ["nowhere", "0.27", "v0.27.7", "0.27.7/", ""])
def test_what_is_neither_a_version_nor_a_folder_is_said(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pyodide.NoPyodide, match="neither a version such as"):
        pyodide.source(given, tmp_path / "dest")
    copy_of_pyodide(tmp_path / "given")
    (tmp_path / "given" / "pyodide-lock.json").write_text("not JSON", "utf-8")
    with pytest.raises(pyodide.NoPyodide, match="is no list of Pyodide's files"):
        pyodide.source("given", tmp_path / "dest")


# -- the pages ---------------------------------------------------------------------------------------------------------


class PageParts(HTMLParser):
    """What a page consists of."""

    VOID = ("meta", "link", "br", "hr", "img", "input", "wbr")

    def __init__(self, text):
        super().__init__()
        self.ids, self.scripts, self.data, self.texts, self.nameless, self.handlers = [], [], {}, [], [], []
        self.attributes, self.policy, self.open, self.labelled = {}, "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.handlers += [f"{tag} {name}" for name, value in attributes if name.startswith("on") or (value or "").strip().startswith("javascript:")]
        self.attributes.setdefault(tag, given)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag == "script":
            self.scripts.append(given)
        if tag in ("input", "select", "textarea") and not (given.get("aria-label") or "label" in (t for t, _ in self.open)):
            self.nameless.append(f"{tag} {given}")
        if tag not in self.VOID:
            self.open.append((tag, {**given, "text": given.get("aria-label") or ""}))

    def handle_endtag(self, tag):
        if tag in (t for t, _ in self.open):
            while self.open:
                name, given = self.open.pop()
                if name in ("button", "a", "label") and not given["text"].strip():
                    self.nameless.append(f"{name} {given}")
                if name == tag:
                    break

    def handle_data(self, data):
        for name, given in self.open:
            if name in ("button", "a", "label"):
                given["text"] += data
        tag, given = self.open[-1] if self.open else ("", {})
        if tag == "script":
            self.data[given.get("id")] = data
        else:
            self.texts.append(data if tag != "code" else f"`{data}`" if "\n" not in data else f"```\n{data}\n```")


parsed = functools.cache(PageParts)


BUNDLE = editor.Bundle("export function create() {}\n", "The editor of these pages is made from:\n\nnothing\n")


@pytest.fixture(scope="module")
def building():
    """The module that writes the pages; a test that asks for it is skipped where a package is missing."""
    for name in ("jinja2", "mdit_py_plugins.dollarmath"):
        pytest.importorskip(name)
    from lectures.site.practice import build
    return build


@pytest.fixture(scope="module")
def site(building, tmp_path_factory):
    """The folder try/ as the site has it: with an editor, lectures one folder up, and Python from the network."""
    folder = tmp_path_factory.mktemp("site") / "try"
    names = building.build(folder, pyodide.source(None, folder), "// sets formulas\n", BUNDLE, {"02_batch_norm": "batch_norm", "05_whitening": "whitening"})
    for name in ("index", "batch_norm", "whitening"):
        (folder.parent / f"{name}.html").write_text('<html lang="en"></html>', "utf-8")
    return types.SimpleNamespace(folder=folder, pages={name: (folder / name).read_text("utf-8") for name in names})


@pytest.fixture(scope="module")
def plain(building, tmp_path_factory):
    """Three homeworks without an editor and lectures, and with a copy of Pyodide."""
    folder = tmp_path_factory.mktemp("plain") / "try"
    copy_of_pyodide(folder.parent / "given")
    few = building.homeworks()[:3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "homeworks", lambda: few)
        names = building.build(folder, pyodide.source(str(folder.parent / "given"), folder), "// sets formulas\n", None)
    return types.SimpleNamespace(folder=folder, pages={name: (folder / name).read_text("utf-8") for name in names})


@pytest.fixture(scope="module")
def read(site):
    return {name: parsed(text) for name, text in site.pages.items()}


def test_there_is_a_page_for_each_homework_and_everything_it_needs(site, plain, read):
    assert sorted(site.pages) == sorted(["index.html", "playground.html", *(f"{name}.html" for name in SOLUTIONS)])
    everything = frozenset(f"try/{name}" for name in site.pages)
    assert list(check.problems(site.folder.parent, everything)) == []  # links, loads, texts for figures, a language, and whole formulas
    assert list(check.problems(plain.folder, frozenset(plain.pages))) == []
    assert {page.attributes["html"]["lang"] for page in read.values()} == {"en"} and all(text.startswith("<!DOCTYPE html>") for text in site.pages.values())
    assert 'href="../batch_norm.html">the lecture' in site.pages["02_batch_norm.html"] and "the lecture<" not in site.pages["04_jacobian.html"]
    assert not [name for name, text in plain.pages.items() if "../" in text]


def test_formulas_of_every_story_are_on_its_page(site):
    for name in SOLUTIONS:
        shown = re.findall(r'class="math">\\[(\[](.*?)\\[)\]]</', site.pages[f"{name}.html"], re.DOTALL)
        assert len(shown) > 5 and all(f.strip() and f.count("{") - f.count(r"\{") == f.count("}") - f.count(r"\}") for f in shown), name
    settings = (WEB / "formulas.js").read_text("utf-8")
    assert all(f'"{delimiter}"' in settings for delimiter in (r"\\(", r"\\)", r"\\[", r"\\]"))


def directives(policy):
    return {name: values for name, *values in (part.split() for part in policy.split(";"))}


def test_a_page_may_run_only_the_scripts_beside_it_and_pyodide(read, plain):
    for page in read.values():
        policy = directives(page.policy)
        tokens = [token for values in policy.values() for token in values]
        assert "'unsafe-eval'" not in tokens and policy["default-src"] == ["'none'"] and "'unsafe-inline'" not in policy["script-src"]
        assert {t for t in tokens if "//" in t or "*" in t or t == "https:"} == {f"{pyodide.NETWORK}v{pyodide.VERSION}/full/"}
    for text in plain.pages.values():
        assert "//" not in PageParts(text).policy


def test_no_page_has_a_script_of_its_own(read):
    for name, page in read.items():
        assert page.handlers == [] and len(page.scripts) >= 3
        for script in page.scripts:
            if script.get("type") == "application/json":
                assert "<" not in page.data[script["id"]] and json.loads(page.data[script["id"]]), name
            else:
                assert "://" not in script["src"]
        assert sum("src" not in script for script in page.scripts) == len([d for d in page.data.values() if d.strip()])


def test_no_script_names_another_machine(site):
    for file in (*site.folder.glob("*.js"), *site.folder.glob("*.css")):
        text = file.read_text("utf-8")
        assert file.name == "sw.js" or not re.search(r"https?://|[\"'`]//", text), file.name
    assert set(re.findall(r"https?://[^/\"]+", (site.folder / "sw.js").read_text("utf-8"))) == {"https://cdn.jsdelivr.net"}


def settings_of(service_worker):
    return json.loads(re.search(r"^const \{[\w, ]+\} = (.*);$", service_worker, re.MULTILINE)[1])


def test_the_service_worker_keeps_exactly_the_files_that_are_there(site, plain):
    for made, own in ((site, set()), (plain, {"pyodide"})):
        settings = settings_of((made.folder / "sw.js").read_text("utf-8"))
        there = {p.relative_to(made.folder).as_posix() for p in made.folder.rglob("*") if p.is_file() and not own & set(p.relative_to(made.folder).parts)}
        assert sorted(settings["FILES"]) == sorted(there - {"sw.js"})
    assert settings["ADDRESS"] == "pyodide/" and settings["PYTHON"] == "0.99.0" and sorted(settings["INTEGRITY"]) == NEEDED
    assert "editor.js" not in there and "licences.txt" not in there


def test_a_version_is_of_all_files_names_and_contents(site, building, tmp_path):
    folder, source = tmp_path / "try", pyodide.source(None, tmp_path)
    shutil.copytree(site.folder, folder)
    (folder / "sw.js").unlink()

    def version():
        return settings_of(building.service_worker(folder, source))["VERSION"]
    first = version()
    assert first == settings_of((site.folder / "sw.js").read_text("utf-8"))["VERSION"]
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        file.write_bytes(data + b" ")
        assert version() != first, file.name
        file.write_bytes(data)
    (folder / "store.js").rename(folder / "stored.js")
    assert version() != first
    (folder / "stored.js").rename(folder / "store.js")
    assert version() == first


@pytest.mark.more
def test_the_same_pages_are_the_same_bytes(site, building, tmp_path):
    again = tmp_path / "try"
    building.build(again, pyodide.source(None, again), "// sets formulas\n", BUNDLE, {"02_batch_norm": "batch_norm", "05_whitening": "whitening"})
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in site.folder.iterdir()}


def test_pages_name_the_zip_by_its_content(site, archive, read):
    (file,) = site.folder.glob("*.zip")
    assert file.read_bytes() == archive and file.name == f"course-{hashlib.sha256(archive).hexdigest()[:12]}.zip"
    for name, page in read.items():
        if name != "index.html":
            settings = json.loads(page.data["settings"])
            assert settings["engine"]["engine"] == file.name and settings["editor"] is True and settings["engine"]["megabytes"] >= 256


def test_a_page_begins_with_the_stub_and_knows_points_and_hints(read):
    for name in SOLUTIONS:
        task, told = task_of(name), json.loads(read[f"{name}.html"].data["task"])
        assert told["name"] == name and [line["name"] for line in told["lines"]] == list(task.lines)
        assert sum(line["points"] for line in told["lines"]) == sum(task.line(n).points for n in task.lines)
        assert all(len(line["hints"]) == 2 for line in told["lines"]) and told["stub"].count("your turn") == len(task.lines)
    assert list(json.loads(read["playground.html"].data["examples"]).values()) == list(EXAMPLES.values())


def test_a_text_cannot_end_the_block_that_holds_it(building):
    assert "<" not in building.data({"x": "</script><!-- <script>"}) and json.loads(building.data(["</script>&"])) == ["</script>&"]


def uses(script):
    """The ids that a script and those that it imports look for."""
    text = (WEB / script).read_text("utf-8")
    found = set(re.findall(r'(?:\$|getElementById)\("([\w-]+)"\)', text)) | set(re.findall(r'querySelector\w*\("#([\w-]+)', text))
    for name in re.findall(r'(?:from |import\()"\./([\w.]+)"', text):
        found |= uses(name) if name != "editor.js" else set()
    return found


def test_ids_are_unique_and_every_one_that_a_script_looks_for_is_there(read):
    assert {"check", "verdicts", "import", "hints"} <= uses("homework.js") and {"share", "tape"} <= uses("playground.js") and uses("index.js") == {"total"}
    for name, page in read.items():
        assert len(page.ids) == len(set(page.ids)), name
        scripts = [s["src"] for s in page.scripts if s.get("type") == "module"]
        assert len(scripts) == 1 and uses(scripts[0]) <= set(page.ids), (name, uses(scripts[0]) - set(page.ids))


def test_every_button_field_and_link_has_a_name(read):
    assert {name: page.nameless for name, page in read.items() if page.nameless} == {}
    assert PageParts('<button type="button"></button>').nameless and PageParts("<p><input></p>").nameless and not PageParts("<label>a <input></label>").nameless


def test_every_script_of_the_folder_is_copied(building):
    assert set(building.SCRIPTS) | {"sw.js"} == {p.name for p in (*WEB.glob("*.js"), *WEB.glob("*.css"))}


# -- colours -----------------------------------------------------------------------------------------------------------


CSS = (WEB / "practice.css").read_text("utf-8")
THEMES = dict(zip(("light", "dark"), (dict(re.findall(r"--([\w-]+): (#\w{6});", rule)) for rule in re.findall(r":root \{([^{}]*)\}", CSS)), strict=True))
CODE = ("ink", "soft", "accent", "keyword", "string", "number")
TEXT = ("ink", "soft", "accent", "right", "wrong")
GROUNDS = {"ground": (*TEXT, *CODE), "panel": TEXT, "active": CODE, "select": CODE, "accent": ("on-accent",)}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_on_what_it_stands_on(theme):
    colours = {"light": THEMES["light"], "dark": THEMES["light"] | THEMES["dark"]}[theme]
    assert THEMES["dark"].keys() == THEMES["light"].keys() == {*GROUNDS, *(text for texts in GROUNDS.values() for text in texts), "line"}
    assert {(text, ground): contrast(colours[text], colours[ground]) for ground, texts in GROUNDS.items() for text in texts
            if contrast(colours[text], colours[ground]) < 4.5} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_key_on_the_main_button_can_be_read_through(theme):
    (share,) = map(float, re.findall(r"button\.main kbd \{[^}]*opacity: ([\d.]+)", CSS))
    over, under = (THEMES[theme][name] for name in ("on-accent", "accent"))
    mixed = "#" + "".join(f"{round(share * int(over[i:i + 2], 16) + (1 - share) * int(under[i:i + 2], 16)):02x}" for i in (1, 3, 5))
    assert contrast(mixed, under) >= 4.5


def test_the_style_sheet_has_no_colours_but_those():
    bare = re.sub(r"--[\w-]+: #\w{6};", "", CSS)
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgb|hsl|: *(?:white|black|gr[ae]y|red|green|blue|yellow)\b", bare)
    assert set(re.findall(r"var\(--([\w-]+)\)", CSS + (WEB / "editor" / "editor.js").read_text("utf-8"))) <= {*THEMES["light"]}
    for rule, text, ground in (("button.main", "on-accent", "accent"), (".verdict.right", "right", None), (".verdict.wrong", "wrong", None),
                               (".cm-editor .cm-activeLine", None, "active"), (".cm-editor .cm-selectionMatch", None, "select")):
        (body,) = re.findall(rf"(?m)^{re.escape(rule)} \{{([^}}]*)\}}", CSS)
        assert (text is None or f" color: var(--{text});" in body) and (ground is None or f"background: var(--{ground})" in body), rule


# -- the editor --------------------------------------------------------------------------------------------------------


def npm(calls, fails="", says=("", "")):
    """What stands in the place of subprocess.run: it installs three packages and bundles them."""
    def run(command, *, cwd, **options):
        calls.append(command[:2])
        if command[1] == fails:
            return types.SimpleNamespace(returncode=1, stdout=says[0], stderr=says[1])
        if command[1] == "ci":
            assert sorted(p.name for p in cwd.iterdir()) == sorted(editor.SOURCES)
            for place in filter(None, json.loads((cwd / "package-lock.json").read_text("utf-8"))["packages"]):
                (cwd / place).mkdir(parents=True)
                (cwd / place / "LICENSE").write_text(f"Licence of {place}.\n\n", "utf-8")
        else:
            (cwd / "bundle.js").write_text("export const é = 1;\n", "utf-8")
        return types.SimpleNamespace(returncode=0, stdout="", stderr="")
    return run


@pytest.fixture
def there(monkeypatch):
    monkeypatch.setattr(editor.shutil, "which", lambda name: f"bin/{name}")


def test_the_editor_is_bundled_once_with_the_licences_of_what_is_in_it(tmp_path, monkeypatch, there):
    calls = []
    monkeypatch.setattr(editor.subprocess, "run", npm(calls))
    cache = tmp_path / "esbuild" / "editor"  # a name of the path is no name of a package
    made = editor.bundle(cache)
    assert made.program == "export const é = 1;\n" and calls == [["npm", "ci"], ["npm", "exec"]]
    found = re.findall(r"Licence of node_modules/(.*)\.", made.licences)
    imported = re.findall(r'from "([^"]+)"', (editor.HERE / "editor.js").read_text("utf-8"))
    assert {*imported, "@lezer/python", "crelt", "style-mod"} <= {*found} and not [name for name in found if "esbuild" in name]
    assert made.licences.startswith("The editor of these pages is made from:\n") and made.licences.count("-" * 70) == len(found)
    (kept,) = cache.iterdir()
    assert sorted(p.name for p in kept.iterdir()) == ["bundle.js", "licences.txt"]
    assert editor.bundle(cache) == made and len(calls) == 2  # from the cache
    monkeypatch.setattr(editor, "COMMANDS", (*editor.COMMANDS[:1], [*editor.COMMANDS[1], "--charset=utf8"]))
    editor.bundle(cache)
    assert len(calls) == 4  # made otherwise, so made anew


@pytest.mark.parametrize("fails, says, words", [
    ("ci", ("", "npm ERR! code E404\nnpm ERR! not found\n"), "npm ci: npm ERR! not found"), ("exec", ("no such file\n", ""), "npm exec: no such file"),
    ("exec", ("", ""), "npm exec: it failed")])
def test_what_npm_says_is_said_and_nothing_is_kept(fails, says, words, tmp_path, monkeypatch, there):
    monkeypatch.setattr(editor.subprocess, "run", npm([], fails, says))
    with pytest.raises(editor.NoEditor, match=f"^{re.escape(words)}$"):
        editor.bundle(tmp_path / "editor")
    assert not (tmp_path / "editor").exists() or list((tmp_path / "editor").iterdir()) == []


@pytest.mark.parametrize("problem", [subprocess.TimeoutExpired(["npm", "ci"], 300), PermissionError("not allowed")])
def test_npm_that_does_not_end_or_start_is_no_editor(problem, tmp_path, monkeypatch, there):
    def run(*arguments, **options):
        raise problem
    monkeypatch.setattr(editor.subprocess, "run", run)
    with pytest.raises(editor.NoEditor, match=r"^npm ci: "):
        editor.bundle(tmp_path / "editor")


def test_a_package_without_a_licence_is_no_editor(tmp_path, monkeypatch, there):
    run = npm([])

    def without(command, *, cwd, **options):
        done = run(command, cwd=cwd)
        (cwd / "node_modules" / "crelt" / "LICENSE").unlink(missing_ok=True)
        return done
    monkeypatch.setattr(editor.subprocess, "run", without)
    with pytest.raises(editor.NoEditor, match=r"^crelt has no LICENSE$"):
        editor.bundle(tmp_path / "editor")


def test_without_npm_the_pages_get_a_text_area_and_a_word_about_it(tmp_path, monkeypatch, building, capsys):
    command = pytest.importorskip("lectures.site.practice.__main__")
    monkeypatch.setattr(editor.shutil, "which", lambda name: None)
    monkeypatch.setattr(command, "BUILD", tmp_path)
    with pytest.raises(editor.NoEditor, match="npm is not there"):
        editor.bundle(tmp_path / "editor")
    assert command.bundled(False) is None and "plain text area instead of an editor: npm is not there" in capsys.readouterr().out
    assert command.bundled(True) is None and capsys.readouterr().out == ""


# -- the command and the server ----------------------------------------------------------------------------------------


def test_a_package_that_is_missing_is_named_with_what_brings_it(tmp_path, monkeypatch, capsys):
    from lectures.site.practice.__main__ import main
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "lectures.site.practice.build", raising=False)
    monkeypatch.delattr("lectures.site.practice.build", raising=False)
    assert main([str(tmp_path / "try")]) == 1 and not (tmp_path / "try").exists()
    assert capsys.readouterr().err == 'jinja2 is missing: pip install -e ".[browser]"\n'


def test_the_command_replaces_only_its_own_folder_and_says_why_there_are_no_pages(tmp_path, building, capsys):
    from lectures.site.practice.__main__ import main
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", "utf-8")
    assert main([str(tmp_path / "mine"), "--plain"]) == 2 and "holds no earlier pages" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert main([str(tmp_path / "try"), "--plain", "--pyodide", str(tmp_path / "mine")]) == 1 and "No pages were built.\n" in capsys.readouterr().err
    assert main([str(tmp_path / "try"), "--plain", "--mathjax", str(tmp_path / "mine" / "thesis.txt")]) == 1
    assert "is not es5/tex-svg.js" in capsys.readouterr().err
    assert not (tmp_path / "try").exists()


@pytest.fixture
def served(tmp_path):
    """Asks a server of a folder for a path: (status, headers, body)."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("a.wasm", "a.mjs", "a.js", "a.html", "a.css", "a.json", "a.zip", "a.whl", "a.txt", "a.svg", "a.unknown"):
        (folder / name).write_bytes(b"inside")
    (tmp_path / "secret.txt").write_bytes(b"outside")
    with serve.server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        thread.start()

        def ask(path):
            connection = http.client.HTTPConnection(*server.server_address)
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            return answer.status, answer.headers, body
        ask.server = server
        yield ask
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name, kind", [
    ("a.wasm", "application/wasm"), ("a.mjs", "text/javascript"), ("a.js", "text/javascript"), ("a.html", "text/html"), ("a.css", "text/css"),
    ("a.json", "application/json"), ("a.zip", "application/zip"), ("a.whl", "application/zip"), ("a.txt", "text/plain"), ("a.svg", "image/svg+xml"),
    ("a.unknown", "application/octet-stream")])
def test_files_have_the_types_that_browsers_insist_on(name, kind, served):
    status, headers, body = served(f"/{name}")
    assert status == 200 and body == b"inside" and headers.get_content_type() == kind
    assert headers["Cache-Control"] == "no-cache" and headers["X-Content-Type-Options"] == "nosniff"
    assert kind.startswith("text/") <= (headers.get_content_charset() == "utf-8")


@pytest.mark.parametrize("path", [
    "/../secret.txt", "/%2e%2e/secret.txt", "/x/../../secret.txt", "/..%2fsecret.txt", "/../site/../secret.txt", "//../secret.txt"])
def test_a_path_does_not_leave_the_folder(path, served, capsys):
    status, _, body = served(path)
    assert status == 404 and b"outside" not in body and "File not found" in capsys.readouterr().err


def test_the_server_is_for_this_machine_alone_and_says_nothing_of_what_goes_well(served, capsys):
    assert served.server.server_address[0] == "127.0.0.1"
    assert served("/a.js")[0] == 200 and capsys.readouterr() == ("", "")


def test_a_port_that_cannot_be_used_and_a_folder_that_is_not_there_are_said(served, tmp_path, capsys):
    port = served.server.server_address[1]
    assert serve.main([str(tmp_path), "--port", str(port)]) == 2 and f"port {port} cannot be used" in capsys.readouterr().err
    assert serve.main([str(tmp_path), "--port", "70000"]) == 2 and "port 70000 cannot be used" in capsys.readouterr().err
    assert serve.main([str(tmp_path / "nowhere")]) == 2 and "run make site first" in capsys.readouterr().err


def test_the_command_says_where_it_serves_and_ends_with_ctrl_c(tmp_path, monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt
    monkeypatch.setattr(serve.ThreadingHTTPServer, "serve_forever", interrupted)
    assert serve.main([str(tmp_path), "--port", "0"]) == 0
    address = urlsplit(capsys.readouterr().out.split()[0])
    assert address.hostname == "localhost" and address.port > 0


# -- scripts -----------------------------------------------------------------------------------------------------------


def test_every_script_can_be_read_as_a_module(site, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js here")
    (tmp_path / "broken.js").write_text("import './store.js';\nlet x = ;\n", "utf-8")
    files = [*sorted(WEB.glob("*.js")), WEB / "editor" / "editor.js", site.folder / "sw.js", tmp_path / "broken.js"]
    look = """
        const vm = require("vm"), fs = require("fs");
        for (const file of process.argv.slice(1)) {
            try { new vm.SourceTextModule(fs.readFileSync(file, "utf-8")); } catch (problem) { console.log(`${file}: ${problem}`); }
        }"""
    done = subprocess.run([node, "--experimental-vm-modules", "--no-warnings", "-e", look, *map(str, files)], capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{files[-1]}: SyntaxError: Unexpected token ';'"] and done.stderr == ""
