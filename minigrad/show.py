"""Look at the tape: print it, count what it keeps, draw it, and record the values that ran over it.

    t = mg.tape(loss)            the lines that lead to `loss`:  print(t), t["xhat"], t.kept_bytes, t.draw(), t.dot()
    with mg.record() as r: ...   the value of every op inside:   r["xhat"].value
    mg.adjoints(loss)            the gradient at every line, for t.draw(gradients=...)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, overload

from . import backend
from .backend import NAMESPACES, Array
from .draw import BLUE, GREY, INK, VERMILLION, Node, paint
from .engine import grad, reachable
from .errors import TapeError, describe, error
from .primitive import is_output, watchers
from .tensor import Line, Tensor

HEAD, TAIL, LONGEST = 24, 16, 60  # print(tape) shows all of LONGEST lines, of more only the first and last
CALL_WIDTH = 56


class UnknownNameError(KeyError):
    """No line or recorded value has this name."""

    def __str__(self) -> str:  # KeyError's own would print the text as a quoted string
        return str(self.args[0])


def _called(name: str, entries: Sequence[Any], what: str) -> list[Any]:
    found = [e for e in entries if e.name == name]
    if not found:
        names = list(dict.fromkeys(e.name for e in entries if e.name is not None))
        close = get_close_matches(name, names, 1)
        raise error(UnknownNameError, what, got=f"the name {name!r}", needs=f"one of {', '.join(map(repr, names))}" if names else "names, but nothing in it is named",
                    fix=f"did you mean {close[0]!r}?" if close else "give the value a name where it is computed: xhat = minigrad.named('xhat', ...)")
    return found


# -- the text of one line ---------------------------------------------------------------------------------------------------

def _bytes(n: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} B"


def _plain(value: Any) -> str:
    """A keyword's value without looking into arrays, which may live on a device."""
    if isinstance(value, Tensor) or type(value) in NAMESPACES:
        return "·"
    if isinstance(value, slice):
        return ":".join("" if v is None else str(v) for v in ((value.start, value.stop) if value.step is None else (value.start, value.stop, value.step)))
    if value is Ellipsis:
        return "..."
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_plain, value))}{',' if len(value) == 1 else ''})"
    return f"{value:g}" if isinstance(value, float) else str(value)


_SAME_FOR_ALL_AXES = {"axis", "stride", "padding", "dilation", "kernel"}  # keywords whose (n,) or (n, n) is written n


def _of_kind(line: Line, kind: str) -> dict[Any, Any]:
    """What a live line keeps as rule parameters of one kind, by input position ("array") or keyword ("meta")."""
    if line.is_leaf or line.freed:
        return {}
    return {key: value for (_, k, key), value in zip(line.plan.slots, line.saved, strict=True) if k == kind}


def _number(line: Line, position: int) -> str:
    """The Python number at an input position, if the line keeps it; else a dot."""
    value = _of_kind(line, "array").get(position)
    return f"{value:g}" if type(value) in (float, int) else "·"


def _shape(line: Line) -> str:
    return str(tuple(line.shape)) if line.dtype is not None else " and ".join(str(tuple(shape)) for shape, _ in line.shape)


def _dtypes(line: Line) -> list[str]:
    return [str(line.dtype)] if line.dtype is not None else [str(dtype) for _, dtype in line.shape]


class Held(NamedTuple):
    """One buffer that a line keeps: under which parameter names, its bytes, and the number of the line that holds it already."""

    names: list[str]
    nbytes: int
    already: int | None


def _in_input_order(line: Line) -> list[tuple[str, Array]]:
    kept = line.kept
    names = [*line.plan.primitive.inputs, line.plan.primitive.variadic] if kept else []
    return sorted(kept.items(), key=lambda item: names.index(n) if (n := item[0].partition("[")[0]) in names else len(names))


def _held_text(held: Sequence[Held]) -> str:
    """``x 1.0 MB, w (%1)``; the members of a tuple are summed up under its name."""
    own: dict[str, int] = {}
    others: dict[str, list[str]] = {}
    for names, nbytes, already in held:
        label = "=".join(dict.fromkeys(n.partition("[")[0] for n in names))
        own.setdefault(label, 0)
        if already is None:
            own[label] += nbytes
        else:
            others.setdefault(label, []).append(f"(%{already})")
    return ", ".join(" ".join([label, *([_bytes(n)] if n or label not in others else []), *_clipped(others.get(label, []), 3)]) for label, n in own.items())


def _clipped(words: list[str], most: int) -> list[str]:
    return words if len(words) <= most else [*words[:most - 1], "…", words[-1]]


def _table(rows: Sequence[Sequence[str]], head: Sequence[str], foot: Sequence[str], gap_after: int | None, gap: str) -> list[str]:
    """Rows in aligned columns, without the columns that are empty, and a line `gap` after row number `gap_after`."""
    used = [k for k in range(len(head)) if any(r[k] for r in rows)]
    every = [head, *rows, foot] if foot else [head, *rows]
    widths = [max(len(r[k]) for r in every) for k in used]
    lines = ["  ".join(r[k].rjust(w) if not i else r[k].ljust(w) for i, (k, w) in enumerate(zip(used, widths, strict=True))).rstrip() for r in every]
    if gap_after is not None:
        lines.insert(1 + gap_after, gap)
    return lines


def _head_and_tail(count: int, full: bool) -> tuple[list[int], int | None, str]:
    """Which rows of a table to show, after how many of them to leave a gap, and what to say there."""
    if full or count <= LONGEST:
        return list(range(count)), None, ""
    return [*range(HEAD), *range(count - TAIL, count)], HEAD, f"  … {count - HEAD - TAIL:,} more lines …"


# -- the tape ---------------------------------------------------------------------------------------------------------------

class Tape:
    """The lines that lead to some tensors, in the order in which they were recorded. Made by `tape`.

    Lines have numbers (``t[3]``, printed as %3) and perhaps a name (``t["xhat"]``: the last line of that name; `all` gives
    every one). A `Tape` holds its lines and thereby what they keep: let go of it when you have looked.
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
        """What every line keeps. A buffer is charged to the first line that holds it, and a variable's own buffer to nobody."""
        holders: dict[int, tuple[int, Array]] = {}  # id of an owner -> (number of its line, the owner: alive, so that no other gets its id)
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
                mine.setdefault(id(owner), Held([], owner.nbytes, None if first == number else first)).names.append(name)
            found[line] = list(mine.values())
        return found

    @property
    def kept_bytes(self) -> int:
        """Bytes that stay allocated because of this tape: distinct buffers held by its live lines, variables' own apart.

        A view counts as the whole buffer that it keeps alive, once.
        """
        return sum(held.nbytes for holdings in self.holdings().values() for held in holdings if held.already is None)

    # -- as text -----------------------------------------------------------------------------------------------------------

    def _call(self, line: Line) -> str:
        """``mean(%3, axis=(0,))``: the op with its inputs' numbers, constants as the number that is kept or a dot."""
        if line.is_leaf:
            return "variable"
        if is_output(line):
            return f"%{self._numbers[line.inputs[0]]}[{line.plan.position}]"  # type: ignore[attr-defined]
        inputs = [_number(line, k) if p is None else f"%{self._numbers[p]}" for k, p in enumerate(line.parents)]
        keywords = [f"{k}={_plain(v[0] if k in _SAME_FOR_ALL_AXES and isinstance(v, tuple) and len({*v}) == 1 else v)}" for k, v in _of_kind(line, "meta").items() if v is not None and v is not False]
        text = f"{_op(line)}({', '.join([*_clipped(inputs, 6), *keywords])})"
        return text if len(text) <= CALL_WIDTH else f"{text[:CALL_WIDTH - 2]}…)"

    def table(self, full: bool = False) -> str:
        """The tape as text; a long one is shortened in the middle unless `full`."""
        holdings, total = self.holdings(), self.kept_bytes
        dtypes = {d for line in self.lines for d in _dtypes(line)}
        shown, gap_after, gap = _head_and_tail(len(self), full)
        rows = [(f"%{k}", line.name or "", self._call(line), _shape(line), ", ".join(_dtypes(line)) if len(dtypes) > 1 else "",
                 "freed" if line.freed else _held_text(holdings[line])) for k, line in ((k, self.lines[k]) for k in shown)]
        buffers = sum(held.already is None for holding in holdings.values() for held in holding)
        freed = sum(line.freed for line in self.lines)
        kind = f", all {dtypes.pop()}" if len(dtypes) == 1 else ""
        exact = f" ({total:,} bytes)" if total >= 1000 else ""
        title = f"tape of {_count(len(self), 'line')}{kind}{f', {freed} freed' if freed else ''}, keeps {_bytes(total)}{exact}"
        foot = ("", "", "total", "", "", f"{_bytes(total)} in {_count(buffers, 'buffer')}")
        notes = ["(%n): the buffer is held by line n already"] if any("(%" in r[-1] for r in rows) else []
        return "\n".join([title, *_table(rows, ("", "name", "op", "shape", "dtype", "keeps"), foot, gap_after, gap), *notes])

    def __repr__(self) -> str:
        return self.table()

    def dot(self) -> str:
        """The tape in Graphviz' DOT language: variables as boxes, ops as ellipses."""
        def quoted(*rows: str) -> str:
            return '"' + "\\n".join(r.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for r in rows if r) + '"'

        text = ["digraph tape {", "  rankdir=LR;"]
        for k, line in enumerate(self.lines):
            label = quoted(line.name or f"%{k}", "" if line.is_leaf else _op(line), _shape(line))
            text.append(f"  n{k} [shape={'box' if line.is_leaf else 'ellipse'}, label={label}];")
        text += [f"  n{self._numbers[p]} -> n{k};" for k, line in enumerate(self.lines) for p in line.inputs]
        return "\n".join([*text, "}"])

    # -- as a picture ------------------------------------------------------------------------------------------------------

    def draw(self, ax: Any = None, *, gradients: Any = None, values: Any = None, fold: bool = True) -> Any:
        """Draw the tape with matplotlib: variables blue, results yellow, arrows from input to user, and a dot for
        each constant (indices and masks, to which no gradient could flow, are left out).

        Reading norms waits for a GPU and copies from it.

        Args:
            ax: matplotlib Axes; default: a new figure of at least 8 × 4 inches.
            gradients: True (those of this tape's outputs), a dictionary as `adjoints` returns it, or several of them to compare,
                as {"composed": ..., "derived": ...}. Each box shows the gradient there: the number, or the norm of an array.
                Keys are lines or names, so that gradients derived by hand can be given as {"xhat": array}. Boxes where
                two of them differ (by more than √ε of the dtype) get a heavy border and a ≠.
            values: a `record` of the run, or a dictionary by line or name: shows values in the same way.
            fold: draw a broadcast as a dashed arrow rather than as a box.

        Returns:
            The Axes.
        """
        compared = _labelled(gradients, self.ys)
        known = {k: e.value for e in values for k in (e.line, e.name) if k is not None} if isinstance(values, Record) else values
        roots = {y._line for y in self.ys}
        nodes: list[Node] = []
        sources: dict[Line, tuple[Node, bool]] = {}
        for number, line in enumerate(self.lines):
            if fold and line.op == "broadcast_to" and line.name is None and line not in roots:
                sources[line] = sources[line.inputs[0]][0], True
                continue
            inputs: list[tuple[Node, bool]] = []
            for position, parent in enumerate(line.parents):
                if parent is None and not _has_rule(line, position):
                    continue
                if parent is None:
                    constant = _number(line, position)
                    nodes.append(Node(f"%{number}.{position}", "constant", [(constant, GREY, 7.5, "normal")] if constant != "·" else []))
                inputs.append((nodes[-1], False) if parent is None else sources[parent])
            if line.is_leaf:
                rows = [(line.name or f"%{number}", INK, 10.0, "bold")]
            else:
                symbol = _symbol(line)
                rows = [(symbol, INK, 11.0 if len(symbol) < 3 else 9.5, "normal")] + ([(line.name, INK, 9.0, "bold")] if line.name else [])
            if line.shape:
                rows.append((_shape(line).replace(" ", "") if line.dtype is not None else f"{len(line.shape)} outputs", GREY, 7.5, "normal"))
            value = None if known is None else _found(known, line)
            if known is not None and value is None and line.is_leaf and line.saved() is not None:
                value = line.saved()._data
            if value is not None:
                rows.append((_size("=", "‖·‖ =", value), INK, 8.0, "normal"))
            found = [(g, colour) for (_, table), colour in zip(compared, COLOURS, strict=False) if (g := _found(table, line)) is not None]
            alarm = any(_differ(found[0][0], g) for g, _ in found[1:])
            rows += [(("≠ " if alarm and k else "") + _size("∂", "‖∂‖", g), colour, 8.0, "normal") for k, (g, colour) in enumerate(found)]
            node = Node(f"%{number}", "variable" if line.is_leaf else "output" if line in roots else "op", rows, inputs)
            node.alarm = alarm
            nodes.append(node)
            sources[line] = node, False
        legend = [(f"∂ {label or 'gradient'}", colour) for (label, _), colour in zip(compared, COLOURS, strict=False)]
        legend += [("‖ ‖ norm", GREY)] if any("‖" in text for n in nodes for text, *_ in n.rows) else []
        legend += [("≠ they differ", VERMILLION)] if any(n.alarm for n in nodes) else []
        legend += [("- - broadcast", GREY)] if any(dashed for n in nodes for _, dashed in n.inputs) else []
        return paint(nodes, legend, ax)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def tape(*ys: Tensor) -> Tape:
    """The tape that leads to these tensors: printable, indexable by number and name, drawable.

    Raises:
        TapeError: a tensor that does not require grad.

    >>> import minigrad as mg
    >>> x, w = mg.named("x", mg.tensor([1.0, 2.0], requires_grad=True)), mg.named("w", mg.tensor([3.0, 4.0], requires_grad=True))
    >>> t = mg.tape(mg.exp(mg.named("z", x * w)) + 1.0)
    >>> t
    tape of 5 lines, all float32, keeps 8 B
        name  op                shape  keeps
    %0  x     variable          (2,)
    %1  w     variable          (2,)
    %2  z     multiply(%0, %1)  (2,)   b (%1), a (%0)
    %3        exp(%2)           (2,)   out 8 B
    %4        add(%3, ·)        (2,)
              total                    8 B in 1 buffer
    (%n): the buffer is held by line n already
    >>> t["z"].inputs == (t[0], t[1])
    True
    """
    found = [t for y in ys for t in (y if isinstance(y, (tuple, list)) else (y,))]
    for y in found:
        if not isinstance(y, Tensor):
            raise error(TypeError, "tape", got=describe(y), needs="Tensors", fix="pass results of ops on Tensors")
        if y._line is None:
            raise error(TapeError, "tape", got="a tensor that does not require grad, so that nothing was recorded", needs="a result of taped ops",
                        fix="create the inputs with requires_grad=True, and compute outside no_grad()")
    return Tape(found)


# -- gradients and symbols for drawings -------------------------------------------------------------------------------------

COLOURS = (BLUE, "#00735c", "#8a4f7d")  # of the gradients compared
SYMBOLS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "negative": "−a", "sum": "Σ", "sqrt": "√", "square": "a²", "abs": "|a|", "matmul": "@",
           "transpose": "aᵀ", "log": "ln", "sigmoid": "σ", "leaky_relu": "leaky relu", "log_softmax": "log softmax", "getitem": "a[i]", "identity": "="}


def _op(line: Line) -> str:
    """The op's name as the user knows it: some public functions check their arguments and call a primitive with an underscore."""
    return line.op.lstrip("_")


def _has_rule(line: Line, position: int) -> bool:
    """Could a gradient flow to this input, were it not a constant? (Not to indices and masks.)"""
    p = line.plan.primitive
    return p.joint is not None or (p.inputs[position] if position < len(p.inputs) else p.variadic) in p.rules


def _symbol(line: Line) -> str:
    op = _op(line)
    if op == "power_number":
        exponent = _of_kind(line, "meta").get("exponent", "n")  # a freed line no longer knows it
        return f"a{'⁰¹²³⁴⁵⁶⁷⁸⁹'[exponent]}" if exponent in range(10) else f"a^{exponent}"
    return f"[{line.plan.position}]" if is_output(line) else SYMBOLS.get(op, op)  # type: ignore[attr-defined]


def adjoints(y: Tensor | Sequence[Tensor], gradient: Any = None) -> dict[Line | str, Tensor]:
    """The gradient of `y` at every line of its tape (which stays usable), by line and, for named lines, by name.

    Args:
        gradient: cotangent of `y`, as for `grad`; may be left out for a scalar.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = (mg.named("square", x * x) * 3.0).sum()
    >>> mg.adjoints(y)["square"]
    tensor([3., 3.], dtype=float32)
    """
    ys = [y] if isinstance(y, Tensor) else list(y)
    lines = [line for line in tape(*ys) if line.dtype is not None]  # an op with several outputs has its gradients at their lines
    handles = [Tensor(ys[0]._data, line) for line in lines]  # `grad` asks a tensor for nothing but its line
    found = grad(ys, handles, gradient if gradient is None or not isinstance(gradient, Tensor) else [gradient], retain_graph=True, allow_unused=True)
    known: dict[Line | str, Tensor] = {}
    for line, g in zip(lines, found, strict=True):
        if g is not None:
            known[line] = g
            if line.name is not None:
                known[line.name] = g
    return known


def _labelled(gradients: Any, ys: Sequence[Tensor]) -> list[tuple[str, Mapping[Any, Any]]]:
    if gradients is None or gradients is False:
        return []
    if gradients is True:
        return [("", adjoints(ys))]
    if isinstance(gradients, Mapping):
        several = gradients and all(isinstance(g, Mapping) for g in gradients.values())
        return list(gradients.items()) if several else [("", gradients)]
    if not isinstance(gradients, (list, tuple)) or not all(isinstance(g, Mapping) for g in gradients):
        raise error(TypeError, "draw", got=f"gradients={describe(gradients)}", needs="True, a dictionary by line or name, or several of them", fix="gradients=minigrad.adjoints(y)")
    return [(f"({'abcdefgh'[k]})", g) for k, g in enumerate(gradients)]


def _found(table: Mapping[Any, Any], line: Line) -> Array | None:
    value = table.get(line, table.get(line.name) if line.name is not None else None)
    return value._data if isinstance(value, Tensor) else value


def _norm(array: Array) -> float:
    return math.sqrt(float((array * array).sum()))


def _size(word_for_one: str, word_for_many: str, array: Array) -> str:
    """``∂ −0.25`` for one element, ``‖∂‖ 3.1`` for several."""
    exact = backend.to_numpy(array).astype("float64")
    number = f"{exact.item() if exact.size == 1 else _norm(exact):.3g}".replace("-", "−")
    return f"{word_for_one if exact.size == 1 else word_for_many} {number}"


def _differ(a: Array, b: Array) -> bool:
    """Are these two gradients of one line further apart than √ε of their dtype explains?"""
    eps = max(float(backend.np.finfo(x.dtype).eps) for x in (a, b))
    x, y = (backend.to_numpy(v).astype("float64") for v in (a, b))
    return x.shape != y.shape or not _norm(x - y) <= math.sqrt(eps) * max(_norm(x), _norm(y))


# -- values -----------------------------------------------------------------------------------------------------------------

class Entry:
    """One recorded value: ``name`` (or None), ``op``, and ``value``, a Tensor."""

    __slots__ = ("name", "op", "value")

    def __init__(self, op: str, value: Tensor, name: str | None = None) -> None:
        self.op, self.value, self.name = op, value, name

    @property
    def line(self) -> Line | None:
        """The value's tape line (None for a constant)."""
        return self.value._line

    def __repr__(self) -> str:
        return f"<{self.op}{f' {self.name!r}' if self.name else ''} {self.value.shape} {self.value.dtype}>"


class Record:
    """The results of all ops on Tensors inside a ``with record() as r:`` block, in order, taped or not.

    ``r[3]`` is the fourth entry, ``r["xhat"]`` the last one of that name (`all` gives every one). An entry has ``name``,
    ``op``, ``value`` and ``line``. The values live as long as the record.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._of: dict[int, Entry] = {}  # by id of the Tensor, which its entry keeps alive

    def __enter__(self) -> Record:
        watchers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        watchers.remove(self)

    def __call__(self, primitive: Any, given: Sequence[Any], result: Any) -> None:
        """An op has run (see `primitive.watchers`)."""
        op = primitive.name.lstrip("_")
        for k, value in enumerate(result if isinstance(result, tuple) else (result,)):
            self._add(Entry(f"{op}[{k}]" if isinstance(result, tuple) else op, value))

    def on_name(self, name: str, value: Tensor) -> None:
        """A value was named: an op's result, or something made elsewhere, which then gets an entry."""
        entry = self._of.get(id(value))
        if entry is not None and entry.name in (None, name):
            entry.name = name
        else:
            self._add(Entry("identity" if entry else "variable" if value.requires_grad and value.is_leaf else "constant", value, name))

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._of[id(entry.value)] = entry

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @overload
    def __getitem__(self, key: int | str) -> Entry: ...
    @overload
    def __getitem__(self, key: slice) -> list[Entry]: ...
    def __getitem__(self, key: int | str | slice) -> Entry | list[Entry]:
        return self.all(key)[-1] if isinstance(key, str) else self.entries[key]

    def all(self, name: str) -> list[Entry]:
        """Every entry of this name."""
        return _called(name, self.entries, "record")

    def table(self, full: bool = False) -> str:
        """Names, ops, shapes and dtypes as text (no values: they may be on a device); a long one is shortened unless `full`."""
        shown, gap_after, gap = _head_and_tail(len(self), full)
        rows = [(str(k), e.name or "", e.op, str(e.value.shape), str(e.value.dtype)) for k, e in ((k, self.entries[k]) for k in shown)]
        return "\n".join([f"record of {_count(len(self), 'value')}", *_table(rows, ("", "name", "op", "shape", "dtype"), (), gap_after, gap)])

    def __repr__(self) -> str:
        return self.table()


def record() -> Record:
    """Keep the value of every op inside the block, so that intermediate results can be looked at by name.

    >>> import minigrad as mg
    >>> def f(x):
    ...     centred = mg.named("centred", x - x.mean())
    ...     return (centred * centred).sum()
    >>> with mg.record() as r:
    ...     y = f(mg.tensor([1.0, 2.0, 6.0]))
    >>> r["centred"].value
    tensor([-2., -1.,  3.], dtype=float32)
    >>> [entry.op for entry in r]
    ['mean', 'subtract', 'multiply', 'sum']
    """
    return Record()
