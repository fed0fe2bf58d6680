"""Peak memory of a training step of a deep stack of convolution, normalization and activation, for each form of the layers.

    python -m benchmarks.memory

All arrays that NumPy allocates between the start of the forward and the end of the optimizer's step are counted, with
tracemalloc. The parameters, the optimizer's state and the images were there before. Figures go to benchmarks/results/memory.md.
"""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

import layers
import minigrad as mg
from minigrad import nn
from minigrad.command import run_command

RESULTS = Path(__file__).parent / "results" / "memory.md"
VARIANTS = {  # name -> (what follows each convolution of c channels, form of the layer)
    "BatchNorm2d + LeakyReLU": (lambda c: [layers.BatchNorm2d(c), nn.LeakyReLU()], "derived"),
    "BatchNorm2d + LeakyReLU, composed": (lambda c: [layers.BatchNorm2d(c), nn.LeakyReLU()], "composed"),
    "InPlaceABN": (lambda c: [layers.InPlaceABN(c)], "form_1"),
    "InPlaceABN, form II": (lambda c: [layers.InPlaceABN(c)], "form_2"),
    "InPlaceABN, composed": (lambda c: [layers.InPlaceABN(c)], "composed"),
}


def stack(variant: str, depth: int, channels: int) -> nn.Module:
    """`depth` times a 3 × 3 convolution, normalization and activation; then average pooling and ten scores."""
    make, form = VARIANTS[variant]
    mg.seed(0)
    parts: list[nn.Module] = []
    with layers.use_form(form):
        for k in range(depth):
            parts += [nn.Conv2d(channels if k else 3, channels, 3, padding=1, bias=False), *make(channels)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def measure(variant: str, depth: int, channels: int, batch: int, size: int) -> dict[str, float]:
    """Loss, bytes kept by the tape, and peak bytes of one training step."""
    model, rng = stack(variant, depth, channels), np.random.default_rng(0)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.01)
    images, labels = mg.tensor(rng.normal(size=(batch, 3, size, size)).astype("float32")), mg.tensor(rng.integers(0, 10, batch))

    def step() -> Any:
        loss = mg.cross_entropy(model(images), labels)
        kept = mg.tape(loss).kept_bytes
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item(), kept

    step()
    optimizer.zero_grad()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        loss, kept = step()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return {"loss": loss, "kept": kept, "peak": peak}


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    mg.tune_process(1)
    found = {variant: measure(variant, **vars(options)) for variant in VARIANTS}
    one = options.batch * options.channels * options.size**2 * 4
    reference = found["BatchNorm2d + LeakyReLU"]
    lines = ["# Memory of a training step", "",
             f"{options.depth} layers of 3 × 3 convolution ({options.channels} channels), normalization and activation on {options.batch} images "
             f"of {options.size} × {options.size}, float32, SGD, one thread, NumPy {np.__version__}.",
             f"One array of activations has {one / 1e6:.1f} MB. Derived by hand, unless it says composed.", "",
             "| normalization and activation | kept by the tape, MB | arrays per layer | peak, MB | relative | loss |", "|---|---|---|---|---|---|"]
    for variant, r in found.items():
        lines.append(f"| {variant} | {r['kept'] / 1e6:.1f} | {r['kept'] / one / options.depth:.2f} | {r['peak'] / 1e6:.1f} "
                     f"| {r['peak'] / reference['peak']:.2f} | {r['loss']:.5f} |")
    lines += ["", "Batch norm keeps its input (the convolution's output), the leaky ReLU its output, and the next convolution its input: the same array.",
              "InPlace-ABN keeps only that one. The peak, early in the backward, has one or two more, and the convolution's blocks of columns.", ""]
    print("\n".join(lines))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    run_command(main)
