"""Stand-ins for modules that are not there: a file that imports them is loaded all the same, and a line that computes with them is told.

A file may end with a check of itself, by a checker that is not there while it is judged: that does nothing.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

REMARK = "is not there when a line is judged: derive it with numpy"


class AbsentName:
    """A name from a module that is not there. A file may import it, and check itself with it; a line that computes with it is told.

    It can be called and asked for attributes; as a decorator it returns the function.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return AbsentName(f"{self._name}.{name}")

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return args[0] if len(args) == 1 and not keywords and inspect.isfunction(args[0]) else AbsentName(f"{self._name}()")

    def __str__(self) -> str:
        return self._name

    def __format__(self, how: str) -> str:
        return self._name

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__
    __lt__ = __gt__ = __le__ = __ge__ = __eq__

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self._name} {REMARK}")

    def __getitem__(self, key: Any) -> Any:
        return AbsentName(f"{self._name}[…]")

    def _refuse(self, *_: Any) -> Any:
        raise TypeError(f"{self._name} {REMARK}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __pow__ = __rpow__ = _refuse
    __neg__ = __abs__ = __float__ = __int__ = __index__ = _refuse


class AbsentModule(ModuleType):
    """A module that is not there: whatever is taken from it is an `AbsentName`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return AbsentName(f"{self.__name__}.{name}")


class AbsentModules:
    """Finds the modules of `roots`, which a file has asked for in vain. Comes last on ``sys.meta_path``."""

    def __init__(self) -> None:
        self.roots: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self.roots else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> ModuleType:
        return AbsentModule(spec.name)

    @contextlib.contextmanager
    def found(self) -> Iterator[AbsentModules]:
        """Stand in for them, and leave no trace: for a process that goes on to do other things."""
        sys.meta_path.append(self)
        try:
            yield self
        finally:
            sys.meta_path.remove(self)
            for name, module in list(sys.modules.items()):
                if isinstance(module, AbsentModule):
                    del sys.modules[name]

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""
