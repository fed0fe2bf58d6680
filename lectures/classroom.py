"""What the lectures share: a comparison, a table, two sources side by side, and one network trained with two forms of a layer.

Nothing here derives anything: derivations stand in the lectures. A lecture begins with

    import sys
    sys.path[:0] = [".", ".."]  # finds the project from its root and from lectures/
    from lectures.classroom import FAST, agree, table
"""

from __future__ import annotations

import html
import importlib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import layers
import minigrad as mg
import models
from layers.verify.training import trained_side_by_side
from minigrad import data, derivation, nn, optim
from minigrad.check.relative import relative_error, worst

HOMEWORK = Path(__file__).resolve().parent / "homework"
RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "results"
MOST_ROWS = 8  # of an experiment's table; of a longer one its headline rows
FAST = os.environ.get("MINIGRAD_LECTURE") == "fast"  # fewer steps, the same story
BACKEND = os.environ.get("MINIGRAD_LECTURE_BACKEND", "numpy")  # where networks are trained

mg.tune_process()
plt.style.use("minigrad.minigrad")
warnings.filterwarnings("ignore", message="There are no gridspecs with layoutgrids")  # a drawn tape places its boxes by itself
if os.environ.get("MPLBACKEND") == "module://matplotlib_inline.backend_inline":  # in a notebook: figures with twice the pixels
    importlib.import_module("matplotlib_inline.backend_inline").set_matplotlib_formats("retina")


# -- comparing ---------------------------------------------------------------------------------------------------------


def _on_the_host(value: Any) -> Any:
    return np.asarray(value.numpy() if isinstance(value, mg.Tensor) else value, dtype=np.float64)


def agree(name: str, ours: Any, reference: Any, within: float = 1e-13) -> None:
    """Print how far `ours` is from `reference`, and refuse another shape or a relative error above `within`."""
    shapes = tuple(_on_the_host(t).shape for t in (ours, reference))
    assert shapes[0] == shapes[1], f"{name} has shape {shapes[0]}, the reference has {shapes[1]}"
    error = relative_error(ours, reference)
    print(f"{name:<28} {shapes[0]!s:<14} relative error {f'{error:.0e}' if error else '0'}")
    assert error <= within, f"{name}: relative error {error:.1e}, more than {within:.0e}"


# -- showing -----------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Show a table: as HTML in a notebook, as aligned text elsewhere. Cells are shown by `str`."""
    cells = [[str(c) for c in row] for row in (head, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    text = ["  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in cells]
    text.insert(1, "  ".join("-" * w for w in widths))
    first, *others = ["".join(f"<{tag} style='text-align:{'right' if k else 'left'}'>{html.escape(c)}</{tag}>" for k, c in enumerate(row))
                      for tag, row in zip(["th"] + ["td"] * len(rows), cells, strict=True)]
    _show("\n".join(text), f"<table><thead><tr>{first}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in others)}</tbody></table>")


def show_side_by_side(layer: str, derivation: str | None = None) -> None:
    """Show the source of a layer's composed form beside that of a hand-derived backward (the default one, unless named)."""
    entry = layers.REGISTRY[layer]
    name = derivation or entry.default
    op: Any = entry.derived[name]  # made by `mg.by_hand`, which keeps the backward it was given; or a function around such ops
    backward = op.primitive.backward if hasattr(op, "primitive") else op
    sources = {f"{layer}, composed": inspect.getsource(entry.composed), f"{layer}, backward of {name!r}": inspect.getsource(backward)}
    text = "\n\n".join(f"# {title} {'-' * (96 - len(title))}\n{source.rstrip()}" for title, source in sources.items())
    boxes = "".join(f"<figure style='flex:1 1 30em;min-width:0;margin:0'><figcaption><b>{html.escape(title)}</b></figcaption>{_highlighted(source)}</figure>"
                    for title, source in sources.items())
    _show(text, f"<div style='display:flex;flex-wrap:wrap;gap:1.5em'>{boxes}</div>")


def _highlighted(source: str) -> str:
    """Python source as HTML that carries its own colours."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer
    style = "overflow-x:auto;font-size:0.8em;line-height:1.35;margin:0.4em 0"
    return str(highlight(source, PythonLexer(), HtmlFormatter(noclasses=True, nobackground=True, style="xcode", prestyles=style)))


@dataclass
class _Shown:
    text: str
    markup: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.markup


def _show(text: str, markup: str) -> None:
    shell = sys.modules.get("IPython")
    if shell is not None and shell.get_ipython() is not None:
        shell.display.display(_Shown(text, markup))
    else:
        print(text)


# -- what the experiments have found -------------------------------------------------------------------------------------


def results(name: str) -> dict[str, dict[str, Any]]:
    """The results of an experiment that lie in `RESULTS`, as ``python -m experiments NAME`` wrote them: {"digits", or "table": what the file holds}.

    Raises:
        ValueError: a file is damaged; the text says which.
    """
    found = {}
    for path in sorted((RESULTS / name).glob("*.json")):
        try:
            found[path.stem] = {**json.loads(path.read_text("utf-8"))}
            _ = [(row["quantity"], row["shown"], row["verdict"]) for row in found[path.stem]["rows"]]
        except (TypeError, KeyError, ValueError) as reason:
            raise ValueError(f"{path} is no result of an experiment: {reason!r}. Run it again: python -m experiments {name}") from None
    return found


def show_results(name: str) -> None:
    """Show what an experiment has found: numbers and verdicts of its files, so that a lecture never quotes an old one; or how to run it."""
    found = results(name)
    if not found:
        _show(f"(no results here yet: python -m experiments {name})", f"<p>(No results here yet: <code>python -m experiments {html.escape(name)}</code>)</p>")
    for stem, result in found.items():
        rows = result["rows"] if len(result["rows"]) <= MOST_ROWS else [row for row in result["rows"] if row.get("headline")]
        where = "" if stem == "table" else f" on {stem}"
        title = f"{result['document']}: {result['claim']} ({name}{where}, {result['runs']} runs)"
        _show(title, f"<p>{html.escape(title)}</p>")
        table(["quantity", "the document's", "ours, 95 % interval", "verdict"],
              [[row["quantity"], "–" if row["document"] is None else f"{row['document']:g}", row["shown"], row["verdict"] or "–"] for row in rows])


# -- homework ----------------------------------------------------------------------------------------------------------


def check_homework(name: str, *functions: Any) -> derivation.Report:
    """Judge these line functions of a homework, or all in its file lines.py, and show what is to be said of each."""
    task = derivation.load_task(str(HOMEWORK / name))
    report = derivation.check(task, list(functions) or str(HOMEWORK / name / "lines.py"), lines=[f.__name__ for f in functions] or None)
    show_report(report)
    return report


def show_report(report: derivation.Report) -> None:
    """What the checker says of each line: as a coloured table in a notebook, as text elsewhere."""
    _show(str(report), report._repr_html_())


# -- training with two forms at once -----------------------------------------------------------------------------------


@dataclass
class Trainings:
    """What `train_tiny_cnn` returns: by form, and for each step."""

    loss: dict[str, list[float]] = field(default_factory=dict)        # form -> loss at every step
    agreement: list[float] = field(default_factory=list)              # relative difference of the two gradients, worst parameter
    kept: dict[str, int] = field(default_factory=dict)                # form -> bytes that the tape of a step keeps
    seconds: dict[str, float] = field(default_factory=dict)           # form -> median time of forward and backward
    accuracy: dict[str, float] = field(default_factory=dict)          # form -> on the test images
    models: dict[str, nn.Module] = field(default_factory=dict)

    def report(self) -> None:
        """Show one row per form."""
        table(["form", "last loss", "test accuracy", "kept for backward", "ms per step"],
              [[form, f"{losses[-1]:.4f}", f"{self.accuracy[form]:.1%}", f"{self.kept[form]:,} B", f"{1e3 * self.seconds[form]:.1f}"]
               for form, losses in self.loss.items()])


def train_tiny_cnn(norm: str = "batch_norm", forms: tuple[str, str] = ("composed", "derived"), steps: int = 120, dtype: str = "float32",
                   seed: int = 0, lr: float = 0.05, **options: Any) -> Trainings:
    """Train a small CNN on the shipped digits twice, from one seed, on the same batches: once with each form of `norm`.

    At every step both forms' gradients are also taken at the *same* parameters, those of the first network: their difference is
    rounding, or a mistake in the derivation.

    Args:
        norm: a key of `models.parts.NORMS`.
        forms: two of "composed", "derived" and the names of the layer's derivations.
        options: further keywords of `models.build`: slope, weight, norm_options.
    """
    images, labels = data.digits("train")
    images = images.astype(dtype)

    def network(form: str) -> nn.Module:
        mg.seed(seed)
        return models.build("tiny_cnn", norm=norm, form=form, in_channels=1, size=8, **options).astype(dtype)

    with mg.use(BACKEND):
        result = Trainings({form: [] for form in forms}, models={form: network(form) for form in forms})
        optimizers = {form: optim.SGD(model.parameters(), lr=lr, momentum=0.9) for form, model in result.models.items()}
        times: dict[str, list[float]] = {form: [] for form in forms}
        for step in trained_side_by_side(result.models, network(forms[1]), _batches(images, labels, steps, seed), optimizers):
            for form in forms:
                times[form].append(step.seconds[form])
                result.kept.setdefault(form, step.kept[form])
                result.loss[form].append(step.loss[form])
            result.agreement.append(worst(step.differences))
        result.seconds = {form: median(spent) for form, spent in times.items()}
        result.accuracy = {form: _accuracy(model, dtype) for form, model in result.models.items()}
    return result


def _batches(images: Any, labels: Any, steps: int, seed: int) -> Iterator[tuple[Any, Any]]:
    epoch, done = 0, 0
    while True:
        for batch in data.batches(images, labels, 64, shuffle=True, seed=seed, epoch=epoch, drop_last=True):
            if done == steps:
                return
            yield batch
            done += 1
        epoch += 1


def _accuracy(model: nn.Module, dtype: str) -> float:
    images, labels = data.digits("test")
    model.eval()
    with mg.no_grad():
        guesses = mg.argmax(model(mg.tensor(images.astype(dtype), backend=BACKEND)), 1).numpy()
    model.train()
    return float((guesses == labels).mean())
