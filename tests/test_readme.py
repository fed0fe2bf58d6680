"""What the README shows runs, and what it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_its_python_runs(block, capsys):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert "xc" in capsys.readouterr().out


def test_its_links_and_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w+) ", TEXT):
        if target not in {"Windows"}:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_the_map_names_what_is_there():
    house = TEXT.split("## A map of the house")[1].split("## ")[0].split("```")[1]
    top = ""
    for line in house.strip().splitlines():
        names = re.match(r"\s*((?:[\w.]+/? ?)+?)(?:  |$)", line)
        inside = line.startswith("  ")
        for name in names.group(1).split():
            assert (ROOT / top / name if inside else ROOT / name).exists(), name
            top = top if inside else name
