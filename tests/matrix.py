"""The fast tests on every Python and NumPy that minigrad supports; run by `make test-matrix`.

    python -m tests.matrix                          # the fast tier on all rows
    python -m tests.matrix --smoke                  # the files of SMOKE only, on all rows
    python -m tests.matrix --row 3.13 tests/test_engine.py -k chain      # rows of one Python; what follows goes to pytest

An interpreter is looked for on PATH and among pyenv's; without one its row says "not run". Each row has its own environment
in build/matrix, made the first time and whenever setup.cfg is newer. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Combination(NamedTuple):
    """A Python and the NumPy to test with it: a version, or "newest" for the newest that this Python takes."""

    python: str
    numpy: str
    lowest: bool = False  # all other packages at the lowest versions of setup.cfg too

    @property
    def folder(self) -> Path:
        return ROOT / "build" / "matrix" / f"python{self.python}-numpy{self.numpy}"


ROWS = (Combination("3.11", "2.0.0", lowest=True), Combination("3.11", "newest"), Combination("3.12", "newest"), Combination("3.13", "2.1.0"),
        Combination("3.13", "newest"), Combination("3.14", "newest"))

# What differs between interpreters and NumPys: reference counts, writing through views, the order of release, syntax trees, signatures and
# frames, files and processes.
SMOKE = ["tests/test_ownership.py", "tests/test_writes.py", "tests/test_engine.py", "tests/test_house.py", "tests/test_derivation.py",
         "tests/test_checkpoint_files.py"]
SMOKE_NEEDS = ("pytest>=8", "pytest-xdist", "hypothesis")


def interpreter(version: str) -> str | None:
    """A program that is this Python, or None. It is asked, because a shim may be there without what it stands for."""
    name = f"python{version}"
    candidates = [str(Path(folder) / name) for folder in os.get_exec_path()]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
        found = Path(root, "versions").glob(f"{version}.*/bin/{name}")
        candidates += sorted(map(str, found), key=lambda path: [int(n) for n in re.findall(r"\d+", path)], reverse=True)
    for path in candidates:
        if os.access(path, os.X_OK):
            answer = subprocess.run([path, "-c", "import sys, venv, ensurepip; print(sys.version_info[:2])"], capture_output=True, text=True)
            if answer.stdout.strip() == f"({version.replace('.', ', ')})":
                return path
    return None


def lower_bounds(config: str) -> dict[str, str]:
    """Package -> the lowest version that install_requires in the text of setup.cfg allows."""
    parser = configparser.ConfigParser()
    parser.read_string(config)
    return dict(line.split(">=") for line in parser["options"]["install_requires"].split())


def requirements(row: Combination, smoke: bool) -> list[str]:
    """What pip installs into the row's environment."""
    bounds = lower_bounds((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    pinned = [f"{name}=={version}" for name, version in bounds.items() if name != "numpy"] if row.lowest else []
    pinned += [] if row.numpy == "newest" else [f"numpy=={row.numpy}"]
    return ["-e", ".", *SMOKE_NEEDS, *pinned] if smoke else ["-e", ".[test]", *pinned]


def environment(row: Combination, python: str, smoke: bool) -> Path:
    """The python of the row's environment, which is made, or brought up to date, if need be.

    Raises:
        subprocess.CalledProcessError: it cannot be made; what pip said is printed.
    """
    program = row.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamps = [row.folder / ".test", row.folder / ".smoke"]  # the first holds all that the second does
    changed = max((ROOT / name).stat().st_mtime for name in ("setup.cfg", "pyproject.toml"))
    if any(stamp.exists() and stamp.stat().st_mtime > changed for stamp in (stamps if smoke else stamps[:1])):
        return program
    uv = shutil.which("uv")
    if not program.exists():
        subprocess.run([uv, "venv", "-q", "--python", python, row.folder] if uv else [python, "-m", "venv", row.folder], check=True)
    # Wheels only: where NumPy has none for this Python, an hour of compiling does not help.
    wheels = ["--only-binary", "numpy", "--only-binary", "matplotlib", "--only-binary", "safetensors"]
    pip = [uv, "pip", "install", "-q", "--python", program] if uv else [program, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    upgrade = ["--upgrade"] if row.numpy == "newest" else []
    subprocess.run([*pip, *upgrade, *wheels, *requirements(row, smoke)], cwd=ROOT, check=True)
    stamps[smoke].touch()
    return program


def run(row: Combination, smoke: bool, workers: int, arguments: list[str]) -> str:
    """Run the row's tests; what came of it, in words that begin with "passed", "failed" or "not run"."""
    python = interpreter(row.python)
    if python is None:
        return f"not run: no python{row.python}"
    began = time.monotonic()
    try:
        program = environment(row, python, smoke)
    except subprocess.CalledProcessError:
        return "failed: the environment could not be made"
    made = time.monotonic()
    got = subprocess.run([program, "-c", "import numpy, platform; print('Python', platform.python_version(), 'NumPy', numpy.__version__)"],
                         capture_output=True, text=True).stdout.strip()
    print(f"== {got}", flush=True)
    variables = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
    named = any((ROOT / argument.split("::")[0]).exists() for argument in arguments)
    files = SMOKE if smoke and not named else []
    code = subprocess.run([program, "-m", "pytest", "-q", "-n", str(workers), *files, *arguments], cwd=ROOT, env=variables).returncode
    ended = time.monotonic()
    return f"{'passed' if code == 0 else f'failed: pytest ended with {code}'}   {got}   {ended - made:.0f} s, and {made - began:.0f} s to install"


def main(argv: list[str] | None = None) -> int:
    """0 if every row that could run passed, and one did."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description="The fast tests on every supported Python and NumPy.")
    parser.add_argument("--smoke", action="store_true", help="a few files only")
    parser.add_argument("--row", action="append", metavar="PYTHON[:NUMPY]", help="only rows like 3.13 or 3.13:newest; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="test processes (default: 2)")
    options, arguments = parser.parse_known_args(argv)
    rows = [row for row in ROWS if not options.row or {row.python, f"{row.python}:{row.numpy}"} & set(options.row)]
    if not rows:
        parser.error(f"no row is called {', '.join(options.row)}; there are {', '.join(f'{row.python}:{row.numpy}' for row in ROWS)}")
    results = [run(row, options.smoke, options.workers, arguments) for row in rows]
    print()
    for row, result in zip(rows, results):
        print(f"Python {row.python:5} NumPy {row.numpy:7} {result}")
    return int(any(result.startswith("failed") for result in results) or not any(result.startswith("passed") for result in results))


if __name__ == "__main__":
    sys.exit(main())
