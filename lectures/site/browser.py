"""Pages as a browser shows them, in Chromium if there is one: formulas that MathJax left as text or set as errors, and pages too wide for a phone."""

from __future__ import annotations

import html
import json
import re
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

PHONE = 360  # CSS pixels: the width of a small phone
# Shows one page after another in a frame of that width, each when its formulas are set, and writes down what sticks out of it.
MEASURE = """<!DOCTYPE html>
<meta charset="utf-8">
<iframe style="width: WIDTHpx; height: 640px; border: 0"></iframe><pre></pre>
<script type="module">
const frame = document.querySelector("iframe"), found = [];
function widest(page, width) {
  const scrolls = e => e && e !== page.body && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
  const out = [...page.body.querySelectorAll("*")].find(e => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement));
  return out ? `<${out.localName}> ${out.textContent.trim().slice(0, 40)}` : "no element sticks out by itself";
}
for (const address of PAGES) {
  try {
    await new Promise(done => { frame.onload = done; frame.src = address; });
    const page = frame.contentDocument;
    await frame.contentWindow.MathJax?.startup?.promise;
    await new Promise(done => setTimeout(done, 50));
    const width = page.documentElement.scrollWidth;
    found.push([width, width > WIDTH ? widest(page, WIDTH) : ""]);
  } catch (error) { found.push([0, String(error)]); }
}
document.querySelector("pre").textContent = JSON.stringify(found);
</script>
"""


def browser() -> str | None:
    """Chromium's command, if it is there."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def shown(command: str, file: Path, *options: str, seconds: int = 180) -> str:
    """The page as it is when its scripts have run, as HTML; Chromium gets these options beside ours."""
    with tempfile.TemporaryDirectory() as profile:
        command_line = [command, *OPTIONS, *options, f"--user-data-dir={profile}", file.resolve().as_uri()]
        done = subprocess.run(command_line, capture_output=True, text=True, timeout=seconds)
    return done.stdout


def sideways(command: str, files: Sequence[Path], width: int = PHONE) -> Iterator[str]:
    """Which of these pages scroll sideways in a window of this width."""
    with tempfile.TemporaryDirectory() as folder:
        harness = Path(folder, "measure.html")
        addresses = json.dumps([file.resolve().as_uri() for file in files]).replace("<", "\\u003c")
        harness.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGES", addresses), "utf-8")
        # A frame's page may be looked at from outside only with the first option; the second is the pages' own time, all together.
        text = shown(command, harness, "--allow-file-access-from-files", f"--virtual-time-budget={20000 * (len(files) + 1)}", seconds=60 + 20 * len(files))
    written = re.search(r"<pre>(\[.*?\])</pre>", text, re.DOTALL)
    if written is None:
        yield f"the browser did not measure {len(files)} pages"
        return
    for file, (found, what) in zip(files, json.loads(html.unescape(written[1])), strict=True):
        if not 0 < found <= width:
            yield f"{file.name} is {found} pixels wide in a window of {width}: {what}"


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
