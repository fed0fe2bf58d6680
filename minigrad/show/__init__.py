"""Look at the tape: print it, count what it keeps, draw it, and record the values that ran over it.

    print.py     `tape`: the lines that lead to a result, as a table, and what each of them keeps
    values.py    `record`: the values of all ops in a block
    tables.py    rows and columns of both
    draw.py      the tape as a picture, with gradients and values; `adjoints`
    layout.py    where the boxes of the picture go
"""

from .draw import adjoints
from .print import tape
from .values import record
