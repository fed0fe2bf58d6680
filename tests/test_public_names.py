"""Names and commands that people use stay where they are, whatever moves inside.

tests/snapshots/public_names.txt was made by machine from commit c9d48e0, before folders were moved: what `dir` shows of minigrad, its
Tensor, layers, nn, optim, data, checkpoint and derivation; every name that README, CONTRIBUTING and docs/ wrote as code; every form in
the registry; every module that `python -m` runs. A line is never taken out.
"""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

LINES = (Path(__file__).parent / "snapshots" / "public_names.txt").read_text(encoding="utf-8").splitlines()
COMMANDS = [line.removeprefix("python -m ") for line in LINES if line.startswith("python -m ")]
NAMES = [line for line in LINES if not line.startswith("python -m ")]


def resolve(name):
    """What `a.b["key"].c` is: attributes and keys, or a module that must be imported first."""
    steps = re.findall(r"\.?(\w+)|\['(\w+)'\]", name)
    value, path = importlib.import_module(steps[0][0]), steps[0][0]
    for attribute, key in steps[1:]:
        path = f"{path}.{attribute}"
        value = value[key] if key else getattr(value, attribute, None) or importlib.import_module(path)
    return value


def is_run_by_python_m(module):
    """Is there a module of this name with a `if __name__ == "__main__":`, or a package with a `__main__.py`?"""
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{module}.__main__")
    if spec is None:
        return False
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in tree.body)


def test_the_list_is_whole():
    assert len(NAMES) == 351 and len(COMMANDS) == 19


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_stays(name):
    assert resolve(name) is not None


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_stays(module):
    assert is_run_by_python_m(module)


@pytest.mark.parametrize("name", ["minigrad.expp", "minigrad.nn.Linnear", "layers.REGISTRY['batch_norm'].derived['two_lines']", "layers.reports"])
def test_a_missing_name_is_found(name):
    with pytest.raises((ImportError, KeyError)):
        resolve(name)


@pytest.mark.parametrize("module", ["layers", "layers.registry", "lectures.builds", "minigrad.nn"])
def test_a_missing_command_is_found(module):
    assert not is_run_by_python_m(module)
