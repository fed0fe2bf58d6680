"""What the README and the pages in docs/ show runs, and what they name exists."""

import ast
import re
from pathlib import Path

import pytest
from test_house import RULES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


PRINTED = ("xc", "not reduced", "missing path): the path from x through ms, xhat to y is missing")


@pytest.mark.parametrize(("block", "printed"), list(zip(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL), PRINTED, strict=True)))
def test_its_python_runs(block, printed, capsys):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert printed in capsys.readouterr().out


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_on_layers_makes_a_layer_that_is_right():
    import layers
    try:
        exec(compile("\n".join(blocks("layers.md")), "layers.md", "exec"), {"__name__": "layers_page"})
        assert layers.REGISTRY["peak_norm"].default == "one_line"
    finally:
        layers.REGISTRY.pop("peak_norm", None)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_layer_of_the_page_on_layers_keeps_the_rules_of_the_house_when_pasted(rule, tmp_path):
    (tmp_path / "layers" / "sample").mkdir(parents=True)
    (tmp_path / "layers" / "sample" / "peak_norm.py").write_text(blocks("layers.md")[0], encoding="utf-8")
    assert rule(tmp_path) == []


def test_and_of_the_linters():
    """What `make lint` asks of a layer's file, as far as the syntax tree shows it: all typed, nothing imported in vain."""
    tree = ast.parse(blocks("layers.md")[0])
    for f in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        arguments = [*f.args.args, *f.args.kwonlyargs]
        assert f.returns and all(a.annotation for a in arguments), f.name
    imported = {(a.asname or a.name) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for a in node.names}
    assert imported - {"annotations"} <= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_the_page_on_homework_makes_a_homework_that_its_solution_passes():
    from minigrad import derivation
    task, lines = {}, {}
    exec(compile(blocks("homework.md")[0], "homework.md", "exec"), task)
    exec(compile(blocks("homework.md")[1], "homework.md", "exec"), lines)
    assert derivation.check(task["TASK"], lines)


def test_what_the_page_on_homework_shows_of_any_function_is_printed(capsys):
    space = {"__name__": "homework_page"}
    shown = re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```", (ROOT / "docs" / "homework.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(shown) == 4
    for code, printed in shown:
        exec(compile(code, "homework.md", "exec"), space)
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize("page", sorted(p.name for p in (ROOT / "docs").glob("*.md")))
def test_links_of_the_other_pages_exist(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8")):
        assert (ROOT / "docs" / link).exists(), link


def test_its_links_and_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w+) ", TEXT):
        if target not in {"Windows"}:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def named_in_the_map(house):
    """The paths that a map names, from the indentation of its lines."""
    folders = [Path()]  # the folder that each depth of indentation is in
    for line in house.strip("\n").splitlines():
        depth, names = (len(line) - len(line.lstrip())) // 2, re.match(r"\s*((?:[\w.]+/? ?)+?)(?:  |$)", line)
        for name in names.group(1).split():
            folders[depth + 1:] = [folders[depth] / name]
            yield folders[-1]


def test_the_map_names_what_is_there():
    named = list(named_in_the_map(TEXT.split("## A map of the house")[1].split("## ")[0].split("```")[1]))
    assert len(named) > 40 and [path for path in named if not (ROOT / path).exists()] == []


def test_the_map_is_read_by_its_indentation():
    house = "layers/      all\n  batch/ attic/  two\nminigrad/\n  core/  the engine\n    plan.py   what\ntests/"
    assert [p.as_posix() for p in named_in_the_map(house)] == [
        "layers", "layers/batch", "layers/attic", "minigrad", "minigrad/core", "minigrad/core/plan.py", "tests"]
