"""The reference training step (see _reference_step.py) in minigrad and six other frameworks, and how it grows.

    pip install -e '.[bench]'
    python -m benchmarks.training_step --python Chainer=/path/to/a/python/with/chainer

Each framework has its own process with its BLAS and OpenMP threads set, pinned to as many processors (on Linux). The processes
take turns of a few steps; medians are reported. All losses must agree. Chainer 7.8.1 needs NumPy < 1.24: give it an interpreter
of its own with --python. Peers that are not installed are left out. Writes benchmarks/results/training_step.md and two figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import minigrad as mg
from minigrad.command import run_command

from .overhead import processor

WORKER = Path(__file__).with_name("_reference_step.py")
RESULTS = Path(__file__).parent / "results"
PEERS = ("minigrad", "composed", "PyTorch", "Chainer", "MyGrad", "HIPS/autograd", "DeZero")
LABELS = {"minigrad": "minigrad, derived batch norm", "composed": "minigrad, composed batch norm"}
BATCHES, WIDTHS = (16, 32, 64, 128, 256, 512), (0.5, 1.0, 1.5, 2.0, 2.5)
PROCESSES = 3  # of each setting: one may be fast or slow from beginning to end, by where its memory lies
REST = 0.03  # seconds before each turn, in which the last one's threads stop waiting for work
# Which instructions the libraries may use makes more of a difference than anything else. None: the variable is taken away.
INSTRUCTIONS: dict[str, dict[str, str | None]] = {
    "as the environment has it": {},
    "all that the processor has": {"OPENBLAS_CORETYPE": None},
    "AVX2 at most, in both": {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


TRIED = """## Tried, and slower or no faster

- Columns of the whole batch at once (1.8 times the time of a convolution); blocks that fit the second-level cache (5 to 10 % more on one thread,
  20 to 35 % on two).
- For dw no columns, but a product for each tap of shifted views (15 % more).
- Forward with columns for the three taps of a row only, and three products over shifted views of them, added up: a third of the copies,
  and the same time.
- BLAS's own threads in place of one share of the images per thread (two threads: twice the time of a convolution).
- A leaner hand-over to the second thread than a ThreadPoolExecutor's: no difference.
"""


def environment(threads: int, instructions: str) -> dict[str, str]:
    """For a process with this many threads and a key of INSTRUCTIONS."""
    found = {k: v for k, v in {**os.environ, **INSTRUCTIONS[instructions]}.items() if v is not None}
    return found | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)) | {"PYTHONPATH": str(WORKER.parents[1])}


def pinned(threads: int) -> list[str]:
    """The beginning of a command that is to run on the first processors that this process may use."""
    try:
        processors = sorted(os.sched_getaffinity(0))[:threads]
        subprocess.run(["taskset", "--version"], capture_output=True, check=True)
    except (AttributeError, OSError, subprocess.CalledProcessError):
        return []
    return ["taskset", "-c", ",".join(map(str, processors))]


class Process:
    """A framework in its own process, ready for steps."""

    def __init__(self, framework: str, threads: int, python: str, batch: int = 64, width: float = 1.0,
                 instructions: str = "as the environment has it") -> None:
        command = [*pinned(threads), python, str(WORKER), framework, "--threads", str(threads), "--batch", str(batch), "--width", str(width)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=environment(threads, instructions))
        assert self.process.stdin is not None and self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            raise ImportError(f"{framework} is left out: {self.process.stderr.read().strip().splitlines()[-1]}")
        self.versions: dict[str, str] = json.loads(line)
        self.seconds: list[float] = []
        self.peak = 0

    def turn(self, steps: int, count: bool = True) -> list[float]:
        """The losses of some steps; their times are added to ``seconds``."""
        assert self.process.stdin is not None and self.process.stdout is not None
        time.sleep(REST)
        self.process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.seconds += answer["seconds"] if count else []
        self.peak = answer["peak"]
        return answer["losses"]

    @property
    def ms(self) -> float:
        """Median time of a step."""
        return 1e3 * median(self.seconds)


@contextlib.contextmanager
def running(frameworks: Iterable[str], threads: int, pythons: dict[str, str], **setting: Any) -> Iterator[dict[str, Process]]:
    """The frameworks that can be started, each in its process; they end with the block."""
    processes: dict[str, Process] = {}
    try:
        for name in frameworks:
            try:
                processes[name] = Process(name, threads, pythons.get(name, sys.executable), **setting)
            except ImportError as e:
                print(e)
        yield processes
    finally:
        for p in processes.values():
            p.process.kill()
            p.process.communicate()


def interleaved(processes: dict[str, Process], rounds: int, steps: int = 3) -> None:
    """Untimed steps that must give the same losses, then turns."""
    losses = {name: p.turn(3, count=False) for name, p in processes.items()}
    reference = losses["minigrad"]
    for name, found in losses.items():
        if any(abs(a - b) > 1e-3 for a, b in zip(found, reference, strict=True)):
            raise AssertionError(f"{name} computes something else than minigrad: {found}, not {reference}")
    for _ in range(rounds):
        for p in processes.values():
            p.turn(steps)


def measured(frameworks: Iterable[str], threads: int, pythons: dict[str, str], rounds: int, **setting: Any) -> dict[str, tuple[float, int, str]]:
    """Framework -> (median ms of a step, peak bytes, NumPy's version), over several processes of each."""
    seconds: dict[str, list[float]] = {}
    found: dict[str, tuple[float, int, str]] = {}
    for _ in range(PROCESSES):
        with running(frameworks, threads, pythons, **setting) as processes:
            interleaved(processes, -(-rounds // PROCESSES))
            for name, p in processes.items():
                seconds.setdefault(name, []).extend(p.seconds)
                found[name] = (0.0, max(p.peak, found.get(name, (0, 0))[1]), p.versions["numpy"])
    return {name: (1e3 * median(seconds[name]), *rest) for name, (_, *rest) in found.items()}


def roofline(instructions: str) -> dict[str, float]:
    """GEMM peak and copy bandwidth of one thread, as NumPy reaches them."""
    command = [*pinned(1), sys.executable, str(WORKER), "roofline"]
    return json.loads(subprocess.run(command, env=environment(1, instructions), capture_output=True, text=True, check=True).stdout)


def profile(rounds: int = 5) -> list[str]:
    """Where the time of a step on one thread goes, beside what the products alone need: Markdown."""
    lines = ["# Where the time of a training step goes", "", f"{processor()}, one thread, batch 64, float32. Medians of {rounds} processes, ms; "
             "the last row is the time of the convolutions' products at the speed of a large matrix product in the same run.", ""]
    for instructions in ("as the environment has it", "all that the processor has"):
        command = [*pinned(1), sys.executable, str(WORKER), "profile", "--threads", "1"]
        runs = [json.loads(subprocess.run(command, env=environment(1, instructions), capture_output=True, text=True, check=True).stdout) for _ in range(rounds)]
        speed = median(roofline(instructions)["GFLOP/s"] for _ in range(rounds))
        whole, products = (median(r[key] for r in runs) for key in ("ms per step", "of that numpy.matmul in convolutions"))
        parts = {name: median(r["kernels"][name] for r in runs) for name in runs[0]["kernels"]}
        parts["all else (Python, tape, optimizer)"] = whole - sum(parts.values())
        lines += [f"## {instructions[0].upper()}{instructions[1:]}", "", "| part | ms |", "|---|---|",
                  *(f"| {name} | {ms:.1f} |" for name, ms in sorted(parts.items(), key=lambda p: -p[1])), f"| **a step** | **{whole:.1f}** |",
                  f"| of that products of convolutions | {products:.1f} |", f"| the same at {speed:.0f} GFLOP/s | {flops() / speed / 1e6:.1f} |", ""]
    return lines


def flops(batch: int = 64) -> float:
    """Multiplications and additions of the convolutions of one step: forward, dw, and dx except for the first layer."""
    layers_ = ((3, 32, 1024, 2), (32, 32, 1024, 3), (32, 64, 256, 3))
    return sum(2 * 9 * i * o * pixels * times for i, o, pixels, times in layers_) * batch


def growth(key: str, values: Sequence[float], pythons: dict[str, str], threads: int = 2) -> dict[Any, float]:
    """Median ms of a step for each batch or width: all in turns, in several processes each, because one may be slow from beginning to end.

    Every turn has about as many images, so that what a process pays to come back after the others weighs the same in all.
    """
    seconds: dict[Any, list[float]] = {v: [] for v in values}
    for _ in range(PROCESSES):
        with contextlib.ExitStack() as stack:
            started = {v: stack.enter_context(running(("minigrad",), threads, pythons, **{key: v}))["minigrad"] for v in values}
            for p in started.values():
                p.turn(3, count=False)
            for _ in range(3):
                for v, p in started.items():
                    p.turn(max(2, round(1024 / (v if key == "batch" else 64))))
            for v, p in started.items():
                seconds[v].append(p.ms)
    return {v: median(found) for v, found in seconds.items()}


def figure(rows: dict[str, dict[int, float]], batches: dict[int, dict[int, float]], widths: dict[float, float]) -> None:
    """Bars of all frameworks; time against batch and width."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np
    with plt.style.context(str(Path(mg.__file__).with_name("minigrad.mplstyle"))):
        fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
        two = sorted(((times[2], name) for name, times in rows.items() if 2 in times), reverse=True)
        bars = ax.barh([LABELS.get(n, n) for _, n in two], [t for t, _ in two], color=["C0" if n in LABELS else "0.7" for _, n in two])
        ax.bar_label(bars, [f"{t:.0f} ms" for t, _ in two], padding=4)
        ax.set(xlabel="ms per step, two threads", title="One training step of the reference network")
        ax.set_xlim(0, max(t for t, _ in two) * 1.15)
        fig.savefig(RESULTS / "training_step.png", dpi=150)
        plt.close(fig)

        fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
        for i, (threads, times) in enumerate(batches.items()):
            per_image = {b: t / b for b, t in times.items()}
            middle = median(per_image.values())
            left.axhspan(0.8 * middle, 1.2 * middle, color=f"C{i}", alpha=0.12, lw=0)
            left.plot(list(per_image), list(per_image.values()), "o-", color=f"C{i}", label=f"{threads} thread{'s' * (threads > 1)}; 20 % about the median")
        left.set(xscale="log", xlabel="batch size", ylabel="ms per image", title="Growth with the batch", xticks=list(per_image), xticklabels=list(per_image))
        left.set_ylim(0, 1.5 * max(t / b for times in batches.values() for b, t in times.items()))
        left.minorticks_off()
        left.legend(loc="upper right")
        squares, times = np.array(list(widths)) ** 2, np.array(list(widths.values()))
        slope, start = np.polyfit(squares, times, 1)
        right.plot(squares, start + slope * squares, color="0.7", label=f"{start:.0f} ms + {slope:.0f} ms · width²")
        right.plot(squares, times, "o")
        right.set(xlabel="width²  (1: 32, 32, 64 channels)", ylabel="ms per step", title="Growth with the width, batch 64")
        right.set_ylim(0)
        right.legend(loc="lower right")
        fig.savefig(RESULTS / "training_step_growth.png", dpi=150)
        plt.close(fig)


def main() -> None:
    """Measure, print, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--python", action="append", default=[], metavar="FRAMEWORK=PATH", help="the interpreter of a framework that needs its own")
    parser.add_argument("--profile", action="store_true", help="only where minigrad's time goes, into training_step_profile.md")
    options = parser.parse_args()
    if options.profile:
        text = "\n".join([*profile(), TRIED])
        print(text)
        (RESULTS / "training_step_profile.md").write_text(text, encoding="utf-8")
        return
    pythons = dict(p.split("=", 1) for p in options.python)
    counts = [n for n in (1, 2, 4) if n <= len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))]
    rows: dict[str, dict[int, float]] = {}
    peaks: dict[str, int] = {}
    versions: dict[str, str] = {}
    for n in counts:
        for name, (ms, peak_bytes, version) in measured(PEERS if n == 2 else ("minigrad", "composed", "PyTorch"), n, pythons, options.rounds).items():
            rows.setdefault(name, {})[n] = ms
            if n == 2:
                peaks[name], versions[name] = peak_bytes, version
    lines = ["# One training step", "",
             f"{processor()}, Python {platform.python_version()}, NumPy {versions['minigrad']}"
             + (f" ({versions['Chainer']} for Chainer)" if "Chainer" in versions else "")
             + f"; float32, batch 64. Each framework in its own process, interleaved, medians of {3 * options.rounds} steps in {PROCESSES} processes, ms."
             + (f" OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} is set: NumPy's BLAS does not use all that the processor has."
                if "OPENBLAS_CORETYPE" in os.environ else ""), "",
             "| framework | " + " | ".join(f"{n} thread{'s' * (n > 1)}" for n in counts) + " | times minigrad, 2 threads | peak memory, MB |",
             "|---|" + "---|" * (len(counts) + 2)]
    for name, times in rows.items():
        cells = [f"{times[n]:.1f}" if n in times else "" for n in counts]
        lines.append(f"| {LABELS.get(name, name)} | {' | '.join(cells)} | {times[2] / rows['minigrad'][2]:.2f} | {peaks[name] / 1e6:.0f} |")
    if "PyTorch" in rows:
        lines += ["", "minigrad with derived batch norm against PyTorch, by the instructions that the libraries may use:", "",
                  "| instructions | " + " | ".join(f"{n} thread{'s' * (n > 1)}" for n in counts)
                  + " | GEMM, one thread, GFLOP/s | copy, GB/s | GEMM time at least, ms |",
                  "|---|" + "---|" * (len(counts) + 3)]
        for instructions in INSTRUCTIONS:
            cells = []
            for n in counts:
                pair = measured(("minigrad", "PyTorch"), n, pythons, options.rounds, instructions=instructions)
                ours, theirs = pair["minigrad"][0], pair["PyTorch"][0]
                cells.append(f"{ours:.1f} / {theirs:.1f} = {ours / theirs:.2f}")
            peak = roofline(instructions)
            lines.append(f"| {instructions} | {' | '.join(cells)} | {peak['GFLOP/s']:.0f} | {peak['GB/s']:.0f} | {flops() / peak['GFLOP/s'] / 1e6:.0f} |")
        lines += ["", f"The convolutions of a step are {flops() / 1e9:.2f} GFLOP; a copy counts bytes read and written."]

    batches = {n: growth("batch", BATCHES, pythons, n) for n in counts[:2]}
    widths = growth("width", WIDTHS, pythons)
    lines += ["", "Where minigrad's time goes, and what was tried: [profile](training_step_profile.md).",
              "", f"Growth, medians of {PROCESSES} processes: ms per image at batch {', '.join(map(str, BATCHES))}:", ""]
    for n, times in batches.items():
        per_image = [t / b for b, t in times.items()]
        lines.append(f"- {n} thread{'s' * (n > 1)}: {', '.join(f'{t:.3f}' for t in per_image)} "
                     f"(from the median {min(per_image) / median(per_image) - 1:+.0%} to {max(per_image) / median(per_image) - 1:+.0%})")
    lines += ["", f"ms per step at width {', '.join(map(str, WIDTHS))}, 2 threads: {', '.join(f'{t:.0f}' for t in widths.values())}.",
              "", "![All frameworks](training_step.png)", "", "![Growth](training_step_growth.png)", ""]
    print("\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_step.md").write_text("\n".join(lines), encoding="utf-8")
    figure(rows, batches, widths)


if __name__ == "__main__":
    run_command(main)
