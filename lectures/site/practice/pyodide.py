"""Where the browser's Python comes from: the content delivery network of Pyodide's makers, or a folder, for classes without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

VERSION = "0.27.7"  # what the browser tests run
NETWORK = "https://cdn.jsdelivr.net/pyodide/"
# SHA-256 of the files of VERSION that a page fetches: as in the npm package pyodide, and of NumPy as in its pyodide-lock.json.
CORE = {
    "pyodide.mjs": "04c052c815abb0bf2981fa38c2dfa58e3120ee5288c956df2b2a15e301782c5f",
    "pyodide.asm.js": "6b4c90de5b7172873f04f21884d0e9d2274e305fe32116558fe3e4fbe3618d51",
    "pyodide.asm.wasm": "a50dd1843f805a0b7c45b61037ee0d7b26dfe85efe0e18ef95a34ad24e401f5f",
    "python_stdlib.zip": "16611534726e5d8ac2bd8f926410b2dcb8d6f49aa24913463533b457a2115c16",
}
HELP = f"a folder with Pyodide and its NumPy, or a version (default: {VERSION}, from {NETWORK})"  # of the commands' option
LOCK = "pyodide-lock.json"
NUMPY = {"numpy-2.0.2-cp312-cp312-pyodide_2024_0_wasm32.whl": "ebb61241d962b98b21597d7ce43b67668a6d5bab3acec4fbe958657320d7cd08"}


class NoPyodide(Exception):
    """What was given is no folder with Pyodide and NumPy, nor a version; the text says what is missing."""


class PyodideFiles(NamedTuple):
    """Where a page's Python comes from.

    Attributes:
        address: of its files, with a "/" at the end; relative to the page for files beside it.
        version: of Pyodide.
        tested: whether it is the version that was tested with these pages.
        integrity: file -> "sha256-…" as browsers check it.
    """

    address: str
    version: str
    tested: bool
    integrity: dict[str, str]

    @property
    def policy(self) -> str:
        """What a page's policy must allow to be fetched."""
        return "" if not self.address.startswith("https:") else f" {self.address}"


def source(given: str | None, dest: Path) -> PyodideFiles:
    """Python from the network (None: the tested version; or another version), or from a folder, whose files are copied to ``dest/pyodide``.

    Raises:
        NoPyodide: there is no such folder, a file is missing in it, or one is damaged.
    """
    if given is None or re.fullmatch(r"\d+\.\d+\.\d+", given):
        version = given or VERSION
        known = {name: integrity(digest) for name, digest in (CORE | NUMPY).items()} if version == VERSION else {}
        return PyodideFiles(f"{NETWORK}v{version}/full/", version, version == VERSION, known)
    folder = Path(given)
    if not (folder / LOCK).is_file():
        raise NoPyodide(f"{folder} is neither a version such as {VERSION} nor a folder with {LOCK}: unpack a release of Pyodide, and name its folder")
    try:
        lock = json.loads((folder / LOCK).read_text("utf-8"))
        version, files = str(lock["info"]["version"]), list(needed(lock))
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        raise NoPyodide(f"{folder / LOCK} is no list of Pyodide's files ({type(reason).__name__}: {reason})") from None
    (dest / "pyodide").mkdir(parents=True)
    found = {}
    for name, wanted in files:
        if not (folder / name).is_file():
            raise NoPyodide(f"{folder} has no {name}, which Pyodide {version} needs for NumPy")
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if wanted not in (None, digest):
            raise NoPyodide(f"{folder / name} is damaged: its SHA-256 is {digest}, and {wanted} is expected")
        found[name] = integrity(digest)
        shutil.copyfile(folder / name, dest / "pyodide" / name)
    return PyodideFiles("pyodide/", version, version == VERSION, found)


def needed(lock: dict[str, object]) -> Iterator[tuple[str, str | None]]:
    """(name, SHA-256 where it is known) of the files of Pyodide that a page fetches: its core, and NumPy with what that needs."""
    known = CORE if lock["info"]["version"] == VERSION else {}  # type: ignore[index]
    yield LOCK, None
    for name in CORE:
        yield name, known.get(name)
    packages: dict[str, dict[str, object]] = dict(lock["packages"])  # type: ignore[call-overload]
    waiting, seen = ["numpy"], set[str]()
    while waiting:
        if (wanted := waiting.pop()) not in packages:
            raise NoPyodide(f"its {LOCK} names no NumPy" if wanted == "numpy" else f"its {LOCK} names no {wanted}, which NumPy needs")
        package = packages[wanted]
        if (name := str(package["file_name"])) != Path(name).name:
            raise ValueError(f"{name} is no name of a file")
        if name not in seen:
            seen.add(name)
            waiting += package["depends"]  # type: ignore[operator]
            yield name, str(package["sha256"])


def integrity(digest: str) -> str:
    """A SHA-256 in hexadecimal as browsers want it."""
    return f"sha256-{base64.b64encode(bytes.fromhex(digest)).decode()}"
