"""Draw a graph in layers from left to right, with matplotlib alone: what `Tape.draw` puts on a slide.

Sugiyama's method, in its textbook steps: put each node one layer right of its inputs, break long graphs into rows like
text, let long edges pass through a bend in every layer, reorder the layers by barycenters to remove crossings, and place
each layer as close to its neighbours as its order permits (an isotonic regression). Lengths are inches, y points down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import error

# Okabe and Ito's palette, which stays distinct for colour-blind viewers
INK, GREY, BLUE, VERMILLION = "#222222", "#6b6b6b", "#0072B2", "#D55E00"
FILL = {"variable": "#d6ecf9", "op": "#f6f6f6", "output": "#fdf0cc", "constant": GREY}
BORDER = {"variable": BLUE, "op": "#8a8a8a", "output": "#b8860b", "constant": GREY}

COLUMN_GAP, NODE_GAP, BEND_GAP, TRACK, ROW_GAP, HEAD = 0.40, 0.17, 0.11, 0.11, 0.30, 0.11
DOT, MARGIN, SMALLEST, LARGEST = 0.09, 0.12, 0.75, 1.8  # diameter of a constant; margin of the figure; limits of the scale
FONT = "DejaVu Sans"  # comes with matplotlib and has √, Σ, ‖
MOST_NODES = 400


class Item:
    """What has a place in a layer: a node, or a bend of a long edge (which has no size and no text)."""

    width = height = x = y = 0.0
    layer, pull = 0, 8.0  # how strongly its neighbours line up with it: bends most, to keep long edges straight

    def __init__(self) -> None:
        self.left: list[Item] = []
        self.right: list[Item] = []


class Node(Item):
    """One box: `rows` of (text, colour, points, weight), and the nodes its arrows come from, each with "dashed or not"."""

    def __init__(self, key: str, kind: str, rows: Sequence[tuple[str, str, float, str]], inputs: Sequence[tuple[Node, bool]] = ()) -> None:
        super().__init__()
        self.key, self.kind, self.rows, self.inputs = key, kind, list(rows), list(inputs)
        self.pull = {"constant": 0.02, "variable": 0.3}.get(kind, 1.0)
        self.reach = 0.0  # from its middle to where arrows begin and end
        self.alarm = False  # drawn with a heavy border: here two gradients differ


# -- layers, rows, order, heights -------------------------------------------------------------------------------------------

def _assign_layers(nodes: Sequence[Node]) -> int:
    """Longest path from the left; then whatever has at most one input moves right, next to its first user. Returns the number."""
    users: dict[Node, list[Node]] = {n: [] for n in nodes}
    for n in nodes:
        n.layer = max((i.layer + 1 for i, _ in n.inputs), default=0)
        for i, _ in n.inputs:
            users[i].append(n)
    for n in reversed(nodes):
        if users[n] and len({i for i, _ in n.inputs if i.kind != "constant"}) <= 1:
            n.layer = min(u.layer for u in users[n]) - 1
    return 1 + max(n.layer for n in nodes)


def _break_into_rows(nodes: Sequence[Node], layers: int, rows: int) -> list[int]:
    """First layers of the rows after the first: rows of similar width, broken where few edges cross."""
    widths = [max((n.width for n in nodes if n.layer == k), default=0.0) + COLUMN_GAP for k in range(layers)]
    crossing = [len({i for n in nodes for i, _ in n.inputs if i.layer < k <= n.layer and not _moves_along(i, k)}) for k in range(layers)]
    best: list[tuple[float, list[int]] | None] = [None] + [(sum(widths[:k]), []) for k in range(1, layers + 1)]  # for the first k layers
    for _ in range(rows - 1):
        longer: list[tuple[float, list[int]] | None] = [None] * (layers + 1)
        for k in range(1, layers + 1):
            options = [(max(b[0], sum(widths[j:k])) + 0.6 * (crossing[j] - 1), [*b[1], j]) for j in range(1, k) if (b := best[j]) is not None and crossing[j]]
            longer[k] = min(options, default=None, key=lambda o: o[0])
        if longer[layers] is None:
            break
        best = longer
    return best[layers][1]  # type: ignore[index]


def _moves_along(node: Node, first: int) -> bool:
    """Does this source stand just left of a row that begins with layer `first`? It then goes to the beginning of that row."""
    return node.layer == first - 1 and not node.inputs


def _thread_edges(nodes: Sequence[Node], breaks: Sequence[int], layers: int) -> tuple[list[list[Item]], dict[tuple[Node, bool], list[Item]]]:
    """The items of every layer, and for every source the chain of bends that its arrows share.

    Each row but the last ends with a layer of bends alone; each but the first starts with one of bends and sources.
    """
    table: list[list[Item]] = [[] for _ in range(layers + 2 * len(breaks))]
    ends: dict[tuple[Node, bool], int] = {}
    for n in nodes:
        n.layer += 2 * sum(b <= n.layer or _moves_along(n, b) for b in breaks)
        n.left, n.right = [], []
        for edge in n.inputs:
            ends[edge] = max(ends.get(edge, 0), n.layer - 1)
    chains: dict[tuple[Node, bool], list[Item]] = {}
    for n in nodes:
        table[n.layer].append(n)
        for dashed in (False, True):
            chain: list[Item] = [n]
            for layer in range(n.layer + 1, ends.get((n, dashed), 0) + 1):
                bend = Item()
                bend.layer = layer
                _link(chain[-1], bend)
                table[layer].append(bend)
                chain.append(bend)
            chains[n, dashed] = chain
    for n in nodes:
        for source, dashed in n.inputs:
            _link(chains[source, dashed][n.layer - 1 - source.layer], n)
    return table, chains


def _link(a: Item, b: Item) -> None:
    a.right.append(b)
    b.left.append(a)


def _order(table: list[list[Item]]) -> None:
    """Sort every layer by the mean position of its neighbours, to and fro, and keep the best order seen."""
    place: dict[Item, float] = {}

    def renumber(layer: list[Item]) -> None:
        for k, item in enumerate(layer):
            place[item] = k - (len(layer) - 1) / 2

    def crossings() -> int:
        count = 0
        for layer in table:
            links = [(place[a], place[b]) for a in layer for b in a.right]
            count += sum((a - c) * (b - d) < 0 for k, (a, b) in enumerate(links) for c, d in links[:k])
        return count

    for layer in table:
        renumber(layer)
    best, kept = crossings(), [list(layer) for layer in table]
    for sweep in range(24):
        if not best:
            break
        forward = sweep % 2 == 0
        for layer in table if forward else reversed(table):
            def barycenter(item: Item, forward: bool = forward) -> float:
                near = item.left if forward else item.right
                return sum(place[i] for i in near) / len(near) if near else place[item]
            layer.sort(key=barycenter)
            renumber(layer)
        if (now := crossings()) < best:
            best, kept = now, [list(layer) for layer in table]
    table[:] = kept


def _settle(layer: Sequence[Item], wanted: Sequence[float], weights: Sequence[float]) -> None:
    """y as near to `wanted` (in weighted squares) as order and distances allow: the pool-adjacent-violators algorithm."""
    offsets, pools = [0.0], []
    for a, b in zip(layer, layer[1:], strict=False):
        offsets.append(offsets[-1] + (a.height + b.height) / 2 + (NODE_GAP if a.height and b.height else BEND_GAP))
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append([want - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, v, m), (b, w, n) = pools[-2:]
            pools[-2:] = [[(a * v + b * w) / (v + w), v + w, m + n]]
    levels = [level for level, _, count in pools for _ in range(int(count))]
    for item, level, offset in zip(layer, levels, offsets, strict=True):
        item.y = level + offset


def _heights(row: Sequence[list[Item]]) -> None:
    """Let every item of a row of layers settle at the weighted mean of its neighbours."""
    inside = {item for layer in row for item in layer}
    for layer in row:
        _settle(layer, [0.0] * len(layer), [1.0] * len(layer))
    for sweep in range(40):
        for layer in row if sweep % 2 else reversed(row):
            wanted, weights = [], []
            for item in layer:
                near = [i for i in item.left + item.right if i in inside]
                total = sum(i.pull for i in near)
                wanted.append(sum(i.pull * i.y for i in near) / total if near else item.y)
                weights.append(item.pull * total if near else 0.01)
            _settle(layer, wanted, weights)


class Layout:
    """Places for all nodes and routes for all arrows, when the graph is broken into `rows` rows."""

    def __init__(self, nodes: Sequence[Node], rows: int) -> None:
        layers = _assign_layers(nodes)
        breaks = _break_into_rows(nodes, layers, min(rows, layers))
        table, self.chains = _thread_edges(nodes, breaks, layers)
        _order(table)
        starts = [0, *(b + 2 * k + 1 for k, b in enumerate(breaks)), len(table)]
        self.columns: list[tuple[float, float]] = []  # left and right end of each layer
        self.ways_back: dict[Item, tuple[int, int, float]] = {}  # bend at a row's end -> its number from the top, of how many, height of its way back
        self.width = self.height = 0.0
        for first, end in zip(starts, starts[1:], strict=False):
            self._place_row(table[first:end], returns=first > 0, continues=end < len(table))
        self.ports = {n: self._ports_of(n) for n in nodes}

    def _place_row(self, row: list[list[Item]], returns: bool, continues: bool) -> None:
        _heights(row)
        top = min(i.y - i.height / 2 for layer in row for i in layer)
        bottom = max(i.y + i.height / 2 for layer in row for i in layer)
        x, y = TRACK * sum(not isinstance(i, Node) for i in row[0]) if returns else 0.0, self.height + (ROW_GAP / 2 if returns else 0.0)
        for layer in row:
            width = max(i.width for i in layer)
            for item in layer:
                item.x, item.y = x + width / 2, item.y - top + y
            self.columns.append((x, x + width))
            x += width + COLUMN_GAP
        self.height, right = y + bottom - top, x - COLUMN_GAP
        if continues:
            count = len(row[-1])
            for k, bend in enumerate(row[-1]):  # the lowest turns first, so that the ways back do not cross
                self.ways_back[bend] = k, count, self.height + ROW_GAP / 2 + TRACK * (count - 1 - k)
            right += TRACK * count
            self.height += ROW_GAP / 2 + TRACK * (count - 1)
        self.width = max(self.width, right)

    def _ports_of(self, target: Node) -> list[float]:
        """Where, relative to its middle, each arrow arrives at `target`: spread in the order of their heights."""
        count = len(target.inputs)
        order = sorted(range(count), key=lambda k: (self._way(target, k)[-1].y, k))
        return [(order.index(k) - (count - 1) / 2) * 0.6 * target.height / max(count, 2) for k in range(count)]

    def _way(self, target: Node, position: int) -> list[Item]:
        """The source of an arrow and the bends it passes through."""
        source, dashed = target.inputs[position]
        return self.chains[source, dashed][:target.layer - source.layer]

    def route(self, target: Node, position: int) -> tuple[list[tuple[float, float]], list[int]]:
        """Vertices and path codes (1 move, 2 line, 3 and 4 curves) of the arrow to input number `position` of `target`."""
        way = self._way(target, position)
        x, y = way[0].x + target.inputs[position][0].reach, way[0].y
        points, codes = [(x, y)], [1]
        for a, b in zip(way, [*way[1:], target], strict=True):
            if a in self.ways_back:
                k, count, between = self.ways_back[a]
                right, left = a.x + TRACK * (count - k), self.columns[b.layer][0] - TRACK * (k + 1)
                _rounded(points, codes, [(right, y), (right, between), (left, between), (left, b.y), (b.x, b.y)])
            else:
                here, there = self.columns[a.layer][1], self.columns[b.layer][0] - (HEAD if b is target else 0.0)
                end = b.y + (self.ports[target][position] if b is target else 0.0)
                points += [(here, y), ((here + there) / 2, y), ((here + there) / 2, end), (there, end)]
                codes += [2, 4, 4, 4]
            y = points[-1][1]
        return [*points, (target.x - target.reach, y)], [*codes, 2]


def _rounded(points: list[tuple[float, float]], codes: list[int], corners: Sequence[tuple[float, float]], radius: float = 0.08) -> None:
    """Go on from the last of `points` through `corners`, all but the last rounded."""
    for (x, y), (u, v) in zip(corners, corners[1:], strict=False):
        for a, b, near in ((*points[-1], True), (u, v, False)):
            length = abs(x - a) + abs(y - b)  # all legs are horizontal or vertical
            r = min(radius, length / 2) / length if length else 0.0
            before = (x + (a - x) * r, y + (b - y) * r)
            points += [before, (x, y)] if near else [before]
            codes += [2, 3] if near else [3]
    points.append(corners[-1])
    codes.append(2)


# -- on paper ---------------------------------------------------------------------------------------------------------------

def _measure(node: Node) -> None:
    """Size of a node's box from its text."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    widths = [TextPath((0, 0), text, prop=FontProperties(family=FONT, size=size, weight=weight)).get_extents().width / 72 if text.strip() else 0.0
              for text, _, size, weight in node.rows]
    heights = [size * 1.3 / 72 for _, _, size, _ in node.rows]
    if node.kind == "constant":
        node.width, node.height, node.reach = max([DOT, *widths]), DOT + 2 * sum(heights), DOT / 2  # the text goes below the dot
    else:
        node.height = sum(heights) + 0.10
        node.width = max(max(widths) + 0.18, node.height * 0.9)
        node.reach = node.width / 2


def paint(nodes: Sequence[Node], legend: Sequence[tuple[str, str]] = (), ax: Any = None) -> Any:
    """Lay out `nodes` (inputs before users) as large as fits, and draw them on `ax`, or on a new white figure of 8 × 4 inches
    (more where the text would become too small to read). `legend` is a line of (text, colour) under the drawing.

    Returns:
        The matplotlib Axes. Each box carries its node's key as gid.
    """
    if len(nodes) > MOST_NODES:
        raise error(ValueError, "draw", got=f"{len(nodes)} nodes", needs=f"at most {MOST_NODES}, or nobody can read it",
                    fix="draw the tape of an intermediate result, or of a smaller model; print(tape) shows any length")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path

    for node in nodes:
        _measure(node)
    width, height = (8.0, 4.0) if ax is None else (ax.get_window_extent().width / ax.figure.dpi, ax.get_window_extent().height / ax.figure.dpi)
    strip = 0.28 if legend else 0.0

    def scale(layout: Layout) -> float:
        return min((width - 2 * MARGIN) / layout.width, (height - strip - 2 * MARGIN) / layout.height, LARGEST)

    rows = max(range(1, 9), key=lambda r: scale(Layout(nodes, r)))
    layout = Layout(nodes, rows)
    s = scale(layout)
    if ax is None:
        grow = max(1.0, SMALLEST / s)
        width, height, s = width * grow, height * grow, s * grow
        figure = plt.figure(figsize=(width, height), facecolor="white")
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    left, top = (width / s - layout.width) / 2, ((height - strip) / s - layout.height) / 2
    ax.set(xlim=(-left, width / s - left), ylim=(height / s - top, -top))

    for node in nodes:
        for k, (_, dashed) in enumerate(node.inputs):
            points, codes = layout.route(node, k)
            ax.add_patch(FancyArrowPatch(path=Path(points, codes), arrowstyle="-|>", mutation_scale=8 * s, shrinkA=0, shrinkB=0,
                                         linewidth=1.0 * s, linestyle=(0, (3, 2)) if dashed else "-", color=GREY, zorder=1))
    for node in nodes:
        middle = node.y
        if node.kind == "constant":
            ax.add_patch(Circle((node.x, node.y), DOT / 2, color=FILL["constant"], gid=node.key, zorder=2))
            middle = node.y + (node.height + DOT) / 4
        else:
            ax.add_patch(FancyBboxPatch((node.x - node.width / 2, node.y - node.height / 2), node.width, node.height, boxstyle="round,pad=0,rounding_size=0.07",
                                        facecolor=FILL[node.kind], edgecolor=VERMILLION if node.alarm else BORDER[node.kind],
                                        linewidth=(2.2 if node.alarm else 1.0) * s, gid=node.key, zorder=2))
        heights = [size * 1.3 / 72 for _, _, size, _ in node.rows]
        y = middle - sum(heights) / 2
        for (text, colour, size, weight), h in zip(node.rows, heights, strict=True):
            ax.text(node.x, y + h / 2, text, color=colour, fontsize=size * s, fontweight=weight, family=FONT, ha="center", va="center_baseline", zorder=3)
            y += h
    x = MARGIN / width
    for text, colour in legend:
        label = ax.text(x, 0.02, text, color=colour, fontsize=9, family=FONT, transform=ax.transAxes, va="bottom")
        x += label.get_window_extent().width / ax.get_window_extent().width + 0.03
    return ax
