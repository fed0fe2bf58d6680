"""Test trained weights: ``python -m scripts.evaluate runs/last/best.safetensors``.

Prints top-1 and top-5 accuracy and the loss on the test images, and writes the confusion matrix as a figure beside the weights. The file says
which network it is; options on the command line come first, so the same weights can be tested with another slope or activation
(inplace-abn, table 1), another form, or on another data set. Weights by others need all options of their network.

    --crop 28                the middle 28 × 28 pixels of every image
    --crop 28 --ten-crops    those, the four corners, and the mirror images of all five: probabilities are averaged
    --enlarge 40             images enlarged to 40 × 40 pixels first, for networks that take any size
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from layers.batch.inplace_abn import SMALLEST
from minigrad import checkpoint, nn
from minigrad.command import run_command

from .curves import drawing
from .options import FIELDS, Options, add_to, given, problems
from .trainer import FAILURES, build_model, explained, initial_weights, load_data, run_file


@dataclass(frozen=True)
class Views:
    """What of an image the network sees.

    Attributes:
        crop: height and width of the part in the middle; None: all of it.
        ten: that part, the four corners, and the mirror images of all five.
        enlarge: height and width to which images are enlarged (bilinear) before; None: as they are.
    """

    crop: int | None = None
    ten: bool = False
    enlarge: int | None = None

    def __call__(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """images (N, C, H, W) -> the views, one or ten arrays (N, C, crop, crop).

        Raises:
            ValueError: images that are smaller than the crop, or ten crops as large as the image.
        """
        if self.enlarge is not None:
            images = resized(images, self.enlarge)
        h, w = images.shape[2:]
        size = self.crop or min(h, w)
        if size > min(h, w):
            raise ValueError(f"--crop {size}: the images have {h} × {w} pixels")
        if self.ten and size == h == w:
            raise ValueError(f"--ten-crops of {size} pixels: the images have no more, so five of them would be the whole image; --enlarge {size + size // 4}")
        top, left = (h - size) // 2, (w - size) // 2
        places = [(top, left)] if not self.ten else [(top, left), (0, 0), (0, w - size), (h - size, 0), (h - size, w - size)]
        for a, b in places:
            part = images[:, :, a:a + size, b:b + size] if self.crop or self.ten else images
            yield np.ascontiguousarray(part)
            if self.ten:
                yield np.ascontiguousarray(part[..., ::-1])


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """images (N, C, H, W) -> (N, C, size, size), bilinear, with pixels as squares (PyTorch's align_corners=False)."""
    rows, columns = (_interpolation(n, size).astype(images.dtype) for n in images.shape[2:])
    return np.matmul(np.matmul(rows, images), columns.T)


def _interpolation(before: int, after: int) -> np.ndarray:
    """The matrix (after, before) of linear interpolation between the centres of pixels; outside them the nearest pixel counts."""
    place = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    left = np.minimum(place.astype(int), max(before - 2, 0))
    matrix = np.zeros((after, before))
    matrix[np.arange(after), left] = 1 - (place - left)
    matrix[np.arange(after), np.minimum(left + 1, before - 1)] += place - left
    return matrix


@dataclass
class Evaluation:
    """What `evaluated` found.

    Attributes:
        top1, top5: fraction of images whose class has the largest score, or one of the five largest.
        loss: mean cross-entropy; of ten crops that of the averaged probabilities.
        confusion: (classes, classes): images of the class (row) that were taken for another (column).
    """

    top1: float
    top5: float
    loss: float
    confusion: np.ndarray


def evaluated(model: nn.Module, images: np.ndarray, labels: np.ndarray, views: Views = Views(), batch_size: int = 256,
              backend: str | None = None) -> Evaluation:
    """Test a network in eval mode; it stays in the mode that it had.

    Args:
        images: host array (N, C, H, W), normalized as for training.
        labels: host array (N,).

    Raises:
        ValueError: sizes that the network does not take, or no images.
    """
    if not len(images):
        raise ValueError("there are no images to test")
    training, found = model.training, []
    model.eval()
    try:
        with mg.no_grad():
            for start in range(0, len(images), batch_size):
                logs = [_log_probabilities(model, view, backend) for view in views(images[start:start + batch_size])]
                found.append(logs[0] if len(logs) == 1 else np.log(np.maximum(np.mean(np.exp(logs), 0), np.finfo(np.float64).tiny)))
    finally:
        model.train(training)
    logs = np.concatenate(found)
    order = np.argsort(-logs, 1, kind="stable")[:, :5] == labels[:, None]  # of equal scores the first class counts, as for argmax
    classes = logs.shape[1]
    confusion = np.bincount(labels * classes + np.argmax(logs, 1), minlength=classes**2).reshape(classes, classes)
    return Evaluation(float(order[:, 0].mean()), float(order.any(1).mean()), float(-logs[np.arange(len(labels)), labels].mean()), confusion)


def _log_probabilities(model: nn.Module, images: np.ndarray, backend: str | None) -> np.ndarray:
    return np.asarray(mg.log_softmax(model(mg.tensor(images, backend=backend)), 1).numpy(), np.float64)


def network(options: Options, weights: str | os.PathLike[str], images: np.ndarray) -> nn.Module:
    """The network with these weights, for images (N, C, H, W) of the size it was trained on.

    In-place ABN with a ReLU, which it cannot invert for a gradient, is tested as batch norm and ReLU: the same function.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: see `trainer.initial_weights`, or weights of another network.
    """
    inplace = options.norm == "inplace_abn" and options.slope == 0 and options.activation == "relu"
    if inplace:
        options = dataclasses.replace(options, norm="batch_norm", norm_options=None)
    problem = problems(options)
    if problem:
        raise ValueError(problem)
    state = initial_weights(weights, options.dtype)
    model = build_model(dataclasses.replace(options, init_from=None, init="default"), images.shape[1], images.shape[-1])
    if inplace:
        norms = [name for name, module in model.named_modules() if type(module).__name__.startswith("BatchNorm2d")]
        for name in norms:
            gamma = state[f"{name}.weight"]
            state[f"{name}.weight"] = np.copysign(np.maximum(abs(gamma), SMALLEST), gamma).astype(gamma.dtype)
    model.load_state_dict(state)
    return model


def options_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options with which the run trained that wrote this file; {} where it does not say: its network is that of the options typed.

    Raises:
        FileNotFoundError, ValueError, OSError: no such file, damaged, or unreadable.
    """
    state = checkpoint.load(path, backend="numpy")
    saved: Any = state.get("options")
    if not isinstance(saved, dict):
        try:
            saved = json.loads(checkpoint.metadata(path).get("options", "{}"))
        except ValueError:  # of an older version
            saved = {}
    return {k: v for k, v in saved.items() if k in FIELDS} if isinstance(saved, dict) else {}


def draw(confusion: np.ndarray, figure: Path, title: str) -> None:
    """The confusion matrix, in percent of each class."""
    percent = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    n = len(percent)
    with drawing(figure, 1, (5.5, 5)) as ax:
        ax.grid(False)
        shown = ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        for i in range(n if n <= 20 else 0):
            for j in range(n):
                if confusion[i, j]:
                    ax.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", fontsize=8, color="white" if percent[i, j] > 60 else "0.2")
        ax.set(xlabel="taken for class", ylabel="class", title=title, xticks=range(n), yticks=range(n))
        ax.figure.colorbar(shown, ax=ax, label="% of the class", shrink=0.8)


def parse(arguments: list[str] | None) -> tuple[Path, Options, Views, Path]:
    """The weights, the options of their network, what is tested, and where the figure goes.

    Raises:
        ValueError, OSError: options that make no sense, or weights that cannot be read.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", metavar="WEIGHTS", type=os.path.expanduser, help="a safetensors file, or the folder of a run (its best weights)")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="test the middle part of every image")
    parser.add_argument("--ten-crops", action="store_true", help="average over ten parts of the size of --crop: five, and their mirror images (not for digits)")
    parser.add_argument("--enlarge", type=int, metavar="PIXELS", help="enlarge images first")
    parser.add_argument("--figure", type=Path, help="where the confusion matrix goes (default: confusion.png beside WEIGHTS; with other options they are "
                                                    "in its name)")
    add_to(parser)
    found = vars(parser.parse_args(arguments))
    if not found["weights"]:
        raise ValueError("WEIGHTS: it takes a safetensors file, or the folder of a run")
    path = Path(found["weights"])
    if path.is_dir():
        path = path / "best.safetensors" if (path / "best.safetensors").exists() else run_file(path)
    for name in ("crop", "enlarge"):
        if found[name] is not None and found[name] < 1:
            raise ValueError(f"--{name} {found[name]}: it takes at least 1")
    saved = options_of(path)
    typed = given(found)
    if typed.get("activation", "relu") != "relu":
        saved["slope"] = 0.0  # it was that of a ReLU
    elif "slope" in typed:
        saved["activation"] = "relu"
    if "dataset" in typed:
        saved["difficulty"] = 0.0
    if useless := [name for name in typed if FIELDS[name].metadata["group"] in ("training", "files") and name != "quiet"]:
        raise ValueError(f"--{useless[0].replace('_', '-')}: it is for training; "
                         + ("--figure says where the figure goes" if "out" in useless else "leave it out"))
    views = {name: found[name] for name in ("crop", "ten_crops", "enlarge") if found[name]}
    what = "".join(f"-{name}_{value}" for name, value in {**typed, **views}.items() if name not in ("threads", "backend"))
    figure = found["figure"] or path.with_name(re.sub(r"[^\w.-]", "_", f"confusion{what}.png"))
    return path, Options(**{**saved, **typed}), Views(found["crop"], found["ten_crops"], found["enlarge"]), figure


def main(arguments: list[str] | None = None) -> int:
    """0: tested; 1: the figure cannot be written; 2: usage, or files that do not fit; 130: stopped."""
    try:
        path, options, views, figure = parse(arguments)
        mg.tune_process(options.threads)
        mg.use(options.backend)
        images = load_data(options)
        model = network(options, path, images["train"][0])
        result = evaluated(model, *images["test"], views, options.eval_batch_size, options.backend)
    except FAILURES as e:
        print(f"evaluate: {explained(e)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate: stopped; nothing was written", file=sys.stderr)
        return 130
    if not options_of(path):
        print(f"evaluate: {path} does not say how it was trained: --model, --norm, --activation, --slope are as typed, or the defaults", file=sys.stderr)
    print(f"{path}: {options.model}, {options.dataset}, {len(images['test'][1])} test images")
    print(f"top-1 {result.top1:.2%}, top-5 {result.top5:.2%}, loss {result.loss:.4f}")
    try:
        draw(result.confusion, figure, f"{options.model} on {options.dataset}: {result.top1:.1%} right")
    except FAILURES as e:
        print(f"evaluate: cannot draw {figure}: {explained(e)}", file=sys.stderr)
        return 1
    print(f"confusion matrix: {figure}")
    return 0


if __name__ == "__main__":
    run_command(main)
