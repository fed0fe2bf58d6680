"""The derivation checker: a derivative derived by hand, judged line by line, and which term is wrong.

A derivation is a set of functions ``d_<name>``, one per line. Their argument names say what they use: inputs, keywords and
named values of the composed form, and adjoints ``d_<other>`` of values further down. Every line is judged alone, with the
tape's own adjoints as its arguments, so that one mistake never spoils the lines after it.

>>> import minigrad as mg
>>> def f(x):
...     xc = mg.named("xc", x - mg.mean(x, 0, keepdims=True))
...     return mg.named("y", xc * xc)
>>> def d_xc(d_y, xc): return d_y * xc
>>> print(mg.derivation.check(f, [d_xc], inputs={"x": mg.tensor([[0.0] * 3] * 5)}))
f: 0 of 1 points
  d_xc  wrong (factor): the whole line is 1/2 times what it should be [at x (5, 3)]
"""

from .backward import check_backward
from .child import Limits
from .judge import check
from .probe import tape_of
from .report import LineReport, Report, Route
from .sizes import random_sizes
from .task import Line, LineSpec, Task, TaskError, available, load_task

__all__ = ["Limits", "Line", "LineReport", "LineSpec", "Report", "Route", "Task", "TaskError", "available", "check", "check_backward", "load_task",
           "random_sizes", "tape_of"]
