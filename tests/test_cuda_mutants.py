"""The tests of the CUDA sources on the CPU have power: small mistakes in every kernel are rejected.

`make test-slow PYTEST_ARGS="-k cuda_mutants -s"` prints the numbers; `python tests/cuda_mutants.py` all mutants and what is said to each.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cuda_mutants
import pytest
from test_kernels_cuda import needs_compiler

EQUIVALENT = {  # pattern of a mutant's name: why the results are the same
}


def reason(name):
    """Why a mutant changes nothing, or None."""
    return next((why for pattern, why in EQUIVALENT.items() if re.search(pattern, name)), None)


@pytest.mark.slow
@needs_compiler
def test_every_mutant_that_changes_something_is_rejected(tmp_path, capsys):
    here = Path(__file__).parent
    subprocess.run([sys.executable, here / "cuda_mutants.py", "--json", tmp_path / "results"], check=True, capture_output=True, timeout=1500)
    results = json.loads((tmp_path / "results").read_text("utf-8"))
    compiled = [r for r in results if not str(r["said"]).startswith("does not compile")]
    rejected = [r for r in compiled if r["said"] is not None]
    survivors = [r["name"] for r in compiled if r["said"] is None]
    with capsys.disabled():
        print(f"\n{len(rejected)} of {len(compiled)} CUDA mutants rejected, {len(survivors)} equivalent;", dict(Counter(r["operator"] for r in rejected)), end=" ")
    assert not [r for r in rejected if r["said"].startswith("unexpected")]
    assert not [name for name in survivors if reason(name) is None]
    assert not [r["name"] for r in rejected if reason(r["name"])], "a reason why it is equivalent is wrong"
    assert len(rejected) >= 90 and len({r["operator"] for r in rejected}) >= len(cuda_mutants.OPERATORS) - 1


def test_every_operator_finds_places_and_each_mutant_changes_one_line():
    found = [m for file in cuda_mutants.FILES for m in cuda_mutants.mutants_of(file)]
    assert {m.operator for m in found} == set(cuda_mutants.OPERATORS)
    assert {m.file for m in found} == set(cuda_mutants.FILES) and len(found) > 1000
    assert all(m.line != m.change for m in found)
