"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import index as as_integer
from typing import Any, TypeVar

from ..core.errors import describe, error
from .module import Module

L = TypeVar("L", bound="_Listed")


class _Listed(Module):
    """Submodules in an order: indexing, slices, iteration, append, extend."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter([m for m in self._modules.values() if m is not None])

    def _name(self, index: Any) -> str:
        names = list(self._modules)
        try:
            return names[as_integer(index)]
        except (TypeError, IndexError):
            raise error(IndexError, type(self).__name__, got=f"the index {index!r}",
                        needs=f"an integer from {-len(names)} to {len(names) - 1}",
                        fix="check len(...); a module with a name is an attribute") from None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = type(self)()
            part._modules.update(list(self._modules.items())[index])  # the names stay, as in PyTorch
            part.training = self.training
            return part
        return self._modules[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.register_module(self._name(index), module)

    def append(self: L, module: Module) -> L:
        """Add `module` at the end. Returns the container."""
        number = len(self)
        while str(number) in self._modules:
            number += 1
        self.register_module(str(number), module)
        return self

    def extend(self: L, modules: Iterable[Module]) -> L:
        """Add several at the end. Returns the container."""
        for module in modules:
            self.append(module)
        return self


class Sequential(_Listed):
    """Modules applied one after the other.

    >>> from minigrad import nn
    >>> nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): ReLU()
    )

    Args:
        modules: the modules, or one dictionary name -> module (an OrderedDict or an ordinary one).
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        named: Mapping[str, Any] = {str(i): module for i, module in enumerate(modules)}
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = modules[0]
        for name, module in named.items():
            self.register_module(name, module)

    def forward(self, x: Any) -> Any:
        """x through every module in turn."""
        for module in self:
            x = module(x)
        return x


class ModuleList(_Listed):
    """A list whose modules are registered; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: Any) -> Any:
        return type(self)(list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)


class ModuleDict(Module):
    """A dictionary whose modules are registered; it has no forward of its own."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, name: str) -> Any:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.register_module(name, module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def keys(self) -> Iterable[str]:
        """The names, in order."""
        return self._modules.keys()

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module), in order."""
        return [(name, module) for name, module in self._modules.items() if module is not None]

    def values(self) -> Iterable[Module]:
        """The modules, in order."""
        return [module for _, module in self.items()]

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace modules."""
        if not isinstance(modules, Mapping):
            raise error(TypeError, "ModuleDict", got=describe(modules), needs="a dictionary name -> Module",
                        fix="ModuleDict({'head': nn.Linear(8, 2)})")
        for name, module in modules.items():
            self[name] = module


__all__ = ["ModuleDict", "ModuleList", "Sequential"]
