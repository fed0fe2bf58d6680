"""What one person handed in, as a list of names with their contents: from a folder, from single files, from a zip.

Nothing is followed and nothing is trusted. Links, pipes and devices are never opened; folders are read to a bounded depth, files to a
bounded size; of a zip only plain members with harmless names are read, and their bytes are counted while they come.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

MOST_BYTES, MOST_FILES = 32 << 20, 2000  # of one submission
MOST_ENTRIES, MOST_LEVELS = 20_000, 20   # looked at in a folder
MOST_RATIO, SMALL = 100, 1 << 20         # of a zip's contents to its size, where they are more than SMALL
NOT_COPIED = ("__pycache__", "node_modules", "venv", "env", "__MACOSX")  # besides hidden folders and anything that holds a pyvenv.cfg

Read = Callable[[], bytes]


class NotCopied(Exception):
    """It cannot be checked: a link or no plain file, far too much, or a zip that is none or means harm."""


class HandedIn:
    """Files by name, with ``/`` between the parts.

    Attributes:
        files: from the name to a function that reads the file.
        links: names of symbolic links, which are not read.
        others: names of what is neither a file nor a link, where a file should be.
        order: larger numbers for what was handed in later, where that is known.
    """

    def __init__(self) -> None:
        self.files, self.links, self.others = dict[str, Read](), set[str](), set[str]()
        self.sizes, self.order = dict[str, int](), dict[str, int]()

    def add_file(self, name: str, path: Path) -> None:
        """A file under another name than its own."""
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            self.links.add(name)
        elif not stat.S_ISREG(mode):
            self.others.add(name)
        else:
            self._add(name, lambda: read_plain(path), os.lstat(path).st_size)

    def add_folder(self, folder: Path, prefix: str = "") -> None:
        """All files below a folder, except for hidden folders and virtual environments.

        Raises:
            NotCopied: it is too deep, or holds too much.
        """
        seen, waiting = 0, [(folder, prefix, 0)]
        while waiting:
            here, before, level = waiting.pop()
            if level > MOST_LEVELS:
                raise NotCopied(f"its folders are more than {MOST_LEVELS} levels deep")
            try:
                with os.scandir(here) as entries:
                    names = sorted(itertools.islice(entries, MOST_ENTRIES + 1), key=lambda entry: entry.name)
            except OSError:
                if not level:
                    raise
                continue  # a folder without permission, or with an endless name: the files beside it are read
            seen += len(names)
            if seen > MOST_ENTRIES:
                raise NotCopied(f"the folder holds more than {MOST_ENTRIES} entries; hand in only what the homework needs")
            if level and any(entry.name == "pyvenv.cfg" for entry in names):
                continue
            for entry in names:
                name = before + entry.name
                if entry.is_symlink():
                    self.links.add(name)
                elif entry.is_dir(follow_symlinks=False):
                    if name.endswith(".py"):
                        self.others.add(name)
                    if not entry.name.startswith(".") and entry.name not in NOT_COPIED:
                        waiting.append((here / entry.name, name + "/", level + 1))
                elif entry.is_file(follow_symlinks=False):
                    path = here / entry.name
                    self._add(name, lambda path=path: read_plain(path), entry.stat(follow_symlinks=False).st_size)  # type: ignore[misc]
                else:
                    self.others.add(name)

    def add_zip(self, archive: Path | bytes, name: str, prefix: str = "") -> None:
        """The members of a zip.

        Raises:
            NotCopied: it is no zip, or one that a person would not make.
        """
        for member, read, size in members(archive, name):
            self._add(prefix + member, read, size)

    def _add(self, name: str, read: Read, size: int) -> None:
        self.files[name], self.sizes[name] = read, size

    def below(self, prefix: str) -> HandedIn:
        """Only what lies in one folder, by names within it; ``""`` is everything."""
        part = HandedIn()
        part.files = {name.removeprefix(prefix): read for name, read in self.files.items() if name.startswith(prefix)}
        part.order = {name.removeprefix(prefix): number for name, number in self.order.items() if name.startswith(prefix)}
        part.sizes = {name.removeprefix(prefix): size for name, size in self.sizes.items() if name.startswith(prefix)}
        part.links = {name.removeprefix(prefix) for name in self.links if name.startswith(prefix)}
        part.others = {name.removeprefix(prefix) for name in self.others if name.startswith(prefix)}
        return part

    def contents(self) -> dict[str, bytes]:
        """All files, read.

        Raises:
            NotCopied: they are too many or too large together.
        """
        if len(self.files) > MOST_FILES or sum(self.sizes.values()) > MOST_BYTES:
            raise NotCopied(f"the folder holds more than {MOST_FILES} files or {MOST_BYTES >> 20} MB; hand in only what the homework needs")
        found, size = {}, 0
        for name in sorted(self.files):
            found[name] = self.files[name]()
            size += len(found[name])
            if size > MOST_BYTES:
                raise NotCopied(f"the files grew to more than {MOST_BYTES >> 20} MB while they were read")
        return found


def digest(contents: dict[str, bytes], more: Iterable[str] = ()) -> str:
    """A hash of names and contents, by which a changed submission is known."""
    found = hashlib.sha256()
    for name in sorted(contents):
        for part in (name.encode("utf-8", "surrogateescape"), contents[name]):
            found.update(len(part).to_bytes(8, "big") + part)
    for text in more:
        found.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()[:32]


def write_files(contents: dict[str, bytes], folder: Path) -> None:
    """Write them below an empty folder."""
    for name, content in contents.items():
        path = folder.joinpath(*PurePosixPath(name).parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_plain(path: Path) -> bytes:
    """A plain file's bytes: never through a link, and never waiting for a pipe, whatever the name has become since it was listed.

    Raises:
        NotCopied: it is something else, or too large.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise NotCopied(f"{path.name} is not a plain file")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise NotCopied(f"{path.name} has more than {MOST_BYTES >> 20} MB")
    return content


# -- zips --------------------------------------------------------------------------------------------------------------


def members(archive: Path | bytes, name: str, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES,
            nested: bool = False) -> list[tuple[str, Read, int]]:
    """Name, reader and size of each file in a zip.

    Args:
        name: what to call the zip in errors.
        nested: whether it may hold zips, which stay closed here.

    Raises:
        NotCopied: see `_harmless`; or too many files, too many bytes, too much compression.
    """
    packed = len(archive) if isinstance(archive, bytes) else archive.stat().st_size
    if packed > most_bytes:
        raise NotCopied(f"{name} has more than {most_bytes >> 20} MB")
    try:
        book = zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive)
        entries = [entry for entry in book.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as e:
        raise NotCopied(f"{name} cannot be read as a zip: {e}") from e
    size = sum(entry.file_size for entry in entries)
    if len(entries) > most_files or size > most_bytes:
        raise NotCopied(f"{name} holds more than {most_files} files or {most_bytes >> 20} MB")
    if size > max(SMALL, MOST_RATIO * packed):
        raise NotCopied(f"{name} unpacks to {size >> 20} MB, more than {MOST_RATIO} times its size")
    found: dict[str, tuple[str, Read, int]] = {}
    for entry in entries:
        inside = _harmless(entry, name)
        parts = PurePosixPath(inside).parts
        if any(part in NOT_COPIED or part.startswith(".") for part in parts[:-1]) or parts[-1] in (".DS_Store", "Thumbs.db") or parts[-1].startswith("._"):
            continue
        if not nested and parts[-1].lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2")):
            raise NotCopied(f"{name} holds another archive, {inside}: hand in the files themselves")
        if len(parts) > MOST_LEVELS:
            raise NotCopied(f"the folders in {name} are more than {MOST_LEVELS} levels deep")
        if inside in found:
            raise NotCopied(f"{name} holds {inside} twice")
        found[inside] = (inside, lambda entry=entry: _member(book, entry, name), entry.file_size)  # type: ignore[misc]
    return list(found.values())


def _harmless(entry: zipfile.ZipInfo, name: str) -> str:
    """The member's name, if it stays in the folder and is a plain file."""
    inside = entry.filename.replace("\\", "/")
    parts = inside.split("/")
    too_long = any(len(part.encode("utf-8", "surrogateescape")) > 240 for part in parts)
    if inside.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in inside or too_long:
        raise NotCopied(f"{name} has a member that would leave its folder, or has no fit name: {entry.filename[:80]!r}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise NotCopied(f"{name} has a member that is no plain file: {entry.filename[:80]!r}")
    if entry.flag_bits & 1:
        raise NotCopied(f"{name} is encrypted")
    return "/".join(part for part in parts if part not in ("", "."))


def _member(book: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> bytes:
    try:
        with book.open(entry) as file:
            content = file.read(entry.file_size + 1)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as e:
        raise NotCopied(f"{name} is damaged at {entry.filename[:80]!r}: {e}") from e
    except Exception as e:  # zlib.error, lzma.LZMAError
        raise NotCopied(f"{name} is damaged at {entry.filename[:80]!r}: {type(e).__name__}") from e
    if len(content) > entry.file_size:
        raise NotCopied(f"{name} holds more than it says at {entry.filename[:80]!r}")
    return content
