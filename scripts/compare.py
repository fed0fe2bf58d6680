"""Train networks that differ in some options, with several seeds, and draw the runs together.

    python -m scripts.compare --vary norm=batch_norm,group_norm --vary lr=0.1,0.05 --seeds 0,1,2 --out runs/compare

takes every option of scripts.train too; ``--vary`` varies any of them, also one of the norm's (norm_options.group_size=8,16), and
--norms, --forms and --seeds are short for three of them. Each run has its own folder below --out; finished ones are not trained
again, one that was stopped (Ctrl-C, a crash) goes on, and one that fails does not stop the others.

Thin lines are runs, thick ones means over the seeds (geometric means of losses), with 95 % confidence bands of the mean (Student's t) from
three seeds on. Differences in test accuracy are paired by seed. With two forms the gradients of both are compared at every step, at the same
weights and on the same batch.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import re
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import minigrad as mg
from layers.verify.training import compared
from minigrad.check.relative import worst
from minigrad.check.student_t import student_t
from minigrad.command import run_command
from minigrad.files import write_atomically
from minigrad.kernels.threads import num_threads

from .curves import drawing, series
from .options import FIELDS, Options, add_to, flag, given, problems
from .trainer import FAILURES, Trainer, TrainingError, build_model, explained, read_log, saved_options, stopping
from .vary import Axis, axis, described, listed, runs

ENOUGH = 3  # seeds, for an interval: with two it is 13 standard errors wide on each side


class Compared(Trainer):
    """A run that also asks another form for its gradient at every step."""

    def __init__(self, options: Options, other: str, resume: Path | None = None) -> None:
        self.differences: list[tuple[int, float]] = []  # step, difference
        super().__init__(options, resume)
        images = self.data["train"][0]
        self.copy, self.twin = (build_model(dataclasses.replace(options, form=form, init_from=None), images.shape[1], images.shape[-1])
                                for form in (options.form, other))

    def state(self) -> dict[str, Any]:
        """That of a run, and the differences so far."""
        return {**super().state(), "differences": np.array(self.differences).reshape(-1, 2)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was written."""
        super().restore(state)
        if "differences" in state:
            self.differences = [(int(step), d) for step, d in state["differences"].tolist()]

    def smooth(self, model: Any, x: Any, t: Any) -> Any:
        """The loss without the penalty, which has no forms."""
        return mg.cross_entropy(model(x), t, label_smoothing=self.options.label_smoothing)

    def train_step(self, x: Any, t: Any) -> None:
        """The worst parameter's relative difference of the two forms' gradients, then the step. The run's own running statistics are left alone."""
        self.copy.load_state_dict(self.model.state_dict())
        self.differences.append((self.step + 1, worst(compared(self.copy, self.twin, x, t, self.smooth))))
        super().train_step(x, t)


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis, and half of the 95 % confidence interval (0 for a single run)."""
    n = len(values)
    if n == 1:
        return values[0], np.zeros_like(values[0])
    return values.mean(0), student_t(n - 1) * values.std(0, ddof=1) / n**0.5


def limits(values: np.ndarray, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, and the ends of its band, none of them impossible: of accuracies within 0 and 1; of losses, in logarithms, above 0."""
    if column == "loss":
        mean, half = band(np.log(np.maximum(values, 1e-12)))
        return np.exp(mean), np.exp(mean - half), np.exp(mean + half)
    mean, half = band(values)
    return mean, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)


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
    saved = {k: saved.get(k, FIELDS[k].default) for k in wanted}  # an older run may not know an option
    other = [f"{flag(k)} {saved[k]}" for k, v in wanted.items() if k not in ("quiet", "out") and saved[k] != v]
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
        write_atomically(folder / "agreement.csv", "step,difference\n", *(f"{step},{d!r}\n" for step, d in trainer.differences))
    x, t = next(trainer.batches(0))
    kept = mg.tape(trainer.loss(x, t)[0]).kept_bytes
    write_atomically(folder / "done", f"{kept}\n")


Groups = dict[str, dict[int, Path]]  # name -> seed -> folder


def others_compared(folder: Path, names: set[str]) -> list[str]:
    """What the summary in this folder compares besides these names: its comparison is another one, and would be lost."""
    try:
        text = (folder / "compare.md").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return [name for name in re.findall(r"^\| (.+?) \| \d+ \| [\d.]+%", text, re.MULTILINE) if name not in names]


def accuracies(folders: dict[int, Path]) -> dict[int, float]:
    """seed -> test accuracy at the end."""
    return {seed: float([r for r in read_log(f / "log.csv") if r["split"] == "test"][-1]["accuracy"]) for seed, f in folders.items()}


def paired(groups: Groups) -> list[tuple[str, int, float, float]]:
    """(name, seeds, difference, half of its 95 % interval) in test accuracy to the first group, at equal seeds, of every other one."""
    found = {name: accuracies(folders) for name, folders in groups.items()}
    first, *others = found
    rows = []
    for name in others:
        seeds = sorted(found[first].keys() & found[name].keys())
        if seeds:
            mean, half = band(np.array([found[name][s] - found[first][s] for s in seeds]))
            rows.append((name, len(seeds), float(mean), float(half)))
    return rows


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def summary(groups: Groups, failures: dict[str, str], batches: dict[str, int], title: str) -> tuple[list[list[str]], str]:
    """Rows (name, runs, accuracy, milliseconds, megabytes), and all of it as Markdown."""
    rows = []
    for name, folders in groups.items():
        accuracy = np.array(list(accuracies(folders).values()))
        speed = median(float(r["images_per_second"]) for f in folders.values() for r in read_log(f / "log.csv") if r["split"] == "train")
        mean, half = band(accuracy)
        first = next(iter(folders.values()))
        rows.append([name, str(len(folders)), f"{mean:.2%}" + (f" ± {half:.2%}" if len(folders) >= ENOUGH else ""), f"{1e3 * batches[name] / speed:.1f}",
                     f"{int((first / 'done').read_text('utf-8')) / 1e6:.2f}"])
    lines = [f"{title}\n", *table(["", "runs", "test accuracy", "ms per step", "kept for backward, MB"], rows)]
    differences = paired(groups)
    if differences:
        lines += [f"\nTest accuracy minus that of {next(iter(groups))}, in percentage points, paired by seed:\n",
                  *table(["", "seeds", "difference", "95 % interval"], [
                      [name, str(n), f"{100 * d:+.2f}", f"{100 * (d - h):+.2f} to {100 * (d + h):+.2f}" if n >= ENOUGH else ""]
                      for name, n, d, h in differences])]
    fewest = min(map(len, groups.values()))
    if fewest < ENOUGH:
        lines += [f"\nWith fewer than {ENOUGH} seeds ({fewest} here) there are no intervals: what differs may be luck. Use --seeds 0,1,2 or more."]
    lines += [f"\n{name} failed: {text}" for name, text in failures.items()]
    return rows, "\n".join(lines) + "\n"


def draw(groups: Groups, figure: Path, title: str) -> None:
    """Loss, test accuracy, differences paired by seed, and the forms' agreement where it was measured."""
    agreements = {name: f / "agreement.csv" for name, folders in groups.items() for f in folders.values() if (f / "agreement.csv").exists()}
    differences = [row for row in paired(groups) if row[1] >= ENOUGH]
    columns = 2 + bool(differences) + bool(agreements)
    with drawing(figure, columns, (5 * columns, 4)) as axes:
        for i, (name, folders) in enumerate(groups.items()):
            look = {"ls": "--" if "composed" in name and len(groups) > 1 else "-", "color": f"C{i % 10}"}
            for ax, split, column in ((axes[0], "train", "loss"), (axes[1], "test", "accuracy")):
                found = [series(f / "log.csv", split, column) for f in folders.values()]
                steps = found[0][0]
                mean, low, high = limits(np.array([values for _, values in found]), column)
                ax.plot(steps, mean, label=name, lw=1.8, marker="o" if len(steps) == 1 else None, **look)
                for _, values in found if len(found) > 1 else []:
                    ax.plot(steps, values, lw=0.6, alpha=0.5, color=look["color"])
                if len(found) >= ENOUGH:
                    ax.fill_between(steps, low, high, color=look["color"], alpha=0.2, lw=0)
        fewest = min(map(len, groups.values()))
        shown = "95 % bands of the mean" if fewest >= ENOUGH else f"fewer than {ENOUGH} seeds: no bands"
        axes[0].set(xlabel="step", ylabel="training loss", yscale="log", title="Training loss")
        axes[1].set(xlabel="step", ylabel="test accuracy", title=f"Test accuracy, {shown}")
        axes[0].figure.suptitle(title)
        if len(groups) <= 4:
            axes[1].legend(loc="lower right")
        else:
            axes[0].figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        if differences:
            ax, names = axes[2], list(groups)
            for k, (name, _, d, h) in enumerate(differences):
                ax.errorbar(100 * d, k, xerr=100 * h, fmt="o", capsize=4, color=f"C{names.index(name) % 10}")
            ax.axvline(0, color="0.5", ls=":")
            ax.set(yticks=range(len(differences)), yticklabels=[row[0] for row in differences], ylim=(len(differences) - 0.5, -0.5),
                   xlabel=f"points above {names[0]}, 95 % intervals", title="Test accuracy, paired by seed")
        for name, path in agreements.items():
            rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
            axes[-1].semilogy([int(r["step"]) for r in rows], [max(float(r["difference"]), 1e-17) for r in rows], ".", ms=4, label=name)
            axes[-1].set(xlabel="step", ylabel="relative difference", title="Gradients of the two forms, worst parameter")
            axes[-1].legend()


def main(arguments: list[str] | None = None) -> int:
    """0: all runs finished; 1: some failed; 2: usage; 130: stopped, and the same command goes on."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("compare: stopped. The runs so far are kept; the same command goes on", file=sys.stderr)
        return 130


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.compare", description=(__doc__ or "").splitlines()[0])
    for name, text in SHORT.items():
        parser.add_argument(f"--{name}s", metavar="A,B,...", help=f"{text}, separated by commas: short for --vary {name}=A,B,...")
    parser.add_argument("--vary", metavar="KEY=A,B,...", action="append", default=[],
                        help="values of any option of a training, or of norm_options.NAME or weight_options.NAME; may be there several times")
    add_to(parser)
    found = vars(parser.parse_args(arguments))
    base = Options(**given(found))
    try:
        axes = chosen(found)
        todo = runs(base, axes)
        wrong = [problems(options) for _, options in todo] if base.out else [problems(base)]
        if all(wrong):
            raise ValueError(wrong[0])
        if there := others_compared(Path(base.out), {name for name, _ in todo}):
            raise ValueError(f"{base.out} holds the comparison of {', '.join(there)}: --out another folder, or vary those too")
    except ValueError as e:
        print(f"compare: {e}", file=sys.stderr)
        return 2
    groups: Groups = {}
    failures: dict[str, str] = {}
    forms = next((a.values for a in axes if a.key == "form"), ())
    mg.tune_process()
    threads = num_threads()
    for name, options in todo:
        mg.set_num_threads(threads)  # a run that went on may have had its own number
        folder, problem = Path(options.out), problems(options)
        other = forms[1] if len(forms) == 2 and options.form == forms[0] and options.seed == todo[0][1].seed else None
        try:
            if problem:
                raise ValueError(problem)
            if not finished(folder, options):
                print(f"{name}, seed {options.seed}", file=sys.stderr)
                train(options, other)
            groups.setdefault(name, {})[options.seed] = folder
        except (TrainingError, *FAILURES) as e:
            failures[f"{name}, seed {options.seed}"] = explained(e).splitlines()[0]
            print(f"compare: {name}, seed {options.seed} failed: {explained(e)}", file=sys.stderr)
    if groups:
        title = described(todo[0][1], axes)
        batches = {name: options.batch_size for name, options in todo}
        try:
            _, text = summary(groups, failures, batches, title)
            print(text)
            write_atomically(Path(base.out) / "compare.md", text)
            draw(groups, Path(base.out) / "compare.png", title)
        except (IndexError, *FAILURES) as e:  # a full disk, or a log without rows
            print(f"compare: the runs are trained and kept, but not all of their summary could be written: {explained(e)}", file=sys.stderr)
            return 1
    return 1 if failures else 0


SHORT = {"norm": "normalizations", "form": "forms", "seed": "seeds"}


def chosen(found: dict[str, Any]) -> list[Axis]:
    """The axes that a parser found.

    Raises:
        ValueError: see `vary.axis`; or an option that is there in two ways.
    """
    axes = [listed(f"--{name}s {found[f'{name}s']}", name, found[f"{name}s"]) for name in SHORT if found[f"{name}s"] is not None]
    axes += [axis(text) for text in found["vary"]]
    for i, a in enumerate(axes):
        option = a.key.partition(".")[0]
        if a.key in [b.key for b in axes[:i]]:
            raise ValueError(f"{a.key} varies twice: put all of its values into one list")
        if a.key == option and found[option] is not None:
            plural = f"{flag(option)}s" if option in SHORT and found[f"{option}s"] is not None else f"--vary {option}"
            raise ValueError(f"{flag(option)} and {plural}: use one of the two")
    return axes


if __name__ == "__main__":
    run_command(main)
