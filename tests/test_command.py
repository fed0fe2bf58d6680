"""How programs end: with main's status, and quietly where the reader of their output has left."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad import command
from minigrad.command import run_command

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def closed(monkeypatch):
    """A function that replaces a stream of `sys` by a pipe from which nobody reads, and returns it."""
    opened = []

    def close(name):
        reader, writer = os.pipe()
        os.close(reader)
        opened.append(os.fdopen(writer, "w", encoding="utf-8"))
        monkeypatch.setattr(sys, name, opened[-1])
        return opened[-1]
    yield close
    monkeypatch.undo()
    for stream in opened:
        stream.close()  # writes what is left; raises if that has nowhere to go


def status(main):
    with pytest.raises(SystemExit) as e:
        run_command(main)
    return e.value.code


@pytest.mark.parametrize("result, code", [(0, 0), (3, 3), (True, 1), (None, 0), ([1], 0), ({"accuracy": 0.9}, 0)])
def test_a_number_is_the_status_and_other_results_are_success(result, code):
    assert status(lambda: result) == code


@pytest.mark.parametrize("length", [1, 100_000], ids=["buffered", "written at once"])
def test_a_reader_that_has_left_ends_the_program_quietly(closed, length):
    closed("stdout")
    assert status(lambda: print("x" * length)) == 128 + 13


def test_that_also_holds_while_another_exit_is_under_way(closed):
    closed("stdout")

    def main():
        print("usage")
        raise SystemExit(0)
    assert status(main) == 128 + 13


def test_both_streams_may_have_no_reader(closed):
    closed("stdout")
    closed("stderr")
    assert status(lambda: print("x" * 100_000, file=sys.stderr)) == 128 + 13


def test_another_broken_pipe_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    def main():
        raise BrokenPipeError("the child has gone")
    with pytest.raises(BrokenPipeError, match="the child has gone"):
        run_command(main)


def test_other_errors_pass_and_a_program_without_output_ends_too(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)
    monkeypatch.setattr(sys, "stdout", None)
    assert status(lambda: 2) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pipe whose reader is closed before the program starts")
def test_nothing_is_said_at_the_interpreters_end_either():
    """The whole life of a program: Python flushes the streams once more when it ends."""
    reader, writer = os.pipe()
    os.close(reader)
    code = f"import runpy; runpy.run_path({command.__file__!r})['run_command'](lambda: print('x'))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + 13, b"")


WORKERS = {"benchmarks/_reference_step.py": "answers one program, which reads to the end"}


def test_every_program_ends_this_way():
    found = set()
    for folder in ("benchmarks", "experiments", "layers", "lectures", "minigrad", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
                    ends = ast.unparse(node.body[-1]).startswith("run_command(")
                    found |= set() if ends else {path.relative_to(ROOT).as_posix()}
    assert found == set(WORKERS)
