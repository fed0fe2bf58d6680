"""Train a network: ``python -m scripts.train --model resnet20 --width 0.25 --norm batch_norm --dataset digits``.

Writes a log (log.csv), a figure of the curves (curves.png), the best weights (best.safetensors: names as in PyTorch) and the state
of the run (last.safetensors) to --out. Ctrl-C saves and stops; --resume goes on, bit for bit.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import minigrad as mg

from . import curves
from .options import FIELDS, Options, add_to, merged
from .trainer import Trainer, TrainingError, saved_options


def parse(arguments: list[str] | None) -> tuple[Options, str | None]:
    """The options, and the checkpoint to resume."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train", description=(__doc__ or "").split("\n\n")[1].replace("\n", " "))
    parser.add_argument("--resume", metavar="FILE", help="go on with the run that wrote this last.safetensors; options come from it")
    add_to(parser)
    found = vars(parser.parse_args(arguments))
    resume = found.pop("resume")
    given = {k: v for k, v in found.items() if v is not None and k in FIELDS}
    if resume is None:
        return Options(**given), None
    saved = saved_options(resume)
    return merged(saved, {"out": str(Path(resume).parent), **given}), resume


def main(arguments: list[str] | None = None) -> int:
    """0: trained to the end; 1: the run cannot go on; 2: usage; 128 + signal: stopped and saved."""
    try:
        options, resume = parse(arguments)
        trainer = Trainer(options, resume)
    except (OSError, ValueError, TypeError, RuntimeError, mg.BackendError) as e:
        print(f"train: {e}", file=sys.stderr)
        return 2
    caught: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if caught:  # a second time: at once; the last checkpoint is whole
            raise KeyboardInterrupt
        caught.append(number)
        trainer.stopping = True
        print("\nstopping after this step; again to stop at once", file=sys.stderr)
    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        result = trainer.run()
    except TrainingError as e:
        print(f"train: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped at once; {trainer.folder / 'last.safetensors'} is the last checkpoint, if there is one", file=sys.stderr)
        return 130
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    curves.draw(trainer.folder / "log.csv", trainer.folder / "curves.png", f"{options.model}, {options.norm}, {options.dataset}")
    if caught and trainer.step < trainer.steps:
        print(f"saved at step {trainer.step} of {trainer.steps}. Go on with:\n"
              f"  python -m scripts.train --resume {shlex.quote(str(trainer.folder / 'last.safetensors'))}", file=sys.stderr)
        return 128 + caught[0]
    print(f"{trainer.step} steps; test accuracy {result['accuracy']:.2%} (best {trainer.best:.2%}), loss {result['loss']:.4f}; files in {trainer.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
