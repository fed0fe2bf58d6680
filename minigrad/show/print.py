"""Print the tape: which ops ran on what, and what each line keeps for its backward.

    t = mg.tape(loss)              the lines that lead to `loss`: print(t), t["xhat"], t.kept_bytes, t.draw(), t.svg(), t.dot()

Printing looks at shapes and names only: it never waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

from ..core import backend
from ..core.backend import NAMESPACES, Array
from ..core.engine import reachable
from ..core.errors import TapeError, describe, error
from ..core.plan import is_output
from ..core.tensor import Line, Tensor
from .draw import draw_lines
from .svg import draw_svg
from .tables import _called, _count, _shown, _table
from .values import Record
from .words import constant_text, kept_of_kind, op_name, shape_text

CALL_WIDTH = 56
SQUARE = {"axis", "stride", "padding", "dilation", "kernel"}  # keywords whose (n,) or (n, n) is printed as n


# -- words -------------------------------------------------------------------------------------------------------------


def _bytes(n: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} B"


def _plain(value: Any) -> str:
    """A keyword's value, without a look into arrays: they may live on a device."""
    if isinstance(value, Tensor) or type(value) in NAMESPACES:
        return "·"
    if isinstance(value, slice):
        ends = (value.start, value.stop) if value.step is None else (value.start, value.stop, value.step)
        return ":".join("" if v is None else str(v) for v in ends)
    if value is Ellipsis:
        return "..."
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_plain, value))}{',' if len(value) == 1 else ''})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _keyword(key: str, value: Any) -> str:
    same = key in SQUARE and isinstance(value, tuple) and len({*value}) == 1
    return f"{key}={_plain(value[0] if same else value)}"


def _clipped(words: list[str], most: int) -> list[str]:
    return words if len(words) <= most else [*words[:most - 1], "…", words[-1]]


def _dtypes(line: Line) -> list[str]:
    return [str(line.dtype)] if line.dtype is not None else [str(dtype) for _, dtype in line.shape]


# -- the tape ----------------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """A buffer that a line keeps: under which names, its bytes, and the number of the line that holds it already."""

    names: list[str]
    nbytes: int
    already: int | None


class Tape:
    """The lines that lead to some tensors, in the order in which they were recorded. Made by `tape`.

    Lines have numbers (``t[3]``, printed as %3) and perhaps a name (``t["xhat"]``: the last line of that name; `all`
    gives every one). A `Tape` holds its lines, and so what they keep: drop it when you have looked.
    """

    def __init__(self, ys: Sequence[Tensor]) -> None:
        self.ys = tuple(ys)
        self.lines = reachable(y._line for y in ys if y._line is not None)
        self._numbers = {line: k for k, line in enumerate(self.lines)}

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    @overload
    def __getitem__(self, key: int | str) -> Line: ...
    @overload
    def __getitem__(self, key: slice) -> list[Line]: ...
    def __getitem__(self, key: int | str | slice) -> Line | list[Line]:
        return self.all(key)[-1] if isinstance(key, str) else self.lines[key]

    def all(self, name: str) -> list[Line]:
        """Every line of this name."""
        return _called(name, self.lines, "tape")

    def holdings(self) -> dict[Line, list[Held]]:
        """What every line keeps. A buffer is charged to the first line that holds it, a variable's own to nobody."""
        # id of an owner -> number of its line, and the owner itself: while it lives, no other array has its id
        holders: dict[int, tuple[int, Array]] = {}
        for number, line in enumerate(self.lines):
            variable = line.saved() if line.is_leaf else None
            if variable is not None:
                owner = backend.owner(variable._data)
                holders[id(owner)] = number, owner
        found: dict[Line, list[Held]] = {}
        for number, line in enumerate(self.lines):
            mine: dict[int, Held] = {}
            for name, array in _in_input_order(line):
                owner = backend.owner(array)
                first, _ = holders.setdefault(id(owner), (number, owner))
                held = mine.setdefault(id(owner), Held([], owner.nbytes, None if first == number else first))
                held.names.append(name)
            found[line] = list(mine.values())
        return found

    @property
    def kept_bytes(self) -> int:
        """Bytes that stay allocated because of this tape: distinct buffers that live lines hold, except variables' own.

        A view counts as the whole buffer that it keeps alive. A variable that nobody else holds any more counts too.
        """
        return _charged(self.holdings())[0]

    # -- as text -------------------------------------------------------------------------------------------------------

    def table(self, full: bool = False) -> str:
        """The tape as text: what ran on what, with which result, and what each line keeps for its backward.

        A long tape is shortened in the middle, unless `full`.
        """
        holdings = self.holdings()
        total, buffers = _charged(holdings)
        dtypes = {d for line in self.lines for d in _dtypes(line)}
        rows = [(f"%{k}", line.name or "", self._call(line), shape_text(line),
                 ", ".join(_dtypes(line)) if len(dtypes) > 1 else "",
                 "freed" if line.freed else _held_text(holdings[line]))
                for k, line in ((k, self.lines[k]) for k in _shown(len(self), full))]
        freed = sum(line.freed for line in self.lines)
        title = (f"tape of {_count(len(self), 'line')}{f', all {dtypes.pop()}' if len(dtypes) == 1 else ''}"
                 f"{f', {freed} freed' if freed else ''}, keeps {_bytes(total)}"
                 f"{f' ({total:,} bytes)' if total > 999 else ''}")
        foot = ("", "", "total", "", "", f"{_bytes(total)} in {_count(buffers, 'buffer')}")
        notes = ["(%n): held by line n already"] if any("(%" in row[-1] for row in rows) else []
        return "\n".join([title, *_table(("", "name", "op", "shape", "dtype", "keeps"), rows, len(self), foot), *notes])

    __repr__ = table

    def _call(self, line: Line) -> str:
        """``mean(%3, axis=0)``: the op, the numbers of its inputs, and the keywords that it keeps."""
        if line.is_leaf:
            return "variable"
        if is_output(line):
            return f"%{self._numbers[line.inputs[0]]}[{line.plan.position}]"
        inputs = [constant_text(line, k) if p is None else f"%{self._numbers[p]}" for k, p in enumerate(line.parents)]
        keywords = [_keyword(k, v) for k, v in kept_of_kind(line, "meta").items() if v is not None and v is not False]
        text = f"{op_name(line)}({', '.join([*_clipped(inputs, 6), *keywords])})"
        return text if len(text) <= CALL_WIDTH else f"{text[:CALL_WIDTH - 2]}…)"

    def dot(self) -> str:
        """The tape in Graphviz' DOT language: variables as boxes, ops as ellipses."""
        def quoted(*rows: str) -> str:
            return '"' + r"\n".join(row.replace("\\", r"\\").replace('"', r"\"") for row in rows if row) + '"'

        text = ["digraph tape {", "  rankdir=LR;"]
        for k, line in enumerate(self.lines):
            label = quoted(line.name or f"%{k}", "" if line.is_leaf else op_name(line), shape_text(line))
            text.append(f"  n{k} [shape={'box' if line.is_leaf else 'ellipse'}, label={label}];")
        text += [f"  n{self._numbers[p]} -> n{k};" for k, line in enumerate(self.lines) for p in line.inputs]
        return "\n".join([*text, "}"])

    # -- as a picture --------------------------------------------------------------------------------------------------

    def draw(self, ax: Any = None, *, gradients: Any = None, values: Any = None, fold: bool = True) -> Any:
        """Draw the tape with matplotlib: variables blue, results yellow, arrows from input to user.

        A dot is a constant; indices and masks, to which no gradient could flow, are left out. Reading norms waits for
        a GPU and copies from it.

        Args:
            ax: matplotlib Axes; default: those of a new figure of 8 × 4 inches, or more where the tape needs more.
            gradients: True (those of this tape's outputs), a dictionary such as `adjoints` returns, or several to
                compare, as {"composed": ..., "derived": ...}. Each box shows the gradient there: the number, or an
                array's norm. Keys are lines or names, so that gradients derived by hand can be given as
                {"xhat": array}. Boxes where two differ (by more than √ε of the dtype) get a heavy border and a ≠.
            values: a `record` of the run, or a dictionary by line or name; shown in the same way.
            fold: draw a broadcast as a dashed arrow instead of a box.

        Returns:
            The Axes. Each box has its line's number as ``gid``: "%3".

        Raises:
            ValueError: hundreds of lines.
        """
        if isinstance(values, Record):
            values = {key: e.value for e in values for key in (e.line, e.name) if key is not None}
        return draw_lines(self.lines, self.ys, ax, gradients, values, fold)

    def svg(self, *, width: float = 760, ident: str = "mg-tape", title: str | None = None,
            highlight: Iterable[tuple[Sequence[str], str]] = (), fold: bool = True) -> str:
        """The tape as an SVG for a web page, as text: no library draws it, and it follows the page into dark mode.

        Boxes have the class ``mg-box`` and ``data-line``, the number of their line, arrows ``mg-edge`` with ``data-from`` and
        ``data-to``. A class ``mg-missing``, ``mg-wrong`` or ``mg-right`` lights them up. Colours are custom properties such as
        ``--mg-ink``, which a page may set for ``.mg-tape``.

        Args:
            width: pixels that it should fit in; a narrow one, as of a telephone, takes more rows.
            ident: begins all ids, so that several on one page are kept apart.
            title: what it is the tape of; default: the names of its outputs.
            highlight: routes to show, each as the names along it and a kind: (["x", "var", "xhat"], "missing"), "wrong" or
                "right". The routes of a derivation's `LineReport` are such pairs.
            fold: draw a broadcast as a dashed arrow instead of a box.

        Raises:
            ValueError: hundreds of lines, a width or an `ident` that is none, or a route that is not on this tape.
            UnknownNameError: a route through a name that no line has. (It is a KeyError.)

        >>> import minigrad as mg
        >>> x = mg.named("x", mg.tensor([1.0, 2.0], requires_grad=True))
        >>> picture = mg.tape(mg.named("y", mg.exp(x) * x)).svg(highlight=[(["x", "y"], "right")])
        >>> picture[:86]
        '<svg xmlns="http://www.w3.org/2000/svg" id="mg-tape" class="mg-tape mg-lit" role="img"'
        >>> picture.count('class="mg-box '), picture.count('class="mg-edge mg-right" data-from="0" data-to="2"')
        (3, 1)
        """
        return draw_svg(self, width, ident, title, highlight, fold)


def _charged(holdings: dict[Line, list[Held]]) -> tuple[int, int]:
    """Bytes and number of the distinct buffers."""
    sizes = [held.nbytes for held_by_line in holdings.values() for held in held_by_line if held.already is None]
    return sum(sizes), len(sizes)


def _in_input_order(line: Line) -> list[tuple[str, Array]]:
    kept = line.kept
    names = [*line.plan.primitive.inputs, line.plan.primitive.variadic] if kept else []
    place = {name: k for k, name in enumerate(names)}
    return sorted(kept.items(), key=lambda item: place.get(item[0].partition("[")[0], len(place)))


def _held_text(held: Sequence[Held]) -> str:
    """``x 1.0 MB, w (%1)``; the members of a tuple are added up under its name."""
    own: dict[str, int] = {}
    others: dict[str, list[str]] = {}
    for names, nbytes, already in held:
        label = "=".join(dict.fromkeys(name.partition("[")[0] for name in names))
        own[label] = own.get(label, 0) + (nbytes if already is None else 0)
        others.setdefault(label, []).extend([] if already is None else [f"(%{already})"])
    return ", ".join(" ".join([label, *([_bytes(n)] if n or not others[label] else []), *_clipped(others[label], 3)])
                     for label, n in own.items())


def tape(*ys: Any) -> Tape:
    """The tape that leads to these tensors (or tuples of them): printable, indexable by number and name, drawable.

    Raises:
        TapeError: a tensor that does not require grad.

    >>> import minigrad as mg
    >>> x = mg.named("x", mg.tensor([1.0, 2.0], requires_grad=True))
    >>> t = mg.tape(mg.exp(mg.named("z", x * 3.0)) * x)
    >>> t
    tape of 4 lines, all float32, keeps 8 B
        name  op                shape  keeps
    %0  x     variable          (2,)
    %1  z     multiply(%0, 3)   (2,)
    %2        exp(%1)           (2,)   out 8 B
    %3        multiply(%2, %0)  (2,)   a (%2), b (%0)
              total                    8 B in 1 buffer
    (%n): held by line n already
    >>> t["z"].op, t["z"].inputs == (t[0],), t["z"].shape, t.kept_bytes
    ('multiply', True, (2,), 8)
    """
    found = [t for y in ys for t in (y if isinstance(y, (tuple, list)) else (y,))]
    for y in found:
        if not isinstance(y, Tensor):
            raise error(TypeError, "tape", got=describe(y), needs="Tensors", fix="pass results of ops on Tensors")
        if y._line is None:
            raise error(TapeError, "tape", got="a tensor that does not require grad: nothing was recorded for it",
                        needs="results of taped ops",
                        fix="create the inputs with requires_grad=True, and compute outside no_grad()")
    return Tape(found)
