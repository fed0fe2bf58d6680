"""The tape as an SVG for web pages, and where a route through named values runs on the tape."""

import inspect
import re
import string
import sys
import types
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

import layers
import minigrad as mg
from minigrad import derivation
from minigrad.show import way, ways
from minigrad.show.svg import DARK, LIGHT, SIGNS, STYLE
from minigrad.show.widths import shortened, text_width

HOMEWORK = sorted(p.parent for p in (Path(__file__).resolve().parents[1] / "lectures" / "homework").glob("*/task.py"))
NS = "{http://www.w3.org/2000/svg}"
WIDTHS = (760, 345)


def variable(rng, *shape, name=None):
    x = mg.tensor(rng.standard_normal(shape), requires_grad=True, backend=mg.backend.current_name())
    return x if name is None else mg.named(name, x)


def batch_norm(rng):
    x, gamma, beta = variable(rng, 8, 4, name="x"), variable(rng, 4, name="gamma"), variable(rng, 4, name="beta")
    mu = mg.named("mu", mg.mean(x, axis=0))
    xc = mg.named("xc", x - mu)
    var = mg.named("var", mg.mean(xc * xc, axis=0))
    xhat = mg.named("xhat", xc / mg.sqrt(var + 1e-5))
    return mg.tape(mg.named("y", gamma * xhat + beta))


# -- reading a picture -------------------------------------------------------------------------------------------------


class Read:
    """An SVG, read again: boxes as (left, top, right, bottom) by key, texts with their own, arrows as points."""

    def __init__(self, text):
        self.text, self.root = text, ET.fromstring(text)
        self.boxes, self.texts, self.groups = {}, [], {}
        for g in self.root.find(f"{NS}g[@class='mg-boxes']"):
            key = g.get("data-line") or g.get("data-constant")
            self.groups[key] = g
            rect, circle = g.find(f"{NS}rect"), g.find(f"{NS}circle")
            if rect is not None:
                x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
                self.boxes[key] = x, y, x + w, y + h
            else:
                x, y, r = (float(circle.get(k)) for k in ("cx", "cy", "r"))
                self.boxes[key] = x - r, y - r, x + r, y + r
            self.texts += [(key, self.extent(t)) for t in g.findall(f"{NS}text")]
        self.edges = self.root.find(f"{NS}g[@class='mg-edges']").findall(f"{NS}path")

    @staticmethod
    def extent(text):
        spans = text.findall(f"{NS}tspan")
        width = sum(text_width(s.text, float(s.get("font-size")), s.get("class") == "mg-name") + float(s.get("dx")) for s in spans)
        size, x, y = max(float(s.get("font-size")) for s in spans), float(text.get("x")), float(text.get("y"))
        return x - width / 2, y - 0.8 * size, x + width / 2, y + 0.22 * size

    def lit(self, kind):
        return {key for key, g in self.groups.items() if f"mg-{kind}" in g.get("class").split()}

    def lit_edges(self, kind):
        return {(int(e.get("data-from")), int(e.get("data-to"))) for e in self.edges if f"mg-{kind}" in e.get("class").split()}


def points(path):
    """Points along an arrow, a few pixels apart."""
    found, at = [], None
    for letter, numbers in re.findall(r"([MLQC])([^MLQC]*)", path):
        values = np.array(numbers.split(), float).reshape(-1, 2)
        if letter == "M":
            at = values[0]
            continue
        t = np.linspace(0, 1, 16)[:, None]
        p = [at, *values]
        while len(p) > 1:
            p = [(1 - t) * a + t * b for a, b in pairwise(p)]
        found.append(p[0])
        at = values[-1]
    return np.concatenate(found)


def overlap(a, b, by=0.0):
    return a[0] < b[2] - by and b[0] < a[2] - by and a[1] < b[3] - by and b[1] < a[3] - by


def assert_well_drawn(text):
    read = Read(text)
    left, top, width, height = map(float, read.root.get("viewBox").split())
    ids = [e.get("id") for e in read.root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    wanted = {*re.findall(r"url\(#([^)]*)\)", text), *(e.get("href")[1:] for e in read.root.iter() if e.get("href")), *read.root.get("aria-labelledby").split()}
    assert wanted <= set(ids)
    assert read.root.get("role") == "img" and read.root.find(f"{NS}title").text and read.root.find(f"{NS}desc").text
    offset = re.findall(r"[\d.]+", read.root.find(f"{NS}g[@class='mg-boxes']").get("transform"))
    for key, (x0, y0, x1, y1) in read.boxes.items():
        assert left < x0 + float(offset[0]) and x1 + float(offset[0]) < width and top < y0 + float(offset[1]) and y1 + float(offset[1]) < height, key
    for (a, p), (b, q) in combinations(read.boxes.items(), 2):
        assert not overlap(p, q), (a, b)
    for key, t in read.texts:
        box = read.boxes[key]
        if "." in key:  # a constant's number stands beside its dot
            assert not any(overlap(t, other) for k, other in read.boxes.items() if k != key), key
        else:
            assert box[0] + 2 < t[0] and t[2] < box[2] - 2 and box[1] < t[1] and t[3] < box[3], key
    corners = np.array([*read.boxes.values()])
    for e in read.edges:
        assert e.get("data-from") in read.boxes and e.get("data-to") in read.boxes
        p = points(e.get("d"))
        assert not ((p > corners[:, None, :2] + 1) & (p < corners[:, None, 2:] - 1)).all(2).any(), e.get("id")
        end, box = p[-1], read.boxes[e.get("data-to")]
        assert abs(end[0] - box[0]) < 9 or abs(end[1] - box[1]) < 9, "an arrow that does not arrive"
    return read


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", HOMEWORK, ids=lambda p: p.name)
def test_every_homework_is_drawn_well_wide_and_narrow(folder, backend, rng):
    task = derivation.load_task(folder)
    arrays, keywords = next(iter(task.cases(rng, "float64")))
    inputs = [mg.tensor(a, requires_grad=a.dtype.kind == "f", backend=backend) if hasattr(a, "dtype") else a for a in arrays.values()]
    y = task.forward(*inputs, **keywords)
    t = mg.tape(*(y if isinstance(y, (tuple, list)) else y.values() if isinstance(y, dict) else [y]))
    for width in WIDTHS:
        read = assert_well_drawn(t.svg(width=width, ident=f"tape{width}"))
        shown = {str(k) for k, line in enumerate(t) if not ways.is_folded(line, {y._line for y in t.ys})}
        assert {key for key in read.boxes if "." not in key} == shown


@pytest.mark.parametrize("name", layers.REGISTRY)
def test_layers_are_drawn_well(name, backend, rng):
    layer = layers.REGISTRY[name]
    _, arrays, keywords = next(iter(layer.cases("float64", rng)))

    def here(a, variable):
        return mg.tensor(a, requires_grad=variable and a.dtype.kind == "f", backend=backend) if isinstance(a, np.ndarray) else a
    y = layer.composed(*(here(a, True) for a in arrays), **{k: here(v, False) for k, v in keywords.items()})
    t = mg.tape(*(v for v in (y if isinstance(y, (tuple, list)) else [y]) if v.requires_grad))
    assert_well_drawn(t.svg(width=WIDTHS[len(name) % 2]))


def test_kinds_of_boxes_and_arrows_are_told_apart(backend, rng):
    t = batch_norm(rng)
    read = assert_well_drawn(t.svg())
    kinds = {g.get("data-name") or g.get("data-op"): g.get("class").split()[1] for g in read.groups.values() if g.get("data-op")}
    assert read.groups["0"].get("data-op") == "variable"
    assert kinds == {"x": "mg-variable", "gamma": "mg-variable", "beta": "mg-variable", "mu": "mg-named", "xc": "mg-named", "var": "mg-named",
                     "xhat": "mg-named", "y": "mg-output", "multiply": "mg-op", "add": "mg-op", "sqrt": "mg-op"}
    assert [len(g.findall(f"{NS}rect")) for g in read.groups.values() if "mg-output" in g.get("class")] == [2], "an output has a double border"
    dashed = [(e.get("data-from"), e.get("data-to")) for e in read.edges if "mg-broadcast" in e.get("class")]
    assert dashed == [("3", "5"), ("9", "11"), ("1", "13"), ("2", "15")]
    assert [e.get("data-to") for e in read.edges if e.get("data-from") == "5"] == ["6", "6", "11"], "xc * xc has two arrows"
    assert "8.1" in read.groups and read.groups["8.1"].get("class") == "mg-constant"
    plain = Read(t.svg(fold=False))
    assert not any("mg-broadcast" in e.get("class") for e in plain.edges) and len(plain.boxes) == len(read.boxes) + 4


def test_the_description_tells_what_is_drawn(rng):
    root = Read(batch_norm(rng).svg(title="batch norm", highlight=[(["x", "xc"], "missing")])).root
    assert root.find(f"{NS}title").text == "tape of batch norm"
    assert root.find(f"{NS}desc").text == "x → mu; x, mu → xc; xc → var; xc, var → xhat; gamma, xhat, beta → y. missing: x, xc"
    assert Read(batch_norm(rng).svg()).root.find(f"{NS}title").text == "tape of y"


@pytest.mark.parametrize("name", ['<b>&"', "a'b", "]]>", "</svg><script>", "two\nlines", "\x1b[31m\x00", "{--mg-ink: red}", "m" * 300, "变量" * 9, "é" * 20,
                                  "🙂" * 9])
def test_names_are_escaped_and_fit(name, rng):
    text = mg.tape(mg.named(name, mg.exp(variable(rng, 2, name="x")))).svg(highlight=[(["x", name], "right")], title=name)
    read = assert_well_drawn(text)
    assert read.groups["1"].get("data-name") == shortened(name, 10_000)
    if name.isprintable():
        assert read.groups["1"].get("data-name") == name
    assert not list(read.root.iter(f"{NS}script")) and len(read.boxes) == 2


def test_several_pictures_share_a_page(rng):
    a, b = (Read(batch_norm(rng).svg(ident=ident)) for ident in ("tape", "tape-1"))
    ids = [[e.get("id") for e in read.root.iter() if e.get("id")] for read in (a, b)]
    assert not set(ids[0]) & set(ids[1])
    for read in (a, b):
        style = read.root.find(f"{NS}style").text
        rules = re.findall(r"([^{}]+)\{", re.sub(r"@media[^{]*\{", "", style))
        assert len(rules) > 20 and all("mg-" in selector for rule in rules for selector in rule.split(","))
        assert all(c.startswith("mg-") for e in read.root.iter() for c in (e.get("class") or "").split())
    for ident in ("", "1a", "a--b", "a b", 'a"', "a-", "ä"):
        with pytest.raises(ValueError, match="a letter, then"):
            batch_norm(rng).svg(ident=ident)
    for width in (0, -3, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a positive number of pixels"):
            batch_norm(rng).svg(width=width)


def test_every_colour_has_its_twin_in_the_dark_and_is_used():
    assert LIGHT.keys() == DARK.keys()
    assert {*re.findall(r"var\(--mg-([\w-]+)\)", STYLE)} == {*LIGHT, "font"}

    def light(colour):
        r, g, b = (int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055)**2.4 for c in (r, g, b)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    def contrast(a, b):
        high, low = sorted((light(a), light(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)
    for colours in (LIGHT, DARK):
        for back in ("paper", *(k for k in colours if k.endswith("-fill"))):
            assert contrast(colours["ink"], colours[back]) > 7 and contrast(colours["soft"], colours[back]) > 4.5, back
        for line in ("edge", "variable-line", "named-line", "output-line", *SIGNS):
            assert contrast(colours[line], colours["paper"]) > 3, line


def test_a_narrow_picture_fits(rng):
    t = batch_norm(rng)
    wide, narrow = (Read(t.svg(width=w)) for w in (900, 345))
    assert float(wide.root.get("width")) > 500 and float(narrow.root.get("width")) <= 345
    below = [narrow.boxes[str(k)] for k in (0, 5, 11, 15)]
    assert all(a[3] < b[1] for a, b in pairwise(below)), "from top to bottom"


@pytest.mark.parametrize("make", [
    lambda x: x, lambda x: x * x, lambda x: mg.concatenate([x * float(k) for k in range(2, 14)]), lambda x: mg.sum(mg.power(x, 3)),
    lambda x: mg.split(x, 2)[1] + 1.0, lambda x: mg.broadcast_to(x, (3, 4)), lambda x: mg.log_softmax(x * 1.23456789e-7)],
    ids=["leaf", "square", "wide", "power", "split", "broadcast", "words"])
def test_special_shapes_of_graphs_are_drawn(make, rng):
    t = mg.tape(make(variable(rng, 4)))
    for width in (900, 345, 100):
        assert_well_drawn(t.svg(width=width))


def test_a_picture_nobody_could_read_is_refused(rng):
    y = variable(rng, 2)
    for _ in range(400):
        y = mg.tanh(y)
    with pytest.raises(ValueError, match="at most 400"):
        mg.tape(y).svg()


# -- how wide text is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bold", [False, True])
def test_no_character_is_wider_than_the_table_says(bold):
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font
    font = FT2Font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))  # among the widest
    font.set_size(100, 72)
    for c in string.printable[:95] + "−×÷²³ᵀ√Σσ…·αβγδεζηθικλμνξοπρςτυφχψωΓΔΘΛΞΠΣΦΨΩéÄœжЖЩ→∂∇":
        real = font.load_char(ord(c)).linearHoriAdvance / 65536 / 100
        assert real <= text_width(c, 1.0, bold) <= 2 * real + 0.2, c
    assert text_width("e\u0301", 10) == text_width("e", 10) and text_width("", 10) == 0


# -- ways --------------------------------------------------------------------------------------------------------------


def by_all_paths(t, names, fold):
    """Lines and edges of a route, by following every path one by one: slow, and plainly right."""
    number = {line: k for k, line in enumerate(t)}
    last = {line.name: line for line in t if line.name is not None}
    roots = {y._line for y in t.ys}

    def hidden(line):
        return fold and ways.is_folded(line, roots)
    lines, edges = set(), set()
    for a, b in pairwise(names):
        paths, stack = [], [[last[a]]]
        while stack:
            path = stack.pop()
            for line in t:
                if path[-1] in line.inputs:
                    if line is last[b]:
                        paths.append([*path, line])
                    elif line not in last.values():
                        stack.append([*path, line])
        if not paths:
            return set(), set()
        for path in paths:
            seen = [number[line] for line in path if not hidden(line)]
            lines |= {*seen}
            edges |= {*pairwise(seen)}
    return lines, edges


def diamond(rng):
    """x → u → y and x → z → y, where z has a name; what else hangs on x and y; and a value that uses y."""
    x, w = variable(rng, 3, name="x"), variable(rng, 3, name="w")      # 0 1
    u = mg.tanh(mg.exp(x))                                             # 2 3
    z = mg.named("z", mg.sum(x * x))                                   # 4 5
    y = mg.named("y", u * z + mg.exp(w))                               # 6: broadcast, 7: ×, 8: exp, 9
    return mg.tape(mg.named("end", y * 2.0), mg.exp(x))                # 10 11


def check_ways(way):
    rng = np.random.default_rng(5)
    t = diamond(rng)
    assert [line.name for line in t if line.name] == ["x", "w", "z", "y", "end"]
    where = {line.name or f"{line.op}{k}": k for k, line in enumerate(t)}
    x, w, z, y, end = (where[n] for n in ("x", "w", "z", "y", "end"))
    direct = way(t, ["x", "y"])
    assert direct.edges and z not in direct.lines and w not in direct.lines and end not in direct.lines
    assert [t[k].op for k in direct.lines] == ["leaf", "exp", "tanh", "multiply", "add"] and (direct.lines[0], direct.lines[-1]) == (x, y)
    assert [t[k].op for k in direct.marked] == ["exp", "tanh", "multiply"]
    through = way(t, ["x", "z", "y"])
    assert through.marked == (z,) and not {t[k].op for k in through.lines} & {"exp", "tanh", "broadcast_to"}
    assert "broadcast_to" in {t[k].op for k in way(t, ["z", "y"], fold=False).lines}
    assert any(p == z for p, _ in through.edges) and all(k in through.lines for edge in through.edges for k in edge)
    assert way(t, ["y", "end"]) == ((y, end), ((y, end),), (end,))
    assert way(t, ["y", "x"]) == way(t, ["x", "end"]) == way(t, ["x", "z", "end"]) == way(t, ["w", "z"]) == ((), (), ())
    assert way(t, ["z"]) == ((z,), (), (z,))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        made = [variable(rng, 2, 2, name=f"v{k}") for k in range(2)]
        for k in range(12):
            a, b = (made[j] for j in rng.integers(max(0, len(made) - 5), len(made), 2))
            new = [mg.tanh(a), a * b, a + b, mg.sum(a, axis=0) * b][rng.integers(4)]
            made.append(mg.named(f"n{rng.integers(6)}", new) if k % 3 == 0 else new)
        t = mg.tape(*made[-2:])
        names = list(dict.fromkeys(line.name for line in t if line.name is not None))
        for fold in (True, False):
            for length in (2, 3):
                for route in combinations(names, length):
                    found = way(t, route, fold)
                    lines, edges = by_all_paths(t, route, fold)
                    assert found.lines == tuple(sorted(lines)) and found.edges == tuple(sorted(edges))


def test_ways_are_those_of_all_paths():
    check_ways(way)


MUTANTS = [("line not in stops and any(p in before", "any(p in before"), ("line not in stops and any(u in after", "any(u in after"),
           ("if p in before}", "}"), ("for line in after for p", "for line in tape for p"),
           ("            return Way((), (), ())", "            continue"), ("fold and is_folded", "is_folded"), ("if line not in hidden}", "}"),
           ("return seen(line.inputs[0]) if line in hidden else line", "return line"), ("if tape[k] in stops", ""), ("or between or shown[-1:]", ""),
           ("last = {line.name: line for line in tape if", "last = {line.name: line for line in reversed(tape.lines) if"),
           ("lines - hidden))\n", "lines))\n")]


@pytest.mark.parametrize(("old", "new"), MUTANTS, ids=[str(k) for k in range(len(MUTANTS))])
def test_mutants_of_the_way_are_caught(old, new):
    source = inspect.getsource(ways)
    assert source.count(old) == 1
    mutant = types.ModuleType("minigrad.show.mutant")
    mutant.__package__ = "minigrad.show"
    sys.modules[mutant.__name__] = mutant
    try:
        exec(compile(source.replace(old, new), "mutant", "exec"), mutant.__dict__)
        with pytest.raises((AssertionError, TypeError, KeyError, IndexError, RecursionError)):
            check_ways(mutant.way)
    finally:
        del sys.modules[mutant.__name__]


def test_a_name_that_is_not_there(rng):
    with pytest.raises(KeyError, match="xhat"):
        way(batch_norm(rng), ["x", "xhatt"])


# -- light -------------------------------------------------------------------------------------------------------------


def test_routes_are_lighted_up_by_kind_and_signs(backend, rng):
    t = batch_norm(rng)
    plain = Read(t.svg())
    assert "mg-lit" not in plain.root.get("class") and not any(plain.lit(kind) | plain.lit_edges(kind) for kind in SIGNS)
    read = assert_well_drawn(t.svg(highlight=[(["xhat", "y"], "right"), (["x", "xc", "var"], "missing"), (["x", "mu"], "wrong")]))
    assert "mg-lit" in read.root.get("class").split()
    for kind, names in (("right", ["xhat", "y"]), ("missing", ["x", "xc", "var"]), ("wrong", ["x", "mu"])):
        assert read.lit_edges(kind) == {*way(t, names).edges}
    assert read.lit("missing") == {"0", "5", "6", "7"} and read.lit("wrong") == {"3"} and read.lit("right") == {"11", "13", "15"}
    assert {key for key, g in read.groups.items() if "mg-marked" in g.get("class")} == {"3", "5", "13"}
    key = [e.text for e in read.root.find(f"{NS}g[@class='mg-key']").findall(f"{NS}text")]
    assert key == ["missing", "wrong", "right", "broadcast"]
    assert [g.get("class") for g in read.root.find(f"{NS}defs").findall(f"{NS}g")] == [f"mg-sign mg-sign-{kind}" for kind in SIGNS]


def test_what_is_missing_hides_what_is_right(rng):
    for routes in ([(["x", "xc"], "right"), (["x", "xc"], "missing")], [(["x", "xc"], "missing"), (["x", "xc"], "right")]):
        read = Read(batch_norm(rng).svg(highlight=routes))
        assert read.lit_edges("missing") == {(0, 5)} and not read.lit_edges("right") and read.lit("missing") == {"0", "5"}


def test_routes_that_cannot_be_drawn_say_so(rng):
    t = batch_norm(rng)
    for route, kind, words in ((["x", "xhat"], "wrong", "not on this tape"), (["y", "x"], "wrong", "not on this tape"), (["x", "xc"], "odd", "the kind 'odd'")):
        with pytest.raises(ValueError, match=words):
            t.svg(highlight=[(route, kind)])
    with pytest.raises(KeyError):
        t.svg(highlight=[(["x", "nothing"], "wrong")])


# -- what the checker names --------------------------------------------------------------------------------------------


def test_the_path_that_a_line_forgets_can_be_shown():
    task = derivation.load_task("02_batch_norm")
    report = derivation.check(task, {"d_x": lambda d_xhat, d_mu, share, rstd: d_xhat * rstd + d_mu * share}, lines=["d_x"])
    line = report.lines[0]
    assert (line.code, line.message) == ("missing path", "the path from x through xc, var, rstd to xhat is missing")
    (route,) = line.routes
    assert route == (("x", "xc", "var", "rstd", "xhat"), "missing")
    assert report.as_dict()["lines"][0]["routes"] == [{"names": list(route.names), "kind": "missing"}]
    t = derivation.tape_of(task)
    found = way(t, route.names)
    assert {t[n] for n in route.names} <= {t[k] for k in found.lines} and found.edges
    read = assert_well_drawn(t.svg(highlight=line.routes))
    assert read.lit_edges("missing") == {*found.edges}


def test_the_path_that_a_whole_backward_forgets_has_a_route():
    def rms_norm(x, w):
        ms = mg.named("ms", mg.mean(x * x, -1, keepdims=True))
        return mg.named("y", x / mg.sqrt(ms + 1e-3) * w)

    def backward(dy, x, w):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3)
        return dy * w * r, (dy * x * r).sum(0)
    lines = derivation.check_backward(rms_norm, backward, inputs={"x": np.zeros((6, 4)), "w": np.zeros(4)}).lines
    assert [line.routes for line in lines] == [((("x", "ms", "y"), "missing"),), ()]


def test_the_page_on_homework_shows_a_path(capsys):
    page = (HOMEWORK[0].parents[2] / "docs" / "homework.md").read_text("utf-8")
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if ".svg(" in b)
    names = {"__name__": "page"}
    exec(compile(block, "homework.md", "exec"), names)
    (said,) = capsys.readouterr().out.splitlines()
    assert f"# {said}" in block and Read(names["picture"]).lit_edges("missing") == {(0, 1), (1, 3), (3, 4)}


def test_no_drawing_library_is_needed(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert_well_drawn(batch_norm(rng).svg())


def test_a_right_line_has_no_route():
    task = derivation.load_task("02_batch_norm")
    line = derivation.check(task, {"d_xhat": lambda d_y, gamma: d_y * gamma}, lines=["d_xhat"]).lines[0]
    assert line.verdict == "right" and line.routes == ()


@pytest.mark.more
@pytest.mark.parametrize("folder", HOMEWORK, ids=lambda p: p.name)
def test_the_routes_of_mutants_lie_on_the_tape(folder, tmp_path):
    from lectures.tools import study
    task = derivation.load_task(folder)
    t = derivation.tape_of(task)
    mutants = [v for v in study.mutants([folder.name]) if v.operator in ("term dropped", "sign flipped") and v.line not in task.measured]
    for v in mutants[::max(1, len(mutants) // 4)][:4]:
        file = tmp_path / "lines.py"
        file.write_text(v.text, "utf-8")
        line = derivation.check(task, str(file), lines=[v.line], sandbox="none").lines[0]
        assert line.routes or not re.search(r"\bpath from", line.message), line.message
        for route in line.routes:
            assert way(t, route.names).edges and route.kind in ("missing", "wrong")
            assert route.names[0] == str(task.line(v.line).target)
