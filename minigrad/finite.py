"""Debug mode: where the first NaN or Inf appears."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .core import backend
from .core.backend import NAMESPACES
from .core.errors import NonFiniteError, describe, error
from .core.state import unwatch, watch
from .core.tensor import Line, Tensor


class debug:
    """Inside, the first NaN or Inf of this thread's ops raises: it names the op, the tape line and the line of *your* source that called it.

    Ops are watched in forward and backward, and each tape line remembers the source line that recorded it. Every op waits
    for its result, so this is slow on a GPU.
    """

    def __enter__(self) -> debug:
        watch(_finite)
        return self

    def __exit__(self, *_: object) -> None:
        unwatch(_finite)


class _Finite:
    """The watcher of debug mode."""

    def __call__(self, p: Any, given: Sequence[Any], result: Any) -> None:
        where = _users_line()
        for out in result if isinstance(result, tuple) else (result,):
            if out._line is not None:
                out._line.note("source", where)
            _check_finite(out._data, out._line, p.name, where, given)

    def on_gradient(self, line: Line, d: Any) -> None:
        _check_finite(d, line, f"the gradient of {line.plan.name}")


_finite = _Finite()


def _check_finite(array: Any, line: Line | None, what: str, where: str | None = None, given: Sequence[Any] = ()) -> None:
    data = array._data if isinstance(array, Tensor) else array
    xp = NAMESPACES.get(type(data), backend.np)
    if data.dtype.kind != "f" or bool(xp.isfinite(data).all()):
        return
    kind = "NaN" if bool(xp.isnan(data).any()) else "Inf"
    where = where or (line.noted("source") if line is not None else None) or "unknown (recorded outside debug mode)"
    came = "; its inputs: " + ", ".join(describe(a) for a in given) if given else ""
    place = f"tape line {line.index}" if line is not None else "not on the tape"
    raise error(NonFiniteError, what, got=f"the first {kind} ({place}), recorded at {where}{came}", needs="finite values",
                fix="look at the inputs there: log or sqrt of 0, division by 0, or an overflow of exp are the usual causes")


def _users_line() -> str:
    """The innermost source line outside this package and `layers`."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("minigrad", "layers"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "unknown"
