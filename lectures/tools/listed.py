"""Which files students get: those of a list, released.txt beside this file, and no others that happen to lie there.

The list is checked against git, where there is git: it names exactly the tracked files of the released folders. A tree without git, an unpacked
archive say, has only the list. Whatever else lies in a released folder is a stray: grades, an exam, another solution, what an editor or a notebook
server has left behind. Strays are named, and nothing is released until they are gone. Only the byte code that Python writes into __pycache__ is
passed over.

    python -m lectures.release --list       # writes the list anew, from git; look at the difference before you commit it
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

LIST = "lectures/tools/released.txt"
HEAD = "# The files of the students' tree, one per line. Written by: python -m lectures.release --list\n"
LEFT_BEHIND = (("~", "an editor's backup"), (".bak", "a backup"), (".orig", "what a merge has left"), (".rej", "what a patch has left"),
               (".swp", "an editor's swap file"), (".swo", "an editor's swap file"), (".pyc", "byte code out of its place"))


def listed(root: Path) -> list[str]:
    """The names in the list, sorted.

    Raises:
        ValueError: there is no list, or it names something outside of the tree.
    """
    try:
        lines = (root / LIST).read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"{LIST}: there is no list of what is released; in a git checkout, write it by: python -m lectures.release --list") from None
    names = sorted(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if bad := [name for name in names if name.startswith("/") or ".." in name.split("/") or "\\" in name]:
        raise ValueError(f"{LIST}: {bad[0]} is no path inside of this tree")
    return names


def tracked(root: Path, names: Sequence[str]) -> list[str] | None:
    """What git knows of these files and folders, sorted; None where `root` is no git checkout, or there is no git."""
    try:
        done = [subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
                for arguments in (["rev-parse", "--show-toplevel"], ["ls-files", "-z", "--", *names])]
    except FileNotFoundError:
        return None
    if any(d.returncode for d in done) or Path(done[0].stdout.decode().rstrip("\n")).resolve() != root.resolve():
        return None
    return sorted(filter(None, done[1].stdout.decode("utf-8", "surrogateescape").split("\0")))


def lying(root: Path, names: Sequence[str], without: tuple[str, ...]) -> Iterator[str]:
    """Every file and link in these folders, hidden ones too, except for Python's byte code."""
    for name in names:
        path = root / name
        for found in sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []:
            relative = found.relative_to(root).as_posix()
            byte_code = found.suffix == ".pyc" and found.parent.name == "__pycache__"
            if (found.is_symlink() or not found.is_dir()) and not byte_code and not relative.startswith(without):
                yield relative


def what(name: str, known: Sequence[str] | None) -> str:
    """What a stray seems to be."""
    last = name.rpartition("/")[2]
    if ".ipynb_checkpoints/" in name:
        return "a notebook server's copy"
    if last.startswith((".#", "#")):
        return "an editor's lock or autosave"
    if last == ".DS_Store" or "_cache/" in name or "__pycache__/" in name:
        return "a cache"
    for end, said in LEFT_BEHIND:
        if last.endswith(end):
            return said
    if last.endswith(".ipynb"):
        return "a notebook that is not in the list"
    return "tracked by git, but not in the list" if known is not None and name in known else "not in the list"


def problems(root: Path, folders: Sequence[str], without: tuple[str, ...]) -> list[str]:
    """All reasons not to release: strays, and where list, git and tree disagree. Empty if there are none."""
    names = listed(root)
    known = tracked(root, folders)
    known = None if known is None else [name for name in known if not name.startswith(without)]
    wanted = {*names}
    strays = [name for name in lying(root, folders, without) if name not in wanted]
    found = [f"{name}: {what(name, known)}" for name in strays]
    missing = [name for name in names if not (root / name).is_file()]
    found += [f"{name}: in the list, but not in the tree" for name in missing]
    found += [f"{name}: a link, not a file" for name in names if (root / name).is_symlink()]
    found += [f"{name}: in the list, but not of the released folders" for name in names if name.startswith(without) or not _in(name, folders)]
    if known is not None:
        found += [f"{name}: in the list, but not tracked by git: git add it, or take it out of {LIST}"
                  for name in names if name not in known and name not in missing]
    if found and strays:
        found.append("Move strays out of the released folders, or delete them. What students shall have: git add it, then python -m lectures.release --list")
    return found


def _in(name: str, folders: Sequence[str]) -> bool:
    return any(name == folder or name.startswith(folder + "/") for folder in folders)


def write_list(root: Path, folders: Sequence[str], without: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Write the list anew from git; returns the names that are new in it, and those that are gone.

    Raises:
        ValueError: `root` is no git checkout.
    """
    known = tracked(root, folders)
    if known is None:
        raise ValueError(f"{root} is no git checkout: only git knows which files are meant to be kept")
    before = {*listed(root)} if (root / LIST).is_file() else set()
    names = [name for name in known if not name.startswith(without)]
    (root / LIST).write_text(HEAD + "".join(f"{name}\n" for name in names), "utf-8", newline="")
    return sorted({*names} - before), sorted(before - {*names})
