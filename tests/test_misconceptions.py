"""One list of mistakes: every code that an explanation can have is in it, every example in it is explained with its code, and the page shows it."""

import re
from pathlib import Path

import pytest

from minigrad import derivation
from minigrad.derivation.misconceptions import MISCONCEPTIONS, page

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r'(?:Diagnosis|_one|Edit|Change)\(\s*"([a-z][a-z0-9 -]+)"|CODE = "([a-z]+)"|report\.code[^=]*= "[a-z ]+", "([a-z0-9]+)"|return "([a-z ]+)", "')


def test_every_code_is_in_the_list():
    found = {code for path in (ROOT / "minigrad/derivation").glob("*.py") for groups in CODE.findall(path.read_text("utf-8")) for code in groups if code}
    assert len(found) > 30 and found <= set(MISCONCEPTIONS), found - set(MISCONCEPTIONS)


@pytest.mark.parametrize("code", [m.code for m in MISCONCEPTIONS.values() if m.body])
def test_every_example_is_explained_by_its_code(code, tmp_path):
    m = MISCONCEPTIONS[code]
    file = tmp_path / "lines.py"
    file.write_text(f"import numpy as np\n\n\ndef {m.line}({m.arguments}):\n    return {m.body}\n")
    found = derivation.check(derivation.load_task(ROOT / "tests/people/tasks" / m.task), str(file), lines=[m.line]).lines[0]
    assert found.code == code, found


def test_the_page_is_the_list():
    """``python -c "from minigrad.derivation.misconceptions import page; print(page(), end='')" > docs/misconceptions.md``"""
    assert (ROOT / "docs/misconceptions.md").read_text("utf-8") == page()
