"""Train a network: ``python -m scripts.train --model resnet20 --width 0.25 --norm batch_norm --dataset digits``.

Writes a log (log.csv), a figure of the curves (curves.png), the best weights (best.safetensors: names as in PyTorch) and the state
of the run (last.safetensors) to --out. Ctrl-C saves and stops; --resume goes on, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from minigrad.command import run_command

from . import curves
from .options import Options, add_to, given, merged
from .trainer import FAILURES, Trainer, TrainingError, explained, run_file, saved_options, stopping


def parse(arguments: list[str] | None) -> tuple[Options, Path | None]:
    """The options, and the checkpoint to resume."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train", description=(__doc__ or "").split("\n\n")[1].replace("\n", " "))
    parser.add_argument("--resume", metavar="FILE", type=os.path.expanduser,
                        help="go on with the run that wrote this last.safetensors, or the one in this folder; options come from it")
    add_to(parser)
    found = vars(parser.parse_args(arguments))
    resume = found.pop("resume")
    if resume is None:
        return Options(**given(found)), None
    if not resume:
        raise ValueError("--resume: it takes the last.safetensors of a run, or its folder")
    path = run_file(resume)
    return merged(saved_options(path), {"out": str(path.parent), **given(found)}), path


def main(arguments: list[str] | None = None) -> int:
    """0: trained to the end; 1: the run cannot go on; 2: usage; 128 + signal: stopped and saved."""
    trainer: Trainer | None = None
    try:
        options, resume = parse(arguments)
        trainer = Trainer(options, resume)
        return run(trainer)
    except (TrainingError, *FAILURES) as e:
        print(f"train: {explained(e)}", file=sys.stderr)
        return 2 if trainer is None else 1
    except KeyboardInterrupt:
        kept = "before anything was trained; no file was changed" if trainer is None else f"at once. {trainer.kept()}"
        print(f"train: stopped {kept}", file=sys.stderr)
        return 130


def run(trainer: Trainer) -> int:
    """Train, draw, and say how it ended; see `main`."""
    for remark in trainer.remarks:
        print(f"train: {remark}", file=sys.stderr)
    options, begin, last = trainer.options, trainer.step, trainer.folder / "last.safetensors"
    with stopping(trainer) as caught:
        result = trainer.run()
    problem = curves.draw(trainer.folder / "log.csv", trainer.folder / "curves.png", f"{options.model}, {options.norm}, {options.dataset}")
    if caught and trainer.step < trainer.steps:
        print(f"saved at step {trainer.step} of {trainer.steps}. Go on with:\n"
              f"  python -m scripts.train --resume {shlex.quote(str(last))}", file=sys.stderr)
    else:
        if begin >= trainer.steps:
            print(f"train: nothing to do: this run has done {begin} steps, and was to do {trainer.steps}. More: a larger --max-steps or, "
                  f"unless its schedule is cosine, --epochs; or a new run with --init-from {shlex.quote(str(last))}", file=sys.stderr)
        tested = f"test accuracy {result['accuracy']:.2%} (best {trainer.best:.2%}), loss {result['loss']:.4f}; " if result else ""
        print(f"{trainer.step} steps; {tested}files in {trainer.folder}")
    if problem:
        print(f"train: {problem}\nThe log and the checkpoints are whole. Draw the curves again with --resume {shlex.quote(str(last))}", file=sys.stderr)
    return 128 + caught[0] if caught and trainer.step < trainer.steps else 1 if problem else 0


if __name__ == "__main__":
    run_command(main)
