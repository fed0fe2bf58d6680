"""The homework pages alone: ``python -m lectures.site.practice [DEST] [--pyodide FOLDER|VERSION] [--mathjax FILE] [--plain]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lectures.site.check import is_foreign
from lectures.site.mathjax import NoMathJax, mathjax
from lectures.tools.build import HERE as LECTURES
from minigrad.command import run_command
from minigrad.files import new_folder

from . import editor, pyodide

BUILD = LECTURES.parent / "build"


def bundled(plain: bool) -> editor.Bundle | None:
    """The editor; None, and a word about it, where it cannot be made."""
    if plain:
        return None
    try:
        return editor.bundle(BUILD / "editor")
    except (editor.NoEditor, OSError) as reason:
        print(f"the pages get a plain text area instead of an editor: {reason}")
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if the pages are in place."""
    parser = argparse.ArgumentParser(prog="python -m lectures.site.practice", description="Build the homework pages, without the lectures.")
    parser.add_argument("dest", nargs="?", type=Path, default=BUILD / "site" / "try", help="a folder that this command may replace (default: build/site/try)")
    parser.add_argument("--pyodide", metavar="FOLDER", help=pyodide.HELP)
    parser.add_argument("--mathjax", type=Path, metavar="FILE", help="es5/tex-svg.js of MathJax, instead of downloading it")
    parser.add_argument("--plain", action="store_true", help="a plain text area instead of the editor, which needs npm")
    options = parser.parse_args(arguments)
    dest = options.dest.absolute()
    if is_foreign(dest, "sw.js"):
        print(f"{dest} exists and holds no earlier pages: take another folder, or delete it yourself.", file=sys.stderr)
        return 2
    try:
        from . import build
    except ModuleNotFoundError as missing:
        if str(missing.name).startswith(("lectures", "minigrad")):
            raise
        print(f'{missing.name} is missing: pip install -e ".[browser]"', file=sys.stderr)
        return 1
    try:
        with new_folder(dest) as tree:
            source = pyodide.source(options.pyodide, tree)
            pages = build.build(tree, source, mathjax(BUILD / "mathjax", options.mathjax), bundled(options.plain))
    except (NoMathJax, pyodide.NoPyodide) as reason:
        print(f"No pages were built.\n{reason}", file=sys.stderr)
        return 1
    print(f"{len(pages)} pages with Pyodide {source.version}: python -m lectures.site.serve, then http://localhost:8000/try/")
    return 0


if __name__ == "__main__":
    run_command(main)
