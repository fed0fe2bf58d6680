"""Fuzzers: random programs against what must hold for any program.

    make fuzz SECONDS=1200                                       # all fuzzers in turn, new cases for as long as that
    python -m tests.fuzz --seconds 60 --seed 0 --only tapes      # one of them
    python -m tests.fuzz --only tapes --seed 0 --case 17         # one case again

    tapes.py     graphs of ops, hooks and retained gradients: both orders against central differences, ownership of gradients
    writes.py    views and writes between forward and backward: the gradient is right, or there is an error
    ops.py       every op on odd inputs: layouts, dtypes, NaN and Inf
    norms.py     every layer and derivation on random shapes, scales, ε and dtypes

A case is a list of Python statements, drawn from a generator seeded by (seed, number of the case). A case that fails is
shortened, and printed as a script that runs by itself.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for op_cases and fakecupy
