"""The figure of a training: loss and accuracy against steps."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad.files import write_atomically

from .trainer import FAILURES, explained, read_log

STYLE = str(Path(mg.__file__).with_name("minigrad.mplstyle"))


def series(path: str | os.PathLike[str], split: str, column: str) -> tuple[list[int], list[float]]:
    """Steps and values of one column of a log."""
    rows = [row for row in read_log(path) if row["split"] == split]
    return [int(row["step"]) for row in rows], [float(row[column]) for row in rows]


def draw(log: Path, figure: Path, title: str) -> str | None:
    """Write the figure of a log. A failure loses nothing that was computed, so it is returned in words, and ends nothing."""
    try:
        with drawing(figure, 2, (10, 3.8)) as axes:
            _draw(log, axes, title)
    except FAILURES as e:
        return f"cannot draw {figure}: {explained(e)}"
    return None


@contextlib.contextmanager
def drawing(figure: Path, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Axes side by side, for a figure that is written at the end: whole, or not at all."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    with plt.style.context(STYLE):
        fig, axes = plt.subplots(1, columns, figsize=size, layout="constrained")
        try:
            yield axes
            picture = io.BytesIO()
            fig.savefig(picture, format="png")
            write_atomically(figure, picture.getbuffer())
        finally:
            plt.close(fig)


def _draw(log: Path, axes: Any, title: str) -> None:
    for ax, column in zip(axes, ("loss", "accuracy"), strict=True):
        for split, look in (("train", {"lw": 1.2, "alpha": 0.8}), ("test", {"marker": "o", "ms": 4})):
            look_: dict[str, Any] = look
            ax.plot(*series(log, split, column), label=split, **look_)
        ax.set(xlabel="step", ylabel=column)
    axes[0].set(title=title, yscale="log")
    axes[1].set(title="accuracy", ylim=(None, 1.01))
    axes[1].legend(loc="lower right")
