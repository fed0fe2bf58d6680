"""Words and tables: how the tape and a record are printed, and how a line is found by its name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from ..core.errors import error

LONGEST, FIRST, LAST = 60, 24, 16  # of a tape with more than LONGEST lines the first and the last are printed


class UnknownNameError(KeyError):
    """No line, or no recorded value, has this name."""

    def __str__(self) -> str:  # KeyError's own prints the text as a quoted string
        return str(self.args[0])


def _called(name: str, entries: Sequence[Any], what: str) -> list[Any]:
    found = [e for e in entries if e.name == name]
    if not found:
        names = list(dict.fromkeys(e.name for e in entries if e.name is not None))
        close = get_close_matches(name, names, 1)
        raise error(UnknownNameError, what, got=f"the name {name!r}",
                    needs=f"one of {', '.join(map(repr, names))}" if names else "a name, but nothing here has one",
                    fix=f"did you mean {close[0]!r}?" if close
                    else f"name the value where it is computed: minigrad.named({name!r}, ...)")
    return found


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _shown(count: int, full: bool) -> list[int]:
    """Which of `count` rows to print."""
    return list(range(count)) if full or count <= LONGEST else [*range(FIRST), *range(count - LAST, count)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], count: int, foot: Sequence[str] = ()) -> list[str]:
    """Aligned columns, without those that are empty, and with a remark where some of `count` rows are left out."""
    used = [k for k in range(len(head)) if any(row[k] for row in rows)]
    every = [head, *rows, foot] if foot else [head, *rows]
    widths = {k: max(len(row[k]) for row in every) for k in used}
    lines = ["  ".join(row[k].ljust(widths[k]) if k else row[k].rjust(widths[k]) for k in used).rstrip()
             for row in every]
    if len(rows) < count:
        lines.insert(1 + FIRST, f"… {_count(count - len(rows), 'more line')} …")
    return lines
