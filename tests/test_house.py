"""The house rules of the source tree, read from the source itself (by AST; nothing is imported).

Each rule is a function from the root folder to a list of "file:line: what is wrong". It is tested twice: on this
repository, and on a small wrong one that it must not accept.
"""

import ast
import functools
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Imports only point down: a module may import what stands in a lower row, and nothing of its own row but itself.
IMPORT_ORDER = [
    {"experiments"},
    {"scripts"},
    {"lectures"},
    {"models"},
    {"layers"},  # layers/__init__.py, which imports every layer
    {"layers.agreement", "layers.report"},  # short names of verify's
    {"layers.verify"},
    {"layers.modules"},
    {"layers.gradients"},
    {"layers.weights"},
    {"layers.batch", "layers.sample", "layers.whitening"},
    {"layers.shapes", "layers.forms"},
    {"layers.registry"},
    {"minigrad"},  # the package itself, minigrad/__init__.py, which collects the public names
    {"minigrad.backend", "minigrad.errors"},  # short names of core's
    {"minigrad.derivation"},
    {"minigrad.check", "minigrad.show"},
    {"minigrad.nn", "minigrad.optim", "minigrad.data", "minigrad.checkpoint", "minigrad.derivatives", "minigrad.finite"},
    {"minigrad.command", "minigrad.downloads", "minigrad.files"},
    {"minigrad.elsewhere"},
    {"minigrad.core.engine"},
    {"minigrad.ops"},
    {"minigrad.core.by_hand"},
    {"minigrad.core.primitive"},
    {"minigrad.core.calls"},
    {"minigrad.core.inputs"},
    {"minigrad.core.plan"},
    {"minigrad.core.donation"},
    {"minigrad.core.tensor"},
    {"minigrad.core.state"},
    {"minigrad.core.storage"},
    {"minigrad.core.ownership"},
    {"minigrad.core.backend"},
    {"minigrad.kernels"},
    {"minigrad.core.errors"},
    {"minigrad.core"},  # minigrad/core/__init__.py, which imports nothing
    {"minigrad.datasets"},
]
LEVEL = {module: -row for row, modules in enumerate(IMPORT_ORDER) for module in modules}
PACKAGES = {module.partition(".")[0] for module in LEVEL}

ARRAY_LIBRARIES = {"numpy", "cupy", "cupyx", "scipy", "torch"}
MAY_IMPORT_ARRAY_LIBRARIES = ("minigrad/core/backend.py", "minigrad/kernels/", "minigrad/derivation/inside/")  # in a worker there is only NumPy
# `from .backend import np` is the same import in disguise; who may do that, and why:
MAY_BORROW_NUMPY = {
    "layers/verify/agreement.py": "compares on the host, in float64",
    "layers/verify/report.py": "compares on the host, in float64",
    "minigrad/check/gradcheck.py": "compares on the host, in float64",
    "minigrad/check/relative.py": "compares on the host, in float64",
    "minigrad/check/quotients.py": "compares on the host, in float64",
    "minigrad/check/verdict.py": "compares on the host, in float64",
    "minigrad/derivation/backward.py": "compares on the host, in float64",
    "minigrad/derivation/bounds.py": "compares on the host, in float64",
    "minigrad/derivation/attempt.py": "students write NumPy",
    "minigrad/derivation/changes.py": "compares on the host, in float64",
    "minigrad/derivation/diagnose.py": "compares on the host, in float64",
    "minigrad/derivation/gradient.py": "compares on the host, in float64",
    "minigrad/derivation/edit.py": "students write NumPy",
    "minigrad/derivation/edits.py": "students write NumPy",
    "minigrad/derivation/explain.py": "students write NumPy",
    "minigrad/derivation/expression.py": "students write NumPy",
    "minigrad/derivation/operations.py": "students write NumPy",
    "minigrad/derivation/parts.py": "students write NumPy",
    "minigrad/derivation/projection.py": "students write NumPy",
    "minigrad/derivation/proposals.py": "students write NumPy",
    "minigrad/derivation/examine.py": "looks at the cases of a task, which are NumPy",
    "minigrad/derivation/inputs.py": "compares on the host, in float64",
    "minigrad/derivation/judge.py": "compares on the host, in float64",
    "minigrad/derivation/kernel.py": "hands host arrays to somebody else's library, and takes them back",
    "minigrad/derivation/names.py": "compares on the host, in float64",
    "minigrad/derivation/probe.py": "compares on the host, in float64",
    "minigrad/derivation/repair.py": "compares on the host, in float64",
    "minigrad/derivation/fixtures.py": "students write NumPy",
    "minigrad/derivation/flags.py": "compares on the host, in float64",
    "minigrad/derivation/runner.py": "students write NumPy",
    "minigrad/derivation/workers.py": "students write NumPy",
    "minigrad/data.py": "draws and shuffles on the host; arrays reach a backend by from_numpy",
    "minigrad/downloads.py": "parses files on the host",
}
MAY_COMPARE_WITH = {("layers/verify/report.py", "torch"): "a column where whitening degenerates; left out if missing"}
MAY_IMPORT_PICKLE = {"tests/test_errors.py": "asserts that a Tensor refuses to be pickled", "tests/test_fixes.py": "the same of Modules"}

SAME_NAME: dict[str, str] = {}  # class -> why two of this name are one thing, or never meet

# English that a native reader stumbles over: pattern -> what to write. In parts, so that this file does not match itself.
COUNTED = ("axis batch block call channel column device dict direction element epoch file filter function group image input iteration kernel kind "
           "launch layer line minute node op output page parameter pixel row run sample second seed step student tensor thread trial turn unit value")
STUMBLES = {
    r"\bbut" + r" for\b": "except for, or up to",
    r"\b(?:has|have|had)" + r" not[.,;:)!?]": "does not have",
    r"""(?:[:;,] |["'])needed""" + r" (?:is|are)\b": "a sentence that begins with what is meant",
    r"(?<!= )\b(?:\d(?:[\d.,]*\d)?(?: (?:%|[kMG]i?B|[num\u00b5]?s|[a-z]+s))?|one|two|three|four|ten|ms|seconds)"
    rf" an? (?:{COUNTED.replace(' ', '|')})\b": "per",
}

MAX_LINES_OF_A_FILE = 500
MAX_CODE_LINES_OF_THE_ENGINE = 1500  # minigrad/core; blank lines, comments and docstrings are free


# -- reading the tree --------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """A Python file: its path below the root, and its syntax tree."""

    path: str
    tree: ast.Module
    text: str

    def at(self, node, message):
        return f"{self.path}:{node.lineno}: {message}"


@cache
def read(root, *folders):
    """The Python files below these folders of `root`, sorted; missing folders have none."""
    files = sorted(f for folder in folders for f in (root / folder).rglob("*.py") if "__pycache__" not in f.parts)
    return [Source(path, _parsed(text, path), text)
            for f in files for path, text in [(f.relative_to(root).as_posix(), f.read_text(encoding="utf-8"))]]


def module_name(path):
    """minigrad/ops/shape.py -> minigrad.ops.shape; a package's __init__.py is the package."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room(module):
    """The row entry that `module` belongs to: minigrad.ops.shape -> minigrad.ops, layers.batch.batch_norm -> layers.batch.

    The engine's files are rooms of their own: minigrad.core.plan.
    """
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[:2] == ["minigrad", "core"] else 2 if parts[0] in ("minigrad", "layers") else 1])


def imports(source, root):
    """Pairs (node, absolute module) of all import statements, in functions too, but not under `if TYPE_CHECKING:`."""
    package = module_name(source.path)
    if not source.path.endswith("/__init__.py"):
        package = package.rpartition(".")[0]
    skipped = {id(inner) for node in ast.walk(source.tree) if isinstance(node, ast.If) and is_type_checking(node.test)
               for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(source.tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node, inner if exists(root, inner) or inner in LEVEL else base
        elif is_dynamic_import(node):
            yield node, node.args[0].value


def is_type_checking(test):
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def is_dynamic_import(node):
    """importlib.import_module("name") or __import__("name")."""
    return (isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
            and bool(node.args) and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str))


def exists(root, module):
    path = root.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


# -- the rules ---------------------------------------------------------------------------------------------------------


def imports_that_point_up(root):
    """Imports against IMPORT_ORDER, and modules that it does not name."""
    problems = []
    for source in read(root, *sorted(PACKAGES)):
        importer = room(module_name(source.path))
        if importer not in LEVEL:
            problems.append(f"{source.path}:1: {importer} is new: add it to IMPORT_ORDER in tests/test_house.py, in "
                            "the row below everything that may import it")
            continue
        for node, module in imports(source, root):
            if module.partition(".")[0] not in PACKAGES or room(module) == importer:
                continue
            if room(module) not in LEVEL:
                problems.append(source.at(node, f"{room(module)} is unknown: add it to IMPORT_ORDER in "
                                                "tests/test_house.py"))
            elif LEVEL[room(module)] >= LEVEL[importer]:
                problems.append(source.at(node, f"{importer} imports {module}, which is not below it"))
    return problems


def array_libraries_in_the_wrong_place(root):
    """NumPy, CuPy, ... named outside backend.py and kernels/."""
    problems = []
    for source in read(root, "minigrad", "layers"):
        if source.path.startswith(MAY_IMPORT_ARRAY_LIBRARIES):
            continue
        for node, module in imports(source, root):
            library = module.partition(".")[0]
            if library in ARRAY_LIBRARIES and (source.path, library) not in MAY_COMPARE_WITH:
                problems.append(source.at(node, f"imports {module}; take the namespace from the arrays instead"))
            if (isinstance(node, ast.ImportFrom) and any(a.name in {"np", "cp", *ARRAY_LIBRARIES} for a in node.names)
                    and source.path not in MAY_BORROW_NUMPY):
                problems.append(source.at(node, f"borrows {ast.unparse(node).split(' import ')[1]} from {module}"))
    return sorted(set(problems))


def pickles(root):
    """Ways to run code that came in a file."""
    problems = []
    for source in python_files(root):
        if not re.search(r"pickle|dill|joblib|shelve|marshal|torch\.load", source.text):
            continue  # a look at every call takes a while
        for node, module in imports(source, root):
            if module.partition(".")[0] in {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve",
                                            "marshal"} and source.path not in MAY_IMPORT_PICKLE:
                problems.append(source.at(node, f"imports {module}; checkpoints are safetensors"))
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call):
                continue
            if ast.unparse(node.func) == "torch.load":
                problems.append(source.at(node, "torch.load unpickles"))
            if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords):
                problems.append(source.at(node, "allow_pickle must stay False"))
    return problems


def machine_paths(root):
    """Absolute paths of somebody's machine, in any text file that git would carry."""
    # Written in parts, so that this file does not match itself.
    pattern = re.compile(r"(?<![\w.~$}>*-])/(?:" + "|".join(("home", "root", "tmp", "work")) + r")(?:/|\b(?![\w.-]))")
    problems = []
    for path in carried_files(root):
        try:
            lines = (root / path).read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError):  # binary, or deleted but not yet committed
            continue
        problems += [f"{path}:{i}: {line.strip()[:80]}" for i, line in enumerate(lines, 1) if pattern.search(line)]
    return problems


def missing_docstrings(root):
    """Public modules, and public functions and classes at their top level, without a docstring."""
    problems = []
    for source in read(root, "minigrad", "layers"):
        if any(part.startswith("_") and part != "__init__.py" for part in source.path.split("/")):
            continue
        if not ast.get_docstring(source.tree):
            problems.append(f"{source.path}:1: the module has no docstring")
        for node in source.tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            is_overload = any("overload" in ast.unparse(d) for d in node.decorator_list)
            if not node.name.startswith("_") and not is_overload and not ast.get_docstring(node):
                problems.append(source.at(node, f"{node.name} has no docstring"))
    return problems


def checks_without_power(root):
    """`x.sum().backward()`: a cotangent of ones, for which the gradient through any mean subtraction is zero."""
    problems = []
    for source in read(root, "tests", "lectures"):
        for node in ast.walk(source.tree) if ".backward(" in source.text else ():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
                    and isinstance(node.func.value, ast.Call)):
                continue
            if ast.unparse(node.func.value.func).split(".")[-1] == "sum":
                problems.append(source.at(node, "a cotangent of ones has no power; call y.backward(random_cotangent)"))
    return problems


def long_files(root):
    """Files of minigrad that are not read in one sitting."""
    lengths = {source.path: len(source.text.splitlines()) for source in read(root, "minigrad")}
    return [f"{path}: {n} lines; split it along its ideas (limit {MAX_LINES_OF_A_FILE})"
            for path, n in lengths.items() if n >= MAX_LINES_OF_A_FILE]


def engine_over_budget(root):
    """The files of minigrad/core, together, if they have too many lines of code."""
    lines = {source.path: code_lines(source) for source in read(root, "minigrad/core")}
    total = sum(lines.values())
    if total <= MAX_CODE_LINES_OF_THE_ENGINE:
        return []
    return [f"{total} code lines, more than {MAX_CODE_LINES_OF_THE_ENGINE}: {lines}"]


def names_of_several_classes(root):
    """Classes at the top level of their files whose name stands for something else in another file."""
    places = {}
    for source in python_files(root):
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(source.at(node, f"class {node.name}"))
    return [f"{found[1]} is also {found[0].split(': ')[0]}" for name, found in places.items() if len(found) > 1 and name not in SAME_NAME]


def stumbling_english(root):
    """Phrases of STUMBLES in Python, Markdown, CUDA and the catalogue of errors."""
    patterns = {re.compile(pattern): better for pattern, better in STUMBLES.items()}
    problems = []
    for path in carried_files(root):
        if not path.endswith((".py", ".md", ".cu", "errors.txt")) or not (root / path).is_file():
            continue
        text = (root / path).read_text(encoding="utf-8")
        problems += [f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {m[0]!r}; write: {better}"
                     for pattern, better in patterns.items() for m in pattern.finditer(text)]
    return problems


def code_lines(source):
    """Number of lines that hold code: neither blank, nor comment, nor docstring."""
    docstrings = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings |= set(range(node.lineno, node.end_lineno + 1))
    return sum(1 for i, line in enumerate(source.text.splitlines(), 1)
               if i not in docstrings and line.strip() and not line.lstrip().startswith("#"))


def python_files(root):
    """All Python files that git would carry."""
    for path in carried_files(root):
        if path.endswith(".py") and (root / path).is_file():
            text = (root / path).read_text(encoding="utf-8")
            yield Source(path, _parsed(text, path), text)


@functools.cache
def _parsed(text, path):
    return ast.parse(text, path)


def carried_files(root):
    """Files that are tracked, or would be by `git add .`; without a repository, all files."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        answer = [f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file()]
    return sorted(path for path in answer if "__pycache__" not in path)


RULES = [imports_that_point_up, array_libraries_in_the_wrong_place, pickles, machine_paths, missing_docstrings, checks_without_power, long_files,
         engine_over_budget, names_of_several_classes, stumbling_english]


# -- this repository keeps them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_there_are_no(rule):
    problems = rule(ROOT)
    assert not problems, "\n  ".join(["", *problems])


@pytest.mark.parametrize("path, names", [*((path, {"np"}) for path in MAY_BORROW_NUMPY),
                                         *((path, {"pickle"}) for path in MAY_IMPORT_PICKLE)])
def test_exceptions_are_still_needed(path, names):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names}
    assert names <= imported, f"{path} no longer imports {names}: take it off the list"


def test_what_may_be_compared_with_still_is():
    for path, library in MAY_COMPARE_WITH:
        (source,) = [s for s in read(ROOT, "layers", "minigrad") if s.path == path]
        assert library in {module for _, module in imports(source, ROOT)}, f"{path} no longer imports {library}: take it off the list"


# -- and the rules have power ------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path):
    """Write {path: text} below an empty root and return the root."""
    def build(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text, encoding="utf-8")
        return tmp_path
    return build


def test_an_empty_house_keeps_every_rule(tmp_path):
    for rule in RULES:
        assert rule(tmp_path) == []


GOOD_IMPORTS = {
    "minigrad/core/engine.py": "from .. import ops\nfrom . import backend\nfrom .tensor import Tensor\nimport math",
    "minigrad/core/tensor.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .engine import tape",
    "minigrad/ops/shape.py": "from ..core.primitive import primitive\nfrom .reduce import sum\nfrom . import reduce",
    "minigrad/__init__.py": "from .derivation import check",
    "layers/batch/batch_norm.py": "import minigrad as mg\nfrom minigrad.ops import sum\nfrom ..registry import register\nfrom . import renorm",
    "scripts/train.py": "import models, layers",
}


def test_imports_that_point_down_pass(house):
    root = house({**GOOD_IMPORTS, "minigrad/core/backend.py": "", "minigrad/ops/reduce.py": ""})
    assert imports_that_point_up(root) == []


@pytest.mark.parametrize("path, text, says", [
    ("minigrad/core/tensor.py", "from .engine import tape", "minigrad.core.tensor imports minigrad.core.engine"),
    ("minigrad/core/tensor.py", "def f():\n    from .. import ops", "minigrad.core.tensor imports minigrad.ops"),
    ("minigrad/core/tensor.py", "import minigrad.ops.shape", "minigrad.core.tensor imports minigrad.ops.shape"),
    ("minigrad/ops/shape.py", "from ..core import engine", "minigrad.ops imports minigrad.core.engine"),
    ("minigrad/kernels/erf.py", "from ..core.backend import np", "minigrad.kernels imports minigrad.core.backend"),
    ("minigrad/core/__init__.py", "from .errors import error", "minigrad.core imports minigrad.core.errors"),
    ("minigrad/ops/shape.py", "import minigrad as mg", "minigrad.ops imports minigrad,"),
    ("minigrad/core/engine.py", "from .. import Tensor", "minigrad.core.engine imports minigrad,"),
    ("minigrad/core/backend.py", "import importlib\nimportlib.import_module('layers')", "minigrad.core.backend imports layers"),
    ("minigrad/nn/modules.py", "from ..optim import SGD", "minigrad.nn imports minigrad.optim"),
    ("layers/batch/batch_norm.py", "from models import vgg", "layers.batch imports models"),
    ("layers/batch/batch_norm.py", "from ..modules import BatchNorm2d", "layers.batch imports layers.modules"),
    ("layers/batch/batch_norm.py", "from ..sample.layer_norm import rows", "layers.batch imports layers.sample"),
    ("layers/verify/report.py", "from .. import REGISTRY", "layers.verify imports layers,"),
    ("layers/rooms/attic.py", "", "layers.rooms is new: add it to IMPORT_ORDER"),
    ("models/vgg.py", "import scripts.train", "models imports scripts.train"),
    ("minigrad/novelty.py", "", "minigrad.novelty is new: add it to IMPORT_ORDER"),
    ("layers/batch/batch_norm.py", "from minigrad.novelty import f", "minigrad.novelty is unknown: add it to IMPORT_ORDER"),
])
def test_imports_that_point_up_are_found(house, path, text, says):
    assert [says in problem for problem in imports_that_point_up(house({path: text}))] == [True]


@pytest.mark.parametrize("path, text", [
    ("minigrad/core/engine.py", "import numpy as np"),
    ("minigrad/ops/shape.py", "def f():\n    from numpy.linalg import inv"),
    ("layers/batch/batch_norm.py", "import scipy.linalg"),
    ("layers/batch/batch_norm.py", "import importlib\nimportlib.import_module('torch')"),
    ("minigrad/core/engine.py", "from .backend import np"),
    ("minigrad/kernel.py", "import cupy"),
])
def test_array_libraries_in_the_wrong_place_are_found(house, path, text):
    assert len(array_libraries_in_the_wrong_place(house({path: text}))) == 1


def test_array_libraries_in_the_right_place_pass(house):
    root = house({"minigrad/core/backend.py": "import numpy", "minigrad/kernels/conv.py": "import cupy",
                  "models/vgg.py": "import numpy", "minigrad/ops/shape.py": "from ..core.backend import namespace"})
    assert array_libraries_in_the_wrong_place(root) == []


@pytest.mark.parametrize("text", ["import pickle", "from joblib import dump", "x = np.load(f, allow_pickle=True)",
                                  "x = np.load(f, allow_pickle=flag)", "x = torch.load(f)"])
def test_pickles_are_found(house, text):
    assert len(pickles(house({"scripts/train.py": text}))) == 1


def test_loading_without_pickle_passes(house):
    assert pickles(house({"minigrad/data.py": "x = np.load(f, allow_pickle=False)"})) == []


@pytest.mark.parametrize("path", ["/".join(("", "home", "ada", "data")), "/".join(("", "tmp", "x.npy")),
                                  "/".join(("", "work")), "/".join(("", "root", ""))])
def test_machine_paths_are_found_and_others_are_not(house, path):
    harmless = ("see https://example.org" + path, "a" + path, ".." + path, "$PREFIX" + path, "$" + "{X}" + path)
    root = house({"README.md": "\n".join(harmless) + "\n", "notes.md": f'"{path}"\nopen({path})\n'})
    assert [problem.split(":")[:2] for problem in machine_paths(root)] == [["notes.md", "1"], ["notes.md", "2"]]


def test_missing_docstrings_are_found(house):
    root = house({"minigrad/a.py": "def public(): pass\ndef _private(): pass\nclass Public:\n    def f(self): pass",
                  "layers/_b.py": "def public(): pass", "layers/c.py": '"""C."""\ndef f():\n    """F."""'})
    assert [problem.split(": ")[1] for problem in missing_docstrings(root)] == [
        "the module has no docstring", "public has no docstring", "Public has no docstring"]


@pytest.mark.parametrize("statement, found", [
    ("y.sum().backward()", 1), ("mg.sum(y).backward()", 1), ("sum(y, axis=0).backward(create_graph=True)", 1),
    ("(y * w).sum(1).backward()", 1), ("y.backward(g)", 0), ("loss(y).backward()", 0), ("y.sum()", 0)])
def test_checks_without_power_are_found(house, statement, found):
    assert len(checks_without_power(house({"tests/test_x.py": statement}))) == found


def test_a_name_of_two_classes_is_found(house):
    root = house({"minigrad/a.py": "class Row: pass\nclass Line: pass", "tests/test_a.py": "class Row:\n    class Line: pass"})
    assert names_of_several_classes(root) == ["tests/test_a.py:1: class Row is also minigrad/a.py:1"]


@pytest.mark.parametrize("words, found", [
    ("equal but" + " for rounding", 1), ("a name that NumPy has" + " not.", 1), ("which it has" + " not yet seen", 0), ("0: needed" + " is 1 or more", 1),
    ("what is needed is 1", 0), ("one" + " a file", 1), ("5 \u00b5s" + " an op", 1), ("707 s" + " an epoch", 1), ("16 bytes" + " a row", 1),
    ("seconds" + " a step", 1), ("with \u03b5 = 0 a filter", 0), ("0, and a file", 0), ("a list of 3, a line", 0),
    ("one line per file", 0), ("1.2" + " a layer", 1)])
def test_stumbling_english_is_found(house, words, found):
    assert len(stumbling_english(house({"docs/x.md": f"It says\n{words}"}))) == found


def test_long_files_and_a_large_engine_are_found(house):
    root = house({"minigrad/core/engine.py": "x = 1\n" * 1100 + "# free\n\n" * 900, "minigrad/core/tensor.py": "x = 1\n" * 400,
                  "minigrad/ops/shape.py": "x = 1\n" * 499, "minigrad/optim.py": "x = 1\n" * 499})
    assert [problem.split(":")[0] for problem in long_files(root)] == ["minigrad/core/engine.py"]
    assert engine_over_budget(root) == []
    (root / "minigrad" / "core" / "errors.py").write_text('"""Free."""\nx = 1\n')
    read.cache_clear()
    assert engine_over_budget(root)[0].startswith("1501 code lines")
