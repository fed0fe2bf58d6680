"""Files and folders are replaced whole or not at all."""

import ast
import os
from pathlib import Path

import pytest

from minigrad.files import LineFile, new_folder, remove_leftovers, write_atomically

ROOT = Path(__file__).resolve().parents[1]


def fail(monkeypatch, name, call=1, error=None):
    """Make a function of `os` fail at its call number `call`; the others do their work."""
    real, calls = getattr(os, name), []

    def stand_in(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise error or OSError(28, "No space left on device")
        return real(*arguments)
    monkeypatch.setattr(os, name, stand_in)


# -- files -------------------------------------------------------------------------------------------------------------


def test_all_parts_are_written_and_line_ends_stay(tmp_path):
    write_atomically(tmp_path / "a", "ä\r\n", b"\x00\xff", memoryview(b"end"), "\n")
    assert (tmp_path / "a").read_bytes() == "ä\r\n".encode() + b"\x00\xffend\n"
    write_atomically(str(tmp_path / "a"), "short")
    assert (tmp_path / "a").read_bytes() == b"short" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize(("old", "outcome"), [("old", "the file that was there is untouched"), (None, "no file was made")])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, name, old, outcome):
    if old:
        (tmp_path / "a").write_text(old)
    fail(monkeypatch, name)
    with pytest.raises(OSError, match="No space") as e:
        write_atomically(tmp_path / "a", "new")
    assert e.value.__notes__ == [outcome]
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({"a": old} if old else {})


def test_a_mistake_in_the_parts_leaves_the_old_file_and_no_other(tmp_path):
    write_atomically(tmp_path / "a", "old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a", "new", 3)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old"}


def test_the_old_file_is_there_until_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    """What a power cut would leave, looked at in every call to the system."""
    write_atomically(tmp_path / "a", "old")
    seen, done, really = [], [], {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in really:
        def look(*arguments, name=name):
            seen.append((name, (tmp_path / "a").read_text()))
            really[name](*arguments)
            done.append((name, (tmp_path / "a").read_text()))
        monkeypatch.setattr(os, name, look)
    write_atomically(tmp_path / "a", "new")
    folder = [("fsync", "new")] if hasattr(os, "O_DIRECTORY") else []
    assert seen == [("fsync", "old"), ("replace", "old"), *folder] and done == [("fsync", "old"), ("replace", "new"), *folder]


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="folders cannot be brought to the disk here")
def test_a_folder_that_cannot_be_brought_to_the_disk_is_said(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", "old")
    fail(monkeypatch, "fsync", 2)
    with pytest.raises(OSError) as e:
        write_atomically(tmp_path / "a", "new")
    assert e.value.__notes__ == ["the new file is there, but a power cut may still undo that"] and (tmp_path / "a").read_text() == "new"
    monkeypatch.undo()
    fail(monkeypatch, "fsync", 2, OSError(22, "Invalid argument"))  # a file system without this
    write_atomically(tmp_path / "a", "newer")


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_stay_and_nobody_reads_the_new_file_before(tmp_path, monkeypatch, mode):
    write_atomically(tmp_path / "a", "old")
    os.chmod(tmp_path / "a", mode)
    early = []
    real = os.chmod
    monkeypatch.setattr(os, "chmod", lambda path, m: (early.append(os.stat(path).st_mode & 0o777), real(path, m)))
    write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode and (tmp_path / "a").read_text() == "new"
    assert [m & ~mode for m in early] == [0]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    write_atomically(tmp_path / "a", "")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.fixture
def link(tmp_path):
    """A link in one folder to what is to be made in another."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    try:
        (tmp_path / "here" / "a").symlink_to(Path("..", "there", "b"))
    except OSError:
        pytest.skip("no symbolic links here")
    return tmp_path / "here" / "a"


@pytest.mark.parametrize("old", [True, False])
def test_a_link_stays_and_its_file_changes(link, old):
    target = link.parents[1] / "there" / "b"
    if old:
        target.write_text("old")
    write_atomically(link, "new")
    assert link.is_symlink() and not target.is_symlink() and target.read_text() == "new"
    assert os.listdir(target.parent) == ["b"] and os.listdir(link.parent) == ["a"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(Path, "unlink", lambda *_, **__: None)  # killed before it could tidy up
        fail(m, "replace")
        with pytest.raises(OSError):
            write_atomically(tmp_path / "a", "new")
    for name in ("a", ".a.tmp", ".ab.12.tmp", ".a.12.png", "a.12.tmp"):
        (tmp_path / name).write_text("")
    found = remove_leftovers(tmp_path / "a")
    assert len(found) == 2 and sorted(os.listdir(tmp_path)) == [".a.12.png", ".ab.12.tmp", "a", "a.12.tmp"]


# -- folders -----------------------------------------------------------------------------------------------------------


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def site(tmp_path):
    (tmp_path / "out" / "site" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "site" / "old").write_text("old")
    (tmp_path / "out" / "site" / "sub" / "old").write_text("old")
    return tmp_path / "out" / "site"


def test_a_folder_is_replaced_as_a_whole(site):
    before = content(site)
    with new_folder(site) as tree:
        (tree / "new").write_text("new")
        assert content(site) == before and tree.parent == site.parent
    assert content(site) == {"new": "new"} and os.listdir(site.parent) == ["site"]
    with new_folder(site.parent / "more" / "deep"):
        pass
    assert content(site.parent / "more" / "deep") == {}


def test_a_mistake_on_the_way_leaves_the_old_folder_and_no_other(site):
    before = content(site)
    with pytest.raises(KeyError), new_folder(site) as tree:
        (tree / "new").write_text("new")
        raise KeyError
    assert content(site) == before and os.listdir(site.parent) == ["site"]


@pytest.mark.parametrize(("name", "call"), [("replace", 1), ("replace", 2), ("fsync", 1)])
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(site, monkeypatch, name, call):
    if name == "fsync" and not hasattr(os, "O_DIRECTORY"):
        pytest.skip("folders cannot be brought to the disk here")
    before = content(site)
    fail(monkeypatch, name, call)
    with pytest.raises(OSError, match="No space"), new_folder(site) as tree:
        (tree / "new").write_text("new")
    assert content(site) == before and os.listdir(site.parent) == ["site"]


def test_ctrl_c_between_the_two_renames_puts_the_old_folder_back(site, monkeypatch):
    before = content(site)
    fail(monkeypatch, "replace", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), new_folder(site):
        pass
    assert content(site) == before and os.listdir(site.parent) == ["site"]


def test_where_the_old_folder_cannot_be_put_back_it_stays_aside(site, monkeypatch):
    before, real = content(site), os.replace

    def once(*arguments):
        monkeypatch.setattr(os, "replace", nothing)
        real(*arguments)

    def nothing(*arguments):
        raise OSError(5, "Input/output error")
    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(OSError), new_folder(site):
        pass
    (aside,) = site.parent.iterdir()
    assert aside.name.startswith(".site.") and aside.name.endswith(".old") and content(aside) == before


def test_a_link_to_a_folder_stays(link):
    (link.parents[1] / "there" / "b").mkdir()
    with new_folder(link) as tree:
        (tree / "new").write_text("new")
    assert link.is_symlink() and content(link) == {"new": "new"} and os.listdir(link.parent) == ["a"]


# -- files that grow ---------------------------------------------------------------------------------------------------


def test_lines_are_there_for_the_next_who_opens_the_file(tmp_path):
    LineFile(tmp_path / "a").append(b"one", "zw\u00f6lf".encode())
    again = LineFile(tmp_path / "a")
    assert again.lines == [b"one", "zw\u00f6lf".encode()] and again.torn == b""
    again.append(b"three")
    assert (tmp_path / "a").read_text("utf-8") == "one\nzw\u00f6lf\nthree\n"
    again.restart()
    assert (tmp_path / "a").stat().st_size > 0  # until there is something else
    again.append(b"new")
    assert LineFile(tmp_path / "a").lines == [b"new"]


@pytest.mark.parametrize("torn", [b"tw", b"t" * 100_000])
def test_a_torn_line_is_said_and_overwritten(tmp_path, torn):
    (tmp_path / "a").write_bytes(b"one\n" + torn)
    file = LineFile(tmp_path / "a")
    assert file.lines == [b"one"] and file.torn == torn
    file.append(b"2")
    assert (tmp_path / "a").read_bytes() == b"one\n2\n"


def test_a_full_disk_leaves_the_earlier_lines_and_the_next_attempt_works(tmp_path, monkeypatch):
    file = LineFile(tmp_path / "a")
    file.append(b"one")
    fail(monkeypatch, "fsync")
    with pytest.raises(OSError, match="No space"):
        file.append(b"two", b"three")
    assert (tmp_path / "a").read_bytes() == b"one\n"
    file.append(b"four")
    assert (tmp_path / "a").read_bytes() == b"one\nfour\n"


# -- nobody else does it -----------------------------------------------------------------------------------------------


@pytest.mark.more
def test_nothing_else_renames_over_a_file():
    folders = ("minigrad", "layers", "models", "scripts", "lectures", "benchmarks", "experiments")
    found = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
             and ast.unparse(node.func) in ("os.replace", "os.rename", "shutil.move")}
    assert found == {"minigrad/files.py"}
