"""The tape as a picture: boxes with symbol, name, shape, values and gradients (`layout` says where they go).

Made for slides: a white background, text that never leaves its box, and Okabe and Ito's palette, which stays distinct
for colour-blind viewers. Needs matplotlib and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import backend
from ..core.backend import NAMESPACES, Array
from ..core.engine import grad, reachable
from ..core.errors import describe, error
from ..core.tensor import Line, Tensor
from .layout import Node, best_layout
from .words import short_shape, symbol, vertices

INK, GREY, BLUE, GREEN, PURPLE, VERMILION = "#222222", "#6b6b6b", "#0072B2", "#00735c", "#8a4f7d", "#D55E00"
FILL = {"variable": "#d6ecf9", "op": "#f6f6f6", "output": "#fdf0cc"}
BORDER = {"variable": BLUE, "op": "#8a8a8a", "output": "#b8860b"}
PULL = {"variable": 0.3, "op": 1.0, "output": 1.0, "constant": 0.02}  # so that the main path runs straight
FONT = "DejaVu Sans"  # comes with matplotlib, and has √, Σ and ‖
SIZE = (8.0, 4.0)  # inches of a new figure; it grows where the scale would fall below SMALLEST
SMALLEST, LARGEST = 0.75, 1.8
MARGIN, LEGEND, DOT, LEADING = 0.12, 0.28, 0.09, 1.3 / 72
MOST_BOXES = 400


# -- gradients and values ----------------------------------------------------------------------------------------------


def adjoints(y: Tensor | Sequence[Tensor], gradient: Any = None) -> dict[Line | str, Tensor]:
    """The gradient of `y` at every line of its tape (which stays usable), by line and, for named lines, also by name.

    Args:
        gradient: cotangent of `y`, as for `grad`; may be left out for a scalar.

    >>> import minigrad as mg
    >>> from minigrad.show import adjoints
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = (mg.named("square", x * x) * 3.0).sum()
    >>> adjoints(y)["square"]
    tensor([3., 3.], dtype=float32)
    """
    ys = [y] if isinstance(y, Tensor) else list(y)
    # an op with several outputs has its own line and one for each output: the gradients are at those
    lines = [line for line in reachable(t._line for t in ys if t._line is not None) if line.dtype is not None]
    handles = [Tensor(ys[0]._data, line) for line in lines]  # `grad` asks its inputs only for their lines
    found = grad(y, handles, gradient, retain_graph=True, allow_unused=True)
    known: dict[Line | str, Tensor] = {line: g for line, g in zip(lines, found, strict=True) if g is not None}
    return known | {line.name: g for line, g in known.items() if isinstance(line, Line) and line.name is not None}


def _labelled(gradients: Any, ys: Sequence[Tensor]) -> list[tuple[str, Mapping[Any, Any]]]:
    """What `draw` accepts as gradients, as pairs (label, dictionary)."""
    if gradients is None or gradients is False:
        return []
    if gradients is True:
        return [("gradient", adjoints(ys))]
    if isinstance(gradients, Mapping):
        several = bool(gradients) and all(isinstance(g, Mapping) for g in gradients.values())
        return list(gradients.items()) if several else [("gradient", gradients)]
    if isinstance(gradients, (list, tuple)) and all(isinstance(g, Mapping) for g in gradients):
        return [(f"({'abcdefgh'[k]})", g) for k, g in enumerate(gradients)]
    raise error(TypeError, "draw", got=f"gradients={describe(gradients)}",
                needs="True, a dictionary by line or name, or several of them", fix="gradients=adjoints(y)")


def _at(table: Mapping[Any, Any], line: Line) -> Array | None:
    value = table.get(line, table.get(line.name) if line.name is not None else None)
    return value._data if isinstance(value, Tensor) else value


def _exact(array: Array) -> Array:
    return backend.to_numpy(array if type(array) in NAMESPACES else backend.np.asarray(array)).astype("float64")


def _norm(array: Array) -> float:
    return math.sqrt(float((array * array).sum()))


def _size_text(one: str, many: str, array: Array) -> str:
    """``∂ −0.25`` for one element, ``‖∂‖ 3.1`` for several."""
    a = _exact(array)
    number = f"{a.item() if a.size == 1 else _norm(a):.3g}".replace("-", "−")
    return f"{one if a.size == 1 else many} {number}"


def _differ(a: Array, b: Array) -> bool:
    """Are two gradients of one line further apart than √ε of their dtype explains?"""
    eps = max(float(backend.np.finfo(v.dtype).eps) if v.dtype.kind == "f" else 0.0 for v in (a, b))
    x, y = _exact(a), _exact(b)
    return x.shape != y.shape or not _norm(x - y) <= math.sqrt(eps) * max(_norm(x), _norm(y))


# -- from lines to boxes -----------------------------------------------------------------------------------------------

TextRow = tuple[str, str, float, str]  # text, colour, points, weight


class Box(Node):
    """A node with its text, and as `key` the number of its line (of a constant %line.position)."""

    def __init__(self, key: str, kind: str, rows: Sequence[TextRow], inputs: Sequence[tuple[Node, bool]] = ()) -> None:
        super().__init__(inputs, PULL[kind])
        self.key, self.kind, self.rows = key, kind, list(rows)
        self.alarm = False  # a heavy border: here two gradients differ

    def measure(self) -> None:
        """Set width and height from the text."""
        from matplotlib.font_manager import FontProperties
        from matplotlib.textpath import TextPath
        fonts = [FontProperties(family=FONT, size=size, weight=weight) for _, _, size, weight in self.rows]
        widths = [TextPath((0, 0), text, prop=font).get_extents().width / 72
                  for (text, *_), font in zip(self.rows, fonts, strict=True)]
        if self.kind == "constant":  # a dot with its number below
            self.width, self.height, self.reach = max([DOT, *widths]), DOT + 2 * self.text_height, DOT / 2
        else:
            self.height = self.text_height + 0.10
            self.width = max(max(widths) + 0.18, self.height * 0.9)
            self.reach = self.width / 2

    @property
    def text_height(self) -> float:
        """Height of all rows of text."""
        return sum(size * LEADING for _, _, size, _ in self.rows)


def _boxes(lines: Sequence[Line], roots: set[Line | None], fold: bool, values: Mapping[Any, Any] | None,
           gradients: Sequence[tuple[Mapping[Any, Any], str]]) -> list[Box]:
    boxes: dict[str, Box] = {}
    for key, line, arrows, constant in vertices(lines, roots, fold):
        if constant is not None:
            boxes[key] = Box(f"%{key}", "constant", [(constant, GREY, 7.5, "normal")] if constant != "·" else [])
            continue
        shown = [(g, colour) for table, colour in gradients if (g := _at(table, line)) is not None]
        alarm = any(_differ(shown[0][0], g) for g, _ in shown[1:])
        rows = _title(line, key)
        if values is not None:
            value = _at(values, line)
            variable = line.saved() if line.is_leaf else None
            if value is None and variable is not None:
                value = variable._data
            if value is not None:
                rows.append((_size_text("=", "‖·‖ =", value), INK, 8.0, "normal"))
        rows += [(("≠ " if alarm and k else "") + _size_text("∂", "‖∂‖", g), colour, 8.0, "normal")
                 for k, (g, colour) in enumerate(shown)]
        kind = "variable" if line.is_leaf else "output" if line in roots else "op"
        box = boxes[key] = Box(f"%{key}", kind, rows, [(boxes[source], dashed) for source, dashed in arrows])
        box.alarm = alarm
    return list(boxes.values())


def _title(line: Line, number: str) -> list[TextRow]:
    if line.is_leaf:
        rows: list[TextRow] = [(line.name or f"%{number}", INK, 10.0, "bold")]
    else:
        what = symbol(line)
        rows = [(what, INK, 11.0 if len(what) < 3 else 9.5, "normal")]
        if line.name:
            rows.append((line.name, INK, 9.0, "bold"))
    if text := short_shape(line):
        rows.append((text, GREY, 7.5, "normal"))
    return rows


# -- on paper ----------------------------------------------------------------------------------------------------------


def draw_lines(lines: Sequence[Line], ys: Sequence[Tensor], ax: Any, gradients: Any,
               values: Mapping[Any, Any] | None, fold: bool) -> Any:
    """What `Tape.draw` says."""
    compared = _labelled(gradients, ys)
    colours = [(BLUE, GREEN, PURPLE)[k % 3] for k in range(len(compared))]
    boxes = _boxes(lines, {y._line for y in ys}, fold, values,
                   [(table, colour) for (_, table), colour in zip(compared, colours, strict=True)])
    if len(boxes) > MOST_BOXES:
        raise error(ValueError, "draw", got=f"a tape of {len(boxes)} boxes",
                    needs=f"at most {MOST_BOXES}, to be readable",
                    fix="draw the tape of an intermediate result, or of a smaller model; print(tape) has no limit")
    legend = [(f"∂ {label}", colour) for (label, _), colour in zip(compared, colours, strict=True)]
    if any("‖" in text for box in boxes for text, *_ in box.rows):
        legend.append(("‖ ‖ norm", GREY))
    if any(box.alarm for box in boxes):
        legend.append(("≠ they differ", VERMILION))
    if any(dashed for box in boxes for _, dashed in box.inputs):
        legend.append(("- - broadcast", GREY))
    return _paint(boxes, legend, ax)


def _paint(boxes: Sequence[Box], legend: Sequence[tuple[str, str]], ax: Any) -> Any:
    import matplotlib.pyplot as plt
    from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path

    for box in boxes:
        box.measure()
    width, height = SIZE
    if ax is not None:
        ax.set_axis_off()
        ax.figure.draw_without_rendering()  # a constrained layout gives the axes their size only now
        width, height = (v / ax.figure.dpi for v in ax.get_window_extent().bounds[2:])
    border, strip = 2 * MARGIN, LEGEND if legend else 0.0
    layout, s = best_layout(boxes, width - border, height - strip - border)
    s = min(s, LARGEST)
    if ax is None:
        s = max(s, SMALLEST)
        width, height = max(width, s * layout.width + border), max(height, s * layout.height + strip + border)
        ax = plt.figure(figsize=(width, height), facecolor="white", layout="none").add_axes((0, 0, 1, 1))
        ax.set_axis_off()
    left, top = (width / s - layout.width) / 2, ((height - strip) / s - layout.height) / 2
    ax.set(xlim=(-left, width / s - left), ylim=(height / s - top, -top))

    for box in boxes:
        for position, (_, dashed) in enumerate(box.inputs):
            ax.add_patch(FancyArrowPatch(
                path=Path(*layout.route(box, position)), arrowstyle="-|>", mutation_scale=8 * s, shrinkA=0, shrinkB=0,
                linewidth=s, linestyle=(0, (3, 2)) if dashed else "-", color=GREY, zorder=1))
        if box.kind == "constant":
            ax.add_patch(Circle((box.x, box.y), DOT / 2, color=GREY, gid=box.key, zorder=2))
            y = box.y + DOT / 2
        else:
            ax.add_patch(FancyBboxPatch(
                (box.x - box.width / 2, box.y - box.height / 2), box.width, box.height,
                boxstyle="round,pad=0,rounding_size=0.07", linewidth=(2.2 if box.alarm else 1.0) * s, gid=box.key,
                facecolor=FILL[box.kind], edgecolor=VERMILION if box.alarm else BORDER[box.kind], zorder=2))
            y = box.y - box.text_height / 2
        for text, colour, size, weight in box.rows:
            ax.text(box.x, y + size * LEADING / 2, text, color=colour, fontsize=size * s, fontweight=weight,
                    family=FONT, ha="center", va="center_baseline", zorder=3)
            y += size * LEADING
    x = MARGIN / width
    for text, colour in legend:
        label = ax.text(x, 0.02, text, color=colour, fontsize=9 * min(s, 1), family=FONT, va="bottom", transform=ax.transAxes)
        x += label.get_window_extent().width / ax.get_window_extent().width + 0.03
    return ax
