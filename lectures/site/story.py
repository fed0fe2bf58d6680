r"""The story of a homework, ``story.md`` beside its task: what is derived, the forward pass in formulas, and what helps before one writes.

A story is Markdown with formulas between dollars. On a page they stand between \( \) and \[ \], as they were written, for MathJax to set.
"""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.derivation import Task

NAME = "story.md"
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"(?<!\\)\$\$(.*?)(?<!\\)\$\$|(?<![\\$])\$(?!\$)((?:[^$\\]|\\.)*)\$", re.DOTALL)


def story(folder: Path) -> str:
    """The text of a homework's story; empty if the folder has none."""
    file = Path(folder) / NAME
    return file.read_text("utf-8") if file.is_file() else ""


def title(folder: Path) -> str:
    """What a homework is called on pages: the heading of its story, or the folder's name."""
    return story(folder).partition("\n")[0].removeprefix("# ").strip() or Path(folder).name


# -- is it complete, and well-formed? ----------------------------------------------------------------------------------


def missing(task: Task, text: str) -> list[str]:
    """Names that a story should have as code, and does not: arguments, keywords, named values and what is given, then the lines."""
    told = set(re.findall(r"`(\w+)`", text))
    return [name for name in (*names(task), *task.lines) if name not in told]


def names(task: Task) -> list[str]:
    """What the lines of a homework may take by name, adjoints aside, in the order of the forward pass."""
    arrays, keywords = next(iter(task.cases(np.random.default_rng(0), "float64")))
    with mg.record() as seen:
        task.forward(*(mg.tensor(a) if a.dtype.kind == "f" else a for a in map(np.asarray, arrays.values())), **keywords)
    parameters = [p.name for p in inspect.signature(task.forward).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return list(dict.fromkeys([*parameters, *arrays, *keywords, *task.given, *(entry.name for entry in seen if entry.name is not None)]))


def formulas(text: str) -> list[str]:
    """The TeX between the dollars of a story, outside of code."""
    return [m[1] if m[1] is not None else m[2] for m in FORMULA.finditer(CODE.sub("", text))]


def problems(text: str) -> Iterator[str]:
    """What is wrong with the formulas of a story."""
    if "$" in FORMULA.sub("", CODE.sub("", text)).replace(r"\$", ""):
        yield "a dollar without its partner"
    for line in text.splitlines():
        if "$$" in line and line.strip() != "$$":
            yield f"$$ must stand on a line of its own: {line.strip()}"
        if line.startswith("|") and any("|" in formula for formula in formulas(line)):
            yield rf"in a table a bar ends the cell, write \lvert: {line.strip()}"
    for formula in formulas(text):
        short = " ".join(formula.split())
        depth = 0
        for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", formula):
            depth += 1 if brace == "{" else -1
            if depth < 0:
                break
        if depth:
            yield f"braces do not match: {short}"
        open_environments: list[str] = []
        for kind, environment in re.findall(r"\\(begin|end)\{(\w+\*?)\}", formula):
            if kind == "begin":
                open_environments.append(environment)
            elif not open_environments or open_environments.pop() != environment:
                open_environments = [environment]
                break
        if open_environments:
            yield f"\\begin and \\end of {open_environments[-1]} do not match: {short}"
        if len(re.findall(r"\\left(?![a-z])", formula)) != len(re.findall(r"\\right(?![a-z])", formula)):
            yield f"\\left and \\right do not match: {short}"
        if not formula.strip() or "\n\n" in formula:
            yield f"an empty formula, or one with an empty line: {short}"
        if re.search(r"^\s*[-+#>]", formula, re.MULTILINE) and "\n" in formula:
            yield f"a line begins like a list or a heading: {short}"
        if found := re.search(r"\\(label|ref|eqref|tag|def|newcommand|renewcommand|require|href)\b", formula):
            yield f"\\{found[1]} is not for a page: {short}"


# -- on a page ---------------------------------------------------------------------------------------------------------


def rendered(text: str) -> str:
    r"""A story as HTML, for a page that has MathJax and a title of its own: headings are one rank lower. HTML in the text is shown, not used.

    >>> print(rendered("# Title\n\nA $x_1$ and a <b>."), end="")
    <h2>Title</h2>
    <p>A <span class="math">\(x_1\)</span> and a &lt;b&gt;.</p>
    """
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").use(dollarmath_plugin, allow_labels=False, double_inline=True)
    markdown.core.ruler.push("lower", _lower)
    markdown.add_render_rule("math_inline", _inline)
    markdown.add_render_rule("math_inline_double", _display)
    markdown.add_render_rule("math_block", _display)
    return str(markdown.render(text))


def _lower(state: Any) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 1, 6)}"


def _inline(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    return f'<span class="math">\\({html.escape(tokens[index].content, quote=False)}\\)</span>'


def _display(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    tag, end = ("div", "\n") if tokens[index].type == "math_block" else ("span", "")
    return f'<{tag} class="math">\\[{html.escape(tokens[index].content, quote=False)}\\]</{tag}>{end}'
