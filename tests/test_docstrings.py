"""Every example in a docstring of minigrad and layers is found, runs, and prints what it says.

Not `pytest --doctest-modules`: that imports every file below tests/, and overlooks the docstrings of ops.
"""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import layers
import minigrad


class Finder(doctest.DocTestFinder):
    """Looks into ops too: what a decorator returns lives in the decorator's globals, but carries its module's name."""

    def _from_module(self, module, object):
        return getattr(object, "__module__", None) == module.__name__ or super()._from_module(module, object)


def modules():
    for package in (minigrad, layers):
        yield package.__name__
        yield from (module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


@pytest.mark.parametrize("name", list(modules()))
def test_examples_print_what_they_say(name, capsys):
    module = importlib.import_module(name)
    tests, runner = Finder().find(module, name), doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert not runner.failures, capsys.readouterr().out
    # No example is where nobody looks.
    assert sum(len(test.examples) for test in tests) == Path(module.__file__).read_text(encoding="utf-8").count(">>> ")
