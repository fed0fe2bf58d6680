"""Every attack of tests/attacks.py, handed in beside honest work, behind each wall that is here."""

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from attacks import ATTACKS, BOMBS, HONEST, HOOKS_OFF, MODEL, ROOT, line, table, table_at_home

from lectures.grading import grade
from minigrad.derivation import workers
from minigrad.derivation.inside import confine, messages

SOLUTION = (MODEL / "lines.py").read_text("utf-8")
HERE = {"none": True, "landlock": bool(confine.landlock_version()), "bwrap": shutil.which("bwrap") is not None}
NEIGHBOURS = ["a honest", "n honest", "z honest"]


def hand_in(base, student, text, files=()):
    folder = base / "submissions" / student / "02_batch_norm"
    for name, content in {"lines.py": text, **dict(files)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def everything(folder):
    """Content, mode and time of each file."""
    return {p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mode, p.stat().st_mtime_ns)
            for p in folder.rglob("*") if p.is_file() and p.stem != "grades"}


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1]
        with contextlib.suppress(BlockingIOError):
            server.accept()
            raise AssertionError("somebody got through the wall to the network")


@pytest.mark.slow
@pytest.mark.parametrize("wall, hooks", [("none", True), ("landlock", True), ("landlock", False), ("bwrap", True), ("bwrap", False)])
def test_no_attack_earns_anything_or_harms_anybody(wall, hooks, tmp_path, monkeypatch, port):
    """Without hooks, the wall alone has to hold."""
    if not HERE[wall]:
        pytest.skip(f"no {wall} here")
    attacks = {**ATTACKS, "a table made at home": table_at_home()}
    only = os.environ.get("ATTACK")  # while one is written
    attacks = {name: a for name, a in attacks.items() if (wall != "none" or a.without_wall) and (only is None or only in name)
               and (hooks or name not in BOMBS or os.getuid() != 0)}
    (tmp_path / "tmp").mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    for name in NEIGHBOURS:
        hand_in(tmp_path, name, SOLUTION)
    for name, a in attacks.items():
        text = a.text.replace("@outside@", str(tmp_path)).replace("@tmp@", str(tmp_path / "tmp")).replace("@port@", str(port))
        hand_in(tmp_path, "k " + name.replace("/", "-"), text if hooks else HOOKS_OFF + text, a.files)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("COURSE_TOKEN", "secret")
    before, homework = everything(tmp_path), everything(ROOT / "lectures" / "homework")
    graded = grade.main([str(tmp_path / "submissions"), "--csv", str(tmp_path / "grades.csv"), "--homework", "02_batch_norm", "--jobs", "2",
                         "--seconds", "5", "--memory", "512", "--strict", "--sandbox", wall])
    rows = {r.student: r for r in graded}
    print(*rows.values(), sep="\n")
    wrong = []
    for name, a in attacks.items():
        row = rows["k " + name.replace("/", "-")]
        least = 1 if hooks and a.costs != "file" else 0
        if not least <= row.earned <= 1 or (a.costs == "flag") != bool(row.flags) or row.sandbox not in (wall, ""):
            wrong.append((name, row))
    assert not wrong, "\n".join(map(str, wrong))
    for name in NEIGHBOURS:
        assert (rows[name].status, rows[name].earned, rows[name].message) == ("ok", 12, "all right"), rows[name]
    assert everything(tmp_path) == before and everything(ROOT / "lectures" / "homework") == homework
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not list(Path("/dev/shm").glob(f"minigrad_attack_{port}*"))


def test_the_honest_line_of_an_attack_is_worth_its_point(tmp_path):
    hand_in(tmp_path, "only", HONEST)
    (row,) = grade.main([str(tmp_path / "submissions"), "--csv", str(tmp_path / "grades.csv"), "--homework", "02_batch_norm", "--strict"])
    assert row.earned == 1


def test_the_document_lists_the_attacks():
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    assert "\n".join(table()) in text
    for said in (f"size of a file ({confine.MOST_FILE >> 20} MB)", f"processes ({confine.MOST_PROCESSES};", f"{messages.MOST_ANSWER >> 20} MB of answers",
                 f"{workers.MOST_DISK >> 20} MB and {workers.MOST_FILES} files on the disk", f"{workers.MOST_PRINTED} characters of output are kept"):
        assert said in text, said
    assert len(ATTACKS) >= 100 and all(a.costs in ("line", "file", "flag") for a in ATTACKS.values()) and line("pass").costs == "line"
