"""The tape as an SVG: text that every browser draws, made without a drawing library.

The picture is for web pages. It takes part in light and dark mode, its colours are custom properties that a page may set, several
of them fit on one page, and every box and arrow can be found by its line's number. What is told by a colour is told by a form, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ..core.errors import error
from ..core.tensor import Line
from .layout import Layout, Node, best_layout
from .ways import way
from .widths import shortened, text_width
from .words import op_name, shape_text, short_shape, symbol, vertices

if TYPE_CHECKING:
    from .print import Tape

UNIT = 96  # pixels of an inch, in which the layout reckons
MARGIN, PAD, LEADING = 14.0, 8.0, 1.28
NAME, SYMBOL, WORD, SMALL, SHAPE, NUMBER = 14.0, 16.0, 13.0, 12.5, 11.0, 11.0  # sizes of text
GAP = 5  # between two pieces of text in a row
DOT, HEAD = 4.0, 8.0  # radius of a constant, length of an arrow's head
PORT = 12.0  # of a box's height, for each arrow that arrives at it
LONGEST_NAME, MOST_BOXES = 28, 400
FEW_ROWS, NARROW = 3, 520.0  # a tape that needs more rows runs from top to bottom, in less width whatever does not fit into one row
PULL = {"variable": 0.3, "constant": 0.02}  # so that the main path runs straight
# Of the kinds of routes that can be lighted up.
SIGNS = {"missing": "M-3 0H3", "wrong": "M-2.6 -2.6L2.6 2.6M2.6 -2.6L-2.6 2.6", "right": "M-3 0.3L-0.9 2.5L3.1 -2.3"}

LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "soft": "#57606a", "edge": "#7d8590", "op-fill": "#f4f5f7", "op-line": "#a0a8b2",
         "variable-fill": "#e2f0fa", "variable-line": "#0072b2", "named-fill": "#ffffff", "named-line": "#424a53",
         "output-fill": "#fdf2d3", "output-line": "#a87400", "missing": "#d55e00", "wrong": "#d55e00", "right": "#00805c"}
DARK = {"paper": "#15181d", "ink": "#e8ebef", "soft": "#a9b2bc", "edge": "#8b95a1", "op-fill": "#22272e", "op-line": "#626c77",
        "variable-fill": "#0f2c3f", "variable-line": "#56b4e9", "named-fill": "#1c2128", "named-line": "#c5cdd6",
        "output-fill": "#36290a", "output-line": "#e6b032", "missing": "#ff8c4a", "wrong": "#ff8c4a", "right": "#35c79b"}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

# The same in every SVG, so that several on one page do not disturb each other; :where weighs nothing, so that a page may set any of it.
STYLE = """
.mg-tape { max-width: 100%; height: auto; font-family: var(--mg-font); }
.mg-tape text { fill: var(--mg-ink); text-anchor: middle; }
.mg-paper { fill: var(--mg-paper); }
.mg-edge { fill: none; stroke: var(--mg-edge); stroke-width: 1.5; }
.mg-broadcast { stroke-dasharray: 4 3; }
.mg-box rect { stroke-width: 1.2; fill: var(--mg-op-fill); stroke: var(--mg-op-line); }
.mg-variable rect { stroke-width: 2.2; fill: var(--mg-variable-fill); stroke: var(--mg-variable-line); }
.mg-named rect { stroke-width: 1.6; fill: var(--mg-named-fill); stroke: var(--mg-named-line); }
.mg-output rect { stroke-width: 1.6; fill: var(--mg-output-fill); stroke: var(--mg-output-line); }
.mg-box .mg-inner { stroke-width: 1; fill: none; }
.mg-tape .mg-name { font-weight: 700; }
.mg-tape .mg-words { text-anchor: start; }
.mg-tape .mg-soft { fill: var(--mg-soft); }
.mg-constant circle { fill: var(--mg-edge); }
.mg-head { fill: var(--mg-edge); }
.mg-lit .mg-edge, .mg-lit .mg-constant { opacity: 0.45; }
.mg-lit .mg-edge:is(.mg-missing, .mg-wrong, .mg-right) { opacity: 1; }
.mg-edge.mg-missing { stroke: var(--mg-missing); stroke-width: 3.4; stroke-dasharray: 8 5; }
.mg-edge.mg-wrong { stroke: var(--mg-wrong); stroke-width: 3.4; stroke-dasharray: none; }
.mg-edge.mg-right { stroke: var(--mg-right); stroke-width: 2.4; stroke-dasharray: none; }
.mg-box.mg-missing rect:not(.mg-inner) { stroke: var(--mg-missing); stroke-width: 2.6; stroke-dasharray: 6 3; }
.mg-box.mg-wrong rect:not(.mg-inner) { stroke: var(--mg-wrong); stroke-width: 2.6; }
.mg-box.mg-right rect:not(.mg-inner) { stroke: var(--mg-right); stroke-width: 2.2; }
.mg-sign { stroke: var(--mg-paper); stroke-width: 1.8; stroke-linecap: round; fill: none; }
.mg-box > use { display: none; }
.mg-marked.mg-missing > .mg-if-missing, .mg-marked.mg-wrong > .mg-if-wrong, .mg-marked.mg-right > .mg-if-right { display: inline; }
.mg-sign-missing circle, .mg-head-missing { fill: var(--mg-missing); }
.mg-sign-wrong circle, .mg-head-wrong { fill: var(--mg-wrong); }
.mg-sign-right circle, .mg-head-right { fill: var(--mg-right); }
"""


class SvgRow(NamedTuple):
    """A row of text in a box, in one or two pieces: (text, size, class)."""

    pieces: tuple[tuple[str, float, str], ...]

    @property
    def size(self) -> float:
        """The largest size of its pieces."""
        return max(size for _, size, _ in self.pieces)

    @property
    def width(self) -> float:
        """An upper estimate of its width."""
        return sum(text_width(text, size, style == "mg-name") for text, size, style in self.pieces) + GAP * (len(self.pieces) - 1)


class SvgBox(Node):
    """A line, or a constant that it uses, with its text and its size."""

    def __init__(self, key: str, line: Line, kind: str, rows: Sequence[SvgRow], inputs: Sequence[tuple[Node, bool]] = ()) -> None:
        super().__init__(inputs, PULL.get(kind, 1.0))
        self.key, self.line, self.kind, self.rows = key, line, kind, list(rows)
        text = max((row.width for row in rows), default=0.0)
        self.size = max(text + 2 * (PAD if kind != "op" or len(rows) > 1 else PAD + 2), self.text_height + 9.0), self.text_height + 9.0
        if kind == "op" and len(rows) == 1 and text <= self.size[1] - 8:
            self.size = self.size[1], self.size[1]  # a circle
        self.turned, self.text = False, text

    def turn(self, down: bool) -> None:
        """Set the lengths for the layout, which thinks that all arrows run to the right; with `down`, x is y for it."""
        wide, high = self.size
        ports = PORT * len(self.inputs) if len(self.inputs) > 2 else 0.0
        self.turned = down
        if self.kind == "constant":  # a dot, with its number below it, or above it where the arrow leaves downwards
            wide, high, reach = max(2 * DOT, self.text), 2 * DOT + 2 * self.text_height, DOT
        else:
            wide, high = (max(wide, ports), high) if down else (wide, max(high, ports))
            reach = (high if down else wide) / 2
        self.width, self.height = (high / UNIT, wide / UNIT) if down else (wide / UNIT, high / UNIT)
        self.reach = reach / UNIT

    def turn_back(self) -> None:
        """Once all routes are known: x is x."""
        if self.turned:
            self.x, self.y, self.width, self.height = self.y, self.x, self.height, self.width

    @property
    def text_height(self) -> float:
        """Height of all rows of text."""
        return sum(row.size * LEADING for row in self.rows)


# -- from lines to boxes -----------------------------------------------------------------------------------------------


def _kind(line: Line, roots: set[Line | None]) -> str:
    return "variable" if line.is_leaf else "output" if line in roots else "named" if line.name else "op"


def _rows(line: Line, key: str, kind: str) -> list[SvgRow]:
    """The name above the op and the shape; without a name the op, and the shape where it is another than that of every input."""
    shape = short_shape(line)
    if kind == "variable":
        return [SvgRow(((shortened(line.name or f"%{key}", LONGEST_NAME), NAME, "mg-name"),)), *([SvgRow(((shape, SHAPE, "mg-soft"),))] if shape else [])]
    what = symbol(line)
    if line.name:
        below = [(what, SMALL, "mg-symbol"), *([(shape, SHAPE, "mg-soft")] if shape else [])]
        return [SvgRow(((shortened(line.name, LONGEST_NAME), NAME, "mg-name"),)), SvgRow(tuple(below))]
    rows = [SvgRow(((what, SYMBOL if len(what) < 3 else WORD, "mg-symbol"),))]
    told = kind == "op" and any(parent.shape == line.shape for parent in line.inputs)
    return [*rows, SvgRow(((shape, SHAPE, "mg-soft"),))] if shape and not told else rows


def _boxes(tape: Tape, roots: set[Line | None], fold: bool) -> dict[str, SvgBox]:
    boxes: dict[str, SvgBox] = {}
    for key, line, arrows, constant in vertices(tape.lines, roots, fold):
        if constant is not None:
            rows = [SvgRow(((constant, NUMBER, "mg-soft"),))] if constant != "·" else []
            boxes[key] = SvgBox(key, line, "constant", rows)
            continue
        kind = _kind(line, roots)
        boxes[key] = SvgBox(key, line, kind, _rows(line, key, kind), [(boxes[source], dashed) for source, dashed in arrows])
    return boxes


# -- in words ----------------------------------------------------------------------------------------------------------


def _words(tape: Tape, roots: set[Line | None]) -> str:
    """``x, share → mu; x, mu → xc``: the values with a name, and the outputs, each with those that it is computed from."""
    number = {line: f"%{k}" for k, line in enumerate(tape)}
    close: dict[Line, dict[str, None]] = {}  # the names nearest to a line, itself included
    said = []
    for line in tape:
        near = dict.fromkeys(name for parent in line.inputs for name in close[parent])
        close[line] = near
        if line.name or line.is_leaf or line in roots:
            name = shortened(line.name or number[line], 200)
            close[line] = {name: None}
            if not line.is_leaf:
                said.append(f"{', '.join(near)} → {name}")
    return "; ".join(said) or ", ".join(name for line in tape for name in close[line])


def _op(line: Line) -> str:
    return "variable" if line.is_leaf else op_name(line)


def _of_box(box: SvgBox) -> str:
    """The text that a pointer on a box shows: ``xhat: divide, shape (8, 4), line %12``."""
    line = box.line
    return f"{shortened(line.name, 200) + ': ' if line.name else ''}{_op(line)}, shape {shape_text(line)}, line %{box.key}"


# -- on the page -------------------------------------------------------------------------------------------------------


def _n(x: float) -> str:
    return f"{round(x, 1) + 0.0:.1f}".removesuffix(".0")


def _placed(boxes: Sequence[SvgBox], width: float) -> tuple[float, float, dict[tuple[str, int], str]]:
    """Give every box its place: how wide and high the whole is, and the paths of the arrows, by box and position."""
    def in_rows(most: int) -> tuple[Layout, float]:
        return best_layout(boxes, width / UNIT, inf, largest=1.0, rows=most)

    for box in boxes:
        box.turn(False)
    layout, scale = in_rows(FEW_ROWS if width > NARROW else 1)
    down = False
    if scale < 1:
        for box in boxes:
            box.turn(True)
        upright = Layout(boxes, 1)
        if down := width / UNIT / upright.height > scale:
            layout = upright
        else:
            for box in boxes:
                box.turn(False)
            layout, _ = in_rows(FEW_ROWS)
    paths = {(box.key, position): _path(layout, box, position, down) for box in boxes for position in range(len(box.inputs))}
    for box in boxes:
        box.turn_back()
    wide, high = layout.width * UNIT, layout.height * UNIT
    return (high, wide, paths) if down else (wide, high, paths)


def _path(layout: Layout, box: SvgBox, position: int, down: bool) -> str:
    """The arrow to one input, up to where its head begins."""
    points, codes = layout.route(box, position)
    x, y = points[-1]
    points[-1] = x - HEAD / UNIT, y
    if down:
        points = [(y, x) for x, y in points]
    text, k = [], 0
    while k < len(codes):
        count = {1: 1, 2: 1, 3: 2, 4: 3}[codes[k]]
        text.append("MLQC"[codes[k] - 1] + " ".join(f"{_n(x * UNIT)} {_n(y * UNIT)}" for x, y in points[k:k + count]))
        k += count
    return "".join(text)


def _texts(box: SvgBox) -> Iterable[str]:
    x, y = box.x * UNIT, box.y * UNIT - box.text_height / 2
    if box.kind == "constant":
        y += (DOT + box.text_height / 2) * (-1 if box.turned else 1)
    for row in box.rows:
        height = row.size * LEADING
        pieces = [f'<tspan class="{style}" font-size="{_n(size)}" dx="{GAP if k else 0}">{escape(text)}</tspan>'
                  for k, (text, size, style) in enumerate(row.pieces)]
        yield f'<text x="{_n(x)}" y="{_n(y + height / 2 + 0.35 * row.size)}">{"".join(pieces)}</text>'
        y += height


def _rectangle(box: SvgBox, inset: float = 0.0, more: str = "") -> str:
    x, y, width, height = (box.x - box.width / 2) * UNIT + inset, (box.y - box.height / 2) * UNIT + inset, box.width * UNIT, box.height * UNIT
    radius = {"variable": 3.0, "op": min(height, 30.0) / 2}.get(box.kind, 8.0) - inset
    return (f'<rect{more} x="{_n(x)}" y="{_n(y)}" width="{_n(width - 2 * inset)}" height="{_n(height - 2 * inset)}" rx="{_n(radius)}"/>')


def _drawn(box: SvgBox, ident: str, lit: str) -> str:
    """A box, or the dot of a constant."""
    line = box.line
    if box.kind == "constant":
        dot = f'<circle cx="{_n(box.x * UNIT)}" cy="{_n(box.y * UNIT)}" r="{_n(DOT)}"/>'
        return f'<g id="{ident}--{box.key.replace(".", "-")}" class="mg-constant" data-constant="{box.key}">{dot}{"".join(_texts(box))}</g>'
    name = f' data-name="{escape(shortened(line.name, 10_000))}"' if line.name else ""
    inner = _rectangle(box, 3.0, ' class="mg-inner"') if box.kind == "output" else ""
    at = f'x="{_n((box.x + box.width / 2) * UNIT - 3)}" y="{_n((box.y - box.height / 2) * UNIT + 2)}"'
    signs = "".join(f'<use class="mg-if-{kind}" href="#{ident}--{kind}" {at}/>' for kind in SIGNS)
    return (f'<g id="{ident}--{box.key}" class="mg-box mg-{box.kind}{lit}" data-line="{box.key}"{name} data-op="{escape(_op(line))}">'
            f'<title>{escape(_of_box(box))}</title>{_rectangle(box)}{inner}{"".join(_texts(box))}{signs}</g>')


def _definitions(ident: str) -> str:
    """Arrowheads, and the signs of lighted boxes."""
    signs = (f'<g id="{ident}--{kind}" class="mg-sign mg-sign-{kind}"><circle r="7"/><path d="{path}"/></g>' for kind, path in SIGNS.items())
    return f'<defs>{"".join(_marker(ident, kind) for kind in ("", *SIGNS))}{"".join(signs)}</defs>'


def _marker(ident: str, kind: str) -> str:
    more, width = ("", 9) if not kind else (f" mg-head-{kind}", 12)
    return (f'<marker id="{ident}--arrow{"-" + kind if kind else ""}" markerUnits="userSpaceOnUse" markerWidth="{HEAD + 1:g}" markerHeight="{width}" '
            f'refX="0.5" refY="{width / 2:g}" orient="auto"><path class="mg-head{more}" d="M0 0L{HEAD + 0.5:g} {width / 2:g}L0 {width}z"/></marker>')


def _style(ident: str) -> str:
    """The rules: the same for every picture, and those that name this one's arrowheads."""
    def colours(table: dict[str, str]) -> str:
        return " ".join(f"--mg-{name}: {value};" for name, value in table.items())
    heads = [f"#{ident} .mg-edge{{ marker-end: url(#{ident}--arrow); }}",
             *(f"#{ident} .mg-edge.mg-{kind} {{ marker-end: url(#{ident}--arrow-{kind}); }}" for kind in SIGNS)]
    return (f"<style>\n:where(.mg-tape) {{ --mg-font: {FONT}; {colours(LIGHT)} }}\n"
            f"@media (prefers-color-scheme: dark) {{ :where(.mg-tape) {{ {colours(DARK)} }} }}{STYLE}{chr(10).join(heads)}\n</style>")


class _Key:
    """What the picture's own signs mean, in rows below it."""

    def __init__(self, ident: str, words: Sequence[str], width: float, top: float) -> None:
        self.text: list[str] = []
        self.height = 0.0
        x, y = MARGIN, top + 16
        for word in words:
            sign = word in SIGNS
            start = 50.0 if sign else 34.0
            wide = start + text_width(word, SHAPE) + 16
            if x > MARGIN and x + wide > width:
                x, y = MARGIN, y + 20
            self.text += [f'<path class="mg-edge mg-{word}" d="M{_n(x)} {_n(y)}h18"/>',
                          f'<use href="#{ident}--{word}" x="{_n(x + 38)}" y="{_n(y)}"/>' if sign else "",
                          f'<text class="mg-soft mg-words" font-size="{_n(SHAPE)}" x="{_n(x + start)}" y="{_n(y + 4)}">{word}</text>']
            x += wide
        if words:
            self.height = y - top + 4


def draw_svg(tape: Tape, width: float, ident: str, title: str | None, highlight: Iterable[tuple[Sequence[str], str]], fold: bool) -> str:
    """What `Tape.svg` says."""
    if not re.fullmatch(r"[A-Za-z]\w*(-\w+)*", ident, re.ASCII):
        raise error(ValueError, "svg", got=f"ident={ident!r}", needs="a letter, then letters, digits, _ and single hyphens", fix="ident='tape-1'")
    if not 0 < width < inf:
        raise error(ValueError, "svg", got=f"width={width!r}", needs="a positive number of pixels", fix="width=760, or 345 for a telephone")
    roots: set[Line | None] = {y._line for y in tape.ys}
    boxes = _boxes(tape, roots, fold)
    if len(boxes) > MOST_BOXES:
        raise error(ValueError, "svg", got=f"a tape of {len(boxes)} boxes", needs=f"at most {MOST_BOXES}, to be readable",
                    fix="draw the tape of an intermediate result, or of a smaller model; print(tape) has no limit")
    lit_boxes, lit_edges, said = _lit(tape, highlight, fold)
    across, height, paths = _placed([*boxes.values()], max(width - 2 * MARGIN, 1))
    edges: list[tuple[str, str]] = []  # its kind of light, and the arrow
    dashes = False
    for box in boxes.values():
        for position, (source, dashed) in enumerate(box.inputs):
            assert isinstance(source, SvgBox)
            lit = lit_edges.get((source.key, box.key), "")
            style = f'mg-edge{" mg-broadcast" if dashed else ""}{f" mg-{lit}" if lit else ""}'
            dashes |= dashed
            edges.append((lit, f'<path id="{ident}--{source.key.replace(".", "-")}-to-{box.key}-{position}" class="{style}" data-from="{source.key}" '
                               f'data-to="{box.key}" d="{paths[box.key, position]}"/>'))
    used = [kind for kind in SIGNS if kind in {*lit_edges.values()}]
    wide, bottom = max(across + 2 * MARGIN, 160.0), height + 2 * MARGIN
    key = _Key(ident, [*used, *(["broadcast"] if dashes else [])], wide, bottom - MARGIN / 2)
    high = bottom + key.height
    left = (wide - across) / 2
    name = title if title is not None else ", ".join(dict.fromkeys(line.name or f"%{k}" for k, line in enumerate(tape) if line in roots))
    words = _words(tape, roots) + "".join(f". {kind}: {', '.join(names)}" for names, kind in said)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{ident}" class="mg-tape{" mg-lit" if used else ""}" role="img" '
        f'aria-labelledby="{ident}--title {ident}--desc" viewBox="0 0 {_n(wide)} {_n(high)}" width="{_n(wide)}" height="{_n(high)}">',
        f'<title id="{ident}--title">{escape(shortened(f"tape of {name}", 200))}</title>',
        f'<desc id="{ident}--desc">{escape(shortened(words, 10_000))}</desc>',
        _style(ident),
        _definitions(ident),
        f'<rect class="mg-paper" width="{_n(wide)}" height="{_n(high)}" rx="10"/>',
        f'<g class="mg-edges" transform="translate({_n(left)} {_n(MARGIN)})">',
        *(text for _, text in sorted(edges, key=lambda edge: bool(edge[0]))), "</g>",
        f'<g class="mg-boxes" transform="translate({_n(left)} {_n(MARGIN)})">',
        *(_drawn(box, ident, lit_boxes.get(box.key, "")) for box in boxes.values()), "</g>",
        *([f'<g class="mg-key">{"".join(key.text)}</g>'] if key.text else []),
        "</svg>"])


def _lit(tape: Tape, highlight: Iterable[tuple[Sequence[str], str]],
         fold: bool) -> tuple[dict[str, str], dict[tuple[str, str], str], list[tuple[Sequence[str], str]]]:
    """More classes for boxes and the kinds of arrows, by key: what is missing hides what is wrong, and that what is right."""
    boxes: dict[str, str] = {}
    edges: dict[tuple[str, str], str] = {}
    routes = [(list(names), kind) for names, kind in highlight]
    for names, kind in sorted(routes, key=lambda route: -[*SIGNS, route[1]].index(route[1])):
        if kind not in SIGNS:
            raise error(ValueError, "svg", got=f"a route of the kind {kind!r}", needs=f"one of {', '.join(map(repr, SIGNS))}",
                        fix='highlight=[(["x", "var", "y"], "missing")]')
        found = way(tape, names, fold)
        if not found.edges:
            raise error(ValueError, "svg", got=f"a route {' → '.join(names)} that is not on this tape",
                        needs="names of values such that each one reaches the next past no other named value",
                        fix="name every value in between; minigrad.show.way tells what lies on a route")
        edges.update({(str(a), str(b)): kind for a, b in found.edges})
        for number in found.lines:
            if number in found.marked or str(number) not in boxes or "mg-marked" not in boxes[str(number)]:
                boxes[str(number)] = f" mg-{kind}{' mg-marked' if number in found.marked else ''}"
    return boxes, edges, [(names, kind) for names, kind in routes]
