"""MathJax, the program that sets formulas in a browser: 2 MB that are in no repository, and must be right to the byte.

It is taken from a file that you name, or from an earlier run in build/mathjax, or with npm, or with pip from a package that
holds the same file. Whatever the way, its SHA-256 decides.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from minigrad.files import write_atomically

VERSION = "3.2.2"
SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"  # of es5/tex-svg.js
NAME = "tex-svg.js"
WAYS = {  # package that holds the file -> command that downloads it into the current folder
    f"mathjax@{VERSION} of npm": ["npm", "pack", "--silent", f"mathjax@{VERSION}"],
    "sphinx-mathjax-offline of pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "sphinx-mathjax-offline==0.0.2"],
}


class NoMathJax(Exception):
    """MathJax cannot be had; the text says how to help."""


def verified(content: bytes, where: str) -> str:
    """The program's text.

    Raises:
        NoMathJax: it is not the file that this project was tested with.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise NoMathJax(f"{where} is not es5/{NAME} of MathJax {VERSION}: SHA-256 {found}, expected {SHA256}")
    return content.decode("utf-8")


def mathjax(cache: Path, given: Path | None = None) -> str:
    """The text of es5/tex-svg.js, from `given`, from the folder `cache`, or downloaded into it.

    Raises:
        NoMathJax: none of the ways led to the right file.
    """
    if given is not None:
        if not given.is_file():
            raise NoMathJax(f"there is no file {given}")
        return verified(given.read_bytes(), str(given))
    kept = cache / NAME
    if kept.is_file():
        return verified(kept.read_bytes(), str(kept))
    reasons = []
    for package, command in WAYS.items():
        try:
            content = downloaded(command)
            text = verified(content, package)
        except (OSError, subprocess.SubprocessError, KeyError, StopIteration, NoMathJax) as reason:
            reasons.append(f"  {package}: {reason or 'no such file in it'}")
            continue
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, content)
        return text
    raise NoMathJax("\n".join([f"formulas need MathJax {VERSION}, which could not be downloaded:", *reasons,
                               f"Get es5/{NAME} of the npm package mathjax@{VERSION} in any way, and name it: make site MATHJAX=path/to/{NAME}"]))


def downloaded(command: list[str]) -> bytes:
    """The file out of the one archive that `command` leaves in its folder."""
    if shutil.which(command[0]) is None:
        raise OSError(f"{Path(command[0]).name} is not there")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        archive = next((p for p in sorted(Path(folder).iterdir()) if p.suffix in (".tgz", ".whl")), None)
        if done.returncode or archive is None:
            raise OSError((done.stderr.strip().splitlines() or ["nothing was downloaded"])[-1])
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(next(n for n in wheel.namelist() if n.endswith(f"/{NAME}")))
        with tarfile.open(archive) as package:
            found = package.extractfile(f"package/es5/{NAME}")
            assert found is not None
            return found.read()
