"""All options of a training, in one table: the command line, the README's table and checkpoints are made from it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from layers.parametrizations import RULES
from models import MODELS
from models.parts import NORMS

DATASETS = ("digits", "synthetic", "mnist", "fashion_mnist", "cifar10")


def _option(default: Any, group: str, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"group": group, "help": text, **more})


@dataclass(frozen=True)
class Options:
    """What a training run is. Every field is an option of scripts/train.py; two runs with the same options are the same run."""

    model: str = _option("tiny_cnn", "network", "one of models.MODELS", choices=sorted(MODELS))
    width: float = _option(1.0, "network", "factor for all numbers of channels")
    norm: str = _option("batch_norm", "network", "the normalization, by its registry name", choices=list(NORMS))
    form: str = _option("derived", "network", "composed, derived, or a derivation's name")
    parametrization: str | None = _option(None, "network", "weight normalization on the convolutions", choices=list(RULES))
    slope: float = _option(0.0, "network", "of leaky ReLU; 0 is ReLU")
    init: str = _option("default", "network", "weights at the start: He et al.'s Gaussian, or orthonormal", choices=["default", "orthonormal"])
    init_from: str | None = _option(None, "network", "safetensors file whose weights to begin with (ours or PyTorch's)", metavar="FILE")
    modulation: float = _option(0.0, "network", "strength of the gradient-magnitude modulation around convolutions, 0 to 1")
    dataset: str = _option("digits", "data", "digits and synthetic are there; the others read files (see minigrad.data)", choices=list(DATASETS))
    augment: bool = _option(False, "data", "random shifts, and mirror images except of digits")
    batch_size: int = _option(64, "data", "images a step")
    eval_batch_size: int = _option(256, "data", "images at a time when testing")
    epochs: int = _option(10, "training", "passes over the training images")
    max_steps: int | None = _option(None, "training", "stop after this many steps, whatever the epochs")
    optimizer: str = _option("sgd", "training", "the optimizer", choices=["sgd", "adam", "adamw", "rmsprop"])
    lr: float = _option(0.05, "training", "learning rate at its highest")
    momentum: float = _option(0.9, "training", "of SGD and RMSprop")
    nesterov: bool = _option(False, "training", "Nesterov's momentum, for SGD")
    weight_decay: float = _option(5e-4, "training", "of the optimizer")
    lr_schedule: str = _option("cosine", "training", "how the learning rate falls", choices=["constant", "step", "cosine"])
    step_size: int = _option(30, "training", "epochs between falls of the step schedule")
    gamma: float = _option(0.1, "training", "factor of each fall of the step schedule")
    warmup: int = _option(0, "training", "steps in which the learning rate rises to --lr")
    clip: float | None = _option(None, "training", "largest norm of the gradient of all parameters together")
    label_smoothing: float = _option(0.0, "training", "of the cross-entropy")
    penalty: float = _option(0.0, "training", "weight of the orthonormality penalty on all weight matrices")
    seed: int = _option(0, "training", "of the weights, the order of the images, and all else that is random")
    backend: str = _option("numpy", "machine", "where arrays live: numpy or cupy")
    dtype: str = _option("float32", "machine", "of weights and images", choices=["float32", "float64"])
    threads: int | None = _option(None, "machine", "threads to use (default: what BLAS is allowed)")
    out: str = _option("runs/last", "files", "folder for log.csv, curves.png and checkpoints")
    log_interval: int = _option(20, "files", "steps between rows of the log; only then does the loop look at a number")
    checkpoint_interval: int | None = _option(None, "files", "steps between checkpoints (default: one an epoch)")
    quiet: bool = _option(False, "files", "no progress bar")


FIELDS = {f.name: f for f in dataclasses.fields(Options)}
MAY_CHANGE = ("epochs", "max_steps", "out", "quiet", "log_interval", "checkpoint_interval", "eval_batch_size")  # when a run is resumed


def flag(name: str) -> str:
    """batch_size -> --batch-size"""
    return "--" + name.replace("_", "-")


def add_to(parser: argparse.ArgumentParser) -> None:
    """All options, in their groups. What is not given on the command line is None there."""
    groups: dict[str, Any] = {}
    for name, f in FIELDS.items():
        group = groups.setdefault(f.metadata["group"], None) or parser.add_argument_group(f.metadata["group"])
        groups[f.metadata["group"]] = group
        text = f.metadata["help"] + ("" if f.default in (None, False) else f" (default: {f.default})")
        if isinstance(f.default, bool):
            group.add_argument(flag(name), action=argparse.BooleanOptionalAction, default=None, help=text)
            continue
        kind = float if "float" in str(f.type) else int if "int" in str(f.type) else str
        more = {k: f.metadata[k] for k in ("choices", "metavar") if k in f.metadata}
        if "choices" in more:
            more["metavar"] = name.upper()
            text += ": " + ", ".join(map(str, more["choices"])) if len(more["choices"]) <= 12 else ""
        group.add_argument(flag(name), type=kind, default=None, help=text.replace("%", "%%"), **more)


def table() -> str:
    """The options as the README shows them."""
    rows = ["| option | default | |", "|---|---|---|"]
    for name, f in FIELDS.items():
        default = "" if f.default is None else "off" if f.default is False else f"`{f.default}`"
        choices = f.metadata.get("choices", [])
        more = f" ({', '.join(f'`{c}`' for c in choices)})" if 0 < len(choices) <= 12 else ""
        rows.append(f"| `{flag(name)}` | {default} | {f.metadata['help']}{more} |")
    return "\n".join(rows)


def problems(options: Options) -> str | None:
    """What is wrong with these options together, in one line; None if nothing is."""
    for name in ("batch_size", "eval_batch_size", "epochs", "log_interval", "step_size"):
        if getattr(options, name) < 1:
            return f"{flag(name)} {getattr(options, name)}: needed is at least 1"
    for name in ("lr", "width"):
        if not getattr(options, name) > 0:
            return f"{flag(name)} {getattr(options, name)}: needed is a positive number"
    for name in ("max_steps", "checkpoint_interval", "clip", "threads"):
        if getattr(options, name) is not None and not getattr(options, name) > 0:
            return f"{flag(name)} {getattr(options, name)}: needed is a positive number"
    for name in ("warmup", "seed", "slope", "penalty", "weight_decay"):
        if getattr(options, name) < 0:
            return f"{flag(name)} {getattr(options, name)}: needed is a number of at least 0"
    if not 0 <= options.modulation <= 1 or not 0 <= options.label_smoothing < 1:
        return "--modulation needs a number from 0 to 1, --label-smoothing one from 0 to below 1"
    if options.nesterov and (options.optimizer != "sgd" or options.momentum == 0):
        return "--nesterov needs --optimizer sgd and a positive --momentum"
    if options.norm == "inplace_abn" and options.slope == 0:
        return "--norm inplace_abn needs --slope above 0 (0.01, say): it computes its input from its output"
    return None


def merged(saved: Mapping[str, Any], given: Mapping[str, Any]) -> Options:
    """The options of a saved run with those that may change.

    Raises:
        ValueError: another value for one that may not; the text names it.
    """
    known = {k: v for k, v in saved.items() if k in FIELDS}
    for name, value in given.items():
        if name not in MAY_CHANGE and known.get(name) != value:
            raise ValueError(f"{flag(name)} {value}: the run that is resumed has {known.get(name)}; leave it out, or begin a new run")
    if "epochs" in given and given["epochs"] != known.get("epochs") and known.get("lr_schedule") == "cosine":
        raise ValueError("--epochs: the cosine schedule of the run that is resumed ends with its epochs; use --max-steps to stop earlier, or begin a new run")
    return Options(**{**known, **given})
