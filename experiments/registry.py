"""What an experiment is. A file in this folder that calls `experiment` is listed by `python -m experiments`; there is no other list.

    @experiment("cwn_figure_1", document="cwn, figure 1", claim="CWN has the lowest test error: 5.64 %, plain 6.00 %, WN 6.01 %",
                arms=("plain", "WN", "CWN"), datasets=("synthetic", "digits", "cifar10"), seconds=(12, 700),
                quick={"seeds": 2, "train": 100, "test": 50, "epochs": 1},
                default={"seeds": 5, "train": 2000, "test": 500, "epochs": 8},
                full={"seeds": 10, "train": 50000, "test": 10000, "epochs": 80})
    def cwn_figure_1(arm, seed, images, epochs):
        ...
        return {"error": 12.5, "losses": [2.3, 1.9]}          # one run: what was measured, as JSON can say it

    @cwn_figure_1.table
    def rows(runs):
        yield Row("test error, plain - CWN (percentage points)", 0.36, paired_difference(runs.values("plain", "error"), runs.values("CWN", "error")),
                  same_sign(0.36), headline=True)

    @cwn_figure_1.figure                                      # or none: then the rows are drawn
    def draw(fig, runs):
        ...

A run is an arm with a seed. It is a function of what it is given: the sizes reach it as keywords, and every result lists all of
them. Sizes that every experiment has: "seeds", and "arms" where a mode leaves some out. Those of `images.load`, "train", "test",
"pixels", "noise" and "classes", shape the argument `images`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .images import SHAPES_IMAGES, Images
from .statistics import Band, Interval, verdict

MODES = ("quick", "default", "full")
DOCUMENTS = ("dbn", "bn-lecture", "bn-jacobian", "inplace-abn", "cwn", "minigrad")  # the last: the project's own claims


class ExperimentError(Exception):
    """An experiment cannot run or go on; the text says why, what is kept, and what helps."""


@dataclass(frozen=True)
class Row:
    """A line of an experiment's table.

    Attributes:
        quantity: what is compared, with its unit.
        document: the document's number, or None where it has none.
        ours: the same quantity, measured.
        agrees: what "agrees" means; None: there is no verdict.
        headline: the README shows this line.
        note: what one has to know to read it.
    """

    quantity: str
    document: float | None
    ours: Interval
    agrees: Band | None = None
    headline: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """Computed from the interval and the band; empty without one."""
        return verdict(self.ours, self.agrees) if self.agrees else ""


@dataclass(frozen=True)
class Run:
    """A finished run: its settings (see `Experiment.settings`), what it returned, and how long it took."""

    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    seconds: float

    @property
    def arm(self) -> str:
        """The name of its arm."""
        return str(self.settings["arm"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.settings["seed"])


class Runs(Sequence[Run]):
    """All runs of an experiment, in the order of arms and seeds."""

    def __init__(self, runs: Iterable[Run], sizes: Mapping[str, Any]) -> None:
        self._runs, self.sizes = list(runs), sizes

    def __getitem__(self, i: Any) -> Any:
        return self._runs[i]

    def __len__(self) -> int:
        return len(self._runs)

    def of(self, arm: str) -> list[Run]:
        """The runs of an arm, by seed."""
        return sorted((run for run in self._runs if run.arm == arm), key=lambda run: run.seed)

    def values(self, arm: str, name: str) -> list[Any]:
        """What the runs of an arm returned under this name, by seed: values[i] of two arms are a pair."""
        return [run.result[name] for run in self.of(arm)]

    def pooled(self, arm: str, name: str) -> list[Any]:
        """Where each run returned a list: all of them, one after the other."""
        return [v for values in self.values(arm, name) for v in values]

    @property
    def arms(self) -> list[str]:
        """The names of the arms that were run."""
        return list(dict.fromkeys(run.arm for run in self._runs))


@dataclass
class Experiment:
    """See the top of this file."""

    name: str
    document: str
    claim: str
    run: Callable[..., Mapping[str, Any]]
    arms: Mapping[str, Any]
    datasets: tuple[str, ...]
    modes: Mapping[str, Mapping[str, Any]]
    seconds: tuple[float, float]  # measured: quick, default
    timing: bool
    version: int
    rows: Callable[[Runs], Iterator[Row]] | None = None
    draw: Callable[[Any, Runs], None] | None = None

    @property
    def reads_images(self) -> bool:
        """Does a run take images?"""
        return "images" in inspect.signature(self.run).parameters

    def table(self, rows: Callable[[Runs], Iterator[Row]]) -> Callable[[Runs], Iterator[Row]]:
        """The decorated generator makes the rows of the table; its docstring is printed below the table."""
        self.rows = rows
        return rows

    def figure(self, draw: Callable[[Any, Runs], None]) -> Callable[[Any, Runs], None]:
        """The decorated function draws into a matplotlib Figure."""
        self.draw = draw
        return draw

    def sizes(self, mode: str, dataset: str | None, seeds: int | None = None) -> dict[str, Any]:
        """The sizes of a mode. Where `modes` has a key such as "default cifar10", its sizes go over those of "default"."""
        found = {**self.modes[mode], **self.modes.get(f"{mode} {dataset}", {})}
        return {**found, "seeds": seeds} if seeds is not None else found

    def settings(self, sizes: Mapping[str, Any], dataset: str | None) -> list[dict[str, Any]]:
        """All that each run is, of every arm with every seed: with the same settings a run is the same run."""
        common = {k: v for k, v in sizes.items() if k not in ("seeds", "arms")}
        return [{"experiment": self.name, "version": self.version, "dataset": dataset, "arm": arm, "options": self.arms[arm], "seed": seed, **common}
                for seed in range(sizes["seeds"]) for arm in sizes.get("arms", self.arms)]

    def perform(self, settings: Mapping[str, Any], load: Callable[..., Images]) -> dict[str, Any]:
        """One run. `load` is `images.load` with its folder."""
        sizes = {k: v for k, v in settings.items() if k not in ("experiment", "version", "dataset", "arm", "options", "seed")}
        more = {}
        if self.reads_images:
            more["images"] = load(settings["dataset"], **{k: v for k, v in sizes.items() if k in SHAPES_IMAGES})
        return dict(self.run(arm=settings["arm"], seed=settings["seed"], **{k: v for k, v in sizes.items() if k not in SHAPES_IMAGES}, **more))


REGISTRY: dict[str, Experiment] = {}


def experiment(name: str, *, document: str, claim: str, arms: Sequence[str] | Mapping[str, Any], quick: Mapping[str, Any], default: Mapping[str, Any],
               full: Mapping[str, Any], seconds: tuple[float, float], datasets: tuple[str, ...] = (), timing: bool = False, version: int = 1,
               **special: Mapping[str, Any]) -> Callable[[Callable[..., Mapping[str, Any]]], Experiment]:
    """Enter the decorated function, which does one run, as an experiment.

    Args:
        name: of the file and on the command line.
        document: short name and place, "cwn, figure 1".
        claim: what the document says, in one line.
        arms: what is compared: names, or names with options as JSON can say them. Options belong to a run's settings: change
            them, and the arm is run again.
        quick, default, full: sizes, with "seeds" in each; see the top of this file.
        seconds: what the quick and the default run take on two cores.
        datasets: the possible ones, the default one first; none: nothing is read.
        timing: it measures time, so that only one run at a time gives right numbers; `threads` should be among its sizes.
        version: raise it when the function changes so that old runs are no longer its runs.
        special: sizes for a dataset, such as default_cifar10={"epochs": 5}.

    Raises:
        ValueError: a name that is there, a document that is not one of the five, sizes that do not fit the function.
    """
    modes = {"quick": dict(quick), "default": dict(default), "full": dict(full), **{k.replace("_", " ", 1): dict(v) for k, v in special.items()}}

    def enter(run: Callable[..., Mapping[str, Any]]) -> Experiment:
        if name in REGISTRY or document.split(",")[0] not in DOCUMENTS:
            raise ValueError(f"experiment {name!r} of {document!r}: it takes a new name, and one of the documents {', '.join(DOCUMENTS)}")
        taken = set(inspect.signature(run).parameters) - {"arm", "seed", "images"}
        for mode in MODES:
            given = set(modes[mode]) - {"seeds", "arms", *SHAPES_IMAGES}
            if given != taken or "seeds" not in modes[mode]:
                raise ValueError(f"experiment {name!r}, {mode}: the sizes are {', '.join(sorted(modes[mode]))}; it needs seeds, {', '.join(sorted(taken))}")
        options = dict(arms) if isinstance(arms, Mapping) else dict.fromkeys(arms)
        REGISTRY[name] = Experiment(name, document, claim, run, options, datasets, modes, seconds, timing, version)
        return REGISTRY[name]
    return enter


WORKSHOP = ("images", "journal", "registry", "running", "statistics", "tables", "timing", "training", "__main__")  # files that are not experiments


def load_all() -> dict[str, Experiment]:
    """Import every experiment of this folder: {name: experiment}, sorted."""
    package = importlib.import_module(__package__)
    for file in pkgutil.iter_modules(package.__path__):
        if file.name not in WORKSHOP:
            importlib.import_module(f"{__package__}.{file.name}")
    return dict(sorted(REGISTRY.items()))


def find(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ExperimentError: there is none; the text has those that are there.
    """
    known = load_all()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.5)
        raise ExperimentError(f"there is no experiment {name!r}{f' (do you mean {close[0]}?)' if close else ''}; there are {', '.join(known)}")
    return known[name]
