"""Small mistakes in the CUDA sources, made by machine, and what the tests on the CPU say to each of them.

    python tests/cuda_mutants.py              # a sample of each operator; --per 1000 for every place, --seed for others

One place of a source is changed: a barrier dropped, < for <=, + for -, a constant raised by one, half a warp, a cast to 64 bits left
out, two arguments exchanged, float for the kernel's own type, a statement lost ... The kernels that the place belongs to are compiled,
and get the launches that the tests of tests/test_kernels_cuda.py make, then those of tests/test_cuda_large.py. Each mutant lives in
a process of its own, with a time limit. Written as JSON: who was rejected and why.
"""

import argparse
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

FILES = ("normalize", "rows", "training")
LIMIT = 20  # seconds


class SourceMutant(NamedTuple):
    """A changed source: where, how, and the whole text."""

    file: str
    operator: str
    function: str
    line: str  # as it is
    change: str
    source: str

    @property
    def name(self):
        """A line that tells it from all others, whatever the numbers of lines."""
        return f"{self.file} {self.function}: {self.operator}: {self.line} -> {self.change}"


# Operator: places, and what stands there instead. Spaces around an operator tell it from a template's brackets, a pointer's star
# and a reference.
SWAPPED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "/", "/": "*", "+=": "-=", "-=": "+=", "*=": "/=",
           "/=": "*=", "&&": "||", "||": "&&", "&": "|", "|": "&"}
OPERATORS = {
    "barrier dropped": (r"__sync(threads|warp)\(\);", lambda m: ";"),
    "other comparison": (r"(?<= )(<=?|>=?|==|!=)(?= )", lambda m: SWAPPED[m[0]]),
    "other arithmetic": (r"(?<= )[-+*/]=?(?= )", lambda m: SWAPPED[m[0]]),
    "other logic": (r"(?<= )(&&?|\|\|?)(?= )", lambda m: SWAPPED[m[0]]),
    "constant off by one": (r"(?<![\w.])\d+\b(?![.\w])", lambda m: str(int(m[0]) + 1)),
    "half a warp": (r"\b32\b", lambda m: "16"),
    "factor lost": (r"\w+ \* (?=\w)", lambda m: ""),
    "64 bits lost": (r"\(Int\)(?!\w+_code)|\bInt(?= \w+ = )", lambda m: "" if "(" in m[0] else "int"),
    "arguments swapped": (r"(?<=[(<, ])(\w+), (\w+)(?=[,)])", lambda m: f"{m[2]}, {m[1]}"),
    "always the first": (r"([\w.\[\]!=>< +*-]+) \? ", lambda m: f"{m[1]}, true ? "),
    "always the second": (r"([\w.\[\]!=>< +*-]+) \? ", lambda m: f"{m[1]}, false ? "),
    "float for the type": (r"\bREAL(?= \w+( = |, \w+ = |\[V\];))", lambda m: "float"),
    "condition dropped": (r"\bif \((?=.*)", lambda m: "if (true || "),
    "statement dropped": (r"(?m)(?<=^)( +)(?!const|REAL|Int|return|else|for|struct|Pack)[\w\[\].]+ [-+*/]?= [^;]*;", lambda m: f"{m[1]};"),
    "call dropped": (r"(?m)^( +)(store|load|block_sums)(<\w>)?\([^;]*;", lambda m: f"{m[1]};"),
    "mask": (r"0xffffffffu", lambda m: "0x0000ffffu"),
}


def stripped(text: str) -> str:
    """A source without comments, line for line."""
    return re.sub(r" *//.*", "", text)


def functions(text: str) -> list[tuple[str, int, int]]:
    """Name, begin and end of each function."""
    found = []
    for m in re.finditer(r"(?m)^(template|extern|__device__)[^;{}]*\{", text):
        end = text.index("\n}", m.end()) + 2
        found.append((re.findall(r"(\w+)\(", m[0])[-1 if "__launch_bounds__" in m[0] else 0], m.start(), end))
    return found


def reached(text: str) -> dict[str, set[str]]:
    """Kernel -> all functions that it calls, by whatever way."""
    bodies = {name: text[begin:end] for name, begin, end in functions(text)}
    calls = {name: {other for other in bodies if other != name and re.search(rf"\b{other}\b", body)} for name, body in bodies.items()}
    found = {}
    for kernel, body in bodies.items():
        if "__global__" in body:
            seen, todo = set(), [kernel]
            while todo:
                seen.add(one := todo.pop())
                todo += calls[one] - seen
            found[kernel] = seen
    return found


def mutants_of(file: str) -> Iterator[SourceMutant]:
    """Every change of every place of a file's functions and, with normalize, of common.cu."""
    from minigrad.kernels.cuda import launch
    text = stripped(launch.source(file))
    own = text.index(stripped(Path(launch.__file__).with_name(f"{file}.cu").read_text("utf-8")))
    kernels, seen = reached(text), Counter()
    for function, begin, end in functions(text):
        if begin < own and file != "normalize":
            continue
        reaching = {kernel for kernel, called in kernels.items() if function in called}
        if not reaching:
            continue
        others = [(b, e) for name, b, e in functions(text) if name in kernels and name not in reaching]
        body = text.index("{", text.index(f"{function}(", begin))
        for operator, (pattern, change) in OPERATORS.items():
            for m in re.compile(pattern).finditer(text, body, end):
                new = change(m)
                line, after = text.rindex("\n", 0, m.start() + 1) + 1, text.index("\n", m.end() - 1)  # where the line begins and ends
                if new == m[0] or text[line] == "#":
                    continue
                changed = text[:m.start()] + new + text[m.end():]
                shift = len(changed) - len(text)
                for b, e in reversed(others):  # what need not be compiled
                    b, e = (b, e) if e <= m.start() else (b + shift, e + shift)
                    changed = changed[:b] + "\n" * changed.count("\n", b, e) + changed[e:]
                made = SourceMutant(file, operator, function, text[line:after].strip(), (text[line:m.start()] + new + text[m.end():after]).strip(), changed)
                seen[made.name] += 1
                yield made if seen[made.name] == 1 else made._replace(change=f"{made.change} (number {seen[made.name]})")


def sample(per: int, seed: int) -> list[SourceMutant]:
    """So many of each operator and file, drawn with the seed."""
    found: list[SourceMutant] = []
    for file in FILES:
        of: dict[str, list[SourceMutant]] = {}
        for mutant in mutants_of(file):
            of.setdefault(mutant.operator, []).append(mutant)
        for operator, mutants in of.items():
            draw = np.random.default_rng([seed, zlib.crc32(f"{file} {operator}".encode())]).permutation(len(mutants))[:per]
            found += [mutants[i] for i in sorted(draw)]
    return found


# -- the judgement --------------------------------------------------------------------------------------------------------


def recorded(device) -> list:
    """One launch of each kind that the tests of the kernels make, smaller arrays first."""
    import cuda_on_cpu
    import test_cuda_emulator as misaligned
    import test_kernels_cuda as tests

    import layers
    from fakecupy import cuda as fake_cuda
    from helpers import to_device
    recording = cuda_on_cpu.Recording()
    fake_cuda.OBSERVERS[:] = [recording]
    for dtype in ("float32", "float64"):
        rng = np.random.default_rng(0)
        for shape, axes in tests.SHAPES:
            tests.test_moments_and_sums_are_those_of_the_source_and_of_numpy(recording, device, rng, shape, axes, dtype)
        recording.seen.clear()
        for shape in tests.COMBINED:
            tests.test_combine_is_that_of_the_source_and_of_numpy(recording, device, rng, shape, dtype)
            recording.seen.clear()
        for name in layers.REGISTRY:
            tests.test_layers_run_the_source(recording, device, rng, name, dtype)
        for size in tests.SIZES:
            recording.seen.clear()
            tests.test_activations_are_those_of_the_source(recording, device, rng, size, dtype)
        for make in tests.OPTIMIZERS:
            recording.seen.clear()
            tests.test_optimizers_take_one_launch_for_48_parameters(recording, device, rng, make, dtype)
        for place in (to_device, misaligned.shifted):
            for run in misaligned.launches(device, dtype, place).values():
                run()
        for run in misaligned.updates(device, dtype).values():
            run()
    fake_cuda.OBSERVERS.clear()
    return sorted(recording.cases.values(), key=lambda case: case.size)


def judge(mutant: SourceMutant, cases: list, folder: str) -> str | None:
    """Why it is rejected; None if nobody noticed."""
    import cuda_on_cpu
    wanted = set(re.findall(r"__launch_bounds__\(THREADS\)\s+(\w+)\(", mutant.source))
    try:
        for number, case in enumerate(cases):
            if case.kernel.name in wanted:
                case.replay(mutant.source, folder, number)
        large(mutant, wanted, folder)
    except subprocess.CalledProcessError as e:
        return f"does not compile: {re.search('error: (.*)', e.stderr)[1]}"
    except (AssertionError, cuda_on_cpu.EmulatorError) as e:
        words = [line.strip() for line in str(e).splitlines() if line.strip()]
        return " ".join(words[:3])[:200]
    return None


def large(mutant: SourceMutant, wanted: set[str], folder: str) -> None:
    """The tests of large arrays, with the changed source."""
    import pytest
    import test_cuda_large as tests

    from minigrad.kernels.cuda import launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "source", lambda file: mutant.source)
        for (kernel, _), check in tests.ENDS.items():
            if kernel in wanted:
                check(tests.FarAway(patch), folder, np.random.default_rng(0))


def alone(mutant: SourceMutant, cases: list, folder: str) -> str | None:
    """`judge` in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(LIMIT)
            said = judge(mutant, cases, folder)
            os.write(write, json.dumps(said).encode())
        except BaseException:
            os.write(write, json.dumps("unexpected: " + traceback.format_exc()[-300:]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else f"ends by {signal.Signals(os.WTERMSIG(status)).name}"


def main() -> None:
    """Judge a sample, print what is said and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per", type=int, default=5, help="mutants of each operator and file (5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the mutants' names")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    from cuda_twins import TWINS

    from fakecupy import FakeCupy
    from fakecupy import cuda as fake_cuda
    fake_cuda.TWINS.update(TWINS)
    device = FakeCupy()
    importlib.import_module("minigrad.core.backend").register("fake", device)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        import cuda_on_cpu
        cuda_on_cpu.emulator(folder)
        cases = recorded(device)
        for mutant in sample(options.per, options.seed):
            if options.only not in mutant.name:
                continue
            said = alone(mutant, cases, folder)
            results.append({"name": mutant.name, "operator": mutant.operator, "said": said})
            print(f"{'SURVIVES' if said is None else 'rejected'}  {mutant.name}" + ("" if said is None else f"\n          {said}"), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results), "utf-8")


if __name__ == "__main__":
    for path in (Path(__file__).parents[1], Path(__file__).parent):
        sys.path.insert(0, str(path))
    main()
