"""What the tape itself costs: chains of small ops and a small network's training step, against other frameworks.

    pip install -e '.[bench]'  &&  taskset -c 0 python -m benchmarks.overhead

All frameworks run in one process on one thread, interleaved round by round, so that a change in the machine's speed meets
all of them; the medians are reported. Peers that are not installed are left out. Figures go to benchmarks/results/overhead.md.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.command import run_command

CHAIN, SIDE, BATCH = 1000, 8, 32
RESULTS = Path(__file__).parent / "results" / "overhead.md"
Step = Callable[[], Any]


# One chain is 250 times: y * x, y + x, tanh(y), y * 0.5, on 8 x 8 float32 arrays; forward and backward.


def chain_minigrad() -> Step:
    x = mg.tensor(np.full((SIDE, SIDE), 0.5, "float32"), requires_grad=True)
    v = mg.tensor(np.ones((SIDE, SIDE), "float32"))

    def step() -> Any:
        y = x
        for _ in range(CHAIN // 4):
            y = mg.tanh(y * x + x) * 0.5
        return mg.grad(y, [x], v)[0].numpy()
    return step


def chain_torch() -> Step:
    import torch
    torch.set_num_threads(1)
    x = torch.full((SIDE, SIDE), 0.5, requires_grad=True)
    v = torch.ones(SIDE, SIDE)

    def step() -> Any:
        y = x
        for _ in range(CHAIN // 4):
            y = torch.tanh(y * x + x) * 0.5
        return torch.autograd.grad(y, [x], v)[0].numpy()
    return step


def chain_autograd() -> Step:
    import autograd.numpy as anp
    from autograd import make_vjp
    x, v = np.full((SIDE, SIDE), 0.5, "float32"), np.ones((SIDE, SIDE), "float32")

    def f(x: Any) -> Any:
        y = x
        for _ in range(CHAIN // 4):
            y = anp.tanh(y * x + x) * np.float32(0.5)
        return y
    return lambda: make_vjp(f)(x)[0](v)


def chain_mygrad() -> Step:
    import mygrad
    x = mygrad.tensor(np.full((SIDE, SIDE), 0.5, "float32"))
    v = np.ones((SIDE, SIDE), "float32")

    def step() -> Any:
        y = x
        for _ in range(CHAIN // 4):
            y = mygrad.tanh(y * x + x) * np.float32(0.5)
        y.backward(v)
        return x.grad
    return step


def _import_dezero() -> tuple[Any, Any]:
    vars(np)["int"] = int  # DeZero uses this name, which NumPy has dropped
    import dezero
    import dezero.functions
    return dezero, dezero.functions


def chain_dezero() -> Step:
    dezero, F = _import_dezero()
    x = dezero.Variable(np.full((SIDE, SIDE), 0.5, "float32"))

    def step() -> Any:
        x.cleargrad()
        y = x
        for _ in range(CHAIN // 4):
            y = F.tanh(y * x + x) * np.float32(0.5)
        y.backward()
        return x.grad.data
    return step


# The network: 784-256-10, ReLU, softmax cross-entropy, plain SGD, batch 32, float32.


def _network() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = (784, 256), (256,), (256, 10), (10,)
    parameters = [(rng.normal(size=s) * 0.05).astype("float32") for s in shapes]
    return parameters, rng.normal(size=(BATCH, 784)).astype("float32"), rng.integers(0, 10, BATCH)


def mlp_minigrad() -> Step:
    arrays, images, labels = _network()
    w1, b1, w2, b2 = (mg.tensor(a, requires_grad=True) for a in arrays)
    x, t = mg.tensor(images), mg.tensor(labels)
    optimizer = mg.optim.SGD([w1, b1, w2, b2], lr=0.01)

    def step() -> Any:
        loss = mg.cross_entropy(mg.relu(x @ w1 + b1) @ w2 + b2, t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


def mlp_torch() -> Step:
    import torch
    torch.set_num_threads(1)
    arrays, images, labels = _network()
    w1, b1, w2, b2 = (torch.tensor(a, requires_grad=True) for a in arrays)
    x, t = torch.tensor(images), torch.tensor(labels)
    optimizer = torch.optim.SGD([w1, b1, w2, b2], lr=0.01)

    def step() -> Any:
        loss = torch.nn.functional.cross_entropy(torch.relu(x @ w1 + b1) @ w2 + b2, t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


def mlp_autograd() -> Step:
    import autograd.numpy as anp
    from autograd import value_and_grad
    parameters, x, t = _network()
    onehot = np.eye(10, dtype="float32")[t]

    def f(p: Any) -> Any:
        z = anp.dot(anp.maximum(anp.dot(x, p[0]) + p[1], 0), p[2]) + p[3]
        z = z - anp.max(z, axis=1, keepdims=True)
        return -anp.sum(onehot * (z - anp.log(anp.sum(anp.exp(z), axis=1, keepdims=True)))) / np.float32(BATCH)
    both = value_and_grad(f)

    def step() -> Any:
        loss, grads = both(parameters)
        for p, g in zip(parameters, grads, strict=True):
            p -= np.float32(0.01) * g
        return float(loss)
    return step


def mlp_mygrad() -> Step:
    import mygrad
    from mygrad.nnet.activations import relu
    from mygrad.nnet.losses import softmax_crossentropy
    arrays, x, t = _network()
    parameters = [mygrad.tensor(a) for a in arrays]

    def step() -> Any:
        w1, b1, w2, b2 = parameters
        loss = softmax_crossentropy(mygrad.matmul(relu(mygrad.matmul(x, w1) + b1), w2) + b2, t)
        loss.backward()
        for p in parameters:
            p.data -= np.float32(0.01) * p.grad
        return loss.item()
    return step


def mlp_dezero() -> Step:
    dezero, F = _import_dezero()
    arrays, x, t = _network()
    parameters = [dezero.Variable(a) for a in arrays]

    def step() -> Any:
        w1, b1, w2, b2 = parameters
        for p in parameters:
            p.cleargrad()
        loss = F.softmax_cross_entropy(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2), t)
        loss.backward()
        for p in parameters:
            p.data -= np.float32(0.01) * p.grad.data
        return float(loss.data)
    return step


FRAMEWORKS = {"minigrad": "minigrad", "PyTorch": "torch", "HIPS/autograd": "autograd", "MyGrad": "mygrad", "DeZero": "dezero"}


def measure(kind: str, rounds: int, steps_in_a_row: int) -> dict[str, float]:
    """Median seconds of a step for each installed framework, after checking that all compute the same numbers."""
    steps: dict[str, Step] = {}
    for name, module in FRAMEWORKS.items():
        try:
            steps[name] = globals()[f"{kind}_{module}"]()
        except ImportError as e:
            print(f"  {name} is left out: {e}")
    reference = steps["minigrad"]()
    for name, step in steps.items():
        if name != "minigrad" and not np.allclose(step(), reference, rtol=1e-4, atol=1e-6):
            raise AssertionError(f"{name} computes something else than minigrad")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            gc.collect()
            start = time.perf_counter()
            for _ in range(steps_in_a_row):
                step()
            times[name].append((time.perf_counter() - start) / steps_in_a_row)
    return {name: median(t) for name, t in times.items()}


def processor() -> str:
    """Model name of the processor, as the system tells it."""
    try:
        return next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    mg.tune_process(1)
    chain, mlp = measure("chain", options.rounds, 1), measure("mlp", options.rounds, 10)
    versions = ", ".join(f"{name} {importlib.metadata.version(module)}" for name, module in FRAMEWORKS.items() if name in chain and name != "minigrad")
    lines = ["# Overhead of the tape", "",
             f"One thread, {processor()}, Python {platform.python_version()}, NumPy {np.__version__}; {versions}. Interleaved, median of {options.rounds}.", "",
             "| framework | µs per recorded op, forward + backward | relative | MLP step, µs | relative |", "|---|---|---|---|---|"]
    for name in chain:
        ratios = chain[name] / chain["minigrad"], mlp[name] / mlp["minigrad"]
        lines.append(f"| {name} | {chain[name] * 1e6 / CHAIN:.2f} | {ratios[0]:.2f} | {mlp[name] * 1e6:.0f} | {ratios[1]:.2f} |")
    lines += ["", f"Chain: {CHAIN} ops (multiply, add, tanh, multiply by a number) on {SIDE} x {SIDE} float32 arrays. "
              f"MLP: 784-256-10, ReLU, cross-entropy, SGD, batch {BATCH}, float32; ten steps in a row are timed together.", ""]
    print("\n".join(lines))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    run_command(main)
