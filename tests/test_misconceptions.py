"""One list of mistakes: every code that an explanation can have is in it, every example in it is explained with its code, and the page shows it."""

import ast
from pathlib import Path

import pytest

from minigrad import derivation
from minigrad.derivation.misconceptions import MISCONCEPTIONS, page

ROOT = Path(__file__).resolve().parents[1]
CALLS = {"Diagnosis", "Edit", "Change", "one"}  # whose first argument is a code


def plain(tree):
    """The texts that an expression can be."""
    if isinstance(tree, ast.IfExp):
        return plain(tree.body) | plain(tree.orelse)
    return {tree.value} if isinstance(tree, ast.Constant) and isinstance(tree.value, str) else set()


def codes(module):
    """The codes that a file of the checker gives."""
    for n in ast.walk(module):
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in CALLS and n.args:
            yield from plain(n.args[0])
        elif isinstance(n, ast.Assign):
            for target in n.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = n.value.elts if isinstance(n.value, ast.Tuple) and len(names) > 1 else [n.value]
                for name, value in zip(names, values, strict=False):
                    if ast.unparse(name) in ("code", "CODE") or ast.unparse(name).endswith("report.code"):
                        yield from plain(value)


def texts(tree):
    """The texts in a file, except for those in sets, which only look codes up."""
    if not isinstance(tree, ast.Set):
        yield from plain(tree)
        for below in ast.iter_child_nodes(tree):
            yield from texts(below)


def test_every_code_is_in_the_list_and_is_given_somewhere():
    files = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "minigrad/derivation").glob("*.py") if path.name != "misconceptions.py"]
    assert {code for file in files for code in codes(file)} - {""} <= set(MISCONCEPTIONS) <= {text for file in files for text in texts(file)}


@pytest.mark.parametrize("code", [m.code if k % 6 == 0 else pytest.param(m.code, marks=pytest.mark.more)
                                  for k, m in enumerate(m for m in MISCONCEPTIONS.values() if m.body)])
def test_every_example_is_explained_by_its_code(code, tmp_path):
    m = MISCONCEPTIONS[code]
    file = tmp_path / "lines.py"
    file.write_text(f"import numpy as np\n\n\ndef {m.line}({m.arguments}):\n    return {m.body}\n")
    found = derivation.check(derivation.load_task(ROOT / "tests/people/tasks" / m.task), str(file), lines=[m.line]).lines[0]
    assert found.code == code, found


def test_the_page_is_the_list():
    """``python -c "from minigrad.derivation.misconceptions import page; print(page(), end='')" > docs/misconceptions.md``"""
    assert (ROOT / "docs/misconceptions.md").read_text("utf-8") == page()
