"""Train one network with several norms, forms or seeds, and draw the runs together.

    python -m scripts.compare --norms batch_norm,group_norm --forms composed,derived --seeds 0,1,2 --out runs/compare

takes every option of scripts.train besides. Each run has a folder of its own below --out; finished ones are not trained again, and
one that fails does not stop the others. Lines are means over the seeds, with 95 % confidence bands of the mean (Student's t). With two
forms the gradients of both are compared at every step, at the same weights and on the same batch.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import minigrad as mg

from .curves import STYLE, series
from .options import FIELDS, Options, add_to, problems
from .trainer import Trainer, TrainingError, build_model, read_log, saved_options

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond, the normal distribution's.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Compared(Trainer):
    """A run that also asks another form for its gradient at every step."""

    def __init__(self, options: Options, other: str) -> None:
        super().__init__(options)
        images = self.data["train"][0]
        self.twin = build_model(dataclasses.replace(options, form=other), images.shape[1], images.shape[-1])
        self.differences: list[float] = []

    def train_step(self, x: Any, t: Any) -> None:
        """The worst parameter's relative difference of the two forms' gradients, then the step."""
        self.twin.load_state_dict(self.model.state_dict())
        mine, theirs = ([g.numpy() for g in mg.grad(mg.cross_entropy(model(x), t, label_smoothing=self.options.label_smoothing), list(model.parameters()))]
                        for model in (build_copy(self), self.twin))
        largest = max(float(np.linalg.norm(g)) for g in mine)
        self.differences.append(max(float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(a)), 1e-6 * largest) for a, b in zip(mine, theirs, strict=True)))
        super().train_step(x, t)


def build_copy(trainer: Compared) -> Any:
    """The run's own network again: its running statistics are left alone by the comparison."""
    images = trainer.data["train"][0]
    if not hasattr(trainer, "copy"):
        trainer.copy = build_model(trainer.options, images.shape[1], images.shape[-1])  # type: ignore[attr-defined]
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
    """Whether this run, with these options, has been trained to its end before."""
    try:
        return (folder / "done").exists() and saved_options(folder / "last.safetensors") == dataclasses.asdict(options)
    except (OSError, ValueError):
        return False


def train(options: Options, other: str | None) -> None:
    """One run into its folder.

    Raises:
        TrainingError, ValueError, OSError: it could not be trained.
    """
    folder = Path(options.out)
    if folder.exists() and not finished(folder, options):
        for name in ("last.safetensors", "best.safetensors", "log.csv", "done", "agreement.csv"):
            (folder / name).unlink(missing_ok=True)
    trainer = Compared(options, other) if other else Trainer(options)
    trainer.run()
    if isinstance(trainer, Compared):
        with open(folder / "agreement.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("step", "difference"), *((i, repr(d)) for i, d in enumerate(trainer.differences, 1))])
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
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    agreements = {name: folders[0] / "agreement.csv" for name, folders in groups.items() if (folders[0] / "agreement.csv").exists()}
    with plt.style.context(STYLE):
        fig, axes = plt.subplots(1, 3 if agreements else 2, figsize=(14 if agreements else 10, 4), layout="constrained")
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
        fig.savefig(figure)
        plt.close(fig)


def main(arguments: list[str] | None = None) -> int:
    """0: all runs finished; 1: some failed; 2: usage."""
    parser = argparse.ArgumentParser(prog="python -m scripts.compare", description=(__doc__ or "").splitlines()[0])
    for name, text in (("norms", "normalizations"), ("forms", "forms"), ("seeds", "seeds")):
        parser.add_argument(f"--{name}", metavar="A,B,...", help=f"{text}, separated by commas")
    add_to(parser)
    found = vars(parser.parse_args(arguments))
    lists = {key: found.pop(plural) for key, plural in (("norm", "norms"), ("form", "forms"), ("seed", "seeds"))}
    base = Options(**{k: v for k, v in found.items() if v is not None and k in FIELDS})
    try:
        axes = {k: ([int(s) for s in v.split(",")] if k == "seed" else v.split(",")) if v else [getattr(base, k)] for k, v in lists.items()}
    except ValueError:
        print(f"compare: --seeds {lists['seed']}: needed are whole numbers, separated by commas", file=sys.stderr)
        return 2
    groups: dict[str, list[Path]] = {}
    failures: dict[str, str] = {}
    for norm, form, seed in itertools.product(axes["norm"], axes["form"], axes["seed"]):
        name = f"{norm}, {form}" if len(axes["form"]) > 1 else norm
        folder = Path(base.out) / f"{norm}-{form}-{seed}"
        options = dataclasses.replace(base, norm=norm, form=form, seed=seed, out=str(folder))
        problem = problems(options)
        other = axes["form"][1] if len(axes["form"]) == 2 and form == axes["form"][0] and seed == axes["seed"][0] else None
        try:
            if problem:
                raise ValueError(problem)
            if not finished(folder, options):
                print(f"{name}, seed {seed}", file=sys.stderr)
                train(options, other)
            groups.setdefault(name, []).append(folder)
        except (TrainingError, ValueError, TypeError, RuntimeError, OSError) as e:
            failures[f"{name}, seed {seed}"] = str(e).splitlines()[0]
            print(f"compare: {name}, seed {seed} failed: {e}", file=sys.stderr)
    if groups:
        _, text = summary(groups, failures, base.batch_size)
        print(text)
        (Path(base.out) / "compare.md").write_text(text, "utf-8")
        draw(groups, Path(base.out) / "compare.png")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
