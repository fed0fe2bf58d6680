"""Serve the site on this machine: ``python -m lectures.site.serve [--port 8000] [FOLDER]``. The pages of try/ need a server; all others work as files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lectures.tools.build import HERE as LECTURES
from minigrad.command import run_command

TEXTS = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".json": "application/json", ".txt": "text/plain"}
TYPES = {name: f"{kind}; charset=utf-8" for name, kind in TEXTS.items()} | {
    ".wasm": "application/wasm", ".zip": "application/zip", ".whl": "application/zip", ".svg": "image/svg+xml", ".png": "image/png",
    "": "application/octet-stream"}


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, with the types that browsers insist on; always asked for again, because the site may be built anew."""

    extensions_map = TYPES

    def end_headers(self) -> None:
        """Add what a page's policy cannot say itself."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of what goes well."""

    def log_error(self, format: str, *arguments: object) -> None:
        """One line for what is not there."""
        print(f"{self.path}: {format % arguments}", file=sys.stderr)


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a folder for this machine alone; port 0 takes one that is free."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command, until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lectures.site.serve", description=(__doc__ or "").splitlines()[0].split(":")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=LECTURES.parent / "build" / "site")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        print(f"there is no {options.folder}: run make site first", file=sys.stderr)
        return 2
    try:
        serving = server(options.folder, options.port)
    except (OSError, OverflowError) as reason:
        print(f"port {options.port} cannot be used ({getattr(reason, 'strerror', None) or reason}): choose another with --port", file=sys.stderr)
        return 2
    with serving:
        print(f"http://localhost:{serving.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    run_command(main)
