"""The finished runs of an experiment, one JSON object per line: what is here is never run again.

A line is on the disk before the next run ends. A process that is killed leaves at most a torn last line, which is reported, and cut off before
the next one is written. Where the disk is full, what was written of the line is taken back, and the error has the line in it: it can be
appended by hand.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minigrad.files import LineFile
from scripts.lock import locked

from .registry import ExperimentError, Run

NOT_FINITE = ("NaN", "Infinity", "-Infinity")  # JSON has no such numbers: they are written as these texts


def key(settings: Mapping[str, Any]) -> str:
    """The settings in their canonical form: the same for the same run."""
    return json.dumps(_plain(settings), sort_keys=True, ensure_ascii=False, allow_nan=False)


class Journal:
    """A file of finished runs. Use it inside `opened`, which keeps other processes out.

    Attributes:
        runs: key of the settings -> run.
        remarks: what to tell whoever uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.runs, self.remarks = path, dict[str, Run](), list[str]()
        try:
            self._file = LineFile(path)
        except OSError as e:
            raise ExperimentError(f"cannot read {path}: {e.strerror or e}. Nothing was run; check its permissions, or --out another folder") from e
        for i, line in enumerate(self._file.lines, 1):
            if line.strip():
                self._read(i, line)
        if self._file.torn:
            self.remarks.append(f"{path}: the last line is torn (a process was killed while it wrote): that run is done again")

    def _read(self, i: int, line: bytes) -> None:
        try:
            found = _restored(json.loads(line))
            self.runs[key(found["settings"])] = Run(found["settings"], found["result"], found["seconds"])
        except (ValueError, KeyError, TypeError) as e:
            raise ExperimentError(f"{self.path}, line {i}: not a finished run ({e}). Nothing was run; remove the line, and its run is done again, "
                                  "or --out another folder") from e

    def __contains__(self, settings: Mapping[str, Any]) -> bool:
        return key(settings) in self.runs

    def __getitem__(self, settings: Mapping[str, Any]) -> Run:
        return self.runs[key(settings)]

    def append(self, run: Run, machine: Mapping[str, Any] | None = None) -> None:
        """A finished run, on the disk when this returns.

        Raises:
            ExperimentError: it cannot be written; the earlier ones are all there.
        """
        line = json.dumps(_plain({"settings": run.settings, "result": run.result, "seconds": round(run.seconds, 3), "machine": machine or {}}),
                          ensure_ascii=False, allow_nan=False)
        try:
            self._file.append(line.encode())
        except OSError as e:
            raise ExperimentError(f"cannot write {self.path}: {e.strerror or e}. Its {len(self.runs)} finished runs are whole. Make room and start again: only "
                                  f"what is not there is run. The run that could not be written (append this line to keep it):\n{line}") from e
        self.runs[key(run.settings)] = Run(_restored(json.loads(key(run.settings))), _restored(json.loads(line))["result"], run.seconds)


@contextlib.contextmanager
def opened(folder: Path, name: str = "runs.jsonl") -> Iterator[Journal]:
    """The journal of a folder, which is made where it is missing, and held against other processes.

    Raises:
        ExperimentError: another process holds it, or it cannot be read or made.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
        except BlockingIOError as e:
            raise ExperimentError(f"another process runs this experiment into {folder}. Nothing was changed; wait for it, or --out another folder") from e
        except OSError as e:
            raise ExperimentError(f"cannot write to {folder}: {e.strerror or e}. Nothing was run; choose another --out") from e
        journal = Journal(folder / name)
        for remark in journal.remarks:
            print(f"experiments: {remark}", file=sys.stderr)
        yield journal


def _plain(value: Any) -> Any:
    """As JSON can say it: tuples as lists, NumPy's numbers as Python's, what is not finite as a text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a run returned a {type(value).__name__}, which JSON cannot say: return numbers, texts, lists and dicts of them")


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _restored(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_restored(v) for v in value]
    return float(value.replace("Infinity", "inf")) if isinstance(value, str) and value in NOT_FINITE else value
