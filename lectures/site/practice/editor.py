"""The editor of the pages: CodeMirror with what it needs, bundled by esbuild into one file with all licences. Needs npm.

Without npm, or where the packages cannot be fetched, the pages have a plain text area: everything else works.
"""

from __future__ import annotations

import hashlib
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
    """The editor, from the folder `cache` if it holds the bundle of the same sources, else made and put there.

    Raises:
        NoEditor: npm is not there, or failed.
    """
    name = hashlib.sha256(b"\0".join((HERE / source).read_bytes() for source in SOURCES)).hexdigest()[:16]
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
    packages = sorted(p for p in (folder / "node_modules").glob("**/package.json") if (p.parent / "LICENSE").is_file() and "esbuild" not in p.parts)
    licences = [f"{p.parent.relative_to(folder / 'node_modules').as_posix()}\n\n{(p.parent / 'LICENSE').read_text('utf-8').strip()}\n" for p in packages]
    return Bundle((folder / "bundle.js").read_text("utf-8"), f"\n{'-' * 70}\n\n".join(["The editor of these pages is made from:\n", *licences]))
