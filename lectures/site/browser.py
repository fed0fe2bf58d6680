"""Formulas as a browser sets them: what MathJax left as text, or set as an error, in Chromium if there is one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .check import read

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Its own profile, and nothing that it would do beside showing the page. The budget is the page's own time, which a script may use.
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--virtual-time-budget=20000", "--dump-dom"]


def browser() -> str | None:
    """Chromium's command, if it is there."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def shown(command: str, file: Path) -> str:
    """The page as it is when its scripts have run, as HTML."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run([command, *OPTIONS, f"--user-data-dir={profile}", file.resolve().as_uri()], capture_output=True, text=True, timeout=180)
    return done.stdout


def problems(command: str, files: Sequence[Path]) -> Iterator[str]:
    """Formulas of these pages that are not set, or wrongly."""
    for file in files:
        yield from (f"{file.name}: {what}" for what in unset(file.read_text("utf-8"), shown(command, file)))


def unset(before: str, after: str) -> Iterator[str]:
    """What is wrong with the formulas of a page, from its HTML before and after its scripts."""
    if "</html>" not in after:
        yield "the browser did not show it"
        return
    if read(before).unset and "<mjx-container" not in after:
        yield "no formula is set"
    if errors := after.count("data-mjx-error="):
        yield f"{errors} formulas are set as errors"
    yield from (f"the formula {formula!r} is not set" for formula in read(after).unset)
