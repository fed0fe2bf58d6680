"""The tape in print, in numbers and in pictures, and the record of values: what they show is what is there."""

import contextlib
import gc
import re
import weakref
from itertools import pairwise

import matplotlib
import numpy as np
import pytest

import minigrad as mg
from minigrad.show import adjoints
from minigrad.show.tables import FIRST, LAST

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def variable(rng, *shape, name=None, dtype="float32"):
    x = mg.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True, backend=mg.backend.current_name())
    return x if name is None else mg.named(name, x)


def constant(rng, *shape):
    return variable(rng, *shape).detach()


def batch_norm(x, gamma, beta):
    mu = mg.named("mu", mg.mean(x, axis=0))
    xc = mg.named("xc", x - mu)
    var = mg.named("var", mg.mean(xc * xc, axis=0))
    xhat = mg.named("xhat", xc / mg.sqrt(var + 1e-5))
    return mg.named("y", gamma * xhat + beta)


def batch_norm_inputs(rng, n=8, c=4, dtype="float32"):
    return (variable(rng, n, c, name="x", dtype=dtype), variable(rng, c, name="gamma", dtype=dtype),
            variable(rng, c, name="beta", dtype=dtype))


def small_cnn_loss(rng):
    h, labels = constant(rng, 2, 3, 8, 8), mg.tensor([1, 0], backend=mg.backend.current_name())
    variables = []  # keep them alive, as a Module would
    for k, (c, o) in enumerate([(3, 4), (4, 6), (6, 6)]):
        weight = variable(rng, o, c, 3, 3, name=f"conv{k}.weight")
        bias = variable(rng, o, name=f"conv{k}.bias")
        variables += [weight, bias]
        h = mg.max_pool2d(mg.relu(mg.conv2d(h, weight, bias, padding=1)), 2)
    h = mg.reshape(h, (2, -1))
    variables += [variable(rng, h.shape[1], 2, name="fc.weight"), variable(rng, 2, name="fc.bias")]
    return mg.named("loss", mg.cross_entropy(h @ variables[-2] + variables[-1], labels)), variables


# -- in print ----------------------------------------------------------------------------------------------------------


def test_the_printed_table_of_a_small_function(backend, rng):
    inputs = batch_norm_inputs(rng)
    t = mg.tape(mg.mean(mg.leaky_relu(batch_norm(*inputs), 0.1) * constant(rng, 8, 4)) * 2.5)
    assert str(t) == """\
tape of 20 lines, all float32, keeps 528 B
     name   op                          shape   keeps
 %0  x      variable                    (8, 4)
 %1  gamma  variable                    (4,)
 %2  beta   variable                    (4,)
 %3  mu     mean(%0, axis=0)            (4,)
 %4         broadcast_to(%3)            (8, 4)
 %5  xc     subtract(%0, %4)            (8, 4)
 %6         multiply(%5, %5)            (8, 4)  a=b 128 B
 %7  var    mean(%6, axis=0)            (4,)
 %8         add(%7, ·)                  (4,)
 %9         sqrt(%8)                    (4,)    out 16 B
%10         broadcast_to(%9)            (8, 4)
%11  xhat   divide(%5, %10)             (8, 4)  b (%9), out 128 B
%12         broadcast_to(%1)            (8, 4)
%13         multiply(%12, %11)          (8, 4)  a (%1), b (%11)
%14         broadcast_to(%2)            (8, 4)
%15  y      add(%13, %14)               (8, 4)
%16         leaky_relu(%15, slope=0.1)  (8, 4)  out 128 B
%17         multiply(%16, ·)            (8, 4)  b 128 B
%18         mean(%17, axis=(0, 1))      ()
%19         multiply(%18, 2.5)          ()
            total                               528 B in 5 buffers
(%n): held by line n already"""


def test_the_printed_table_names_each_dtype_where_they_differ_and_each_output_of_an_op(backend, rng):
    x = variable(rng, 6, 2, name="x")
    a, b = mg.split(x, [4])
    t = mg.tape(mg.sum(a * a).astype("float64"), b)
    assert str(t) == """\
tape of 7 lines, keeps 0 B
    name  op                    shape              dtype             keeps
%0  x     variable              (6, 2)             float32
%1        split(%0, axis=0)     (4, 2) and (2, 2)  float32, float32
%2        %1[0]                 (4, 2)             float32
%3        %1[1]                 (2, 2)             float32
%4        multiply(%2, %2)      (4, 2)             float32           a=b (%0)
%5        sum(%4, axis=(0, 1))  ()                 float32
%6        astype(%5)            ()                 float64
          total                                                      0 B in 0 buffers
(%n): held by line n already"""


def test_index_expressions_and_equal_pairs_are_printed_short(backend, rng):
    x = variable(rng, 1, 2, 6, 6)
    t = mg.tape(mg.max_pool2d(x[:, 1:2, ::2], 2))
    assert "getitem(%0, index=(:, 1:2, ::2))" in str(t)
    assert "kernel=2, stride=2, padding=0" in str(t)


def test_a_freed_line_says_so(backend, rng):
    x = variable(rng, 3, name="x")
    y = mg.exp(x) * 2.0
    t = mg.tape(y)
    assert t.kept_bytes == 12
    y.backward(constant(rng, 3))
    assert t.kept_bytes == 0
    assert str(t) == """\
tape of 3 lines, all float32, 2 freed, keeps 0 B
    name  op               shape  keeps
%0  x     variable         (3,)
%1        exp(%0)          (3,)   freed
%2        multiply(%1, ·)  (3,)   freed
          total                   0 B in 0 buffers"""


def test_a_long_tape_is_shortened_in_the_middle_only_in_print(rng):
    y = variable(rng, 2)
    for _ in range(999):
        y = y + 1.0
    t = mg.tape(y)
    shown = str(t).splitlines()
    assert len(t) == 1000
    assert len(shown) == FIRST + LAST + 4  # and title, head, gap and total
    assert f"… {1000 - FIRST - LAST} more lines …" in shown
    assert shown[FIRST + 1].lstrip().startswith(f"%{FIRST - 1} ")
    assert shown[FIRST + 3].lstrip().startswith(f"%{1000 - LAST} ")
    full = t.table(full=True).splitlines()
    assert len(full) == 1003 and not any("more lines" in line for line in full)


def test_many_inputs_and_long_calls_are_clipped(rng):
    t = mg.tape(mg.concatenate([variable(rng, 2) for _ in range(50)]))
    assert "concatenate(%0, %1, %2, %3, %4, …, %49, axis=0)" in str(t)
    assert max(map(len, str(t).splitlines())) < 120


def test_bytes_are_readable(rng):
    y = mg.exp(variable(rng, 500, 500))
    assert "keeps 1.0 MB (1,000,000 bytes)" in str(mg.tape(y))


def test_printing_a_tape_or_a_record_of_device_arrays_never_waits_for_them(fake_device, rng):
    with mg.use("fake"), mg.record() as r:
        loss, _ = small_cnn_loss(rng)
        indexed = variable(rng, 4)[mg.tensor([0, 2])]
    with fake_device.no_sync(), fake_device.count() as counted:
        t = mg.tape(loss, indexed)
        texts = [str(t), t.table(full=True), t.dot(), str(r), repr(r[0]), repr(t[0]), str(t.kept_bytes)]
    assert all(texts)
    assert (counted.syncs, counted.d2h, counted.h2d) == (0, 0, 0)


# -- lines by number and name ------------------------------------------------------------------------------------------


def test_lines_are_found_by_number_slice_and_name(rng):
    x, gamma, beta = batch_norm_inputs(rng)
    t = mg.tape(batch_norm(x, gamma, beta))
    assert [line.op for line in t[:4]] == ["leaf", "leaf", "leaf", "mean"]
    assert t["xhat"].op == "divide" and t["xhat"].inputs[0] is t["xc"] and t["xhat"].shape == (8, 4)
    assert t[-1] is t["y"] is list(t)[-1]
    assert t["x"] is x._line
    assert [line.index for line in t] == sorted(line.index for line in t)


def test_of_several_lines_with_one_name_the_last_is_found_and_all_are_available(rng):
    h = variable(rng, 2)
    made = []
    for _ in range(3):
        h = mg.named("h", mg.tanh(h))
        made.append(h._line)
    t = mg.tape(h)
    assert t["h"] is made[-1]
    assert t.all("h") == made


@pytest.mark.parametrize("look", [lambda y, r: mg.tape(y), lambda y, r: r], ids=["tape", "record"])
def test_an_unknown_name_raises_a_key_error_that_lists_names_and_guesses(rng, look):
    with mg.record() as r:
        y = batch_norm(*batch_norm_inputs(rng))
    with pytest.raises(KeyError) as e:
        look(y, r)["xht"]
    text = str(e.value)
    assert "got the name 'xht'" in text and "'mu', 'xc', 'var', 'xhat', 'y'" in text and "did you mean 'xhat'?" in text
    assert text.count("\n  ") == 2, "the text is printed as it is, not as a quoted string"


def test_where_nothing_is_named_the_key_error_says_how_to_name(rng):
    with pytest.raises(KeyError, match=r"minigrad.named\('xhat', \.\.\.\)"):
        mg.tape(mg.exp(variable(rng, 2)))["xhat"]


def test_only_taped_tensors_have_a_tape(rng):
    with pytest.raises(mg.TapeError, match="requires_grad=True"):
        mg.tape(constant(rng, 2))
    with pytest.raises(TypeError, match="results of ops on Tensors"):
        mg.tape(np.ones(2))


def test_the_tape_of_several_outputs_is_their_union(rng):
    x = variable(rng, 2)
    a, b = mg.exp(x), mg.tanh(x)
    assert [line.op for line in mg.tape(a, b)] == ["leaf", "exp", "tanh"]
    assert [line.op for line in mg.tape((a, b))] == ["leaf", "exp", "tanh"]


# -- kept bytes, against counts by hand (float32: 4 bytes per element) --------------------------------------------------


def test_a_sum_keeps_nothing_and_a_product_of_variables_keeps_only_what_they_hold_anyway(backend, rng):
    a, b = variable(rng, 5), variable(rng, 5)
    assert mg.tape(a + b - a).kept_bytes == 0
    t = mg.tape(a * b)
    assert t[-1].kept.keys() == {"a", "b"}
    assert t.kept_bytes == 0


def test_a_square_keeps_its_factor_once(backend, rng):
    x = variable(rng, 5)
    z = x + 1.0
    assert mg.tape(z * z).kept_bytes == 5 * 4
    assert mg.tape(z * z, z * z, mg.square(z)).kept_bytes == 5 * 4, "three lines, one buffer"


def test_an_output_kept_by_two_lines_counts_once(backend, rng):
    x = variable(rng, 5)
    y = mg.exp(x)
    assert mg.tape(y * x).kept_bytes == 5 * 4  # exp keeps its output, which the product needs too


def test_a_broadcast_view_counts_its_base_only(backend, rng):
    x, w = variable(rng, 100, 3), variable(rng, 3)
    scale = w + 1.0
    t = mg.tape(x * scale)
    assert backend != "numpy" or t[-1].kept["b"].base is not None
    assert t.kept_bytes == 3 * 4  # x is a variable; of the scale 3 elements are stored, whatever its shape on the tape


def test_a_view_keeps_the_whole_buffer_it_looks_into(backend, rng):
    x = variable(rng, 10, 10)
    part = (x + 1.0)[:1]
    assert mg.tape(part * part).kept_bytes == 100 * 4


def test_what_only_a_constant_would_need_is_not_kept(backend, rng):
    x, c = variable(rng, 5), constant(rng, 5)
    z = x + 1.0
    assert mg.tape(z * c).kept_bytes == 5 * 4
    assert list(mg.tape(z * c)[-1].kept) == ["b"], "z would be needed for the gradient of c only"
    assert mg.tape(z * 3.0).kept_bytes == 0


@pytest.mark.more
def test_a_variable_that_nobody_else_holds_is_kept_by_the_tape(backend, rng):
    x = variable(rng, 5)
    y = x * x
    t = mg.tape(y)
    assert t.kept_bytes == 0
    del x
    gc.collect()
    assert t.kept_bytes == 5 * 4


def test_composed_batch_norm_keeps_centred_and_normalized_and_one_number_a_channel(backend, rng):
    n, c = 16, 3
    inputs = batch_norm_inputs(rng, n, c)
    t = mg.tape(batch_norm(*inputs))
    assert t.kept_bytes == (n * c + n * c + c) * 4  # xc, xhat, and the root
    assert t.kept_bytes == sum(h.nbytes for held in t.holdings().values() for h in held if h.already is None)


def test_the_cache_of_a_by_hand_op_is_counted_and_printed_under_one_name(backend, rng):
    @mg.by_hand(save=lambda x: (mg.mean(x, axis=0), mg.std(x, axis=0)), backward=lambda g, saved, x: (g,))
    def standardize(xp, x, *, saved):
        return (x - saved[0]) / saved[1]

    t = mg.tape(standardize(variable(rng, 8, 3) + 1.0))
    assert t.kept_bytes == (3 + 3 + 8 * 3) * 4
    assert "cache 24 B" in str(t) and "x 96 B" in str(t)


# -- Graphviz ----------------------------------------------------------------------------------------------------------

QUOTED = r'"((?:[^"\\]|\\.)*)"'
NODE = re.compile(rf"  n(\d+) \[shape=(box|ellipse), label={QUOTED}\];", re.DOTALL)
EDGE = re.compile(r"  n(\d+) -> n(\d+);")


def parse_dot(text):
    """The statements of the DOT subset that we write, {number: (shape, label)} and [(from, to)]; else an error."""
    start, end = "digraph tape {\n  rankdir=LR;\n", "\n}"
    assert text.startswith(start) and text.endswith(end)
    nodes, edges, at, stop = {}, [], len(start), len(text) - len(end)
    while at < stop:
        if match := NODE.match(text, at):
            assert match[1] not in nodes
            nodes[match[1]] = match[2], match[3]
        elif match := EDGE.match(text, at):
            assert match[1] in nodes and match[2] in nodes
            edges.append((match[1], match[2]))
        else:
            raise AssertionError(f"not DOT: {text[at:at + 80]!r}")
        at = match.end() + 1
    return nodes, edges


def test_dot_has_a_node_for_each_line_and_an_edge_for_each_input(rng):
    t = mg.tape(batch_norm(*batch_norm_inputs(rng)))
    nodes, edges = parse_dot(t.dot())
    number = {line: str(k) for k, line in enumerate(t)}
    assert nodes["0"] == ("box", r"x\n(8, 4)")
    assert nodes["11"] == ("ellipse", r"xhat\ndivide\n(8, 4)")
    assert [shape for shape, _ in nodes.values()] == ["box" if line.is_leaf else "ellipse" for line in t]
    assert sorted(edges) == sorted((number[p], number[line]) for line in t for p in line.inputs)
    assert edges.count(("5", "6")) == 2  # xc * xc


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "ends in \\", '\\"', "two\nlines",
                                  "]; n0 -> n0; //"])
def test_dot_escapes_names(name, rng):
    nodes, edges = parse_dot(mg.tape(mg.exp(variable(rng, 2, name=name))).dot())
    assert len(nodes) == 2 and edges == [("0", "1")]
    label = nodes["0"][1].removesuffix(r"\n(2,)")
    assert re.sub(r"\\(.)", r"\1", label) == name


# -- gradients at every line -------------------------------------------------------------------------------------------


def test_adjoints_are_the_gradients_at_every_line_and_leave_the_tape_usable(backend, rng):
    inputs = batch_norm_inputs(rng, dtype="float64")
    with mg.record() as r:
        y = batch_norm(*inputs)
    v = variable(rng, 8, 4, dtype="float64").detach()
    a = adjoints(y, v)
    assert {line for line in a if not isinstance(line, str)} == set(mg.tape(y))
    for entry in r:
        (g,) = mg.grad(y, [entry.value], v, retain_graph=True)
        np.testing.assert_array_equal(a[entry.line].numpy(), g.numpy())
        if entry.name:
            assert a[entry.name] is a[entry.line]
    y.backward(v)
    for x in inputs:
        np.testing.assert_array_equal(a[x._line.name].numpy(), x.grad.numpy())


def test_adjoints_of_an_op_with_several_outputs_are_at_its_outputs(backend, rng):
    x = variable(rng, 6)
    a, b = mg.split(x, 2)
    found = adjoints(mg.sum(a * 2.0) + mg.sum(b * 3.0))
    assert found[a._line].tolist() == [2.0] * 3 and found[b._line].tolist() == [3.0] * 3
    assert found[x._line].tolist() == [2.0] * 3 + [3.0] * 3
    assert a._line.parents[0] not in found


def test_adjoints_of_several_outputs_are_those_of_their_weighted_sum(rng):
    x = variable(rng, 3)
    a, b = x * 2.0, x * 3.0
    v, w = constant(rng, 3), constant(rng, 3)
    np.testing.assert_allclose(adjoints([a, b], [v, w])[x._line].numpy(), 2 * v.numpy() + 3 * w.numpy(), rtol=1e-6)


# -- pictures ----------------------------------------------------------------------------------------------------------


def boxes_of(ax):
    """{gid: bounding box in pixels} of everything drawn for a line or a constant."""
    ax.figure.canvas.draw()
    found = [(p.get_gid(), p.get_window_extent()) for p in ax.patches if p.get_gid()]
    assert len({gid for gid, _ in found}) == len(found), "a node was drawn twice"
    return dict(found)


def arrows_of(ax):
    """For each arrow a point at least every two pixels along its path, head included."""
    found = []
    for patch in ax.patches:
        if isinstance(patch, matplotlib.patches.FancyArrowPatch):
            legs = [leg for polygon in patch.get_path().to_polygons(ax.transData, closed_only=False)
                    for leg in pairwise(polygon)]
            found.append(np.concatenate([np.linspace(p, q, 2 + int(np.abs(q - p).max() / 2)) for p, q in legs]))
    return found


def assert_well_drawn(ax):
    """Boxes do not overlap and are inside the figure, texts are inside their boxes, and no arrow runs across a box."""
    found = boxes_of(ax)
    boxes = list(found.values())
    for k, a in enumerate(boxes):
        assert a.x0 >= ax.bbox.x0 and a.y0 >= ax.bbox.y0 and a.x1 <= ax.bbox.x1 and a.y1 <= ax.bbox.y1
        for b in boxes[:k]:
            assert a.x1 < b.x0 or b.x1 < a.x0 or a.y1 < b.y0 or b.y1 < a.y0
    wide = [b for gid, b in found.items() if "." not in gid]  # a constant's number is below its dot, not in it
    for text in ax.texts:
        t = text.get_window_extent()
        home = [b for b in wide if b.x0 < (t.x0 + t.x1) / 2 < b.x1 and b.y0 < (t.y0 + t.y1) / 2 < b.y1]
        if home:
            assert home[0].x0 < t.x0 and t.x1 < home[0].x1 and home[0].y0 < t.y0 and t.y1 < home[0].y1, text
        else:
            assert not any(t.x0 < b.x1 and b.x0 < t.x1 and t.y0 < b.y1 and b.y0 < t.y1 for b in boxes), text
    for points in arrows_of(ax):
        for b in boxes:
            inside = ((points > (b.x0 + 1, b.y0 + 1)) & (points < (b.x1 - 1, b.y1 - 1))).all(axis=1)
            assert not inside.any()


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def test_a_toy_is_drawn_with_its_values_and_gradients(backend):
    device = mg.backend.current_name()
    x, w, b = (mg.named(n, mg.tensor(v, requires_grad=True, backend=device)) for n, v in zip("xwb", (3.0, -2.0, 1.0)))
    with mg.record() as r:
        y = mg.named("y", x * w + b)
    ax = mg.tape(y).draw(gradients=True, values=r)
    assert boxes_of(ax).keys() == {"%0", "%1", "%2", "%3", "%4"}
    assert len(arrows_of(ax)) == 4
    assert_well_drawn(ax)
    assert texts_of(ax) == ["x", "= 3", "∂ −2", "w", "= −2", "∂ 3", "b", "= 1", "∂ 1", "×", "= −6", "∂ 1",
                            "+", "y", "= −5", "∂ 1", "∂ gradient"]
    assert ax.figure.get_facecolor() == (1, 1, 1, 1)
    assert tuple(ax.figure.get_size_inches()) == (8, 4)


def test_batch_norm_is_drawn_with_broadcasts_as_dashed_arrows_or_as_boxes(rng):
    t = mg.tape(batch_norm(*batch_norm_inputs(rng)))
    broadcasts = {f"%{k}" for k, line in enumerate(t) if line.op == "broadcast_to"}
    folded, unfolded = t.draw(), t.draw(fold=False)
    assert boxes_of(folded).keys() == {f"%{k}" for k in range(16)} - broadcasts | {"%8.1"}  # and the constant ε
    assert boxes_of(unfolded).keys() == {f"%{k}" for k in range(16)} | {"%8.1"}
    dashed = [p for p in folded.patches
              if isinstance(p, matplotlib.patches.FancyArrowPatch) and p.get_linestyle() != "-"]
    assert len(dashed) == len(broadcasts) == 4
    assert len(arrows_of(folded)) == len(arrows_of(unfolded)) - 4
    assert "- - broadcast" in texts_of(folded) and "- - broadcast" not in texts_of(unfolded)
    for ax in (folded, unfolded):
        assert_well_drawn(ax)


def test_a_broadcast_with_a_name_or_without_a_user_is_drawn_as_a_box(rng):
    x = variable(rng, 3)
    named = mg.named("rows", mg.broadcast_to(x, (2, 3)))
    assert boxes_of(mg.tape(mg.exp(named)).draw()).keys() == {"%0", "%1", "%2"}
    assert boxes_of(mg.tape(mg.broadcast_to(x, (2, 3))).draw()).keys() == {"%0", "%1"}


@pytest.mark.more
def test_a_small_cnn_is_drawn_on_the_slide_it_is_given(backend, rng):
    loss, _ = small_cnn_loss(rng)
    figure, (left, right) = plt.subplots(2, 1, figsize=(8, 8), layout="constrained")
    assert mg.tape(loss).draw(left, gradients=True) is left
    assert len(mg.tape(loss)) > 20
    assert_well_drawn(left)
    assert not right.patches and len(figure.axes) == 2
    assert "conv0.weight" in texts_of(left) and "(2,4,8,8)" in texts_of(left)


def test_both_gradients_are_shown_and_a_box_where_they_differ_is_marked(rng):
    inputs = batch_norm_inputs(rng)
    y = batch_norm(*inputs)
    v = constant(rng, 8, 4)
    composed = adjoints(y, v)
    by_hand = {name: g.numpy() for name, g in composed.items() if isinstance(name, str)}
    by_hand["mu"] = by_hand["mu"] * 0
    by_hand["x"] = by_hand["x"] * (1 + 1e-6)  # rounding
    ax = mg.tape(y).draw(gradients={"composed": composed, "by hand": by_hand})
    texts = texts_of(ax)
    assert [t for t in texts if t.startswith("≠")] == ["≠ ‖∂‖ 0", "≠ they differ"]
    widths = {p.get_gid(): p.get_linewidth() for p in ax.patches if p.get_gid() and "." not in p.get_gid()}
    assert [gid for gid, width in widths.items() if width > 1.5 * min(widths.values())] == ["%3"]
    assert "∂ composed" in texts and "∂ by hand" in texts
    size = f"‖∂‖ {np.linalg.norm(composed['gamma'].numpy()):.3g}"
    assert texts.count(size) == 2, "one for each of the two forms"
    assert_well_drawn(ax)


def test_gradients_may_be_a_list_or_one_dictionary_and_nothing_else(rng):
    y = mg.named("y", mg.exp(variable(rng, 2, name="x")))
    g = adjoints(y, constant(rng, 2))
    assert "∂ gradient" in texts_of(mg.tape(y).draw(gradients=g))
    assert {"∂ (a)", "∂ (b)"} <= {*texts_of(mg.tape(y).draw(gradients=[g, {"x": np.ones(3)}]))}
    with pytest.raises(TypeError, match="a dictionary by line or name"):
        mg.tape(y).draw(gradients=3.0)


def random_graph(seed):
    rng = np.random.default_rng(seed)
    made = [variable(rng, 2, 2, name=f"v{k}") for k in range(3)]
    for _ in range(24):
        a, b = (made[k] for k in rng.integers(0, len(made), 2))
        made.append([mg.tanh(a), a * b, a + 1.0, a @ b, mg.sum(a, axis=0) * b][rng.integers(5)])
    return made


@pytest.mark.more
@pytest.mark.parametrize("seed", range(8))
def test_any_graph_is_drawn_without_overlaps(seed):
    made = random_graph(seed)
    assert_well_drawn(mg.tape(*made[-4:]).draw())


@pytest.mark.parametrize("make", [
    lambda x: x, lambda x: x * x, lambda x: mg.concatenate([x * float(k) for k in range(2, 14)]),
    lambda x: mg.sum(mg.power(x, 3)), lambda x: mg.split(x, 2)[1] + 1.0],
    ids=["leaf", "square", "wide", "power", "split"])
def test_special_shapes_of_graphs_are_drawn(make, rng):
    assert_well_drawn(mg.tape(make(variable(rng, 4, name="x"))).draw())


def test_a_deep_graph_is_broken_into_rows(rng):
    y = variable(rng, 2)
    for _ in range(40):
        y = mg.tanh(y)
    ax = mg.tape(y).draw()
    boxes = boxes_of(ax).values()
    assert len({round(b.y0) for b in boxes}) > 2
    assert_well_drawn(ax)


def test_a_picture_nobody_could_read_is_refused(rng):
    y = variable(rng, 2)
    for _ in range(1000):
        y = mg.tanh(y)
    with pytest.raises(ValueError, match="at most 400"):
        mg.tape(y).draw()


# -- the record --------------------------------------------------------------------------------------------------------


def test_a_record_has_every_result_in_order_with_name_op_value_and_line(backend, rng):
    x, gamma, beta = batch_norm_inputs(rng)
    with mg.record() as r:
        y = batch_norm(x, gamma, beta)
    assert [e.op for e in r] == [line.op for line in mg.tape(y) if not line.is_leaf]
    assert [e.name for e in r if e.name] == ["mu", "xc", "var", "xhat", "y"]
    assert r["y"].value is y and r["y"].line is y._line and r[-1].value is y
    np.testing.assert_allclose(r["mu"].value.numpy(), x.numpy().mean(axis=0), rtol=1e-5, atol=1e-6)
    assert len(r) == 13 and len(r[2:4]) == 2


def test_a_record_works_without_a_tape(backend, rng):
    x, gamma, beta = batch_norm_inputs(rng)
    with mg.no_grad(), mg.record() as r:
        y = batch_norm(x, gamma, beta)
        mg.named("given", constant(rng, 2))
    assert r["y"].value is y and r["y"].line is None and r["xc"].op == "subtract"
    assert r["given"].op == "constant"


def test_names_of_one_value_and_values_of_one_name(rng):
    x = variable(rng, 2)
    with mg.record() as r:
        mg.named("x", x)
        for _ in range(2):
            h = mg.named("h", mg.exp(x))
        mg.named("again", h)
        with mg.no_grad():
            mg.named("second", mg.named("first", mg.exp(x)))
    assert r["x"].op == "variable" and r["x"].value is x
    assert r["h"].value is h and [e.value is h for e in r.all("h")] == [False, True]
    assert r["again"].op == "identity" and r["again"].line.inputs == (h._line,)
    assert r["second"].op == "identity" and r["second"].value is r["first"].value


def test_a_record_shows_ops_with_several_outputs_one_by_one(rng):
    with mg.record() as r:
        a, b = mg.split(variable(rng, 4), 2)
    assert [e.op for e in r] == ["split[0]", "split[1]"]
    assert r[0].value is a and r[1].line is b._line


def test_a_record_ends_with_its_block_also_after_an_error(rng):
    x = variable(rng, 2)
    with contextlib.suppress(ZeroDivisionError), mg.record() as r:
        mg.exp(x)
        raise ZeroDivisionError
    mg.exp(x)
    assert len(r) == 1
    with mg.record() as outer:
        mg.exp(x)
        with mg.record() as inner:
            mg.tanh(x)
    assert [e.op for e in outer] == ["exp", "tanh"] and [e.op for e in inner] == ["tanh"]


@pytest.mark.more
def test_nothing_is_kept_once_the_record_is_gone(rng):
    x = variable(rng, 2)
    with mg.record() as r:
        value = weakref.ref(mg.exp(x))
    assert value() is not None
    del r
    gc.collect()
    assert value() is None


def test_the_record_in_print(rng):
    x = variable(rng, 2, 3, name="x")
    with mg.record() as r:
        mg.sum(mg.named("z", x * 2.0), axis=0)
    assert str(r) == """\
record of 2 values
   name  op        shape   dtype
0  z     multiply  (2, 3)  float32
1        sum       (3,)    float32"""
    assert repr(r["z"]) == "<multiply 'z' (2, 3) float32>"
    assert str(mg.record()) == "record of 0 values"
