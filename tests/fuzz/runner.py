"""Runs cases, shortens the ones that fail, and prints them as scripts."""

from __future__ import annotations

import collections
import importlib
import re
import time
import warnings
import zlib
from collections.abc import Callable, Container, Iterator
from typing import Any, NamedTuple

import numpy as np

FUZZERS = ("tapes", "writes", "ops", "norms")


class Failure(NamedTuple):
    """A case that failed, shortened."""

    fuzzer: str
    seed: int
    case: int
    statements: list[str]
    error: str

    def __str__(self) -> str:
        body = "\n".join(f"    {s!r}," for s in self.statements)
        return (f"# {self.error}\n# again: python -m tests.fuzz --only {self.fuzzer} --seed {self.seed} --case {self.case}\n"
                f"from tests.fuzz import {self.fuzzer}\n{self.fuzzer}.check([\n{body}\n])\n")


def fuzzer(name: str) -> Any:
    """The module: generate(rng) -> statements, check(statements) -> one word for what happened; an exception is a failure."""
    return importlib.import_module(f"{__package__}.{name}")


def statements_of(name: str, seed: int, case: int) -> list[str]:
    """The case of this number."""
    with np.errstate(all="ignore"):
        return fuzzer(name).generate(np.random.default_rng([seed, case, zlib.crc32(name.encode())]))


def tried(check: Callable[[list[str]], str], statements: list[str]) -> tuple[str | None, str]:
    """(what happened, "") or (None, the error)."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check(statements), ""
    except Exception as e:
        return None, f"{type(e).__name__}: {str(e) or 'no text'}"


def kind(error: str) -> str:
    """What errors of one kind share: the exception's name and the text up to the second colon, without numbers."""
    return re.sub(r"-?\d+(\.\d+)?", "#", ": ".join(error.partition("\n")[0].split(": ")[:2]))[:100]


def shortened(name: str, statements: list[str], seconds: float = 10.0) -> list[str]:
    """As many statements left out as possible, with an error of the same kind."""
    check = getattr(fuzzer(name), "verdict", fuzzer(name).check)  # a check may look for the reason of its error, which takes time
    end, size, error = time.monotonic() + seconds, max(len(statements) // 2, 1), tried(check, statements)[1]
    while size:
        i = len(statements)
        while i > 0 and time.monotonic() < end:
            shorter = statements[: max(i - size, 0)] + statements[i:]
            happened, other = tried(check, shorter) if shorter else ("", "")
            if happened is None and kind(other) == kind(error):
                statements = shorter
            i -= size
        size //= 2
    return statements


def run(name: str, seed: int, cases: Iterator[int], seconds: float = 1e9, known: Container[str] = ()) -> tuple[collections.Counter[str], list[Failure]]:
    """Check these cases, at most for so long. Returns (what happened how often, failures: one for each kind of error that is not known)."""
    counts: collections.Counter[str] = collections.Counter()
    failures: dict[str, Failure] = {}
    end = time.monotonic() + seconds
    for case in cases:
        statements = statements_of(name, seed, case)
        happened, error = tried(fuzzer(name).check, statements)
        counts[happened or "failed"] += 1
        if happened is None and kind(error) not in failures and kind(error) not in known:
            failures[kind(error)] = Failure(name, seed, case, shortened(name, statements), error)
        if time.monotonic() > end:
            break
    return counts, list(failures.values())
