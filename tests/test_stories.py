"""The stories of homework: complete, with formulas that can be set, without a solution, and true in what they say of the right answer."""

import html
import inspect
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from lectures.site import story as stories
from lectures.tools import release
from minigrad.derivation import load_task
from minigrad.derivation.probe import Probe

ROOT = Path(__file__).resolve().parents[1]
HOMEWORK = ROOT / "lectures" / "homework"
NAMES = sorted(p.parent.name for p in HOMEWORK.glob("*/task.py"))
TEXTS = {name: stories.story(HOMEWORK / name) for name in NAMES}
SECTIONS = ["## The forward pass", "## What you derive", "## Before you write"]
CHECK = "**To check:** "
each_homework = pytest.mark.parametrize("name", NAMES)


# -- complete ----------------------------------------------------------------------------------------------------------


@each_homework
def test_a_homework_has_a_story_with_all_names_and_all_lines_in_their_order(name):
    task, text = load_task(str(HOMEWORK / name)), TEXTS[name]
    assert text and stories.missing(task, text) == []
    assert re.findall(r"^- `(\w+)`:", text, re.MULTILINE) == list(task.lines)
    assert text.startswith("# ") and re.findall(r"^##.*", text, re.MULTILINE) == SECTIONS and text.count(CHECK) == 1


@each_homework
def test_a_line_is_told_with_what_it_may_use(name):
    lines = runpy.run_path(str(HOMEWORK / name / "lines.py"))
    for line, told in re.findall(r"^- `(\w+)`: (.*)", TEXTS[name], re.MULTILINE):
        assert [a for a in inspect.signature(lines[line]).parameters if f"`{a}`" not in told] == []


def test_what_is_missing_is_found():
    task, text = load_task("02_batch_norm"), TEXTS["02_batch_norm"]
    assert stories.missing(task, text.replace("`share`", "share").replace("`rstd`", "rstd").replace("- `d_mu`", "- d_mu").replace("`d_mu`", "")) == \
        ["share", "rstd", "d_mu"]
    assert stories.missing(task, "") == ["x", "share", "gamma", "beta", "eps", "m", "mu", "xc", "var", "rstd", "xhat", "y", *task.lines]


def test_a_homework_without_a_story_has_an_empty_one(tmp_path):
    assert stories.story(tmp_path) == ""


# -- formulas ----------------------------------------------------------------------------------------------------------


@each_homework
def test_formulas_are_well_formed_and_one_stands_for_each_step(name):
    assert list(stories.problems(TEXTS[name])) == []
    (forward,) = [f for f in stories.formulas(TEXTS[name]) if "aligned" in f]
    task = load_task(str(HOMEWORK / name))
    steps = [n for n in stories.names(task) if n not in (*inspect.signature(task.forward).parameters, *task.given)]
    assert forward.count(" &= ") == forward.count("&& ") == len(steps)


@pytest.mark.parametrize("text, says", [
    ("a $x", "without its partner"), ("$$\nx\n$$ and $y", "without its partner"), ("$$ x $$", "a line of its own"), ("$x_{1$", "braces"), ("$}x{$", "braces"),
    ("$$\n\\begin{aligned}\nx\n$$", "aligned do not match"), ("$\\end{a}$", "a do not match"), ("$\\begin{a}\\begin{b}\\end{a}\\end{b}$", "do not match"),
    ("$\\left( x$", "\\right"), ("$$\nx\n- y\n$$", "begins like"), ("$$\nx\n  + y\n$$", "begins like"), ("$$\nx\n\ny\n$$", "an empty line"),
    ("$\\label{x}$", "\\label"), ("$\\newcommand{x}$", "\\newcommand"), ("| $|x|$ |", "a bar ends the cell")])
def test_what_is_wrong_with_a_formula_is_found(text, says):
    assert any(says in problem for problem in stories.problems(text))


@pytest.mark.parametrize("text", ["`$x` costs \\$5", "$\\{x\\}$", "$$\n\\begin{cases} x \\\\{y} \\end{cases}\n$$", "$\\rightarrow -x$", "$-x$\n- and\n+ so"])
def test_what_only_looks_wrong_passes(text):
    assert list(stories.problems(text)) == []


# -- no solution -------------------------------------------------------------------------------------------------------


def leaks(folder, texts):
    """What the release finds in these stories, next to the solutions that they belong to."""
    gone = []
    for name, text in texts.items():
        lines = f"lectures/homework/{name}/lines.py"
        for root in (folder / "root", folder / "tree"):
            (root / lines).parent.mkdir(parents=True)
            (root / lines).with_name("story.md").write_text(text, "utf-8")
        shutil.copy(ROOT / lines, folder / "root" / lines)
        gone += release.strip((ROOT / lines).read_text("utf-8"), lines)[1]
    return release.leaks(folder / "root", folder / "tree", gone)


def test_no_story_shows_a_solution(tmp_path):
    assert leaks(tmp_path, TEXTS) == []


@pytest.mark.parametrize("shown", ["return d_xhat * rstd + share * (d_var * 2.0 * xc + d_mu)", "`rho * a + p * (2 * v * c + u)`"])
def test_a_solution_in_a_story_is_found(tmp_path, shown):
    assert leaks(tmp_path, {"02_batch_norm": f"# Story\n\n{shown}\n"})


@each_homework
def test_a_story_leaves_derivatives_and_hints_to_the_student(name):
    text, task = TEXTS[name], load_task(str(HOMEWORK / name))
    for formula in stories.formulas(text):  # TeX is nothing that the release can read
        assert "partial" not in formula or re.fullmatch(r"\\partial L/\\partial\s?(\\[a-zA-Z]+ ?)?[\w^]*", formula), formula
        assert not re.search(r"\b[dD]_|\bd_", formula), formula
    assert [c for c in re.findall(r"`([^`]+)`", text) if not re.fullmatch(r"[\w.]+", c)] == []  # names, and no expressions
    plain = " ".join(text.lower().replace("`", "").replace("$", "").split())
    for hint in (h for line in task.lines for h in task.line(line).hints):
        assert hint.lower().rstrip(".?") not in plain


# -- what a story says of the right answer is true ---------------------------------------------------------------------


def answers(name, find=None, **keywords):
    """(values, adjoints of the tape and given things by name, results of the solutions) of each case; a solution is what the tape says."""
    task, lines, rng = load_task(str(HOMEWORK / name)), runpy.run_path(str(HOMEWORK / name / "lines.py")), np.random.default_rng(17)
    for arrays, own in task.cases(rng, "float64"):
        probe = Probe(task, (arrays, own | keywords), rng)
        known = probe.values | probe.keywords
        known |= {n: f(known) for n, f in task.given.items()} | {f"d_{n}": a for n, a in probe.adjoints.items()}
        found = {n: lines[n](*(known[a] for a in inspect.signature(lines[n]).parameters)) for n in task.lines}
        for n in () if task.measured else task.lines:
            np.testing.assert_allclose(found[n], probe.adjoints[task.line(n).target], rtol=1e-9, atol=1e-9 * np.abs(found[n]).max())
        yield known, found


def is_zero(terms, axis=None):
    """Their sum, against what it is made of."""
    return bool(np.all(np.abs(np.sum(terms, axis)) <= 1e-10 * np.sum(np.abs(terms), axis)))


def same(a, b, terms):
    return bool(np.all(np.abs(a - b) <= 1e-10 * np.sum(np.abs(terms), 0)))


def doubled(v, d, name="09_cost"):
    lines = runpy.run_path(str(HOMEWORK / name / "lines.py"))
    return all(lines[n](2 * v["x_bytes"], 2 * v["channel_bytes"]) == 2 * d[n] for n in d if n.startswith("kept_"))


# Homework -> what its story says, the keywords for which it says so, and whether it holds: of (known, found).
PROPERTIES = {
    "01_own_op": ("no element of `d_x` is larger in absolute value than the element of `d_y` in the same place.", {},
                  lambda v, d: bool(np.all(np.abs(d["d_x"]) <= np.abs(v["d_y"])) and np.all(np.abs(d["d_x_rule"]) <= np.abs(v["d_y"])))),
    "02_batch_norm": ("in every channel the elements of `d_x` sum to zero, each counted once whatever its share is.", {},
                      lambda v, d: is_zero(d["d_x"], 0) and is_zero(d["d_x_one_line"], 0) and not is_zero(v["share"] * d["d_x"], 0)),
    "03_inplace_abn": ("if eps is 0, then in every channel the elements of `x` times `d_x` sum to zero. Those of `d_x` alone do not.", {"eps": 0.0},
                       lambda v, d: all(is_zero(v["x"] * d[n], 0) and not is_zero(d[n], 0) for n in ("d_x_form_1", "d_x_form_2"))),
    "04_jacobian": ("$w$ is linear in $v$. So in every channel the sum of `v` times `d_v` is the sum of `w` times `d_w`.", {},
                    lambda v, d: all(same(np.sum(v["v"] * d[n], 0), np.sum(v["w"] * v["d_w"], 0), v["v"] * d[n]) for n in ("d_v", "d_v_one_line"))),
    "04_orthonormality": ("the $k \\times k$ matrix $W^T$ times `d_W` is symmetric, because a rotation of all rows does not change the penalty.", {},
                          lambda v, d: all(np.allclose(v["W"].T @ d[n], (v["W"].T @ d[n]).T, atol=1e-12) for n in ("d_W", "d_W_one_line"))),
    "05_whitening": ("in every channel the elements of `d_x` sum to zero.", {}, lambda v, d: is_zero(d["d_x"], 0)),
    "05_whitening_stable": ("the sum of all elements of `sigma` times `d_sigma` is minus one half of that of `W` times `d_W`.", {},
                            lambda v, d: is_zero([*np.ravel(v["sigma"] * d["d_sigma"]), *np.ravel(v["W"] * d["d_W"]) / 2])),
    "06_weight_norm": ("if eps is 0, then every row of `d_v` is orthogonal to the same row of `v`.", {"eps": 0.0},
                       lambda v, d: is_zero(v["v"] * d["d_v"], 1) and is_zero(v["v"] * d["d_v_one_line"], 1)),
    "06_centered_weight_norm": ("every row of `d_v` sums to zero. There is a second direction to which it is orthogonal: find it.", {},
                                lambda v, d: all(is_zero(d[n], 1) and is_zero(v["vc"] * d[n], 1) for n in ("d_v", "d_v_one_line"))),
    "06_spectral_norm": ("the sum of all elements of `W` times `d_W` is zero, because a multiple of $W$ gives the same result.", {},
                         lambda v, d: is_zero(v["W"] * d["d_W"])),
    "07_layer_norm": ("every row of the derivative of `x` sums to zero.", {}, lambda v, d: is_zero(d["d_x_one_line"], 1)),
    "07_rms_norm": ("if eps is 0, then every row of `d_x` is orthogonal to the same row of `x`. It need not sum to zero.", {"eps": 0.0},
                    lambda v, d: all(is_zero(v["x"] * d[n], 1) and not is_zero(d[n], 1) for n in ("d_x", "d_x_one_line"))),
    "08_iter_norm": ("the sum of all elements of `sigma` times `d_sigma` is minus one half of that of `W` times `d_W`.", {},
                     lambda v, d: is_zero([*np.ravel(v["sigma"] * d["d_sigma"]), *np.ravel(v["W"] * d["d_W"]) / 2])),
    "09_cost": ("twice as many bytes in both arguments give twice as many bytes kept.", {}, doubled),
    "10_double_backward": ("in every channel the elements of `d_g` sum to zero, and so do those of the derivative of `x`.", {},
                           lambda v, d: all(is_zero(d[n], 0) for n in ("d_g", "d_g_one_line", "d_x_one_line"))),
    "11_design_a_layer": ("in every channel the elements of `d_x` sum to zero.", {}, lambda v, d: is_zero(d["d_x"], 0) and is_zero(d["d_x_one_line"], 0)),
}


@each_homework
def test_the_right_answer_has_the_property_that_its_story_states_and_a_wrong_one_does_not(name):
    says, keywords, holds = PROPERTIES[name]
    assert TEXTS[name].endswith(f"{CHECK}{says}\n")
    rng, cases = np.random.default_rng(5), 0
    for known, found in answers(name, **keywords):
        assert holds(known, found)
        assert not holds(known, {line: np.add(value, rng.normal(5.0, 3.0, np.shape(value))) for line, value in found.items()})
        cases += 1
    assert cases >= 3


# -- on a page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def markdown():
    """What renders a story; a test that asks for it is skipped where it is missing."""
    pytest.importorskip("mdit_py_plugins.dollarmath")


def shown_formulas(page):
    """What MathJax reads between its delimiters."""
    return [html.unescape(inline or display) for inline, display in re.findall(r"\\\((.*?)\\\)|\\\[\n?(.*?)\n?\\\]", page, re.DOTALL)]


@each_homework
def test_every_formula_of_a_story_is_on_its_page_as_it_was_written(name, markdown):
    page = stories.rendered(TEXTS[name])
    assert [f.strip() for f in shown_formulas(page)] == [f.strip() for f in stories.formulas(TEXTS[name])]
    assert "$" not in page and "<h1" not in page and page.startswith("<h2>") and page.count("<h3>") == 3 and page.count("<table>") == 1
    rows = sum(line.startswith("|") for line in TEXTS[name].splitlines()) - 1
    assert page.count("<tr>") == rows and page.count("<td>") == 4 * (rows - 1)


@pytest.mark.parametrize("formula", [r"a_1 * b_2 * c_3", r"*a* **b** _c_ __d__", r"\{x\} \\ \, \_ \*", r"`x`", r"a < b > c & d", r"[x](y) ![x](y)", r"<b>x</b>",
                                     r"x\$y", r"1. x # y", "&amp; &lt;"])
@pytest.mark.parametrize("form", ["${}$", "It is ${}$, isn't it?", "| $x$ |\n|---|\n| ${}$ |", "- `d_x`: ${}$", "$$\n{}\n$$", "$$\nx\n{}\n$$"])
def test_markdown_leaves_a_formula_alone(formula, form, markdown):
    page = stories.rendered(form.replace("{}", formula))
    assert shown_formulas(page)[-1].removeprefix("x\n") == formula
    assert "<b>" not in page and "<em>" not in page and "<a " not in page and "<img" not in page


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a <b onclick='x'>b</b>", "<!-- c -->\n", "![x](https://example.org/x.png)",
                                  "[x](javascript:alert(1))", "$<script>alert(1)</script>$", "$$\n</div><script>\n$$", "`<b>`", "```\n<b>\n```"])
def test_a_story_brings_no_html_of_its_own(text, markdown):
    tags = re.findall(r"<(/?\w+)", stories.rendered(text))
    assert {t.strip("/") for t in tags} <= {"p", "span", "div", "code", "pre", "a"}
    assert not re.search(r"<!--|<[^>]* (onclick|src)=|href=.javascript", stories.rendered(text))


def test_headings_are_one_rank_lower(markdown):
    assert stories.rendered("# A\n\n## B\n\n###### C\n") == "<h2>A</h2>\n<h3>B</h3>\n<h6>C</h6>\n"
