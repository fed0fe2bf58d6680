"""A course for tests of grading: two homeworks, and a judge in this process instead of one apart, so that a row costs a millisecond.

The judge looks for the right text of each line. A file may ask for more: ``# flag``, ``# wait``, or what `on_text` gives.
"""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from lectures.grading import grade

LINES = {"01_toy": {"d_x": ("return 2 * x", 1), "d_y": ("return x + 1", 2)}, "02_more": {"d_z": ("return z", 3)}}
ANSWERS = {name: "".join(f"def {line}({line[2:]}):\n    {text}\n\n\n" for line, (text, _) in lines.items()) for name, lines in LINES.items()}
TOY, MORE = ANSWERS["01_toy"], ANSWERS["02_more"]


def wait_for(what, most=60.0):
    """Until it holds; a failure if it does not come to that."""
    deadline = time.monotonic() + most
    while not what():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


class Course:
    """Where things lie, and the command. `checked` counts the judge's calls, without those for blank files."""

    def __init__(self, base, monkeypatch):
        self.base, self.checked, self.on_text, self.sleeping = base, [], {}, []
        for name in LINES:
            (base / "homework" / name).mkdir(parents=True)
            (base / "homework" / name / "task.py").write_text(f"# {name}\n")
        self.root, self.table, self.tmp = base / "submissions", base / "grades.csv", base / "tmp"
        self.root.mkdir()
        self.tmp.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(self.tmp))
        monkeypatch.setattr(grade.Grader, "_check", self.check)
        monkeypatch.setattr(grade.Grader, "close", self.close)
        monkeypatch.setattr(grade, "SECONDS_BETWEEN_TABLES", 1e9)  # a slow machine writes no table in between either

    def hand_in(self, name, text=TOY):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def check(self, homework, file, seed, fill):
        with tempfile.TemporaryDirectory(dir=self.tmp) as folder:
            fill(Path(folder))
            text = Path(folder, file).read_text()
            names = sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())
        if text:
            self.checked.append((homework, file, seed, names))
        for mark, act in self.on_text.items():
            if mark in text:
                act()
        lines = []
        for line, (right, points) in LINES[homework].items():
            verdict = "right" if right in text else "wrong" if f"def {line}" in text else "not implemented"
            source = next((s for s in text.partition(f"def {line}")[2].splitlines() if s.startswith("    return")), "")
            lines.append({"line": line, "verdict": verdict, "points": points, "earned": points * (verdict == "right"),
                          "message": "" if verdict == "right" else "no", "code": "sign" if verdict == "wrong" else None,
                          "at": {"line": 2, "source": source} if source else None,
                          **({"flags": ["numerical derivative"]} if "# flag" in text and verdict == "right" else {})})
        blank = all(line["verdict"] == "not implemented" for line in lines)
        report = {"task": homework, "file": file, "seed": seed, "status": "blank" if blank else "ok", "message": "no line" if blank else "",
                  "points": sum(line["points"] for line in lines), "earned": sum(line["earned"] for line in lines), "lines": lines}
        return SimpleNamespace(report=report, failure="", timed_out=False, refused=[], seconds=0.0, sandbox="test")

    def grade(self, *more, root=None):
        """Rows by student and homework."""
        rows = grade.main([str(root or self.root), "--csv", str(self.table), "--jobs", "1", *map(str, more)], below=self.base / "homework")
        return {(r.student, r.homework): r for r in rows}

    def sleeper(self):
        """A check that takes long, until the judges are closed."""
        self.sleeping.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        self.sleeping[-1].wait()

    def close(self):
        """What the grader does with its judges."""
        for process in self.sleeping:
            with contextlib.suppress(OSError):
                process.kill()
