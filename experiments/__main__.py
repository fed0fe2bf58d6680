"""List the experiments, or run one: ``python -m experiments [NAME] [options]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from minigrad.command import run_command

from . import tables
from .images import DATASETS
from .registry import ExperimentError, find, load_all
from .running import complete

HERE = Path(__file__).resolve().parent
RESULTS, QUICK = HERE / "results", HERE.parent / "build" / "experiments"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description="The documents' experiments with error bars. Without a name: a list of them.")
    parser.add_argument("name", nargs="?", help="an experiment")
    parser.add_argument("--dataset", choices=DATASETS, help="what is trained on (default: the first one of the list)")
    parser.add_argument("--seeds", type=int, help="how many runs of each arm")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", dest="mode", action="store_const", const="quick", default="default", help="small: shows in seconds that it runs")
    mode.add_argument("--full", dest="mode", action="store_const", const="full", help="as near to the document's sizes as possible: hours to days")
    parser.add_argument("--jobs", type=int, help="runs at a time, each on one thread (default: one for each processor; 1 where time is measured)")
    parser.add_argument("--data", metavar="FOLDER", help="where cifar-10-batches-bin is (default: $MINIGRAD_DATA, else ~/.cache/minigrad)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="results go to FOLDER/NAME (default: experiments/results; with --quick build/experiments)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--readme", action="store_true", help="print the README's table of the committed results")
    return parser


def run(options: argparse.Namespace, given: Sequence[str]) -> Path:
    """Run an experiment to its table; returns the page.

    Raises:
        ExperimentError: see the text.
    """
    found = find(options.name)
    for name in ("seeds", "jobs"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ExperimentError(f"--{name} {getattr(options, name)}: it takes 1 or more")
    dataset = options.dataset or (found.datasets[0] if found.datasets else None)
    if dataset is not None and dataset not in found.datasets:
        raise ExperimentError(f"{found.name} --dataset {dataset}: {f'there are {chr(44).join(found.datasets)}' if found.datasets else 'it reads no images'}")
    sizes = found.sizes(options.mode, dataset, options.seeds)
    folder = (options.out or (QUICK if options.mode == "quick" else RESULTS)) / found.name
    stem = (dataset or "table") + ("-full" if options.mode == "full" else "")
    runs = complete(found, sizes=sizes, dataset=dataset, folder=folder, jobs=options.jobs, data=options.data, quiet=options.quiet)
    shown = [a for i, a in enumerate(given) if a not in ("--quiet",) and not _private(given, i)]
    tables.write(found, runs, dataset=dataset, folder=folder, stem=stem, command=" ".join(["python -m experiments", *shown]))
    return folder / f"{stem}.md"


def _private(given: Sequence[str], i: int) -> bool:
    """Is the i-th argument a place on somebody's machine, or how many processors it has?"""
    names = ("--data", "--out", "--jobs")
    return given[i].split("=")[0] in names or (i > 0 and given[i - 1] in names)


def main(given: Sequence[str] | None = None) -> int:
    """The program; 0 if all went well."""
    given = sys.argv[1:] if given is None else given
    options = arguments().parse_args(given)
    try:
        if options.readme:
            print(tables.readme(load_all(), RESULTS))
        elif options.name is None:
            print(tables.listing(load_all()))
        else:
            page = run(options, given)
            print(page.read_text(encoding="utf-8"))
            print(f"written: {page}")
    except ExperimentError as e:
        print(f"experiments: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nexperiments: stopped. Finished runs are in the journal; the same command does the rest", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    run_command(main)
