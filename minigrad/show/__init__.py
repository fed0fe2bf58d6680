"""Look at the tape: print it, count what it keeps, draw it, and record the values that ran over it.

    print.py     `tape`: the lines that lead to a result, as a table, and what each of them keeps
    values.py    `record`: the values of all ops in a block
    tables.py    rows and columns of both
    draw.py      the tape as a picture, with gradients and values; `adjoints`
    svg.py       the tape as a picture for a web page, without a drawing library; widths.py: how wide its text can be
    ways.py      which boxes and arrows lie on a route through named values
    layout.py    where the boxes of both pictures go; words.py: what stands in them
"""

from .draw import adjoints
from .print import tape
from .values import record
from .ways import Way, way
