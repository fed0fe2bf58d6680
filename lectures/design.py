"""A layer of your own, all the way: ``python -m lectures.design FILE [--seeds N] [--steps N]``.

The file is made as `homework/11_design_a_layer/design.py` says. Its five parts are looked at in turn: what the layer is for, its forward
pass, its derivation line by line, the op made of it, and how it trains beside batch norm.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import layers
import minigrad as mg
import models
from minigrad import data, derivation, nn, optim
from minigrad.check.student_t import student_t
from minigrad.command import run_command

EPS = 1e-3
Layer = Callable[..., Any]


class NotDesigned(ValueError):
    """A part of the file is missing, or does not do what it must; the text says which."""


class Design(NamedTuple):
    """What a file holds."""

    purpose: str
    forward: Layer
    lines: dict[str, Callable[..., Any]]
    op: Layer | None  # made of statistics, backward and fast; None where they are not written yet


class SeedDifference(NamedTuple):
    """Ours minus batch norm's, with the half width of its 95 % interval (Student's t over seeds, paired)."""

    what: str
    ours: float
    theirs: float
    mean: float
    half: float

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if abs(self.mean) <= self.half:
            return "these seeds cannot tell"
        return f"{'higher' if self.mean > 0 else 'lower'} than batch norm's"


# -- the file ------------------------------------------------------------------------------------------------------------


def loaded(file: str | Path) -> Design:
    """The design in a file.

    Raises:
        NotDesigned: it does not run, it has no purpose, no forward or not all lines, or only a part of the op.
    """
    path = Path(file)
    if not path.is_file():
        raise NotDesigned(f"there is no file {path}: begin with a copy of lectures/homework/11_design_a_layer/design.py")
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    with explained(path):
        exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    purpose = " ".join((names.get("__doc__") or "").split("\n\n")[0].split())
    if not purpose:
        raise NotDesigned(f"{path.name} does not say what the layer is for: begin it with a text in triple quotes")
    if not callable(names.get("forward")):
        raise NotDesigned(f"{path.name} has no forward(x, gamma, beta, *, eps)")
    lines = {name: f for name, f in names.items() if name.startswith("d_") and callable(f)}
    if absent := [name for name in ("d_x", "d_gamma", "d_beta") if name not in lines]:
        raise NotDesigned(f"{path.name} has no {' and no '.join(absent)}: write one function d_<name> for each line of the derivation")
    parts = {name: names.get(name) for name in ("statistics", "backward", "fast")}
    missing = [name for name, f in parts.items() if f is None]
    if 0 < len(missing) < len(parts):
        raise NotDesigned(f"{path.name} has a part of the op only: {', '.join(missing)} is missing")
    op = None if missing else mg.by_hand(save=_given(parts["statistics"]), backward=_given(parts["backward"]))(_given(parts["fast"]))
    return Design(purpose, names["forward"], lines, op)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """An error of the file's own code in one line, with its place, instead of the frames that led there."""
    try:
        yield
    except NotDesigned:
        raise
    except SyntaxError as e:
        raise NotDesigned(f"{path.name}, line {e.lineno}: {e.msg}") from e
    except Exception as e:
        places = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename == str(path)]
        raise NotDesigned(f"{path.name}{f', line {places[-1]}' if places else ''}: {type(e).__name__}: {e}") from e


def _given(f: Callable[..., Any] | None) -> Callable[..., Any]:
    assert f is not None
    return f


# -- the steps -----------------------------------------------------------------------------------------------------------


def example(m: int = 7, channels: int = 3, seed: int = 0) -> dict[str, Any]:
    """Arrays for a first look: x (m, C), gamma and beta (C,), float64."""
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(0.7, 1.3, (m, channels)), "gamma": rng.uniform(0.5, 2.0, channels), "beta": rng.normal(size=channels)}


def goes_forward(design: Design) -> str:
    """Runs the composed form; says what it does to mean and spread of a channel.

    Raises:
        NotDesigned: it does not return a Tensor like x.
    """
    arrays = example(2000, 2)
    y = design.forward(*(mg.tensor(a) for a in arrays.values()), eps=EPS)
    if not isinstance(y, mg.Tensor) or y.shape != arrays["x"].shape:
        raise NotDesigned(f"forward must return one Tensor of the shape of x, {arrays['x'].shape}; it returned "
                          f"{f'the shape {y.shape}' if isinstance(y, mg.Tensor) else type(y).__name__}")
    if not np.isfinite(y.numpy()).all():
        raise NotDesigned("forward gives NaN or infinity for ordinary numbers: no derivative of it can be checked")
    plain = (y.numpy() - arrays["beta"]) / arrays["gamma"]
    return f"before scale and shift, channels have means {_listed(plain.mean(0))} and standard deviations {_listed(plain.std(0))}"


def _listed(values: Any) -> str:
    return " and ".join(f"{v:.3f}" for v in np.round(values, 3) + 0.0)


def checked(design: Design) -> derivation.Report:
    """The derivation, judged line by line against the tape of the file's own forward."""
    return derivation.check(design.forward, design.lines, inputs=example(), keywords={"eps": 0.1})


def op_report(design: Design) -> tuple[bool, str]:
    """Does the op compute what the composed form does, in both orders, and what does it keep?"""
    if design.op is None:
        return True, "not written yet: step 5 uses the composed form"
    op = design.op
    tensors = [mg.tensor(a) for a in example().values()]
    apart = np.abs(op(*tensors, eps=0.1).numpy() - design.forward(*tensors, eps=0.1).numpy()).max()
    if apart > 1e-12:
        return False, f"its values differ from the composed form's by {apart:.1e}"
    for order in (1, 2):
        report = mg.gradcheck(lambda *t: op(*t, eps=0.1), tensors, order=order)
        if not report:
            why = "a statistic that is kept as a constant, perhaps" if order == 2 else "compare backward with the lines above"
            return False, f"derivatives of order {order} are not those of central differences: {why}\n{report}"
    held = [mg.tensor(a, requires_grad=True) for a in example(512, 16).values()]
    kept = {name: mg.tape(f(held[0] + 0.0, *held[1:], eps=EPS)).kept_bytes / held[0].nbytes for name, f in (("composed", design.forward), ("by hand", op))}
    return True, "right in both orders; it keeps " + ", ".join(f"{share:.2f} arrays like x {name}" for name, share in kept.items())


class Invented(nn.Module):
    """The layer for images (N, C, H, W): m = N·H·W. It has no running statistics: it normalizes by the batch that it sees, in testing too."""

    def __init__(self, layer: Layer, channels: int) -> None:
        super().__init__()
        self.layer = layer
        self.weight, self.bias = nn.Parameter(mg.ones(channels)), nn.Parameter(mg.zeros(channels))

    def forward(self, x: Any) -> Any:
        """Like x."""
        n, c, h, w = x.shape
        rows = mg.transpose(x, (0, 2, 3, 1)).reshape(n * h * w, c)
        return mg.transpose(self.layer(rows, self.weight, self.bias, eps=EPS).reshape(n, h, w, c), (0, 3, 1, 2))


def network(layer: Layer | None, seed: int) -> nn.Module:
    """A small CNN from this seed, with the layer in the place of its batch norms; None leaves them."""
    mg.seed(seed)
    model = models.build("tiny_cnn", in_channels=1, size=8)
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if layer is not None and isinstance(child, layers.BatchNorm2d):
                setattr(owner, name, Invented(layer, len(child.weight)))
    return model


def trained(layer: Layer | None, seed: int, steps: int, lr: float = 0.05) -> tuple[float, float]:
    """(mean loss of the last ten steps, accuracy on the test images) of a network; both layers are tested with the statistics of the test batch."""
    model = network(layer, seed)
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for x, t in _batches(steps, seed):
        loss = mg.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    images, labels = data.digits("test")
    with mg.no_grad():
        right = mg.argmax(model(mg.tensor(images, backend=next(iter(model.parameters())).backend)), 1).numpy() == labels
    return float(np.mean(losses[-10:])), float(right.mean())


def _batches(steps: int, seed: int) -> Iterator[tuple[Any, Any]]:
    images, labels = data.digits("train")
    done, epoch = 0, 0
    while done < steps:
        for batch in data.batches(images, labels, 64, shuffle=True, seed=seed, epoch=epoch, drop_last=True):
            if done < steps:
                yield batch
            done += 1
        epoch += 1


def compared(layer: Layer, seeds: int, steps: int) -> list[SeedDifference]:
    """The layer against batch norm, paired by seed: same first weights, same batches.

    Raises:
        ValueError: fewer than 2 seeds.
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seeds: an interval needs 2 or more")
    ours, theirs = (np.array([trained(one, seed, steps) for seed in range(seeds)]) for one in (layer, None))   # (seeds, 2)
    half = student_t(seeds - 1) * (ours - theirs).std(0, ddof=1) / np.sqrt(seeds)
    return [SeedDifference(what, *(float(v) for v in (ours[:, k].mean(), theirs[:, k].mean(), (ours - theirs)[:, k].mean(), half[k])))
            for k, what in enumerate(("training loss at the end", "test accuracy"))]


# -- the command ---------------------------------------------------------------------------------------------------------


def designed(file: str | Path, seeds: int, steps: int, say: Callable[[str], object] = print) -> bool:
    """All five steps; false where the derivation or the op is wrong. Nothing is trained then."""
    design = loaded(file)
    say(f"1. It is for: {design.purpose}")
    with explained(Path(file)), np.errstate(all="ignore"):
        say(f"2. Forward: {goes_forward(design)}")
    report = checked(design)
    say(f"3. Derivation: {report}")
    with explained(Path(file)):
        right, words = op_report(design)
    say(f"4. Op: {'' if right else 'wrong: '}{words}")
    if not report or not right:
        say("5. Not trained: mend the lines above first")
        return False
    say(f"5. Beside batch norm, {seeds} seeds, {steps} steps of 64 digits, differences paired by seed with 95 % intervals:")
    for d in compared(design.op or design.forward, seeds, steps):
        say(f"   {d.what}: {d.ours:.4f} against {d.theirs:.4f}; difference {d.mean:+.4f} ± {d.half:.4f}: {d.verdict}")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if derivation and op are right."""
    parser = argparse.ArgumentParser(prog="python -m lectures.design", description=(__doc__ or "").splitlines()[0].split(":")[0])
    parser.add_argument("file", help="your design")
    parser.add_argument("--seeds", type=int, default=5, help="2 or more (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="of training, for each network (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        return 0 if designed(options.file, options.seeds, options.steps) else 1
    except (NotDesigned, derivation.TaskError, ValueError) as reason:
        print(reason, file=sys.stderr)
        return 2


if __name__ == "__main__":
    mg.tune_process()
    run_command(main)
