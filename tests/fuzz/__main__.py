"""python -m tests.fuzz: see the package."""

from __future__ import annotations

import argparse
import itertools
import time

from minigrad.command import run_command

from .runner import FUZZERS, Failure, kind, run, statements_of


def main() -> int:
    """1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random programs against what must hold for any program.")
    parser.add_argument("--seconds", type=float, default=60, help="all fuzzers together (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=FUZZERS, help="one fuzzer; may be repeated")
    parser.add_argument("--case", type=int, help="only the case of this number, printed")
    given = parser.parse_args()
    names = given.only or FUZZERS
    found: dict[tuple[str, str], Failure] = {}
    totals, start, numbers = {name: {} for name in names}, time.monotonic(), {name: 0 for name in names}
    if given.case is not None:
        for name in names:
            print("\n".join(statements_of(name, given.seed, given.case)))
            counts, failures = run(name, given.seed, iter([given.case]))
            print(name, dict(counts), *failures, sep="\n")
            found.update({(name, f.error): f for f in failures})
        return bool(found)
    while time.monotonic() - start < given.seconds:  # in turn, so that a short run sees all of them
        for name in names:
            share = min(5.0, max(given.seconds - (time.monotonic() - start), 0.1))
            known = {what for fuzzer, what in found if fuzzer == name}
            counts, failures = run(name, given.seed, itertools.count(numbers[name]), share, known)
            numbers[name] += sum(counts.values())
            for what, n in counts.items():
                totals[name][what] = totals[name].get(what, 0) + n
            for f in failures:
                found[name, kind(f.error)] = f
                print(f, flush=True)
    for name in names:
        print(f"{name}, seed {given.seed}: {numbers[name]} cases: " + ", ".join(f"{n} {what}" for what, n in sorted(totals[name].items(), key=lambda t: -t[1])))
    print(f"{len(found)} kinds of failures in {time.monotonic() - start:.0f} s")
    return bool(found)


if __name__ == "__main__":
    run_command(main)
