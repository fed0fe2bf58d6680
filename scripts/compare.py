"""Train one network with several norms, forms or seeds, and draw the runs together.

    python -m scripts.compare --norms batch_norm,group_norm --forms composed,derived --seeds 0,1,2 --out runs/compare

takes every option of scripts.train besides. Each run has a folder of its own below --out; finished ones are not trained again, one
that was stopped (Ctrl-C, a crash) goes on, and one that fails does not stop the others. Lines are means over the seeds, with 95 %
confidence bands of the mean (Student's t). With two forms the gradients of both are compared at every step, at the same weights and
on the same batch.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import minigrad as mg
from layers import REGISTRY
from minigrad.check.relative import relative_error, worst
from minigrad.kernels.threads import num_threads
from models.parts import NORMS

from .curves import drawing, series
from .options import Options, add_to, flag, given, problems
from .trainer import FAILURES, Trainer, TrainingError, build_model, explained, read_log, saved_options, stopping

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond, the normal distribution's.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Compared(Trainer):
    """A run that also asks another form for its gradient at every step."""

    def __init__(self, options: Options, other: str, resume: Path | None = None) -> None:
        self.differences: list[tuple[int, float]] = []  # step, difference
        super().__init__(options, resume)
        images = self.data["train"][0]
        self.twin = build_model(dataclasses.replace(options, form=other, init_from=None), images.shape[1], images.shape[-1])

    def state(self) -> dict[str, Any]:
        """That of a run, and the differences so far."""
        return {**super().state(), "differences": np.array(self.differences).reshape(-1, 2)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was written."""
        super().restore(state)
        if "differences" in state:
            self.differences = [(int(step), d) for step, d in state["differences"].tolist()]

    def train_step(self, x: Any, t: Any) -> None:
        """The worst parameter's relative difference of the two forms' gradients, then the step."""
        self.twin.load_state_dict(self.model.state_dict())
        mine, theirs = ([g.numpy() for g in mg.grad(mg.cross_entropy(model(x), t, label_smoothing=self.options.label_smoothing), list(model.parameters()))]
                        for model in (build_copy(self), self.twin))
        largest = max(float(np.linalg.norm(g)) for g in mine)
        off = worst(relative_error(b, a, max(float(np.linalg.norm(a)), 1e-6 * largest)) for a, b in zip(mine, theirs, strict=True))
        self.differences.append((self.step + 1, off))
        super().train_step(x, t)


def build_copy(trainer: Compared) -> Any:
    """The run's own network again: its running statistics are left alone by the comparison."""
    images = trainer.data["train"][0]
    if not hasattr(trainer, "copy"):
        trainer.copy = build_model(dataclasses.replace(trainer.options, init_from=None), images.shape[1], images.shape[-1])  # type: ignore[attr-defined]
    trainer.copy.load_state_dict(trainer.model.state_dict())  # type: ignore[attr-defined]
    return trainer.copy  # type: ignore[attr-defined]


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis, and half of the 95 % confidence interval (0 for a single run)."""
    n = len(values)
    if n == 1:
        return values[0], np.zeros_like(values[0])
    t = T[n - 2] if n - 2 < len(T) else 1.96
    return values.mean(0), t * values.std(0, ddof=1) / n**0.5


def finished(folder: Path, options: Options) -> bool:
    """Whether this run has been trained to its end before.

    Raises:
        TrainingError: the folder holds a run with other options.
        ValueError, OSError: its state is damaged, or cannot be read.
    """
    last = folder / "last.safetensors"
    if not last.exists():
        return False
    saved, wanted = saved_options(last), dataclasses.asdict(options)
    other = [f"{flag(k)} {saved.get(k)}" for k, v in wanted.items() if k not in ("quiet", "out") and saved.get(k) != v]
    if other:
        raise TrainingError(f"{folder} holds a run with other options ({', '.join(other)}): --out another folder")
    return (folder / "done").exists() and (folder / "log.csv").exists()


def train(options: Options, other: str | None) -> None:
    """One run into its folder, or the rest of it.

    Raises:
        TrainingError, or one of `FAILURES`: it could not be trained.
        KeyboardInterrupt: it was stopped, and can go on.
    """
    folder = Path(options.out)
    resume = folder / "last.safetensors" if (folder / "last.safetensors").exists() else None
    if resume is None:
        for name in ("done", "agreement.csv"):  # of a run whose state somebody removed
            (folder / name).unlink(missing_ok=True)
    trainer = Compared(options, other, resume) if other else Trainer(options, resume)
    for remark in trainer.remarks:
        print(f"compare: {remark}", file=sys.stderr)
    with stopping(trainer) as caught:
        trainer.run()
    if caught:
        raise KeyboardInterrupt
    if isinstance(trainer, Compared):
        with open(folder / "agreement.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("step", "difference"), *((step, repr(d)) for step, d in trainer.differences)])
    x, t = next(trainer.batches(0))
    kept = mg.tape(trainer.loss(x, t)[0]).kept_bytes
    (folder / "done").write_text(f"{kept}\n", "utf-8")


def summary(groups: dict[str, list[Path]], failures: dict[str, str], batch: int) -> tuple[list[list[str]], str]:
    """Rows (name, runs, accuracy, milliseconds, megabytes), and all of it as Markdown."""
    rows = []
    for name, folders in groups.items():
        accuracy = np.array([float([r for r in read_log(f / "log.csv") if r["split"] == "test"][-1]["accuracy"]) for f in folders])
        speed = median(float(r["images_per_second"]) for f in folders for r in read_log(f / "log.csv") if r["split"] == "train")
        mean, half = band(accuracy)
        rows.append([name, str(len(folders)), f"{mean:.2%}" + (f" ± {half:.2%}" if len(folders) > 1 else ""), f"{1e3 * batch / speed:.1f}",
                     f"{int((folders[0] / 'done').read_text()) / 1e6:.2f}"])
    head = ["", "runs", "test accuracy", "ms a step", "kept for backward, MB"]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    lines += [f"\n{name} failed: {text}" for name, text in failures.items()]
    return rows, "\n".join(lines) + "\n"


def draw(groups: dict[str, list[Path]], figure: Path) -> None:
    """Loss, test accuracy, and the forms' agreement where it was measured."""
    agreements = {name: folders[0] / "agreement.csv" for name, folders in groups.items() if (folders[0] / "agreement.csv").exists()}
    with drawing(figure, 3 if agreements else 2, (14 if agreements else 10, 4)) as axes:
        for i, (name, folders) in enumerate(groups.items()):
            for ax, split, column in ((axes[0], "train", "loss"), (axes[1], "test", "accuracy")):
                steps = series(folders[0] / "log.csv", split, column)[0]
                mean, half = band(np.array([series(f / "log.csv", split, column)[1] for f in folders]))
                look = {"ls": "--" if "composed" in name and len(groups) > 1 else "-", "color": f"C{i % 6}"}
                ax.plot(steps, mean, label=name, **look)
                ax.fill_between(steps, mean - half, mean + half, color=look["color"], alpha=0.2, lw=0)
        axes[0].set(xlabel="step", ylabel="training loss", yscale="log", title="Training loss")
        axes[1].set(xlabel="step", ylabel="test accuracy", title="Test accuracy, 95 % bands of the mean")
        axes[1].legend(loc="lower right")
        for name, path in agreements.items():
            rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
            axes[2].semilogy([int(r["step"]) for r in rows], [max(float(r["difference"]), 1e-17) for r in rows], ".", ms=4, label=name)
            axes[2].set(xlabel="step", ylabel="relative difference", title="Gradients of the two forms, worst parameter")
            axes[2].legend()


def listed(name: str, text: str, kind: Callable[[str], Any], known: list[str] | None = None) -> list[Any]:
    """The values of a list on the command line.

    Raises:
        ValueError: one is empty, not of its kind, not known, or there twice (a run would count as two).
    """
    def refused(why: str) -> ValueError:
        return ValueError(f"--{name} {text}: {why}")
    words = [word.strip() for word in text.split(",")]
    try:
        values = [kind(word) for word in words]
    except ValueError:
        raise refused("needed are whole numbers, separated by commas") from None
    for i, value in enumerate(values):
        if value == "":
            raise refused("one of its values is empty")
        if value in values[:i]:
            raise refused(f"{value} is there twice")
        if known is not None and value not in known:
            raise refused(f"there is no {value}; needed are some of {', '.join(known)}")
    return values


def main(arguments: list[str] | None = None) -> int:
    """0: all runs finished; 1: some failed; 2: usage; 130: stopped, and the same command goes on."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("compare: stopped. The runs so far are kept; the same command goes on", file=sys.stderr)
        return 130


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.compare", description=(__doc__ or "").splitlines()[0])
    for name, text in (("norms", "normalizations"), ("forms", "forms"), ("seeds", "seeds")):
        parser.add_argument(f"--{name}", metavar="A,B,...", help=f"{text}, separated by commas")
    add_to(parser)
    found = vars(parser.parse_args(arguments))
    base = Options(**given(found))
    forms = list(dict.fromkeys(("composed", "derived", *(d for layer in REGISTRY.values() for d in layer.derived))))
    kinds: dict[str, tuple[Callable[[str], Any], list[str] | None]] = {"norm": (str, list(NORMS)), "form": (str, forms), "seed": (int, None)}
    try:
        for key in kinds:
            if found[key] is not None and found[f"{key}s"] is not None:
                raise ValueError(f"--{key} and --{key}s: use one of the two")
        axes = {key: [getattr(base, key)] if found[f"{key}s"] is None else listed(f"{key}s", found[f"{key}s"], *kind) for key, kind in kinds.items()}
        runs = [dataclasses.replace(base, norm=norm, form=form, seed=seed, out=str(Path(base.out) / f"{norm}-{form}-{seed}"))
                for norm, form, seed in itertools.product(axes["norm"], axes["form"], axes["seed"])]
        wrong = [problems(options) for options in runs] if base.out else [problems(base)]
        if all(wrong):
            raise ValueError(wrong[0])
    except ValueError as e:
        print(f"compare: {e}", file=sys.stderr)
        return 2
    groups: dict[str, list[Path]] = {}
    failures: dict[str, str] = {}
    mg.tune_process()
    threads = num_threads()
    for options in runs:
        mg.set_num_threads(threads)  # a run that went on may have had its own number
        norm, form, seed = options.norm, options.form, options.seed
        name = f"{norm}, {form}" if len(axes["form"]) > 1 else norm
        folder, problem = Path(options.out), problems(options)
        other = axes["form"][1] if len(axes["form"]) == 2 and form == axes["form"][0] and seed == axes["seed"][0] else None
        try:
            if problem:
                raise ValueError(problem)
            if not finished(folder, options):
                print(f"{name}, seed {seed}", file=sys.stderr)
                train(options, other)
            groups.setdefault(name, []).append(folder)
        except (TrainingError, *FAILURES) as e:
            failures[f"{name}, seed {seed}"] = explained(e).splitlines()[0]
            print(f"compare: {name}, seed {seed} failed: {explained(e)}", file=sys.stderr)
    if groups:
        try:
            _, text = summary(groups, failures, base.batch_size)
            print(text)
            (Path(base.out) / "compare.md").write_text(text, "utf-8")
            draw(groups, Path(base.out) / "compare.png")
        except (IndexError, *FAILURES) as e:  # a full disk, or a log without rows
            print(f"compare: the runs are trained and kept, but not all of their summary could be written: {explained(e)}", file=sys.stderr)
            return 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
