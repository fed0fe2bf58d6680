"""Where is ...? The map, the tables of files and the tour lead to what is there, and leave nothing out."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_readme import ROOT, TEXT, named_in_the_map

import layers
import minigrad as mg
from fakecupy import cuda as fake_cuda
from layers.verify.agreement import on_backend
from minigrad import elsewhere, nn

MAP = TEXT.split("## A map of the house")[1].split("## ")[0].split("```")[1]
CORE = ROOT / "minigrad" / "core"


# -- the engine ------------------------------------------------------------------------------------------------------------


def engine_in(house):
    """The engine's files in the order of the map."""
    return [path.name for path in named_in_the_map(house) if path.parent.as_posix() == "minigrad/core"]


def wrong_order(names, sources):
    """Files that import, at their top level or in a function, one that is read after them."""
    found = []
    for k, name in enumerate(names):
        for node in ast.walk(ast.parse(sources[name])):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                imported = [node.module] if node.module else [alias.name for alias in node.names]
                found += [f"{name} uses {module}.py" for module in imported if f"{module}.py" in names[k + 1:]]
    return found


def test_the_map_lists_every_file_of_the_engine_and_no_other():
    assert sorted(engine_in(MAP)) == sorted(path.name for path in CORE.glob("*.py") if path.name != "__init__.py")


def test_the_map_is_in_the_order_of_reading():
    names = engine_in(MAP)
    listed = re.findall(r"^    (\w+\.py)  ", (CORE / "__init__.py").read_text("utf-8"), re.MULTILINE)
    assert listed == names, "the list in minigrad/core/__init__.py and the README's map differ"
    assert wrong_order(names, {name: (CORE / name).read_text("utf-8") for name in names}) == []


def test_a_wrong_order_and_a_missing_file_are_found():
    without = re.sub(r".*plan\.py.*\n", "", MAP)
    assert "plan.py" in engine_in(MAP) and "plan.py" not in engine_in(without)
    sources = {"a.py": "def f():\n    from .c import x", "b.py": "from . import a", "c.py": "from .a import y\nfrom ..ops import c"}
    assert wrong_order(["a.py", "b.py", "c.py"], sources) == ["a.py uses c.py"]
    assert wrong_order(["c.py", "a.py", "b.py"], sources) == ["c.py uses a.py"]


# -- the tour --------------------------------------------------------------------------------------------------------------

TOUR = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## A tour in six questions")[1].split("\n## ")[0]
STOPS = re.findall(r"^\| (?:the )?(.+?)\? \| `(.+?)` \| `(.+?)`", TOUR, re.MULTILINE)


def test_the_tour_has_six_questions():
    assert len(STOPS) == 6


@pytest.mark.parametrize(("question", "file", "word"), STOPS)
def test_a_question_is_answered_within_two_files_from_the_readme(question, file, word):
    """The README names the file or its folder; the file has the word."""
    named = {path.as_posix() for path in named_in_the_map(MAP)} | set(re.findall(r"\]\(([^)#]+)\)", TEXT))
    assert file in named or str(Path(file).parent.as_posix()) in named
    assert re.search(rf"\b{re.escape(word)}\b", (ROOT / file).read_text("utf-8"))


def test_running_statistics_are_written_where_the_tour_says():
    writing = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "layers").rglob("*.py")) if "record_write" in path.read_text("utf-8")]
    assert {path for path in writing if "parametrizations" not in path} == {"layers/modules/batch.py", "layers/modules/whitening.py"}


# -- kernels ---------------------------------------------------------------------------------------------------------------

CUDA = ROOT / "minigrad" / "kernels" / "cuda"


def table_of_kernels():
    """Layer -> the kernels of its forward, and those of its backward, as minigrad/kernels/cuda/__init__.py says."""
    text = importlib.import_module("minigrad.kernels.cuda").__doc__
    found = {}
    for row in text.split("    layer  ")[1].split("\n\n")[0].splitlines()[1:]:
        names, forward, backward = (set(cell.split()) - {"-"} for cell in re.split(r"  +", row.strip()))
        found |= dict.fromkeys(names, (forward, backward))
    return found


def launched(f):
    """Names of the kernels that run in `f()`, and what it returns. A channel in parts is merged: that goes without saying."""
    names = set()
    fake_cuda.OBSERVERS.append(observer := lambda kernel, grid, block, arguments, run: (names.add(kernel.name), run()))
    try:
        return f(), names - {"moments_merge"}
    finally:
        fake_cuda.OBSERVERS.remove(observer)


@pytest.mark.parametrize("name", layers.REGISTRY)
def test_a_layer_uses_the_kernels_that_the_table_says(name):
    layer, used = layers.REGISTRY[name], (set(), set())
    for _, arrays, keywords in layer.cases("float32", np.random.default_rng(0)):
        xs = [mg.tensor(a, requires_grad=True, backend="fake") for a in arrays]
        y, forward = launched(lambda xs=xs, keywords=keywords: getattr(layers, name)(*xs, **on_backend(keywords, "fake", "float32")))
        g = mg.tensor(np.random.default_rng(1).normal(size=y.shape).astype("float32"), backend="fake")
        _, backward = launched(lambda y=y, g=g: y.backward(g))
        used[0].update(forward)
        used[1].update(backward)
    assert used == table_of_kernels()[name]


def test_the_table_names_every_layer_and_the_file_every_kernel():
    assert set(table_of_kernels()) == set(layers.REGISTRY)
    kernels = set(re.findall(r"__global__[^{;]*?(\w+)\(const|__global__[^{;]*?(\w+)\(\w", "\n".join(p.read_text("utf-8") for p in CUDA.glob("*.cu"))))
    for kernel in {a or b for a, b in kernels} - {"__launch_bounds__"}:
        assert re.search(rf"\b{kernel}\b", importlib.import_module("minigrad.kernels.cuda").__doc__), kernel


# -- layers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", layers.REGISTRY)
def test_a_layers_default_form_is_a_function_of_the_package(name):
    layer = layers.REGISTRY[name]
    assert getattr(layers, name) is layer.derived[layer.default] and name in dir(layers)


def test_the_default_form_computes(backend, rng):
    x, gamma, beta = (mg.tensor(rng.normal(size=shape).astype("float32"), requires_grad=True, backend=backend) for shape in ((4, 3, 2, 2), (3,), (3,)))
    y = layers.batch_norm(x, gamma, beta, eps=1e-5)
    assert y.shape == x.shape and mg.tape(y).lines[-1].op == "batch_norm"
    with pytest.raises(AttributeError, match="'layers' has no attribute 'bach_norm'"):
        layers.bach_norm(x, gamma, beta, eps=1e-5)


def test_every_file_that_registers_is_in_a_family():
    registering = {path.relative_to(ROOT / "layers").parts[0] for path in (ROOT / "layers").rglob("*.py")
                   if re.search(r"^(\w+ = )?register\(", path.read_text("utf-8"), re.MULTILINE)}
    assert registering == set(layers.FAMILIES)


def test_a_layer_is_added_by_one_file(tmp_path):
    """The layer of docs/layers.md, as a file in a folder of layers/: in the registry, a function of the package, in the report."""
    for package in ("minigrad", "layers", "datasets"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    page = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "layers.md").read_text("utf-8"), re.DOTALL)[0]
    (tmp_path / "layers" / "sample" / "peak_norm.py").write_text(page, encoding="utf-8")
    code = "import layers; print(layers.peak_norm is layers.REGISTRY['peak_norm'].derived['one_line'], list(layers.REGISTRY).index('peak_norm'))"
    command = [sys.executable, "-c", code], [sys.executable, "-m", "layers.report", "--layer", "peak_norm", "--order", "1", "--dtype", "float64"]
    asked, report = (subprocess.run(c, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False) for c in command)
    assert asked.stdout.split() == ["True", str(list(layers.REGISTRY).index("rms_norm"))], asked.stderr
    assert report.returncode == 0 and "peak_norm" in report.stdout, report.stderr


# -- what people look for in nn ---------------------------------------------------------------------------------------------


MODULES = sorted(name for module in (layers.modules.batch, layers.modules.sample, layers.modules.whitening, layers.modules.inplace)
                 for name in module.__all__ if name in elsewhere._LAYERS)


@pytest.mark.parametrize("name", [*MODULES, "batch_norm", "layer_norm"])
def test_nn_says_where_a_normalization_layer_lives(name):
    with pytest.raises(AttributeError, match=rf"minigrad\.nn: got the name '{name}'\n.*\n.*import layers; layers\.{name}$"):
        getattr(nn, name)
    assert not hasattr(nn, name) and name not in dir(nn) and callable(getattr(layers, name))


@pytest.mark.parametrize(("name", "fix"), [("relu", "minigrad.relu"), ("Lineer", "minigrad.nn.Linear"), ("SGD", "minigrad.optim.SGD")])
def test_nn_says_where_other_names_live(name, fix):
    with pytest.raises(AttributeError, match=rf"fix:   {re.escape(fix)}"):
        getattr(nn, name)
