"""The tests of the CUDA sources on the CPU have power: small mistakes in every kernel are rejected.

`make test-slow PYTEST_ARGS="-k cuda_mutants -s"` prints the numbers; `python tests/cuda_mutants.py` all mutants and what is said to each.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cuda_mutants
import pytest
from test_kernels_cuda import needs_compiler

EQUIVALENT = {  # pattern of a mutant's name: why the results are the same
    r"-> const Int (stop = start \+ span|count = stop - tile) <= ": "the smaller of two equal numbers",
    r"-> ss \+= \(rest >= 0 \? rest : 0\)": "0 either way",
    r"-> const REAL var = \(dd > 0 \|\| dd != dd, true \? dd : 0\)": "elements of a row that are equal differ from its mean by a few units in the last place, "
    "whose squares and sums are exact: dd is 0 then, and larger where elements differ",
    r"block_sums: .*-> for \(int offset = 17;": "pairs of lanes at distance 17, then 8, 4, 2, 1: the sum of all, in another order",
    r"block_sums: .*-> if \(threadIdx.x % 32 == 1\)": "every lane has the sum of its warp",
    r"moments_merge: other arithmetic: .*-> .* : mu2 (- delta /|\+ delta \*) ": "the lane has fewer elements than its partner then: never lane 0, which writes",
    r"moments_merge: other comparison: mu = seen >= seen2 .*-> mu = seen > seen2": "two formulas for the same mean",
    r"combine: condition dropped: if \(wide\)": "64 bits are right for every size",
    r"place: .*-> .*\(e - n \* L\)": "L has 64 bits, so the product has",
    r"columns_of_part: 64 bits lost: ": "rows and columns are fewer than 2^31, which is a multiple of a block's columns",
    r"(load_row|_rows?): 64 bits lost: const Int l = ": "l < 4,096 + 1,024",
    r"_rows?: 64 bits lost: .*-> const int row = ": "fewer than 2^31 blocks, and L has 64 bits",
    r"backward_of_rows: .*-> for \(int i = 0; i < TILE \* V; \+\+i\)": "for these i there is no l < L",
    r"-> REAL mu = 0, unused = 1;": "the other sum of a pair, which is not used",
    r"-> block_sums\(": "both sums are treated alike, and names are exchanged with them",
    r"share_of: .*-> while \(i \+ 1 <= count ": "no block has a number of table.block[count], the number of blocks, or above",
    r"(sgd|adam): arguments swapped: .*-> .* aligned\((g, p|p, g, v, m)": "the arguments are treated alike",
    r"(leaky|gate)_all: 64 bits lost: .*e < size; e \+= gridDim|_all: 64 bits lost: .*-> for \(Int e = \(blockIdx": "at most 2^14 blocks of 2^10 elements",
    r"(sgd|adam): 64 bits lost: .*-> for \(Int e = s.start \+ threadIdx.x \* VEC": "less than 2^10",
}


def reason(name):
    """Why a mutant changes nothing, or None."""
    return next((why for pattern, why in EQUIVALENT.items() if re.search(pattern, name)), None)


@pytest.mark.slow
@needs_compiler
def test_every_mutant_that_changes_something_is_rejected(tmp_path, capsys):
    here = Path(__file__).parent
    command = [sys.executable, here / "cuda_mutants.py", "--json", tmp_path / "results"]
    subprocess.run(command, check=True, capture_output=True, timeout=1500, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})  # it forks
    results = json.loads((tmp_path / "results").read_text("utf-8"))
    compiled = [r for r in results if not str(r["said"]).startswith("does not compile")]
    rejected = [r for r in compiled if r["said"] is not None]
    survivors = [r["name"] for r in compiled if r["said"] is None]
    with capsys.disabled():
        print(f"\n{len(rejected)} of {len(compiled)} CUDA mutants rejected, {len(survivors)} equivalent;", dict(Counter(r["operator"] for r in rejected)),
              end=" ")
    assert not [r for r in rejected if r["said"].startswith("unexpected")]
    assert not [name for name in survivors if reason(name) is None]
    assert not [r["name"] for r in rejected if reason(r["name"])], "a reason why it is equivalent is wrong"
    assert len(rejected) >= 90 and len({r["operator"] for r in rejected}) >= len(cuda_mutants.OPERATORS) - 1


def test_every_operator_finds_places_and_each_mutant_changes_one_line():
    found = [m for file in cuda_mutants.FILES for m in cuda_mutants.mutants_of(file)]
    assert {m.operator for m in found} == set(cuda_mutants.OPERATORS)
    assert {m.file for m in found} == set(cuda_mutants.FILES) and len(found) > 1000
    assert all(m.line != m.change for m in found)
