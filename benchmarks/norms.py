"""Forward and backward of the normalization layers against PyTorch and against their own composed forms.

    pip install -e '.[bench]'  &&  taskset -c 0,1 python -m benchmarks.norms

64 x 64 x 32 x 32, float32, two threads, interleaved in one run (a rest, untimed calls, timed calls), medians. PyTorch has
its own process, because `tune_process` holds for all of its process and would speed up PyTorch too. Without PyTorch its column is left out.
Kept bytes are those of the tape in units of x's size, with x a taped result. Figures go to benchmarks/results/norms.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import layers
import minigrad as mg
from minigrad.check.relative import relative_error
from minigrad.command import run_command

from .overhead import processor

SHAPE, THREADS = (64, 64, 32, 32), 2
# Seconds of rest before each turn, in which the threads of the framework before stop waiting for work on the same processors,
# and calls of a turn that are timed, after as many that are not.
REST, CALLS = 0.02, 15
RESULTS = Path(__file__).parent / "results" / "norms.md"
Step = Callable[[], Any]

# name of the row -> (layer, shape of gamma and beta, is there a beta, keywords)
ROWS: dict[str, tuple[str, tuple[int, ...], bool, dict[str, Any]]] = {
    "batch norm": ("batch_norm", (64,), True, {"eps": 1e-5}),
    "layer norm": ("layer_norm", (64, 32, 32), True, {"eps": 1e-5}),
    "layer norm, last axis": ("layer_norm", (32,), True, {"eps": 1e-5}),
    "group norm, 8 groups": ("group_norm", (64,), True, {"groups": 8, "eps": 1e-5}),
    "instance norm": ("instance_norm", (64,), True, {"eps": 1e-5}),
    "RMS norm": ("rms_norm", (64, 32, 32), False, {"eps": 1e-5}),
}


def arrays(parameter: tuple[int, ...], beta: bool) -> list[np.ndarray]:
    """x, gamma (and beta) of a row, seeded."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype("float32") for s in (SHAPE, parameter, *([parameter] if beta else []))]


def ours(form: Any, inputs: list[np.ndarray], v: np.ndarray, keywords: dict[str, Any], then: Any = None) -> Step:
    """Forward, and backward to x and the parameters."""
    xs, cotangent = [mg.tensor(a, requires_grad=True) for a in inputs], mg.tensor(v)

    def step() -> Any:
        y = form(*xs, **keywords)
        return mg.grad(y if then is None else then(y), xs, cotangent)[0]._data
    return step


def theirs(name: str, inputs: list[np.ndarray], v: np.ndarray) -> Step:
    """The same in PyTorch."""
    import torch
    from torch.nn import functional as F
    torch.set_num_threads(THREADS)
    xs, cotangent = [torch.tensor(a, requires_grad=True) for a in inputs], torch.tensor(v)
    running = torch.zeros(SHAPE[1]), torch.ones(SHAPE[1])
    forward: dict[str, Any] = {
        "batch norm": lambda x, g, b: F.batch_norm(x, *running, g, b, True, 0.1, 1e-5),  # what torch.nn.BatchNorm2d calls
        "batch norm, leaky ReLU": lambda x, g, b: F.leaky_relu(F.batch_norm(x, None, None, g, b, True, 0.1, 1e-5), 0.01),
        "layer norm": lambda x, g, b: F.layer_norm(x, tuple(g.shape), g, b, 1e-5),
        "layer norm, last axis": lambda x, g, b: F.layer_norm(x, tuple(g.shape), g, b, 1e-5),
        "group norm, 8 groups": lambda x, g, b: F.group_norm(x, 8, g, b, 1e-5),
        "instance norm": lambda x, g, b: F.instance_norm(x, None, None, g, b, True, 0.1, 1e-5),
        "RMS norm": lambda x, g: F.rms_norm(x, tuple(g.shape), g, 1e-5),
    }
    return lambda: torch.autograd.grad(forward[name](*xs), xs, cotangent)[0].numpy()


def turn(step: Step) -> list[float]:
    """Seconds of some calls, after as many that are not timed."""
    times = []
    for _ in range(2 * CALLS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times[CALLS:]


def serve(connection: Any) -> None:
    """PyTorch in its own process: prepares the rows that it is sent, and takes turns."""
    step: Any = None
    while (message := connection.recv()) is not None:
        if message == "turn":
            connection.send(turn(step))
        else:
            step = theirs(*message)
            connection.send(step())


def start_peer() -> Any:
    """The other end of `serve`, whose process keeps the C library's own memory settings; None without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return None
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=serve, args=(there,), daemon=True).start()
    return here


def interleaved(steps: dict[str, Step], peer: Any, rounds: int) -> dict[str, float]:
    """Median seconds of each, and of the prepared peer's step, in turns."""
    times: dict[str, list[float]] = {name: [] for name in (*steps, *(["PyTorch"] if peer else []))}
    for _ in range(rounds):
        for name in times:
            time.sleep(REST)
            if name in steps:
                times[name] += turn(steps[name])
            else:
                peer.send("turn")
                times[name] += peer.recv()
    return {name: median(t) for name, t in times.items()}


def kept(form: Any, inputs: list[np.ndarray], keywords: dict[str, Any], then: Any = None) -> float:
    """Bytes that the tape keeps, in units of x's."""
    x, *rest = (mg.tensor(a, requires_grad=True) for a in inputs)
    y = form(x + 0.0, *rest, **keywords)
    y = y if then is None else then(y)
    return mg.tape(y).kept_bytes / x.nbytes


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    mg.tune_process(THREADS)
    peer = start_peer()
    version = f", PyTorch {importlib.metadata.version('torch')}" if peer else ""
    v = np.random.default_rng(1).normal(size=SHAPE).astype("float32")
    lines = ["# Normalization layers, forward and backward", "",
             f"x is {' x '.join(map(str, SHAPE))}, float32; {THREADS} threads, {processor()}, "
             f"Python {platform.python_version()}, NumPy {np.__version__}{version}. "
             f"Interleaved, medians of {options.rounds * CALLS}; PyTorch in its own process. \"Kept\" is in units of x's size.", "",
             "| layer | derived, ms | composed, ms | composed / derived | PyTorch, ms | PyTorch / derived | kept: derived | kept: composed |",
             "|---|---|---|---|---|---|---|---|"]

    def leaky(y: Any) -> Any:
        return mg.leaky_relu(y, 0.01)

    def row(name: str, layer: layers.Layer, inputs: list[np.ndarray], keywords: dict[str, Any], theirs_name: str, then: Any = None) -> None:
        derived, composed = layer.form("derived"), layer.composed
        steps = {"derived": ours(derived, inputs, v, keywords, then), "composed": ours(composed, inputs, v, keywords, then)}
        reference, gradients = steps["derived"](), [steps["composed"]()]
        if peer:
            peer.send((theirs_name, inputs, v))
            gradients.append(peer.recv())
        for gradient in gradients:
            assert relative_error(gradient, reference) <= 1e-4, name
        ms = {k: 1e3 * t for k, t in interleaved(steps, peer, options.rounds).items()}
        torch_ms = f"{ms['PyTorch']:.1f} | {ms['PyTorch'] / ms['derived']:.2f}" if version else "– | –"
        lines.append(f"| {name} | {ms['derived']:.1f} | {ms['composed']:.1f} | {ms['composed'] / ms['derived']:.2f} | {torch_ms} | "
                     f"{kept(derived, inputs, keywords, then):.2f} | {kept(composed, inputs, keywords, then):.2f} |")

    for name, (layer, parameter, beta, keywords) in ROWS.items():
        row(name, layers.REGISTRY[layer], arrays(parameter, beta), keywords, name)
    inputs = arrays((64,), True)
    inputs[1] = np.abs(inputs[1]) + 0.1  # in-place ABN keeps |gamma| away from 0
    row("batch norm, leaky ReLU", layers.REGISTRY["batch_norm"], inputs, {"eps": 1e-5}, "batch norm, leaky ReLU", leaky)
    row("in-place ABN, leaky ReLU", layers.REGISTRY["inplace_abn"], inputs, {"eps": 1e-5}, "batch norm, leaky ReLU")
    if peer:
        peer.send(None)
    lines.append("")
    print("\n".join(lines))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
