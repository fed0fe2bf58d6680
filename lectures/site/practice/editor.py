"""The editor of the pages: CodeMirror with what it needs, bundled by esbuild into one file with all licences. Needs npm.

Without npm, or where the packages cannot be fetched, the pages have a plain text area: everything else works.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from minigrad.files import new_folder

HERE = Path(__file__).resolve().parent / "web" / "editor"
SOURCES = ("editor.js", "package.json", "package-lock.json")  # the last has the version and checksum of each package
COMMANDS = (["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
            ["npm", "exec", "--no", "--", "esbuild", "editor.js", "--bundle", "--format=esm", "--minify", "--legal-comments=none", "--outfile=bundle.js"])


class Bundle(NamedTuple):
    """The editor as one JavaScript module, and the licences of what is in it."""

    program: str
    licences: str


class NoEditor(Exception):
    """The bundle cannot be made; the text says why."""


def bundle(cache: Path) -> Bundle:
    """The editor, from the folder `cache` if it holds that of the same sources and commands, else made and put there.

    Raises:
        NoEditor: npm is not there, or failed.
    """
    name = hashlib.sha256(b"\0".join([repr(COMMANDS).encode(), *((HERE / source).read_bytes() for source in SOURCES)])).hexdigest()[:16]
    kept = cache / name
    if not (kept / "bundle.js").is_file():
        with new_folder(kept) as folder:
            made = make(folder / "work")
            shutil.rmtree(folder / "work")
            (folder / "bundle.js").write_text(made.program, "utf-8")
            (folder / "licences.txt").write_text(made.licences, "utf-8")
    return Bundle((kept / "bundle.js").read_text("utf-8"), (kept / "licences.txt").read_text("utf-8"))


def make(folder: Path) -> Bundle:
    """The bundle, made in a new folder.

    Raises:
        NoEditor: npm is not there, or failed.
    """
    if shutil.which("npm") is None:
        raise NoEditor("npm is not there")
    folder.mkdir()
    for source in SOURCES:
        shutil.copy(HERE / source, folder)
    for command in COMMANDS:
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise NoEditor(f"{' '.join(command[:2])}: {problem}") from None
        if done.returncode:
            raise NoEditor(f"{' '.join(command[:2])}: {(done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ['it failed'])[-1]}")
    return Bundle((folder / "bundle.js").read_text("utf-8"), f"\n{'-' * 70}\n\n".join(["The editor of these pages is made from:\n", *licences(folder)]))


def licences(folder: Path) -> list[str]:
    """Name and licence of each package below `folder`, except for esbuild, which only makes the bundle.

    Raises:
        NoEditor: one has no licence.
    """
    lock = json.loads((folder / "package-lock.json").read_text("utf-8"))
    found = []
    for place in sorted(place for place, package in lock["packages"].items() if place and not package.get("dev")):
        name = place.removeprefix("node_modules/")
        if not (folder / place / "LICENSE").is_file():
            raise NoEditor(f"{name} has no LICENSE")
        found.append(f"{name}\n\n{(folder / place / 'LICENSE').read_text('utf-8').strip()}\n")
    return found
