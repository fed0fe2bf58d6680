"""The documentation: everything has its page, every name and link leads somewhere, and what is wrong with a page is found.

`make docs` builds it with Sphinx, which also fails on a dead reference; here is what needs no Sphinx.
"""

import ast
import inspect
import posixpath
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import layers
import minigrad as mg
from helpers import contrast
from lectures.equations import DOCUMENTS, measure
from lectures.equations.homes import LectureStep, homes
from lectures.site import api, browser, check, docs, reading
from lectures.site.docstrings import escaped, markdown

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    return api.Reference()


@pytest.fixture(scope="module")
def reference_pages(reference):
    return reference.pages()  # raises where a docstring names what does not exist


# -- nothing is missing ------------------------------------------------------------------------------------------------


def test_every_documented_function_and_class_of_the_packages_has_one_entry(reference, reference_pages):
    entries = re.findall(r"(?m)^:::::\{py:(?:function|class)\} ([\w.]+)", "\n".join(reference_pages.values()))
    assert len(entries) == len(set(entries)) and set(entries) == set(reference.names.values())
    for module in reference.modules:
        for name, thing in vars(module).items():
            if not name.startswith("_") and inspect.isfunction(thing) and thing.__module__ == module.__name__ and thing.__doc__ and thing.__name__ == name:
                assert id(thing) in reference.names, f"{module.__name__}.{name}"


@pytest.mark.parametrize("name, thing", [
    ("minigrad.mean", mg.mean), ("minigrad.Tensor", mg.Tensor), ("minigrad.tape", mg.tape), ("minigrad.nn.Linear", mg.nn.Linear),
    ("minigrad.nn.init.orthogonal_", mg.nn.init.orthogonal_), ("minigrad.optim.Adam", mg.optim.Adam), ("minigrad.data.digits", mg.data.digits),
    ("minigrad.derivation.check", mg.derivation.check), ("layers.BatchNorm2d", layers.BatchNorm2d), ("layers.register", layers.register),
    ("layers.batch_norm", layers.batch_norm), ("layers.spectral_norm", layers.spectral_norm)])
def test_things_are_called_by_their_public_names(reference, name, thing):
    assert reference.names[id(thing)] == name


def test_what_is_made_elsewhere_and_passed_on_has_an_entry_too(monkeypatch):
    def made():
        """A layer's function, say."""
    made.__module__, made.__name__ = "layers.registry", "layer"
    monkeypatch.setattr(layers, "peak_norm", made, raising=False)
    assert ":::::{py:function} layers.peak_norm()" in api.Reference().pages()["layers.md"]


def test_a_module_that_only_passes_on_anothers_names_has_no_page(monkeypatch):
    shim = ModuleType("minigrad.moved", "Where it was.")
    shim.mean = mg.mean
    monkeypatch.setitem(sys.modules, "minigrad.moved", shim)
    assert api.own(shim) == {} and shim not in api.modules()


def test_all_ops_are_in_the_reference(reference):
    ops = [name for m in reference.modules if m.__name__.startswith("minigrad.ops.") for name in getattr(m, "__all__", ())]
    assert len(ops) > 90 and [name for name in ops if f"minigrad.{name}" not in reference.entries] == []


def test_a_link_names_an_entry(reference, reference_pages):
    linked = {target for text in reference_pages.values() for target in re.findall(r"\{py:obj\}`[^`]* <([\w.]+)>`", text)}
    assert len(linked) > 150 and linked <= reference.entries


def test_a_dead_name_is_found(reference, monkeypatch):
    assert reference.link("minigrad.no_such_thing", mg) == "`minigrad.no_such_thing`"
    assert reference.dead.pop() == "minigrad: a docstring names `minigrad.no_such_thing`, which does not exist"
    assert reference.link("mg.mean(x)", mg) == "{py:obj}`mg.mean(x) <minigrad.mean>`" and not reference.dead
    assert reference.link("Module.to", mg) == "{py:obj}`Module.to <minigrad.nn.Module.to>`"


def test_every_guide_is_a_page_of_the_site_and_its_links_lead_somewhere():
    made = docs.pages()
    assert {f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")} <= set(made.values())
    assert {f"benchmarks/results/{p.name}" for p in (ROOT / "benchmarks" / "results").glob("*.md")} <= set(made.values())
    assert {p.relative_to(ROOT).as_posix() for p in (ROOT / "experiments" / "results").glob("*/*.md")} <= set(made.values())
    for page, file in made.items():
        text = docs.moved((ROOT / file).read_text("utf-8"), page, made)  # raises NotBuilt
        for target in re.findall(r"\]\((?!here:|https?:)([^)#\s]+\.md)", "".join(docs.CODE.split(text)[::2])):
            place = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            assert place in made or place in ("benchmarks/index.md", "experiments/index.md"), (page, target)
    tree = docs.contents(made)
    assert all(page.removesuffix(".md") in tree for page in made if page.startswith("guides/"))


def test_links_are_those_of_the_site():
    made = {"index.md": "README.md", "guides/a.md": "docs/a.md", "guides/references.md": "docs/references.md"}
    moved = docs.moved("[a](docs/a.md#top) ![d](docs/demo.png) [b](lectures/01_tape.ipynb) [l](LICENSE) [ioffe2017]\n", "index.md", made)
    assert moved == "[a](guides/a.md#top) ![d](images/demo.png) [b](here:../01_tape.html) l [[ioffe2017]](guides/references.md#ioffe2017)\n"
    assert docs.moved("[r](../README.md)\n\n    [ioffe2017](x.md)\n\n`[ioffe2017]`", "guides/a.md", made) == \
        "[r](../index.md)\n\n    [ioffe2017](x.md)\n\n`[ioffe2017]`"
    made["experiments/e-digits.md"] = "experiments/results/e/digits.md"
    assert docs.moved("![e](digits.png) [r](../../../README.md)", "experiments/e-digits.md", made) == "![e](../images/e-digits.png) [r](../index.md)"
    assert docs.moved("[e](experiments/results/e/digits.md)", "index.md", made) == "[e](experiments/e-digits.md)"
    with pytest.raises(docs.NotBuilt, match=r"docs/a\.md links to b\.md, which is not there"):
        docs.moved("[b](b.md)", "guides/a.md", made)


def test_every_homework_has_a_page_without_solutions():
    made = docs.homeworks()
    folders = sorted(p.parent.name for p in (ROOT / "lectures" / "homework").glob("*/task.py"))
    assert [Path(page).stem for page in made if page != "homework/index.md"] == folders
    for name in folders:
        text = made[f"homework/{name}.md"]
        assert "SOLUTION" not in text and "your turn" in text and all(name in made["homework/index.md"] for name in folders)


@pytest.fixture(scope="module")
def reading_pages():
    return reading.pages()


@pytest.mark.more
@pytest.mark.parametrize("short", DOCUMENTS)
def test_a_page_of_a_document_shows_every_line_of_the_ledger_and_every_home(short, reading_pages):
    page = reading_pages[f"documents/{short}.md"]
    for entry in DOCUMENTS[short].entries:
        result = measure(entry)
        word = "right" if result.verdict == "right" else f"**{result.verdict}**"
        assert re.search(rf"(?m)^> {re.escape(escaped(entry.printed.strip()))}\n\n({re.escape(escaped(entry.number))}: )?{re.escape(word)}", page)
        assert not entry.corrected or f"\n> {escaped(entry.corrected.strip())}\n" in page
    for h in homes(short):
        assert re.search(rf"(?m)^## .*{re.escape(escaped(h.item.name)[1:])}", page)
        for place in (*h.item.code, *h.item.tests):
            file, _, name = place.partition(": ")
            assert f"`{name}`, line {reading.line_of(file, name)} of `{file}`" in page
        assert all(f"(here:../../{step.lecture}.html" in page for step in h.steps) and all(f"experiments {e}`" in page for e in h.item.experiments)
    assert f"[{short}]({short}.md)" in reading_pages["documents/index.md"]


def test_a_page_counts_lines_as_an_editor_does_and_finds_what_is_gone():
    assert reading.line_of("lectures/site/reading.py", "line_of") == inspect.getsourcelines(reading.line_of)[1]
    with pytest.raises(ValueError, match="defines no nothing"):
        reading.line_of("lectures/site/reading.py", "nothing")


def test_a_step_is_linked_by_its_heading_unless_that_has_a_formula():
    assert reading.link(LectureStep("05_whitening", "All at once")) == "[05, All at once](here:../../05_whitening.html#All-at-once)"
    assert reading.link(LectureStep("02_batch_norm", r"$d_\mu$")) == r"[02, $d_\mu$](here:../../02_batch_norm.html)"


def test_every_error_of_the_catalogue_is_shown():
    snapshot = docs.ERRORS.read_text("utf-8")
    assert docs.errors(snapshot).count("\n## ") == len(re.findall(r"(?m)^## ", snapshot)) > 50


def test_sphinxs_settings_use_nothing_from_a_network():
    settings = {}
    exec(compile((docs.HERE / "sphinx" / "conf.py").read_text("utf-8"), "conf.py", "exec"), settings)
    assert settings["nitpicky"] and settings["mathjax_path"] == docs.MATHJAX_FILE
    assert not re.search(r"https?://", (docs.HERE / "sphinx" / "conf.py").read_text("utf-8") + (docs.HERE / "sphinx" / "docs.css").read_text("utf-8"))


# -- docstrings as Markdown --------------------------------------------------------------------------------------------


def as_markdown(text):
    return markdown(text, lambda name: f"<{name}>", "refs.md")


@pytest.mark.parametrize("docstring, expected", [
    ("One line with `a` and ``b c``.", "One line with <a> and `b c`.\n"),
    ("x_hat * y and |β/γ| [0, 1] <br> $5", "x\\_hat \\* y and \\|β/γ\\| \\[0, 1\\] \\<br\\> \\$5\n"),
    ("*all* of **it**, 2 * 3 * 4", "*all* of **it**, 2 \\* 3 \\* 4\n"),
    ("Source: Ioffe [ioffe2017], dbn.", "Source: Ioffe [[ioffe2017]](refs.md#ioffe2017), dbn.\n"),
    ("Head.\n\n    a   b\n\n      c\n\nTail.", "Head.\n\n```text\na   b\n\n  c\n```\n\nTail.\n"),
    ("Head.\n\n>>> f()\n3\n\nTail.", "Head.\n\n```pycon\n>>> f()\n3\n```\n\nTail.\n"),
    ("Head.\n\nArgs:\n    x, y: two\n        lines\n    *zs: more\n\nTail.", "Head.\n\n**Args**\n\n- `x`, `y`: two lines\n- `*zs`: more\n\nTail.\n"),
    ("Raises:\n    ValueError: `x` is odd.", "**Raises**\n\n- `ValueError`: <x> is odd.\n"),
    ("A.\n\nReturns:\n    Two\n    lines.", "A.\n\n**Returns**\n\nTwo lines.\n"),
    ("Rules:\n- one\n  more\n- two", "Rules:\n\n- one more\n- two\n"),
    ("ratio: one,\n    in two lines.\nspread: two.", "- `ratio`: one, in two lines.\n- `spread`: two.\n"),
    ("- x and y\nare", "- x and y are\n"),
])
def test_a_docstring_becomes(docstring, expected):
    assert as_markdown(docstring) == expected


@pytest.mark.parametrize("thing, expected", [
    (mg.exp, "(a)"), (mg.mean, "(a, axis: Axis = None, keepdims: bool = False)"), (lambda x=len: x, "(x=...)")])
def test_signatures_say_what_helps(thing, expected):
    assert api.signature(thing) == expected
    ast.parse(f"def f{expected}: pass")


# -- pages by day and by night -----------------------------------------------------------------------------------------


def colours():
    """The style sheet's colours by name: by day, by night, and by night on a card of paper."""
    css = (ROOT / "lectures" / "site" / "style.css").read_text("utf-8")
    rules = [dict(re.findall(r"--(\w+): (#\w{6});", rule)) for rule in re.findall(r"\{([^{}]*--paper[^{}]*--ink[^{}]*)\}", css)]
    return {"day": rules[0], "night": rules[1], "card": rules[0] | rules[2]}


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("time", ["day", "night", "card"])
def test_text_of_a_lectures_page_can_be_read(time):
    found = colours()[time]
    assert set(found) == {"paper", "ink", "soft", "line", "accent", "code"}
    pairs = [(text, ground) for text in ("ink", "soft", "accent") for ground in ("paper", "code")]
    assert [pair for pair in pairs if contrast(*(found[name] for name in pair)) < 4.5] == []


def test_no_other_colours_stand_in_the_style_sheet():
    """A colour for text that is not among the tested ones; white is the card below a figure."""
    css = re.sub(r"--\w+: #\w{6};", "", (ROOT / "lectures" / "site" / "style.css").read_text("utf-8"))
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", css)) == {"#ffffff"}


def test_code_and_verdicts_can_be_read():
    styles = pytest.importorskip("pygments.styles")
    pages = pytest.importorskip("lectures.site.__main__")
    from minigrad.derivation.report import COLOURS
    for name, time in zip(pages.CODE_STYLES, ("day", "night"), strict=True):
        ground = colours()[time]["code"]
        worst = min(contrast(f"#{token['color']}", f"#{token['bgcolor']}" if token["bgcolor"] else ground)
                    for _, token in styles.get_style_by_name(name) if token["color"])
        assert worst >= 4.5, (name, worst)
    text = "".join((ROOT / file).read_text("utf-8") for file in ("minigrad/derivation/report.py", "lectures/grading/handback.py"))
    others = re.findall(r"COLOURS\.get\(.*?'(#\w{6})'", text)
    assert len(others) == 2 and min(contrast(c, "#ffffff") for c in [*COLOURS.values(), *others]) >= 4.5


# -- what is wrong with a page is found --------------------------------------------------------------------------------


@pytest.mark.parametrize("html, found", [
    ('<a href="b.html">b</a> <a href="b.html#there">b</a> <a href="#here">here</a><p id="here">', 0),
    ('<a href="#%C2%B7">a</a><p id="·">', 0), ('<a href="#%C2%B7">a</a><p id="%C2%B7">', 0), ('<a href="#%C2%B7">a</a><p id="x">', 1),
    ('<a href="c.html">c</a>', 1), ('<a href="b.html#nowhere">b</a>', 1), ('<a href="#nowhere">b</a>', 1), ('<a href="sub/">b</a>', 1),
    ('<a href="https://example.org">out</a>', 0), ('<a href="mailto:x@example.org">mail</a>', 0), ('<img src="p.png" alt="p">', 0),
    ('<img src="q.png" alt="q">', 1),
    ('<img src="p.png">', 1), ('<img src="p.png" alt=" ">', 1), ("<html><p>a</p></html>", 1), ('<html lang="en"><p>a</p></html>', 0),
    ("<table><tr><th>a</th></tr></table>", 0), ("<table><tr><td>a</td></tr></table>", 1), ('<table class="indextable"><tr><td>a</td></tr></table>', 0),
    ('<table class="domainindex-table"><tr><td>a</td></tr></table>', 0),
    ('<script src="https://cdn.example/x.js"></script>', 1), ('<link rel="stylesheet" href="https://fonts.example/f.css">', 1),
    ('<style>@import "https://fonts.example/f.css"; a {background: url(https://x.example/y.png)}</style>', 2),
    ("<p>costs $x^2$ much</p>", 1), ('<span class="math notranslate">\\(x^2\\)</span>', 0), ("<code>$a$</code> <pre>\\frac</pre>", 0),
    ("<p>\\frac{1}{2}</p>", 1), ("<p>5 $ and 6 $ are prices</p>", 0), ("<script>x = '$a$ \\\\('</script>", 0), ("<p>$a <code>x</code> b$</p>", 0),
])
def test_problems_of_a_page(tmp_path, html, found):
    (tmp_path / "a.html").write_text(html, "utf-8")
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>', "utf-8")
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    assert len(list(check.problems(tmp_path))) == found


def test_style_sheets_are_read_and_exceptions_are_few(tmp_path):
    (tmp_path / "a.css").write_text("@import url(https://fonts.example/f.css); b {background: url(data:x)} c {background: url(c.svg)}", "utf-8")
    (tmp_path / "a.html").write_text('<p>$x$</p><a href="../lecture.html">l</a>', "utf-8")
    assert len(list(check.problems(tmp_path))) == 3
    assert len(list(check.problems(tmp_path, frozenset({"a.html"}), frozenset({(tmp_path.parent / "lecture.html").resolve()})))) == 1


@pytest.mark.parametrize("html, torn", [
    ("<p>$x$ and $$y\n+ z$$, \\(a\\) \\[b\\]</p><li>$a<br>b$</li>", []), ("<p>$a</p><ul><li>b$</li></ul>", ["$a", "$"]),
    ("<p>$x$ <em>$a</em> b$</p>", ["$a", "$"]), ("<p>$$ a\n</p><li>b $$</li>", ["$$ a\n", "$$"]), ("<p>so \\hat x</p>", ["\\hat x"]),
    ("<p>\\[ a</p><p>b \\]</p>", ["\\[ a", "\\]"]), ("<pre>$a \\n</pre><code>$</code><script>'$'</script>", [])])
def test_a_formula_in_two_pieces_is_found_without_a_browser(tmp_path, html, torn):
    assert check.read(html).torn == torn
    (tmp_path / "a.html").write_text(html, "utf-8")
    assert list(check.problems(tmp_path, frozenset({"a.html"}))) == [f"a.html: the formula {f!r} is not set" for f in torn]


@pytest.mark.parametrize("before, after, found", [
    ("<p>$x$</p></html>", "<p><mjx-container><svg></svg></mjx-container></p></html>", 0), ("<p>x</p></html>", "<p>x</p></html>", 0),
    ("<p>$x$</p></html>", "<p>$x$</p></html>", 2), ("<p>$x$</p></html>", "", 1),
    ("<p>$x$ $y$</p></html>", "<p><mjx-container></mjx-container> $y$</p></html>", 1),
    ("<p>$\\nope$</p></html>", '<mjx-container><g data-mjx-error="Undefined control sequence"></g></mjx-container></html>', 1)])
def test_formulas_that_a_browser_leaves_are_found(before, after, found):
    assert len(list(browser.unset(before, after))) == found


def test_pages_that_are_too_wide_are_named(monkeypatch):
    monkeypatch.setattr(browser, "shown", lambda *a, **k: '<pre>[[360, ""], [400, "&lt;pre&gt; x"], [0, "Error: no page"]]</pre></html>')
    assert list(browser.sideways("chromium", [Path("a.html"), Path("b.html"), Path("c.html")])) == [
        "b.html is 400 pixels wide in a window of 360: <pre> x", "c.html is 0 pixels wide in a window of 360: Error: no page"]
    monkeypatch.setattr(browser, "shown", lambda *a, **k: "")
    assert list(browser.sideways("chromium", [Path("a.html")])) == ["the browser did not measure 1 pages"]


@pytest.mark.slow
def test_a_browser_finds_the_page_that_is_too_wide(tmp_path):
    command = browser.browser()
    if command is None:
        pytest.skip("no Chromium here")
    wide = '<div style="width: 500px">wide</div>'
    texts = {"good": "<p>short</p>", "wide": wide, "boxed": f'<div style="overflow-x: auto">{wide}</div>'}
    for name, text in texts.items():
        (tmp_path / f"{name}.html").write_text(f'<!DOCTYPE html><html lang="en"><body style="margin: 0">{text}</body></html>', "utf-8")
    assert list(browser.sideways(command, sorted(tmp_path.iterdir()))) == ["wide.html is 500 pixels wide in a window of 360: <div> wide"]
