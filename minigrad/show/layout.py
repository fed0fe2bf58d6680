"""Places for the boxes and arrows of a graph, in layers from left to right: geometry without a drawing library.

Sugiyama's method, in its textbook steps: put each node one layer right of its inputs, break long graphs into rows like
text, let long edges pass through a bend in every layer, reorder layers by barycenters to remove crossings, and place
each layer as close to its neighbours as its order permits (an isotonic regression). Lengths are inches; y points down.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf

COLUMN_GAP, NODE_GAP, BEND_GAP, ROW_GAP = 0.36, 0.17, 0.11, 0.30
TRACK, HEAD = 0.11, 0.11  # distance of parallel ways back to the next row; straight piece under an arrow's head
MOST_ROWS = 8

Point = tuple[float, float]


class Item:
    """What has a place in a layer: a node, or a bend of a long edge (which has no size)."""

    width = height = x = y = 0.0
    layer = 0
    pull = 8.0  # how strongly its neighbours line up with it: bends most, to keep long edges straight

    def __init__(self) -> None:
        self.left: list[Item] = []
        self.right: list[Item] = []


class Node(Item):
    """One box of known size. `inputs` are the nodes its arrows come from, each with "dashed or not"."""

    def __init__(self, inputs: Sequence[tuple[Node, bool]] = (), pull: float = 1.0) -> None:
        super().__init__()
        self.inputs, self.pull = list(inputs), pull
        self.reach = 0.0  # from the middle to where arrows begin and end


Edge = tuple[Node, bool]  # all arrows of one kind from one node share one chain of bends


# -- layers and rows ---------------------------------------------------------------------------------------------------


def _assign_layers(nodes: Sequence[Node]) -> int:
    """Longest path from the left; then what has at most one input besides sources moves right, next to its first user.

    Returns the number of layers.
    """
    users: dict[Node, list[Node]] = {n: [] for n in nodes}
    for n in nodes:
        n.layer = max((i.layer + 1 for i, _ in n.inputs), default=0)
        for i, _ in n.inputs:
            users[i].append(n)
    for n in reversed(nodes):
        if users[n] and len({i for i, _ in n.inputs if i.inputs}) <= 1:
            n.layer = min(u.layer for u in users[n]) - 1
    return 1 + max(n.layer for n in nodes)


def _break_into_rows(nodes: Sequence[Node], layers: int, rows: int) -> list[int]:
    """First layers of the rows after the first: rows of similar width, broken where few edges cross."""
    widths = [COLUMN_GAP + max((n.width for n in nodes if n.layer == k), default=0.0) for k in range(layers)]
    crossing = [len({i for n in nodes for i, _ in n.inputs if i.layer < k <= n.layer and not _moves_along(i, k)})
                for k in range(layers)]
    Choice = tuple[float, list[int]]  # cost of the widest row and of the crossing edges so far, and the breaks
    best: dict[int, Choice] = {k: (sum(widths[:k]), []) for k in range(1, layers + 1)}  # for the first k layers
    for _ in range(rows - 1):
        longer: dict[int, Choice] = {}
        for k in range(1, layers + 1):
            options = [(max(best[j][0], sum(widths[j:k])) + 0.6 * (crossing[j] - 1), [*best[j][1], j])
                       for j in range(1, k) if j in best and crossing[j]]
            if options:
                longer[k] = min(options, key=lambda option: option[0])
        if layers not in longer:
            break
        best = longer
    return best[layers][1]


def _moves_along(node: Node, first: int) -> bool:
    """Does this source stand just left of a row that begins with layer `first`? Then it belongs to that row."""
    return node.layer == first - 1 and not node.inputs


def _thread_edges(nodes: Sequence[Node], breaks: Sequence[int],
                  layers: int) -> tuple[list[list[Item]], dict[Edge, list[Item]]]:
    """The items of every layer, and for every edge its source and the bends through which it passes.

    Each row except the last ends with a layer of bends alone; each except the first starts with one of bends and sources.
    """
    table: list[list[Item]] = [[] for _ in range(layers + 2 * len(breaks))]
    ends: dict[Edge, int] = {}
    for n in nodes:
        n.layer += 2 * sum(b <= n.layer or _moves_along(n, b) for b in breaks)
        n.left, n.right = [], []
    for n in nodes:
        for edge in n.inputs:
            ends[edge] = max(ends.get(edge, 0), n.layer - 1)
    chains: dict[Edge, list[Item]] = {}
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
        for edge in n.inputs:
            _link(chains[edge][n.layer - 1 - edge[0].layer], n)
    return table, chains


def _link(a: Item, b: Item) -> None:
    a.right.append(b)
    b.left.append(a)


# -- order and heights -------------------------------------------------------------------------------------------------


def _order(table: list[list[Item]]) -> None:
    """Sort every layer by the mean position of its neighbours, back and forth, and keep the best order seen."""
    place: dict[Item, float] = {}

    def renumber(layer: list[Item]) -> None:
        for k, item in enumerate(layer):
            place[item] = k - (len(layer) - 1) / 2

    def barycenter(item: Item, forward: bool) -> float:
        near = item.left if forward else item.right
        return sum(place[i] for i in near) / len(near) if near else place[item]

    def crossings() -> int:
        count = 0
        for layer in table:
            links = [(place[a], place[b]) for a in layer for b in a.right]
            count += sum((a - c) * (b - d) < 0 for k, (a, b) in enumerate(links) for c, d in links[:k])
        return count

    for layer in table:
        renumber(layer)
    fewest, kept = crossings(), [list(layer) for layer in table]
    for sweep in range(24):
        if not fewest:
            break
        forward = sweep % 2 == 0
        for layer in table if forward else reversed(table):
            layer.sort(key=lambda item, forward=forward: barycenter(item, forward))  # type: ignore[misc]
            renumber(layer)
        now = crossings()
        if now < fewest:
            fewest, kept = now, [list(layer) for layer in table]
    table[:] = kept


def _settle(layer: Sequence[Item], wanted: Sequence[float], weights: Sequence[float]) -> None:
    """y as near to `wanted` (weighted squares) as order and distances allow: the pool-adjacent-violators algorithm."""
    offsets = [0.0]
    for a, b in pairwise(layer):
        offsets.append(offsets[-1] + _distance(a, b))
    pools: list[tuple[float, float, int]] = []  # level, weight, number of items
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append((want - offset, weight, 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (p, v, m), (q, w, n) = pools[-2:]
            pools[-2:] = [((p * v + q * w) / (v + w), v + w, m + n)]
    levels = [level for level, _, count in pools for _ in range(count)]
    for item, level, offset in zip(layer, levels, offsets, strict=True):
        item.y = level + offset


def _distance(a: Item, b: Item) -> float:
    """How far apart two neighbours of a layer are at least, from middle to middle."""
    return (a.height + b.height) / 2 + (NODE_GAP if a.height and b.height else BEND_GAP)


def _find_heights(row: Sequence[list[Item]]) -> None:
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


# -- the whole ---------------------------------------------------------------------------------------------------------


class Layout:
    """Places for `nodes` (inputs before users) and routes for their arrows, in at most `rows` rows.

    Sets ``x`` and ``y`` of every node; ``width`` and ``height`` are those of the whole.
    """

    def __init__(self, nodes: Sequence[Node], rows: int) -> None:
        layers = _assign_layers(nodes)
        breaks = _break_into_rows(nodes, layers, min(rows, layers))
        table, self._chains = _thread_edges(nodes, breaks, layers)
        _order(table)
        starts = [0, *(b + 2 * k + 1 for k, b in enumerate(breaks)), len(table)]
        self.width = self.height = 0.0
        self._columns: list[Point] = []  # left and right end of each layer
        # bend at a row's end -> its number from the top, of how many, and the height of its way back
        self._ways_back: dict[Item, tuple[int, int, float]] = {}
        for first, end in pairwise(starts):
            self._place_row(table[first:end], returns=first > 0, continues=end < len(table))
        self._ports = {n: self._ports_of(n) for n in nodes}
        self._straighten(nodes, table)

    def _place_row(self, row: list[list[Item]], returns: bool, continues: bool) -> None:
        _find_heights(row)
        top = min(i.y - i.height / 2 for layer in row for i in layer)
        bottom = max(i.y + i.height / 2 for layer in row for i in layer)
        y = self.height + (ROW_GAP / 2 if returns else 0.0)
        for item in (i for layer in row for i in layer):
            item.y += y - top
        x = right = TRACK * sum(not isinstance(i, Node) for i in row[0]) if returns else 0.0
        for layer in row:
            width = max(i.width for i in layer)
            for item in layer:
                item.x = x + width / 2
            right = x + width
            self._columns.append((x, right))
            steepest = max((abs(a.y - b.y) for a in layer for b in a.right), default=0.0)
            x = right + COLUMN_GAP + min(0.06 * steepest, COLUMN_GAP)
        self.height = y + bottom - top
        if continues:
            count = len(row[-1])
            for k, bend in enumerate(row[-1]):  # the lowest turns first, so that the ways back do not cross
                self._ways_back[bend] = k, count, self.height + ROW_GAP / 2 + TRACK * (count - 1 - k)
            right += TRACK * count
            self.height += ROW_GAP / 2 + TRACK * (count - 1)
        self.width = max(self.width, right)

    def _way(self, target: Node, position: int) -> list[Item]:
        """The source of an arrow and the bends it passes through."""
        source, dashed = target.inputs[position]
        return self._chains[source, dashed][:target.layer - source.layer]

    def _ports_of(self, target: Node) -> list[float]:
        """Where, relative to its middle, each arrow arrives at `target`: spread in the order of their heights."""
        count = len(target.inputs)
        order = sorted(range(count), key=lambda k: (self._way(target, k)[-1].y, k))
        return [(order.index(k) - (count - 1) / 2) * 0.6 * target.height / max(count, 2) for k in range(count)]

    def _straighten(self, nodes: Sequence[Node], table: Sequence[Sequence[Item]]) -> None:
        """Let the last bends of an arrow, which it shares with no other, stand at the height at which it arrives, where there is room."""
        beside: dict[Item, tuple[Item | None, Item | None]] = {}
        for layer in table:
            beside.update({item: (a, b) for a, item, b in zip([None, *layer], layer, [*layer[1:], None], strict=False)})
        for target in nodes:
            for position, port in enumerate(self._ports[target]):
                y = target.y + port
                for bend in reversed(self._way(target, position)[1:]):
                    above, below = beside[bend]
                    if (len(bend.right) > 1 or bend in self._ways_back or (above is not None and y - above.y < _distance(above, bend))
                            or (below is not None and below.y - y < _distance(bend, below))):
                        break
                    bend.y = y

    def route(self, target: Node, position: int) -> tuple[list[Point], list[int]]:
        """The arrow to input number `position` of `target`: points, and matplotlib's codes for them.

        Codes: 1 move, 2 line, 3 quadratic curve (2 points), 4 cubic curve (3 points).
        """
        way = self._way(target, position)
        x, y = way[0].x + target.inputs[position][0].reach, way[0].y
        points, codes = [(x, y)], [1]
        for a, b in pairwise([*way, target]):
            if a in self._ways_back:
                k, count, between = self._ways_back[a]
                right, left = a.x + TRACK * (count - k), self._columns[b.layer][0] - TRACK * (k + 1)
                _rounded(points, codes, [(right, y), (right, between), (left, between), (left, b.y), (b.x, b.y)])
            else:
                here, there = self._columns[a.layer][1], self._columns[b.layer][0] - (HEAD if b is target else 0.0)
                end = b.y + (self._ports[target][position] if b is target else 0.0)
                points += [(here, y), ((here + there) / 2, y), ((here + there) / 2, end), (there, end)]
                codes += [2, 4, 4, 4]
            y = points[-1][1]
        return [*points, (target.x - target.reach, y)], [*codes, 2]


def _rounded(points: list[Point], codes: list[int], corners: Sequence[Point], radius: float = 0.08) -> None:
    """Go on from the last of `points` through `corners`, with all of them rounded except the last."""
    for (x, y), (u, v) in pairwise(corners):
        a, b = points[-1]
        near, far = (min(radius / length, 0.5) if length else 0.0  # all legs are horizontal or vertical
                     for length in (abs(x - a) + abs(y - b), abs(u - x) + abs(v - y)))
        points += [(x + (a - x) * near, y + (b - y) * near), (x, y), (x + (u - x) * far, y + (v - y) * far)]
        codes += [2, 3, 3]
    points.append(corners[-1])
    codes.append(2)


def best_layout(nodes: Sequence[Node], width: float, height: float, largest: float = inf, rows: int = MOST_ROWS) -> tuple[Layout, float]:
    """The layout, over all numbers of rows up to `rows`, that can be shown largest in `width` × `height`, and its scale there.

    Among those that can be shown at the scale `largest` or above it is the one with the fewest rows.
    """
    best, chosen = 0.0, 0
    for count in range(1, rows + 1):
        layout = Layout(nodes, count)
        scale = min(width / layout.width, height / layout.height)
        if scale > best:
            best, chosen = scale, count
        if scale >= largest:
            break
    return layout if chosen == count else Layout(nodes, chosen), best  # once more: the nodes carry the places of the last layout made
