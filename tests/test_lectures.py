"""Every lecture runs, its notebook is what its source makes, and its web page needs nothing but itself."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from lectures import classroom
from lectures.site.check import read
from lectures.site.mathjax import NoMathJax, mathjax, verified
from lectures.tools import build

ROOT = Path(__file__).resolve().parents[1]
LECTURES = build.sources()
each_lecture = pytest.mark.parametrize("path", LECTURES, ids=lambda p: p.stem)


@pytest.fixture
def jupytext():
    """Reads lectures as cells; a test that asks for it is skipped, and says why, where it is missing."""
    return pytest.importorskip("jupytext")


@pytest.fixture
def nbformat():
    return pytest.importorskip("nbformat")


@pytest.fixture
def site(jupytext):
    """What writes the web pages, with nbconvert and others."""
    return pytest.importorskip("lectures.site.__main__")


def environment(**more):
    """The variables of a shell in which somebody runs a lecture: it must find the project by itself."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MPLBACKEND", "MINIGRAD_LECTURE")} | more


def test_networks_of_lectures_train_on_every_backend(backend, monkeypatch):
    monkeypatch.setattr(classroom, "BACKEND", backend)
    trained = classroom.train_tiny_cnn(steps=2)
    assert {model.parameters().__next__().backend for model in trained.models.values()} == {backend}
    assert max(trained.agreement) < 1e-4


# -- the sources -------------------------------------------------------------------------------------------------------


@each_lecture
def test_a_lecture_says_what_it_is_about(path, jupytext):
    s = build.syllabus(path)
    assert s.number == int(path.name[:2]) and len(s.abilities) >= 2 and s.needs and s.sources


LOOKS_LIKE_MARKDOWN = re.compile(r"\n\s*(?:(?:[-+*]|#{1,6}|\d+[.)])\s|>|[-=]+\s*\n)")  # an item of a list, a heading, a quotation


def broken(text):
    """Formulas that Markdown tears apart: one of their lines begins like an item of a list, say with + or -."""
    text = re.sub(r"(?ms)^ *```.*?^ *```|`[^`]*`|(?<=\n\n)(?: {4}[^\n]*\n)+", "", text)  # code, also in other programs' syntax
    return [f for f in re.findall(r"\$\$[^$]+\$\$|(?<![\\$])\$[^$]+\$", text) if LOOKS_LIKE_MARKDOWN.search(f)]


def test_broken_formulas_are_found():
    assert broken("with $a\n+ b$ and $$a\n  - b$$, `$x`, $a + b\n= c$") == ["$a\n+ b$", "$$a\n  - b$$"]
    assert broken("$a\n=\nb$ and $a\n> b$, $1\n2. 3$, $5\n-1$, $x\n*y$") == ["$a\n=\nb$", "$a\n> b$", "$1\n2. 3$"]
    assert broken("Code:\n\n    $ ls\n    - $x\n\n```\n$a\n+ b$\n```\n") == []


@each_lecture
def test_no_formula_is_broken_by_a_line_that_looks_like_a_list(path, jupytext):
    assert [f for cell in build.cells(path) if cell.cell_type == "markdown" for f in broken(cell.source)] == []


def test_no_formula_of_the_documentation_is_broken_either():
    files = [*ROOT.glob("*.md"), *(file for folder in ("docs", "lectures", "datasets", "benchmarks", "experiments") for file in (ROOT / folder).rglob("*.md"))]
    assert len(files) > 20 and {file.relative_to(ROOT).as_posix(): found for file in files if (found := broken(file.read_text("utf-8")))} == {}


@each_lecture
def test_a_lecture_asserts_what_it_claims(path):
    """Most of the numbers: at least ten checks by assert or agree."""
    tree = ast.parse(path.read_text("utf-8"))
    asserts = sum(isinstance(node, ast.Assert) for node in ast.walk(tree))
    agreements = sum(isinstance(node, ast.Call) and ast.unparse(node.func) == "agree" for node in ast.walk(tree))
    assert asserts + agreements >= 10


@pytest.mark.more
@each_lecture
def test_a_lecture_runs_as_a_program(path):
    """In fast mode, from the root, in a new process; the time limit is for one that hangs."""
    done = subprocess.run([sys.executable, f"lectures/{path.name}"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=120,
                          env=environment(MPLBACKEND="Agg", MINIGRAD_LECTURE="fast", PYTHONIOENCODING="utf-8"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 10


# -- what is made of them ----------------------------------------------------------------------------------------------


def test_notebooks_and_table_are_what_the_sources_make(jupytext):
    assert build.drifted() == [], "run: python -m lectures.build"


@each_lecture
def test_a_notebook_is_the_same_in_every_build_and_has_no_outputs(path, jupytext, nbformat):
    text = build.notebook(path)
    assert text == build.notebook(path)
    nb = nbformat.reads(text, as_version=4)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in nb.cells)
    assert [cell.source for cell in nb.cells] == [cell.source for cell in jupytext.read(path, fmt="py:percent").cells]


GOOD = """# %% [markdown]
# # 1 · A title
#
# **After this lecture you can**
#
# - do one thing;
# - do another, which
#   needs two lines.
#
# You need nothing.
#
# *Sources:* bn-lecture.

# %%
import matplotlib.pyplot as plt
print(6 * 7)

# %% alt="A line."
plt.plot([1, 2])
plt.show()
"""


@pytest.fixture
def course(tmp_path, jupytext):
    """A folder with one small lecture, and its notebook and table."""
    (tmp_path / "01_small.py").write_text(GOOD, "utf-8")
    (tmp_path / "README.md").write_text(f"Above.\n{build.BEGIN}\nold\n{build.END}\nBelow.\n", "utf-8")
    for path, text in build.built(tmp_path).items():
        path.write_text(text, "utf-8", newline="\n")
    return tmp_path


def test_the_table_is_made_from_the_first_cells(course):
    assert (course / "README.md").read_text("utf-8").splitlines() == [
        "Above.", build.BEGIN, "| | lecture | after it you can | you need |", "|---|---|---|---|",
        "| 1 | [A title](01_small.ipynb) | do one thing; do another, which needs two lines | nothing |", build.END, "Below."]


def test_drift_is_found(course):
    assert build.drifted(course) == []
    (course / "01_small.py").write_text(GOOD.replace("6 * 7", "6 * 8"), "utf-8")
    (course / "02_orphan.ipynb").write_text("{}", "utf-8")
    assert build.drifted(course) == ["01_small.ipynb", "02_orphan.ipynb"]


@pytest.mark.parametrize("old, new", [("# # 1 · A title", "# # 3 · A title"), ("You need", "One needs"), ("*Sources:*", "Sources:"),
                                      ("**After this lecture you can**", "You can")])
def test_a_first_cell_with_something_missing_is_refused(course, old, new):
    (course / "01_small.py").write_text(GOOD.replace(old, new), "utf-8")
    with pytest.raises(ValueError, match=r"01_small\.py: the first cell"):
        build.syllabus(course / "01_small.py")


# -- web pages ---------------------------------------------------------------------------------------------------------


def test_a_page_contains_all_that_it_needs(course, site, nbformat):
    nb = nbformat.reads(build.notebook(course / "01_small.py"), as_version=4)
    here = build.syllabus(course / "01_small.py")
    other = here._replace(name="02_other", number=2, title="Another & more")
    text = site.page(nb, [here, other], here, 'stand_in("</script>")')
    assert site.loads(text) == [] and site.loads(site.index([here, other], "")) == []
    assert 'href="02_other.html">2 · Another &amp; more →' in text and 'stand_in("<\\/script>")' in text
    assert "default-src 'none'" in text and site.MATHJAX_OPTIONS in text
    assert "do another, which needs two lines" in site.index([here], "")


def test_a_page_works_with_keyboard_and_reader_and_in_the_dark(course, site, nbformat):
    nb = nbformat.reads(build.notebook(course / "01_small.py"), as_version=4)
    nb.cells[-1].outputs = [nbformat.v4.new_output("display_data", {"image/png": "AA=="}, metadata={"image/png": {"width": 1000, "height": 400}})]
    nb.cells[0].source += "\n\n## Part\n\n|a|b|\n|---|---|\n|1|2|"
    here = build.syllabus(course / "01_small.py")
    text = site.page(nb, [here], here, "stand_in('<table></table>')")
    assert '<html lang="en">' in text and text.index('<a class="skip" href="#lecture">') < text.index("<nav") and '<main id="lecture">' in text
    assert len(re.findall(r"<nav\b", text)) == len(re.findall(r"<nav[^>]* aria-label=", text)) == 4 and "prefers-color-scheme: dark" in text
    assert text.count('<a href="#Part">Part</a>') == 2 and '<details class="contents">' in text
    figure = re.search(r'<div class="output_png scrolls"><img ([^>]*)>', text)[1]
    assert all(part in figure for part in ('alt="A line."', 'width="1000"', 'height="400"', 'style="min-width: 660px"'))
    assert '<div class="scrolls"><table>' in text and "stand_in('<table></table>')" in text
    assert read(text).bare == [] and 'http-equiv="Content-Security-Policy"' in text


def figures(path):
    """The cells of a lecture that show a figure."""
    return [cell for cell in build.cells(path) if cell.cell_type == "code" and re.search(r"plt\.show\(\)|\.draw\(", cell.source)]


@each_lecture
def test_every_figure_has_a_text_and_letters_that_are_large_enough_on_a_phone(path, jupytext):
    assert figures(path) and [cell.source for cell in figures(path) if not cell.metadata.get("alt", "").strip()] == []
    assert [size for cell in figures(path) for size in re.findall(r"fontsize=([\d.]+)", cell.source) if float(size) < 9] == []


def test_the_smallest_letters_of_a_figure_are_nine_pixels_high(site):
    style = (ROOT / "minigrad" / "minigrad.mplstyle").read_text("utf-8")
    dots = float(re.search(r"figure\.dpi: (\d+)", style)[1])
    assert min(map(float, re.findall(r"(?:font\.size|titlesize|labelsize|legend\.fontsize): ([\d.]+)", style))) >= 9
    assert 9 * dots / 72 * site.LEAST_SCALE >= 9


def test_every_homework_belongs_to_one_lecture(site):
    names = sorted(p.parent.name for p in (ROOT / "lectures" / "homework").glob("*/task.py"))
    homework = {path.stem: site.homework_of(path, names) for path in LECTURES}
    assert sorted(name for found in homework.values() for name in found) == names
    assert homework["02_batch_norm"] == ["02_batch_norm", "11_design_a_layer"] and homework["00_why"] == []


def test_pages_link_to_homework_only_where_there_is_a_page_for_it(course, site, nbformat):
    nb = nbformat.reads(build.notebook(course / "01_small.py"), as_version=4)
    nb.cells.append(nbformat.v4.new_markdown_cell("## Homework\n\nNow you."))
    here = build.syllabus(course / "01_small.py")
    link, without = '<a href="try/01_own_op.html">A smooth absolute value</a>', site.page(nb, [here], here, "")
    assert "try/" not in without and 'class="homework"' not in without and "try/" not in site.index([here], "")
    text = site.page(nb, [here], here, "", ["01_own_op"])
    assert text.count(link) == 2 and text.count('<p class="homework"><b>Homework: do it in the browser</b>') == 2
    assert text.index("<h1") < text.index(link) < text.index('class="input_area') < text.index('<h2 id="Homework">') < text.rindex(link)
    assert f"Homework in the browser: {link}." in site.index([here], "", {here.name: ["01_own_op"]})


def test_try_pages_are_written_where_lectures_link_to(tmp_path, site):
    def write(folder):
        for name in ("b", "a"):
            (folder / f"{name}.html").write_text("", "utf-8")
        return ["b", "a"]
    assert site.try_pages(tmp_path / "none", None) == [] and not (tmp_path / "none").exists()
    assert site.try_pages(tmp_path / site.TRIES, write) == ["a", "b"] and (tmp_path / "try" / "a.html").is_file()


def test_a_site_links_to_try_pages_and_is_not_built_where_one_is_missing(course, site, nbformat, monkeypatch):
    source = course / "01_small.py"
    source.write_text(GOOD + '\n# %%\ncheck_homework("01_own_op")\n', "utf-8")
    monkeypatch.setattr(site, "sources", lambda: [source])
    monkeypatch.setattr(site, "executed", lambda path, *_, **__: nbformat.reads(build.notebook(path), as_version=4))
    monkeypatch.setattr(site.browser, "browser", lambda: None)

    def documentation(folder, program):
        folder.mkdir()
        (folder / "index.html").write_text("", "utf-8")
    monkeypatch.setattr(site.docs, "build", documentation)

    def tries(folder):
        (folder / "01_own_op.html").write_text('<html lang="en"></html>', "utf-8")
        return ["01_own_op"]
    assert site.build(course / "site", "", tries=tries) == ["index.html", "01_small.html"]
    assert all('href="try/01_own_op.html"' in (course / "site" / page).read_text("utf-8") for page in ("index.html", "01_small.html"))
    with pytest.raises(site.NotBuilt, match=r"01_small\.html links to try/01_own_op\.html, which is not there"):
        site.build(course / "other", "", tries=lambda folder: ["01_own_op"])
    site.build(course / "without", "")
    assert not (course / "without" / "try").exists()


@pytest.mark.parametrize("text, found", [
    ('<script src="https://cdn.example/x.js"></script>', 1), ('<link rel="stylesheet" href="style.css">', 1), ('<img src="figure.png">', 1),
    ("<style>@import 'x.css'; a {background: url(https://x.example/y.png)}</style>", 2), ('<p style="background:url(x.png)">', 1),
    ('<iframe src="//x.example"></iframe>', 1), ('<img src="data:image/png;base64,AA==">', 0), ('<a href="https://example.org">a link</a>', 0),
    ("<script>x = 'https://cdn.example'</script>", 0), ('<svg><use href="#glyph"></use></svg>', 0)])
def test_what_a_page_would_fetch_is_found(text, found, site):
    assert len(site.loads(text)) == found


def test_another_mathjax_is_refused(tmp_path):
    with pytest.raises(NoMathJax, match="SHA-256"):
        verified(b"something else", "file.js")
    (tmp_path / "tex-svg.js").write_bytes(b"damaged")
    with pytest.raises(NoMathJax, match="is not es5"):
        mathjax(tmp_path)
    with pytest.raises(NoMathJax, match="there is no file"):
        mathjax(tmp_path, tmp_path / "missing.js")


# -- what the lectures share -------------------------------------------------------------------------------------------


def test_agree_refuses_wrong_values_and_wrong_shapes(capsys):
    classroom.agree("a", np.ones(3), mg.tensor(np.ones(3)))
    assert "relative error 0\n" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="relative error"):
        classroom.agree("a", np.ones(3) * (1 + 1e-12), np.ones(3))
    with pytest.raises(AssertionError, match="shape"):  # NumPy would broadcast it, and find it equal
        classroom.agree("a", np.ones((1, 3)), np.ones(3))
    with pytest.raises(AssertionError, match="nan"):
        classroom.agree("a", np.full(3, np.nan), np.ones(3))


def test_a_table_is_aligned_text_and_escaped_html(capsys):
    classroom.table(["name", "value"], [["a < b", 1.5], ["c", 10]])
    assert capsys.readouterr().out.splitlines() == ["name   value", "-----  -----", "a < b    1.5", "c         10"]


def test_every_derivation_can_be_shown_beside_its_composed_form(capsys):
    import layers
    for name, layer in layers.REGISTRY.items():
        for derivation in layer.derived:
            classroom.show_side_by_side(name, derivation)
            out = capsys.readouterr().out
            assert f"# {name}, composed" in out and out.count("def ") >= 2


def test_the_training_compares_gradients_at_equal_parameters():
    """Rounding only: the composed and derived gradients of one float64 step, whatever the networks have become."""
    run = classroom.train_tiny_cnn("group_norm", steps=4, dtype="float64")
    assert len(run.agreement) == len(run.loss["composed"]) == 4
    assert 0 < max(run.agreement) < 1e-12 and run.kept["derived"] < run.kept["composed"]


RESULT = {"document": "cwn, figure 1", "claim": "a < b", "runs": 6, "rows": [
    {"quantity": "error", "document": 0.36, "shown": "0.5 ± 0.3 (n = 5)", "verdict": "agrees", "headline": True},
    {"quantity": "loss", "document": None, "shown": "1 (n = 5)", "verdict": "", "headline": False}]}


def test_results_are_read_when_they_are_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classroom, "RESULTS", tmp_path)
    classroom.show_results("cwn_figure_1")
    assert "python -m experiments cwn_figure_1" in capsys.readouterr().out
    (tmp_path / "cwn_figure_1").mkdir()
    file = tmp_path / "cwn_figure_1" / "digits.json"
    file.write_text(json.dumps(RESULT), "utf-8")
    classroom.show_results("cwn_figure_1")
    out = " ".join(capsys.readouterr().out.split())
    assert "cwn, figure 1: a < b (cwn_figure_1 on digits, 6 runs)" in out and "error 0.36 0.5 ± 0.3 (n = 5) agrees loss – 1 (n = 5) –" in out
    file.write_text(json.dumps({**RESULT, "rows": [{**RESULT["rows"][0], "shown": "0.7"}, *RESULT["rows"][1:] * 8]}), "utf-8")
    classroom.show_results("cwn_figure_1")
    out = capsys.readouterr().out
    assert "0.7" in out and "0.5" not in out and "loss" not in out  # a new number; of a long table the headlines


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{"quantity": "error"}]}', "null"])
def test_damaged_results_are_named(text, tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "RESULTS", tmp_path)
    (tmp_path / "deep_plain").mkdir()
    (tmp_path / "deep_plain" / "table.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"table\.json is no result of an experiment.*python -m experiments deep_plain"):
        classroom.show_results("deep_plain")


def test_lectures_show_results_of_experiments_that_there_are():
    from tests.test_homes import EXPERIMENTS
    shown = {name for path in LECTURES for name in re.findall(r'show_results\("(\w+)"\)', path.read_text("utf-8"))}
    assert shown <= EXPERIMENTS | {"two_gradients"} and len(shown) >= 8


# -- without the packages that make notebooks ----------------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.parametrize(("missing", "passed", "skipped"), [("jupytext", 2, 4), ("nbformat", 2, 4), ("nbconvert", 5, 1), ("jinja2", 5, 1)])
def test_where_a_package_is_missing_only_the_tests_that_need_it_are_skipped(missing, passed, skipped, tmp_path):
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{missing}'\", name='{missing}')", "utf-8")
    names = ("agree_refuses", "another_mathjax", "notebooks_and_table", "table_is_made", "drift_is_found", "page_contains")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/test_lectures.py", "-k", " or ".join(names)],
                          cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path), "MPLBACKEND": "Agg"})
    assert done.returncode == 0 and f"{passed} passed, {skipped} skipped" in done.stdout, done.stdout + done.stderr
    assert f"No module named '{missing}'" in done.stdout


# -- the whole notebooks -----------------------------------------------------------------------------------------------


@pytest.mark.notebook
@each_lecture
def test_a_notebook_runs_from_top_to_bottom(path, site):
    nb = site.executed(path)
    outputs = [output for cell in nb.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure"
    noise = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert not noise, noise


@pytest.mark.notebook
def test_a_page_has_stubs_where_the_source_has_solutions(course, site):
    text = GOOD + "\n# %%\ndef d_x(g):\n    ### BEGIN SOLUTION\n    return 2 * g\n    ### END SOLUTION\n"
    (course / "01_small.py").write_text(text, "utf-8")
    cells = site.executed(course / "01_small.py", solutions=False).cells
    assert "42" in str(cells[1].outputs)
    assert cells[-1].source == 'def d_x(g):\n    raise NotImplementedError("d_x: your turn")'


@pytest.mark.notebook
def test_a_failing_cell_is_named(course, site):
    (course / "01_small.py").write_text(GOOD.replace("print(6 * 7)", "assert 6 * 7 == 43"), "utf-8")
    with pytest.raises(site.NotBuilt, match=r"01_small\.py: AssertionError"):
        site.executed(course / "01_small.py")
