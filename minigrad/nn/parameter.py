"""Parameter: the kind of Tensor that a Module trains."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor, tensor


class Parameter(Tensor):
    """A variable that a Module registers when it is assigned to an attribute; owns a copy of `data`.

    Args:
        data: a Tensor, a raw array of any backend, or numbers as `minigrad.tensor` takes them.
        requires_grad: False freezes it.

    Its tape line is named after its place in the module ("conv1.weight").

    >>> Parameter([1.0, 2.0])
    Parameter containing:
    tensor([1., 2.], dtype=float32, requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(tensor(data)._data)
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def name_line(parameter: Parameter, name: str) -> None:
    """Call its tape line `name`, unless it has a name that `name` does not complete ("weight" -> "conv1.weight")."""
    line = parameter._line
    if line is not None and (line.name is None or name.endswith(f".{line.name}")):
        line.note("name", name)


__all__ = ["Parameter"]
