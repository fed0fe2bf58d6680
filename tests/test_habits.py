"""What the project says of itself in several files agrees: versions, make targets, the matrix of interpreters."""

import configparser
import re
import shlex
import sys
import tomllib
from pathlib import Path

import matrix
import pytest
from matrix import ROWS, SMOKE, Combination, interpreter, lower_bounds, requirements

import minigrad

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    version = SETUP["metadata"]["version"]
    assert minigrad.__version__ == version
    assert re.search(r"^version: (.*)$", text("CITATION.cff"), re.MULTILINE).group(1) == version


def test_the_pythons_are_the_same_everywhere():
    pythons = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
    assert SETUP["options"]["python_requires"] == f">={pythons[0]}"
    assert list(dict.fromkeys(row.python for row in ROWS)) == pythons
    assert set(re.findall(r"^\s+(3\.\d+)$", text(".github/workflows/tests.yml"), re.MULTILINE)) == set(pythons)
    for page in ("README.md", "CONTRIBUTING.md"):
        assert f"Python {pythons[0]} to {pythons[-1]}" in text(page), page
    assert SETUP["mypy"]["python_version"] == pythons[0]
    assert tomllib.loads(text("pyproject.toml"))["tool"]["ruff"]["target-version"] == "py" + pythons[0].replace(".", "")


def test_workflows_call_targets_that_exist_and_the_readmes_lines():
    workflow, targets = text(".github/workflows/tests.yml"), re.findall(r"^([a-z-]+):.*## ", text("Makefile"), re.MULTILINE)
    called = re.findall(r"run: make ([a-z-]+)$", workflow, re.MULTILINE) + re.search(r"target: \[(.*)\]", workflow).group(1).split(", ")
    assert len(called) > 5 and set(called) <= set(targets)
    assert set(re.findall(r"^make ([a-z-]+)$", text(".ci/run"), re.MULTILINE)) <= set(called)
    without_make = text("README.md").split("Without make")[1].split("\n\n")[1]
    windows = workflow.split("  windows:")[1]
    assert re.findall(r"run: (.*)", windows) == [line.strip() for line in without_make.splitlines()]


def test_actions_are_pinned_to_commits():
    used = re.findall(r"uses: (.*)", text(".github/workflows/tests.yml"))
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line) for line in used), used


def test_contributing_answers_every_check_that_is_left_out():
    for code in tomllib.loads(text("pyproject.toml"))["tool"]["repo-review"]["ignore"]:
        assert code in text("CONTRIBUTING.md"), code


def test_links_of_the_top_pages_exist():
    for page in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", text(page)):
            assert (ROOT / link).exists(), f"{page}: {link}"


# -- tests/matrix.py -----------------------------------------------------------------------------------------------------

def test_every_package_has_a_lower_bound_and_the_first_row_installs_them_all():
    bounds = lower_bounds(text("setup.cfg"))
    assert set(bounds) == {"numpy", "matplotlib", "tqdm", "safetensors", "threadpoolctl"}
    lowest = requirements(ROWS[0], smoke=False)
    assert set(lowest[2:]) == {f"{name}=={ROWS[0].numpy if name == 'numpy' else version}" for name, version in bounds.items()}
    assert ROWS[0].numpy.startswith(bounds["numpy"]) and requirements(Combination("3.13", "newest"), smoke=False) == ["-e", ".[test]"]


def test_rows_have_folders_of_their_own_and_the_smoke_files_are_there():
    assert len({row.folder for row in ROWS}) == len(ROWS) and all((ROOT / name).is_file() for name in SMOKE)
    assert requirements(ROWS[3], smoke=True)[-1] == "numpy==2.1.0"


def fake_python(folder, name, says):
    folder.mkdir(parents=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    return program


@pytest.mark.skipif(sys.platform == "win32", reason="writes shell scripts")
def test_an_interpreter_is_asked_not_believed(tmp_path, monkeypatch):
    broken = fake_python(tmp_path / "shims", "python3.99", "echo 'pyenv: command not found' >&2; exit 127")
    fake_python(tmp_path / "other", "python3.99", "echo '(3, 9)'")
    monkeypatch.setenv("PATH", f"{broken.parent}:{tmp_path / 'other'}")
    assert interpreter("3.99") is None
    right = fake_python(tmp_path / "right", "python3.99", "echo '(3, 99)'")
    monkeypatch.setenv("PATH", f"{broken.parent}:{right.parent}")
    assert interpreter("3.99") == str(right)


@pytest.mark.skipif(sys.platform == "win32", reason="writes shell scripts")
def test_the_newest_of_pyenvs_is_taken(tmp_path, monkeypatch):
    fake_python(tmp_path / "bin", "pyenv", f"echo {shlex.quote(str(tmp_path / 'root'))}")
    for patch in (9, 10):
        fake_python(tmp_path / "root" / "versions" / f"3.99.{patch}" / "bin", "python3.99", "echo '(3, 99)'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert interpreter("3.99").endswith("/3.99.10/bin/python3.99")


@pytest.mark.parametrize(("results", "code"), [
    (["passed", "not run: no python3.14"], 0), (["passed", "failed: pytest ended with 1"], 1), (["not run: no python3.13"] * 2, 1)])
def test_the_matrix_fails_with_a_row_or_without_any(results, code, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "ROWS", ROWS[:2])
    answers = iter(results)
    monkeypatch.setattr(matrix, "run", lambda *_: next(answers))
    assert matrix.main([]) == code
    assert all(result in capsys.readouterr().out for result in results[:1])
