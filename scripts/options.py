"""All options of a training, in one table: the command line, the README's table and checkpoints are made from it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from layers.modules.parametrizations import RULES
from models import MODELS
from models.parts import ACTIVATIONS, NORMS, Parts

DATASETS = ("digits", "synthetic", "mnist", "fashion_mnist", "cifar10")


def _option(default: Any, group: str, text: str, **more: Any) -> Any:
    """A field. A number needs its range: at_least or above, and at_most or below where there is an upper end. An optional one may be None."""
    return field(default=default, metadata={"group": group, "help": text, **more})


@dataclass(frozen=True)
class Options:
    """What a training run is. Every field is an option of scripts/train.py; two runs with the same options are the same run."""

    model: str = _option("tiny_cnn", "network", "one of models.MODELS", choices=sorted(MODELS))
    width: float = _option(1.0, "network", "factor for all numbers of channels", above=0, at_most=1000)
    norm: str = _option("batch_norm", "network", "the normalization, by its registry name", choices=list(NORMS))
    form: str = _option("derived", "network", "composed, derived, or a derivation's name")
    norm_options: str | None = _option(None, "network", "of the norm's Module, such as group_size=8,affine=off", metavar="KEY=VALUE,...")
    placement: str | None = _option(None, "network", "all norms are --norm, or only the first, the others batch norm (default: as the papers have it, "
                                    "see models.build)", choices=["all", "first"])
    parametrization: str | None = _option(None, "network", "weight normalization on the convolutions", choices=list(RULES))
    weight_options: str | None = _option(None, "network", "of the parametrization, such as scale=off", metavar="KEY=VALUE,...")
    activation: str = _option("relu", "network", "behind the norms", choices=list(ACTIVATIONS))
    slope: float = _option(0.0, "network", "of leaky ReLU; 0 is ReLU", at_least=0, at_most=1)
    depth: int | None = _option(None, "network", "layers of resnet, plain, wide_resnet and resnext", at_least=1, at_most=10_000)
    shortcut: str | None = _option(None, "network", "of resnet and resnext: zeros (A), a 1×1 convolution (B), or none", choices=["A", "B", "none"])
    k: int | None = _option(None, "network", "factor for the channels of wide_resnet's stages", at_least=1, at_most=1000)
    dropout: float | None = _option(None, "network", "probability inside wide_resnet's blocks", at_least=0, below=1)
    cardinality: int | None = _option(None, "network", "groups of resnext's 3×3 convolutions", at_least=1, at_most=1000)
    base_width: int | None = _option(None, "network", "channels of each group in resnext's first stage", at_least=1, at_most=10_000)
    channels: int | None = _option(None, "network", "of tiny_cnn's first convolution", at_least=1, at_most=100_000)
    classifier_norm: bool | None = _option(None, "network", "batch norm between vgg_a's linear layers (default: unless --norm none)")
    init: str = _option("default", "network", "weights at the start: He et al.'s [he2015] Gaussian, or orthonormal", choices=["default", "orthonormal"])
    init_from: str | None = _option(None, "network", "safetensors file whose weights to begin with (ours, PyTorch's, or a run's state)", metavar="FILE")
    modulation: float = _option(0.0, "network", "strength of the gradient-magnitude modulation around blocks, 0 to 1", at_least=0, at_most=1)
    dataset: str = _option("digits", "data", "digits and synthetic come with minigrad; the others read files (see minigrad.data)", choices=list(DATASETS))
    difficulty: float = _option(0.0, "data", "of the synthetic images, 0 (98 % for a small network) to 1", at_least=0, at_most=1)
    train_images: int | None = _option(None, "data", "use only that many of the training images, the first ones", at_least=1)
    augment: bool = _option(False, "data", "random shifts, and mirror images except of digits")
    batch_size: int = _option(64, "data", "images per step", at_least=1)
    eval_batch_size: int = _option(256, "data", "images at a time when testing", at_least=1)
    epochs: int = _option(10, "training", "passes over the training images", at_least=1)
    max_steps: int | None = _option(None, "training", "stop after this many steps, whatever the epochs", at_least=1)
    optimizer: str = _option("sgd", "training", "the optimizer", choices=["sgd", "adam", "adamw", "rmsprop"])
    lr: float = _option(0.05, "training", "learning rate at its highest", above=0)
    momentum: float = _option(0.9, "training", "of SGD and RMSprop", at_least=0, below=1)
    nesterov: bool = _option(False, "training", "Nesterov's momentum, for SGD")
    weight_decay: float = _option(5e-4, "training", "of the optimizer", at_least=0)
    lr_schedule: str = _option("cosine", "training", "how the learning rate falls", choices=["constant", "step", "cosine"])
    step_size: int = _option(30, "training", "epochs between falls of the step schedule", at_least=1)
    gamma: float = _option(0.1, "training", "factor of each fall of the step schedule", at_least=0, at_most=1)
    warmup: int = _option(0, "training", "steps in which the learning rate rises to --lr", at_least=0)
    clip: float | None = _option(None, "training", "largest norm of the gradient of all parameters together", above=0)
    label_smoothing: float = _option(0.0, "training", "of the cross-entropy", at_least=0, below=1)
    penalty: float = _option(0.0, "training", "weight of the orthonormality penalty on all weight matrices", at_least=0)
    seed: int = _option(0, "training", "of the weights, the order of the images, and everything else that is random", at_least=0)
    backend: str = _option("numpy", "machine", "where arrays live: numpy or cupy")
    dtype: str = _option("float32", "machine", "of weights and images", choices=["float32", "float64"])
    threads: int | None = _option(None, "machine", "threads to use (default: what BLAS is allowed; when a run is resumed, as many as it had)",
                                 at_least=1, at_most=1024)
    out: str = _option("runs/last", "files", "folder for log.csv, curves.png and checkpoints", metavar="FOLDER")
    log_interval: int = _option(20, "files", "steps between rows of the log; only then does the loop look at a number", at_least=1)
    checkpoint_interval: int | None = _option(None, "files", "steps between checkpoints (default: one per epoch)", at_least=1)
    quiet: bool = _option(False, "files", "no progress bar")


FIELDS = {f.name: f for f in dataclasses.fields(Options)}
OF_NETWORKS = ("depth", "shortcut", "k", "dropout", "cardinality", "base_width", "channels", "classifier_norm")  # arguments of some of models.MODELS
KEYWORDS = {"norm_options": "norm", "weight_options": "parametrization"}  # options that are KEY=VALUE,... for what another one names
MAY_CHANGE = ("epochs", "max_steps", "out", "quiet", "log_interval", "checkpoint_interval", "eval_batch_size", "threads")  # when a run is resumed
PATHS = ("out", "init_from")
RANGE = {"above": "above", "at_least": "at least", "below": "below", "at_most": "at most"}


def flag(name: str) -> str:
    """batch_size -> --batch-size"""
    return "--" + name.replace("_", "-")


def add_to(parser: argparse.ArgumentParser) -> None:
    """All options, in their groups. What is not given on the command line is None."""
    groups: dict[str, Any] = {}
    for name, f in FIELDS.items():
        group = groups.setdefault(f.metadata["group"], None) or parser.add_argument_group(f.metadata["group"])
        groups[f.metadata["group"]] = group
        text = f.metadata["help"] + ("" if f.default in (None, False) else f" (default: {f.default})")
        if "bool" in str(f.type):
            group.add_argument(flag(name), action=argparse.BooleanOptionalAction, default=None, help=text)
            continue
        kind: Any = float if "float" in str(f.type) else int if "int" in str(f.type) else os.path.expanduser if name in PATHS else str
        more = {k: f.metadata[k] for k in ("choices", "metavar") if k in f.metadata}
        if "choices" in more:
            more["metavar"] = name.upper()
            text += ": " + ", ".join(map(str, more["choices"])) if len(more["choices"]) <= 12 else ""
        group.add_argument(flag(name), type=kind, default=None, help=text.replace("%", "%%"), **more)


def given(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a parser found, the options that were on the command line."""
    return {k: v for k, v in found.items() if v is not None and k in FIELDS}


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
    """What is wrong with these options, each and together, in one line; None if nothing is."""
    for name, f in FIELDS.items():
        value, limits = getattr(options, name), {k: f.metadata[k] for k in RANGE if k in f.metadata}
        if value is None and f.default is None:
            continue
        if limits and not _inside(value, **limits):
            return f"{flag(name)} {value}: it takes a finite number, {' and '.join(f'{RANGE[k]} {v}' for k, v in limits.items())}"
        if value == "":
            return f"{flag(name)}: it takes more than an empty text"
        if value not in f.metadata.get("choices", [value]):
            return f"{flag(name)} {value}: it takes one of {', '.join(f.metadata['choices'])}"
    if options.nesterov and (options.optimizer != "sgd" or options.momentum == 0):
        return "--nesterov needs --optimizer sgd and a positive --momentum"
    for name in KEYWORDS:
        try:
            keywords(name, getattr(options, name))
        except ValueError as e:
            return str(e)
    if options.weight_options and not options.parametrization:
        return "--weight-options needs a --parametrization"
    if options.difficulty and options.dataset != "synthetic":
        return f"--difficulty is of --dataset synthetic, not of {options.dataset}"
    fixed = getattr(MODELS[options.model], "keywords", {})
    taken = inspect.signature(MODELS[options.model]).parameters
    for name in OF_NETWORKS:
        value = getattr(options, name)
        if value is not None and name not in taken:
            mine = ", ".join(flag(n) for n in OF_NETWORKS if n in taken and n not in fixed)
            return f"{flag(name)}: {options.model} has no such option; it has {mine or 'none'}"
        if value is not None and fixed.get(name, value) != value:
            others = {k: v for k, v in fixed.items() if k != name}
            free = [n for n, c in MODELS.items()
                    if getattr(c, "func", c) is MODELS[options.model].func and getattr(c, "keywords", {}).items() <= others.items()]
            return f"{flag(name)} {value}: {options.model} means {fixed[name]}; leave it out, or choose --model {free[-1]}"
    try:
        Parts(options.norm, slope=options.slope, activation_name=options.activation, norm_options=keywords("norm_options", options.norm_options))
    except (TypeError, ValueError) as e:
        return str(e)
    if options.init == "orthonormal" and options.parametrization:
        return f"--init orthonormal sets weights, and --parametrization {options.parametrization} computes them: use one of the two"
    if options.norm == "inplace_abn" and options.slope == 0 and options.activation == "relu":
        return "--norm inplace_abn needs --slope above 0 (0.01, say): it computes its input from its output"
    return None


def value_of(text: str) -> bool | int | float | str:
    """A word as a switch (on, off, true, false), a number, or else itself."""
    if text.lower() in ("on", "true", "off", "false"):
        return text.lower() in ("on", "true")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def keywords(name: str, text: str | None) -> dict[str, Any]:
    """"group_size=8, affine=off" -> {"group_size": 8, "affine": False}.

    Raises:
        ValueError: a part without name or value, or a name that is there twice; the text names the option.
    """
    found: dict[str, Any] = {}
    for part in [] if text is None else text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (key.isidentifier() and equals and value):
            raise ValueError(f"{flag(name)} {text}: it takes KEY=VALUE, and a comma between several")
        if key in found:
            raise ValueError(f"{flag(name)} {text}: {key} is there twice")
        found[key] = value_of(value)
    return found


def _inside(value: float, above: float = -math.inf, at_least: float = -math.inf, below: float = math.inf, at_most: float = math.inf) -> bool:
    """Is this a finite number in its range? Each comparison with NaN is False."""
    return abs(value) < math.inf and above < value < below and at_least <= value <= at_most


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
