"""minigrad on a GPU: is it right, and how fast beside PyTorch and beside what the memory allows?

    pip install -e '.[bench,cuda13]'  &&  python -m benchmarks.gpu

One run measures everything, each row with its correctness: the device's copy bandwidth and GEMM speed, the normalizers on arrays
far above the L2 cache as percent of that bandwidth (bytes that must move at least: batch norm 3 + 5 arrays, layer and RMS norm
2 + 3), decorrelated batch norm in units of a 3x3 convolution, and training steps. Times are medians of CUDA events around
each call. PyTorch (eager, and torch.compile where it works) runs on the same card. Results go to benchmarks/results/gpu_DEVICE.json
and .md. ``--small`` runs the same code on small arrays, on any backend: a rehearsal, whose times mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import layers
import minigrad as mg
import models
from minigrad.check.relative import relative_error, worst
from minigrad.command import run_command

from . import _reference_step

RESULTS = Path(__file__).parent / "results"
EPS = 1e-5
Step = Callable[[], Any]

# row -> (layer, shape, small shape, shape of gamma, is there a beta, arrays that must move at least, keywords)
NORMS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], Callable[[tuple[int, ...]], tuple[int, ...]], bool, int, dict[str, Any]]] = {
    "batch norm": ("batch_norm", (256, 256, 56, 56), (4, 8, 6, 6), lambda s: (s[1],), True, 8, {}),
    "layer norm": ("layer_norm", (65536, 4096), (32, 64), lambda s: (s[-1],), True, 5, {}),
    "RMS norm": ("rms_norm", (65536, 4096), (32, 64), lambda s: (s[-1],), False, 5, {}),
    "group norm, 32 groups": ("group_norm", (128, 256, 56, 56), (4, 32, 6, 6), lambda s: (s[1],), True, 8, {"groups": 32}),
    "instance norm": ("instance_norm", (128, 256, 56, 56), (4, 8, 6, 6), lambda s: (s[1],), True, 8, {}),
}


class Clock:
    """Median milliseconds of a call: CUDA events on a GPU, the host's clock on other backends."""

    def __init__(self, xp: Any, repeats: int) -> None:
        self.xp, self.repeats, self.events = xp, repeats, hasattr(getattr(xp, "cuda", None), "Event")

    def __call__(self, step: Step, warmup: int = 3) -> float:
        for _ in range(warmup):
            step()
        times = []
        for _ in range(self.repeats):
            if self.events:
                start, stop = self.xp.cuda.Event(), self.xp.cuda.Event()
                start.record()
                step()
                stop.record()
                stop.synchronize()
                times.append(self.xp.cuda.get_elapsed_time(start, stop))
            else:
                begin = time.perf_counter()
                step()
                times.append(1e3 * (time.perf_counter() - begin))
        return median(times)


class Torch:
    """PyTorch on the same device, or nothing: every method then gives None."""

    def __init__(self, repeats: int) -> None:
        self.repeats, self.torch = repeats, None
        with contextlib.suppress(ImportError):
            import torch
            self.torch = torch if torch.cuda.is_available() else None
        if self.torch is not None:  # float32 means float32, in both
            self.torch.backends.cudnn.allow_tf32 = self.torch.backends.cuda.matmul.allow_tf32 = False

    def time(self, make: Callable[[Any], Step]) -> float | None:
        """Median ms of the step that ``make(torch)`` gives, on the device; None if it cannot run."""
        if self.torch is None:
            return None
        try:
            return self._time(make)
        except Exception as e:  # an old version, a compiler that is missing, too little memory: this figure is left out
            print(f"PyTorch left out here: {type(e).__name__}: {str(e).splitlines()[0][:100] if str(e) else ''}")
            return None
        finally:
            self.torch.cuda.empty_cache()

    def _time(self, make: Callable[[Any], Step]) -> float:
        with self.torch.device("cuda"):
            step = make(self.torch)
            for _ in range(3):
                step()
            times = []
            for _ in range(self.repeats):
                start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                step()
                stop.record()
                stop.synchronize()
                times.append(start.elapsed_time(stop))
        return median(times)

    def compiled(self, make: Callable[[Any], Step]) -> float | None:
        """The same through torch.compile."""
        return self.time(lambda torch: torch.compile(make(torch)))


def normal(shape: tuple[int, ...], backend: str, seed: int, mean: float = 0.0) -> Any:
    """float32 on the device: a few million different numbers, repeated."""
    xp = mg.backend.get(backend)
    size = int(np.prod(shape))
    some = xp.asarray(np.random.default_rng(seed).normal(mean, 1, min(size, (1 << 22) + 1)).astype("float32"))
    return xp.tile(some, -(-size // some.size))[:size].reshape(shape)


def forward_backward(form: Any, arrays: list[Any], cotangent: Any, keywords: dict[str, Any]) -> Step:
    """y and all gradients."""
    inputs = [mg.from_array(a, copy=False).detach() for a in arrays]
    for t in inputs:
        t.requires_grad = True
    v = mg.from_array(cotangent, copy=False)
    return lambda: mg.grad(form(*inputs, **keywords), inputs, v)


def off(found: tuple[Any, ...], reference: tuple[Any, ...]) -> float:
    """The largest relative error of some gradients."""
    return worst(relative_error(a, b) for a, b in zip(found, reference, strict=True))


def torch_norm(name: str, shape: tuple[int, ...], parameter: tuple[int, ...], keywords: dict[str, Any]) -> Callable[[Any], Step]:
    """PyTorch's own layer, forward and backward."""
    def make(torch: Any) -> Step:
        F = torch.nn.functional
        x, v = torch.randn(shape, requires_grad=True), torch.randn(shape)
        g, b = torch.randn(parameter, requires_grad=True), torch.randn(parameter, requires_grad=True)
        forward = {"batch_norm": lambda: F.batch_norm(x, None, None, g, b, True, 0.1, EPS), "layer_norm": lambda: F.layer_norm(x, parameter, g, b, EPS),
                   "rms_norm": lambda: F.rms_norm(x, parameter, g, EPS), "group_norm": lambda: F.group_norm(x, keywords.get("groups", 1), g, b, EPS),
                   "instance_norm": lambda: F.instance_norm(x, None, None, g, b, True, 0.1, EPS)}[name]
        wanted = [x, g] if name == "rms_norm" else [x, g, b]
        return lambda: torch.autograd.grad(forward(), wanted, v)
    return make


def roofline(xp: Any, clock: Clock, small: bool) -> dict[str, float]:
    """GB/s of a copy (read and written), TFLOP/s of a float32 product."""
    n, m = (1 << 20, 256) if small else (1 << 28, 8192)
    a, b = xp.ones(n, dtype="float32"), xp.empty(n, dtype="float32")
    copy = clock(lambda: b.__setitem__(slice(None), a))
    c = xp.ones((m, m), dtype="float32")
    gemm = clock(lambda: xp.matmul(c, c))
    return {"copy GB/s": 2 * a.nbytes / copy / 1e6, "GEMM TFLOP/s": 2 * m**3 / gemm / 1e9}


def norms(backend: str, clock: Clock, torch: Torch, small: bool, bandwidth: float) -> list[dict[str, Any]]:
    """Each normalizer: its error on a small array, its time, and its share of the copy bandwidth."""
    rows = []
    for title, (name, large, little, parameter, beta, passes, keywords) in NORMS.items():
        layer, keywords = layers.REGISTRY[name], {**keywords, "eps": EPS}
        host = [np.random.default_rng(i).normal(1, 1, s).astype("float32") for i, s in enumerate((little, *[parameter(little)] * (1 + beta), little))]
        with_double = forward_backward(layer.composed, [a.astype("float64") for a in host[:-1]], host[-1].astype("float64"), keywords)()
        there = [mg.backend.from_numpy(a, backend) for a in host]
        error = off(forward_backward(layer.form("derived"), there[:-1], there[-1], keywords)(), with_double)
        shape = little if small else large
        arrays = [normal(s, backend, i) for i, s in enumerate((shape, *[parameter(shape)] * (1 + beta)))]
        v = normal(shape, backend, 9)
        ms = {form: clock(forward_backward(layer.form(form), arrays, v, keywords)) for form in ("derived", "composed")}
        bytes_ = passes * 4 * int(np.prod(shape))
        make = torch_norm(name, shape, parameter(shape), keywords)
        del arrays, v
        free(backend)
        rows.append({"layer": title, "shape": list(shape), "error": error, "ms": ms["derived"], "composed ms": ms["composed"],
                     "GB/s": bytes_ / ms["derived"] / 1e6, "of copy": bytes_ / ms["derived"] / 1e6 / bandwidth,
                     "torch ms": torch.time(make), "torch.compile ms": torch.compiled(make)})
        print(rows[-1], flush=True)
    return rows


def whitening(backend: str, clock: Clock, torch: Torch, small: bool) -> list[dict[str, Any]]:
    """Decorrelated batch norm and IterNorm for each group size, in units of a 3x3 convolution of the same input."""
    shape = (4, 8, 6, 6) if small else (64, 64, 32, 32)
    x, v, w = normal(shape, backend, 0), normal(shape, backend, 1), normal((shape[1], shape[1], 3, 3), backend, 2)
    convolution = clock(forward_backward(lambda x, w: mg.conv2d(x, w, padding=1), [x, w], v, {}))

    def make(torch: Any) -> Step:
        x, v, w = (torch.randn(s, requires_grad=True) for s in (shape, shape, (shape[1], shape[1], 3, 3)))
        return lambda: torch.autograd.grad(torch.nn.functional.conv2d(x, w, padding=1), [x, w], v)
    theirs = torch.time(make)
    rows = []
    for name in ("decorrelated_batch_norm", "iter_norm"):
        for size in (4, 8) if small else (4, 8, 16, 32, 64):
            layer, keywords = layers.REGISTRY[name], {"eps": 1e-3, "group_size": size}
            few = x[:4, :, :6, :6].copy()
            host = mg.backend.to_numpy(few).astype("float64")
            error = off(forward_backward(layer.form("derived"), [few], few, keywords)(), forward_backward(layer.form("derived"), [host], host, keywords)())
            ms = clock(forward_backward(layer.form("derived"), [x], v, keywords))
            rows.append({"layer": name, "group size": size, "error": error, "ms": ms, "times our convolution": ms / convolution,
                         "times PyTorch's": None if theirs is None else ms / theirs})
            print(rows[-1], flush=True)
    return rows


def torch_resnet20(torch: Any) -> Any:
    """ResNet-20 of He et al. [he2016], section 4.2, with projections where the size changes."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
                                   nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o))
            self.b = nn.Identity() if stride == 1 else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

        def forward(self, x: Any) -> Any:
            return torch.relu(self.a(x) + self.b(x))
    blocks = [Block(16 * max(1, 2**s // (1 + (n == 0 and s > 0))), 16 * 2**s, 1 + (n == 0 and s > 0)) for s in range(3) for n in range(3)]
    stem = (nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def steps(backend: str, clock: Clock, torch: Torch, small: bool) -> list[dict[str, Any]]:
    """Whole training steps; "issue" is the time until the host is free again, without waiting for the device."""
    batch, width = (2, 0.25) if small else (64, 1.0)
    arrays, images, labels = _reference_step.setting(batch, width)
    on_host = _reference_step.minigrad(arrays, images, labels, 1)()
    rows = []
    with mg.use(backend):
        reference = _reference_step.minigrad(arrays, images, labels, 1, look=False)
        first = float(reference().numpy())
        model = models.build("resnet20", width=0.25 if small else 1.0)
        optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images_128 = np.random.default_rng(0).normal(size=(batch if small else 128, 3, 32, 32)).astype("float32")
    x, t = (mg.tensor(a, backend=backend) for a in (images_128, np.arange(len(images_128)) % 10))

    def resnet() -> Any:
        loss = mg.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def torch_reference(t: Any) -> Step:
        return _reference_step.torch(arrays, images, labels, 1, look=False)

    def torch_resnet(torch: Any) -> Step:
        net = torch_resnet20(torch)
        sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        x, t = torch.randn(128, 3, 32, 32), torch.arange(128) % 10

        def step() -> Any:
            loss = torch.nn.functional.cross_entropy(net(x), t)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            return loss
        return step
    for title, step, make, error in (("reference step, batch 64", reference, torch_reference, abs(first - on_host)),
                                     ("ResNet-20, batch 128", resnet, torch_resnet, None)):
        ms = clock(step)
        begin = time.perf_counter()
        step()
        issue = 1e3 * (time.perf_counter() - begin)
        rows.append({"step": title, "ms": ms, "issue ms": issue, "first loss differs from NumPy's by": error, "torch ms": torch.time(make)})
        print(rows[-1], flush=True)
    return rows


def free(backend: str) -> None:
    """Give the memory pool's unused blocks back, so that PyTorch finds room."""
    xp = mg.backend.get(backend)
    if hasattr(xp, "get_default_memory_pool"):
        xp.get_default_memory_pool().free_all_blocks()


def device_name(xp: Any) -> str:
    """The GPU's name, or the backend's."""
    if hasattr(getattr(getattr(xp, "cuda", None), "runtime", None), "getDeviceProperties"):
        return xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return getattr(xp, "__name__", type(xp).__name__)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown."""
    def cell(v: Any) -> str:
        return "" if v is None else f"{v:.1e}" if isinstance(v, float) and 0 < abs(v) < 1e-3 else f"{v:.3g}" if isinstance(v, float) else str(v)
    heads = list(rows[0])
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *("| " + " | ".join(cell(r[h]) for h in heads) + " |" for r in rows), ""]


def measure(backend: str, small: bool, repeats: int) -> dict[str, Any]:
    """Everything, as a dictionary."""
    xp = mg.backend.get(backend)
    clock, torch = Clock(xp, repeats), Torch(repeats)
    roof = roofline(xp, clock, small)
    print(roof, flush=True)
    found = {"device": device_name(xp), "library": f"{backend} {getattr(xp, '__version__', '')}", "torch": getattr(torch.torch, "__version__", None),
            "roofline": roof, "norms": norms(backend, clock, torch, small, roof["copy GB/s"]), "whitening": whitening(backend, clock, torch, small),
            "steps": steps(backend, clock, torch, small)}
    found["wrong"] = [r for key in ("norms", "whitening") for r in found[key] if not r["error"] < 1e-4]
    found["wrong"] += [r for r in found["steps"] if not (r["first loss differs from NumPy's by"] or 0.0) < 1e-3]
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--small", action="store_true", help="small arrays: a rehearsal")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    mg.tune_process()
    found = measure(options.backend, options.small, options.repeats)
    name = "gpu_" + re.sub(r"\W+", "_", found["device"]).strip("_").lower()
    roof = found["roofline"]
    lines = [f"# {found['device']}", "", f"{found['library']}, PyTorch {found['torch']}; float32, medians of {options.repeats}. "
             f"Copy {roof['copy GB/s']:.0f} GB/s, GEMM {roof['GEMM TFLOP/s']:.1f} TFLOP/s."
             + (" A rehearsal on small arrays: the times mean nothing." if options.small else ""), ""]
    if found["wrong"]:
        lines += [f"**Wrong results, whose times mean nothing: {found['wrong']}**", ""]
    for title, key in (("Normalizers, forward and backward", "norms"), ("Whitening", "whitening"), ("Training steps", "steps")):
        lines += [f"## {title}", "", *table(found[key])]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (options.out / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
    if found["wrong"]:
        raise SystemExit(f"wrong results, whose times mean nothing: {found['wrong']}")


if __name__ == "__main__":
    run_command(main)
