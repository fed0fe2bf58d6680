"""An experiment's table as Markdown, JSON and a figure; the list of experiments; the README's table."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minigrad.files import write_atomically
from scripts.curves import STYLE
from scripts.trainer import machine

from .registry import Experiment, ExperimentError, Row, Runs
from .statistics import Interval

HEAD = ("quantity", "the document's number", "ours ± 95 % interval", "verdict", "agrees means", "interval by")
README_HEAD = ("document", "claim", "its number", "ours (95 % interval)", "verdict", "command")


def number(value: float | None) -> str:
    """Three digits.

    >>> number(707.47), number(0.36), number(12345.0), number(2e-9)
    ('707', '0.36', '12300', '2e-09')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if 1000 <= abs(rounded) < 1e6 else f"{rounded:g}"


def shown(interval: Interval) -> str:
    """The estimate and its interval.

    >>> shown(Interval(0.5, 0.2, 0.8, 5, "t")), shown(Interval(2.0, 1.5, 3.0, 7, "m", "turns", "log"))
    ('0.5 ± 0.3 (n = 5)', '2 [1.5, 3] (n = 7)')
    >>> shown(Interval(3.0, 3.0, 3.0, 5, "t"))
    '3 ± 0 (n = 5)'
    """
    if interval.problem:
        return interval.problem
    if interval.low == interval.high and interval.n == 1:  # computed, or counted
        return number(interval.estimate)
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return f"{number(interval.estimate)}, no interval (n = {interval.n})"
    low, high = interval.estimate - interval.low, interval.high - interval.estimate
    around = f" ± {number(high)}" if abs(high - low) <= 1e-6 * max(high, low) else f" [{number(interval.low)}, {number(interval.high)}]"
    return f"{number(interval.estimate)}{around} (n = {interval.n})"


def write(found: Experiment, runs: Runs, *, dataset: str | None, folder: Path, stem: str, command: str) -> list[Row]:
    """Make the rows, and write STEM.md, STEM.json and STEM.png into `folder`: each whole, or not at all.

    Raises:
        ExperimentError: a file cannot be written. The runs are in the journal, so nothing is lost.
    """
    assert found.rows is not None
    rows = list(found.rows(runs))
    try:
        write_atomically(folder / f"{stem}.json", as_json(found, rows, runs, dataset, command).encode())
        with figure(folder / f"{stem}.png") as fig:
            (found.draw or (lambda fig, runs: forest(fig, rows, found.name)))(fig, runs)
        write_atomically(folder / f"{stem}.md", as_markdown(found, rows, runs, dataset, stem, command).encode())
    except OSError as e:
        raise ExperimentError(f"cannot write the table into {folder}: {e.strerror or e}. All runs are in its journal: make room, and the same command "
                              "writes the table without running anything") from e
    return rows


def as_markdown(found: Experiment, rows: Sequence[Row], runs: Runs, dataset: str | None, stem: str, command: str) -> str:
    """The page of an experiment."""
    cells = [(r.quantity, number(r.document), shown(r.ours), r.verdict, r.agrees.words if r.agrees else "", r.ours.method) for r in rows]
    notes = [f"- {r.quantity}: {r.note}" for r in rows if r.note]
    here, text = machine(), " ".join((found.rows.__doc__ or "").split())
    return "\n".join([
        f"# {found.name}", "", f"{found.document}: {found.claim}", "", f"    {command}", "", *markdown_table(HEAD, cells), "", *notes, *([""] if notes else []),
        *([text, ""] if text else []), f"![{found.name}]({stem}.png)", "",
        f"Sizes: {', '.join(f'{k} {v}' for k, v in described(runs.sizes, dataset).items())}. {len(runs)} runs, {sum(r.seconds for r in runs):.0f} s in all, "
        f"one {'at a time' if found.timing else 'thread each'}; NumPy {here['NumPy']}, {here['BLAS']}, {here['processor']}.", ""])


def described(sizes: Mapping[str, Any], dataset: str | None) -> dict[str, Any]:
    """Data set and sizes, as every result has them."""
    return {**({"dataset": dataset} if dataset else {}), **sizes}


def as_json(found: Experiment, rows: Sequence[Row], runs: Runs, dataset: str | None, command: str) -> str:
    """The same for programs; where an interval has no end, null."""
    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None
    return json.dumps({
        "experiment": found.name, "document": found.document, "claim": found.claim, "command": command, "sizes": described(runs.sizes, dataset),
        "runs": len(runs), "seconds": round(sum(r.seconds for r in runs), 1), "machine": machine(),
        "rows": [{"quantity": r.quantity, "document": r.document, "ours": finite(r.ours.estimate), "low": finite(r.ours.low), "high": finite(r.ours.high),
                  "shown": shown(r.ours), "n": r.ours.n, "unit": r.ours.unit, "method": r.ours.method, "agrees_means": r.agrees.words if r.agrees else None,
                  "verdict": r.verdict, "headline": r.headline, "note": r.note} for r in rows],
    }, indent=1, ensure_ascii=False) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines."""
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(c.replace('|', chr(92) + '|') for c in cells)} |"
    return [line(head), "|" + "---|" * len(head), *map(line, rows)]


def forest(fig: Any, rows: Sequence[Row], title: str) -> None:
    """Each row: our number with its interval, and the document's. Each row has its own scale."""
    fig.set_size_inches(9, 0.9 + 0.75 * len(rows))
    for ax, row in zip(fig.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        centre, ends = row.ours.estimate, [v if math.isfinite(v) else row.ours.estimate for v in (row.ours.low, row.ours.high)]
        if math.isfinite(centre):
            ax.errorbar([centre], [0], xerr=[[centre - ends[0]], [ends[1] - centre]], fmt="o", capsize=4, label="ours, 95 %")
        if row.document is not None:
            ax.plot([row.document], [0], marker="D", ls="", color="C1", label="document")
        ax.set(yticks=[], ylim=(-1, 1))
        ax.set_title(f"{row.quantity}{': ' if row.verdict else ''}{row.verdict.split(':')[0]}", fontsize=9, loc="left")
    fig.axes[0].legend(loc="upper right", fontsize=8)
    fig.suptitle(title)


@contextmanager
def figure(path: Path) -> Iterator[Any]:
    """A matplotlib Figure in the house's style, written at the end: whole, or not at all."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    with plt.style.context(STYLE):
        fig = plt.figure(layout="constrained")
        try:
            yield fig
            picture = io.BytesIO()
            fig.savefig(picture, format="png", metadata={"Software": None})
            write_atomically(path, picture.getbuffer())
        finally:
            plt.close(fig)


def listing(experiments: Mapping[str, Experiment]) -> str:
    """What `python -m experiments` prints."""
    rows = [(e.name, e.document, duration(e.seconds[0]), duration(e.seconds[1]), ", ".join(e.datasets), e.claim) for e in experiments.values()]
    head = ("name", "document", "quick", "default", "data", "claim")
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(5)]
    return "\n".join("  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[5]]) for row in [head, *rows])


def duration(seconds: float) -> str:
    """
    >>> duration(9.2), duration(240)
    ('9 s', '4 min')
    """
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def readme(experiments: Mapping[str, Experiment], results: Path) -> str:
    """The README's table: the headline rows of the committed results, in every data set that was run."""
    rows = []
    for e in experiments.values():
        for stem in e.datasets or ("table",):
            path = results / e.name / f"{stem}.json"
            if path.exists():
                found = json.loads(path.read_text(encoding="utf-8"))
                data, page = f" ({stem})" if len(e.datasets) > 1 else "", f"[{e.name}](experiments/results/{e.name}/{stem}.md)"
                rows += [(found["document"], r["quantity"] + data, number(r["document"]), r["shown"], r["verdict"], page)
                         for r in found["rows"] if r["headline"]]
    return "\n".join(markdown_table(README_HEAD, rows))
