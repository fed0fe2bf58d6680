"""A forward pass with several outputs, as one with a single output: all of them in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..core import engine
from ..core.engine import named
from ..core.tensor import Tensor
from ..ops import concatenate, reshape

ALL = "outputs"  # what the row of all outputs is called


def joined(result: Any) -> tuple[Any, tuple[str, ...]]:
    """One Tensor that depends on all outputs, and their names.

    Args:
        result: of a forward pass: a Tensor, or a tuple, list or mapping of Tensors. An output that `named` has given a name keeps
            it; the others take the key of a mapping, the field of a named tuple, or y1, y2, ... An output that another one is computed from,
            say h, also gets the name h_out, for what is handed out: d_h is its whole adjoint, and d_h_out the part that comes from
            the caller. Outputs that depend on no input (indices, counts, constants) have no adjoint, and are left out.

    Returns:
        The result itself where it is one Tensor, else the elements of all outputs in a row.
    """
    if not isinstance(result, (tuple, list, Mapping)):
        return result, () if getattr(result, "_line", None) is None else (result._line.name or "y",)
    found: list[tuple[str, Any]] = []
    for name, t in _outputs(result):
        if isinstance(t, Tensor) and t._line is not None:
            found.append((t._line.name or name, t if t._line.name else named(name, t)))
    if len(found) < 2:
        return (found[0][1] if found else result), tuple(name for name, _ in found)
    inside = [{line for _, other in found if other is not t for line in engine.reachable([other._line])} for _, t in found]
    found = [(f"{name}_out", named(f"{name}_out", t)) if t._line in below else (name, t) for (name, t), below in zip(found, inside, strict=True)]
    names = tuple(name for name, _ in found)
    return named(ALL, concatenate([reshape(t, (-1,)) for _, t in found])), names


def _outputs(result: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(result, Mapping):
        yield from result.items()
    else:
        yield from zip(getattr(result, "_fields", [f"y{k}" for k in range(1, len(result) + 1)]), result, strict=True)
