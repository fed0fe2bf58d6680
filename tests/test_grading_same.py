"""The same grades whatever the wall, the number of jobs, the user, or a kill in between; and nothing left behind."""

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from grading_course import wait_for

from lectures.grading import grade, sandbox, submissions
from minigrad.derivation.inside import confine

ROOT = Path(__file__).resolve().parents[1]
HOMEWORKS = ROOT / "lectures" / "homework"
SOLUTION = (HOMEWORKS / "02_batch_norm" / "lines.py").read_text("utf-8")
WALLS = ["none", *(["landlock"] if confine.landlock_version() else []), *(["bwrap"] if shutil.which("bwrap") else [])]
CHANGES = {"sign": lambda s: s.replace("return ", "return -", 1), "factor": lambda s: s.replace("return ", "return 2 * ", 1), "right": lambda s: s,
           "missing": lambda s: "", "error": lambda s: s.replace("return ", "return undefined + ", 1), "nothing": lambda s: s.replace("return ", "", 1),
           "prints": lambda s: s.replace("    return ", "    print(d_y if 'd_y' in locals() else 'hello')\n    return ", 1),
           "absent": lambda s: s.replace("return ", "return torch.tensor(1.0) * ", 1)}


def generated(rng):
    """A student's file: each line right, or with one of the usual mistakes."""
    head, *lines = SOLUTION.split("\n\n\ndef ")
    chosen = rng.choice(list(CHANGES), size=len(lines), p=[0.1, 0.1, 0.5, 0.1, 0.05, 0.05, 0.05, 0.05])
    return "\n\n\n".join(filter(None, [head.replace("import numpy", "import torch\nimport numpy"),
                                       *(CHANGES[how]("def " + text) for how, text in zip(chosen, lines, strict=True))]))


def rows_of(table):
    with open(table, encoding="utf-8-sig", newline="") as f:
        return sorted(tuple(v for k, v in row.items() if k != "sandbox") for row in csv.DictReader(f))


@pytest.mark.slow
def test_sixty_submissions_are_graded_alike_by_any_number_of_jobs_and_behind_any_wall(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for i in range(60):
        path = tmp_path / "in" / f"student {i:02}" / "02_batch_norm.py"
        path.parent.mkdir(parents=True)
        path.write_text(generated(rng))
    found = {}
    for wall, jobs in [("auto", 1), ("auto", 2), *((wall, 2) for wall in WALLS)]:
        start, table = time.monotonic(), tmp_path / f"{wall}-{jobs}.csv"
        grade.main([str(tmp_path / "in"), "--csv", str(table), "--homework", "02_batch_norm", "--seed", "7", "--jobs", str(jobs), "--sandbox", wall])
        print(f"{wall}, {jobs} jobs: {(time.monotonic() - start) / 60:.2f} s per submission")
        found[wall, jobs] = rows_of(table)
        assert list((tmp_path / "tmp").iterdir()) == []
    first = found["auto", 1]
    assert len(first) == 60 and len({row[3] for row in first}) > 5  # earned: some of everything
    for configuration, rows in found.items():
        assert rows == first, (configuration, [pair for pair in zip(rows, first, strict=True) if pair[0] != pair[1]][:3])


@pytest.mark.slow
@pytest.mark.parametrize("wall", WALLS)
def test_every_solution_is_right_behind_every_wall(wall):
    lines = 0
    with sandbox.Judges(sandbox=wall) as judges:
        for folder in sorted(p.parent for p in HOMEWORKS.glob("*/lines.py")):
            outcome = judges.check(folder, lambda to, folder=folder: shutil.copy(folder / "lines.py", to) and None, "lines.py", 11)
            assert outcome.report is not None and outcome.sandbox == wall and not outcome.refused, outcome
            assert [x for x in outcome.report["lines"] if x["verdict"] not in ("right", "rounding") or x["flags"]] == [], folder.name
            lines += len(outcome.report["lines"])
            print(f"{folder.name}: {outcome.seconds:.2f} s")
    assert lines >= 67


# -- killed, and as another user -------------------------------------------------------------------------------------------


def command(base, *more):
    return [sys.executable, "-m", "lectures.grade", str(base / "in"), "--csv", str(base / "grades.csv"), "--homework", "02_batch_norm", "--seed", "3",
            "--jobs", "1", "--seconds", "300", *more]


def working_below(folder):
    """Processes whose folder is below this one, or was before it was deleted."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(str(folder)):
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("wall", WALLS)
def test_a_grading_that_is_killed_ends_with_all_that_it_started_and_goes_on(wall, tmp_path):
    (tmp_path / "tmp").mkdir()
    waits = SOLUTION.replace("    return np.sum(d_y, axis=0)", "    import os, time\n    while os.path.exists(%r):\n        time.sleep(0.01)\n"
                             "    return np.sum(d_y, axis=0)", 1)
    for student in ("ada", "bob", "cyd"):
        (tmp_path / "in" / student).mkdir(parents=True)
        (tmp_path / "in" / student / "02_batch_norm.py").write_text(waits % "/dev/null" if student == "bob" else SOLUTION)
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    first = subprocess.Popen(command(tmp_path, "--sandbox", wall), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "grades.jsonl"
    wait_for(lambda: journal.exists() and journal.read_text().count("\n") == 2 and len(working_below(tmp_path / "tmp")) > 0)
    first.kill()
    first.wait()
    wait_for(lambda: not working_below(tmp_path / "tmp"))
    (tmp_path / "in" / "bob" / "02_batch_norm.py").write_text(SOLUTION)
    again = subprocess.run(command(tmp_path, "--sandbox", wall), cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "(1 were finished before)" in again.stdout
    assert [row[3] for row in rows_of(tmp_path / "grades.csv")] == ["12", "12", "12"]
    assert list((tmp_path / "tmp").iterdir()) == []


NOBODY = 65534


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0 or sys.platform != "linux", reason="only root can become somebody else")
@pytest.mark.parametrize("wall", WALLS)
def test_an_ordinary_user_grades_as_root_does(wall, tmp_path):
    def as_nobody(arguments, **more):
        return subprocess.run(arguments, user=NOBODY, group=NOBODY, extra_groups=[], cwd=ROOT, capture_output=True, text=True, **more)

    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith("pytest-"):
            folder.chmod(folder.stat().st_mode | 0o711)
    try:
        if as_nobody([sys.executable, "-c", "import tqdm, lectures.grading.grade"]).returncode:
            pytest.skip("this Python is root's alone")
    except OSError:
        pytest.skip("this Python is root's alone")
    for student in ("ada", "bob"):
        (tmp_path / "in" / student).mkdir(parents=True)
        (tmp_path / "in" / student / "02_batch_norm.py").write_text(SOLUTION if student == "ada" else "import os\nos.kill(-1, 9)\n" + SOLUTION
                                                                    if wall != "none" else "import os\nos._exit(0)\n")
    (tmp_path / "tmp").mkdir()
    for folder in (tmp_path, tmp_path / "tmp"):
        os.chown(folder, NOBODY, NOBODY)
    done = as_nobody(command(tmp_path, "--sandbox", wall), env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "grades.csv")
    assert [row[3] for row in rows] == ["12", "0"] and list((tmp_path / "tmp").iterdir()) == []
    entries = [json.loads(text) for text in (tmp_path / "grades.jsonl").read_text().splitlines()[1:]]
    assert {e["row"]["sandbox"] for e in entries} == {wall}
    assert {e["row"]["seed"] for e in entries} == {submissions.seed_of(3, student, "02_batch_norm") for student in ("ada", "bob")}
