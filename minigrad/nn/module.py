"""Module: a function that owns its parameters, running statistics and submodules, like PyTorch's.

    class MLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(784, 100), nn.Linear(100, 10)
        def forward(self, x):
            return self.out(mg.relu(self.hidden(x)))

Assigning a `Parameter` or a `Module` to an attribute registers it, so that `parameters()`, `state_dict()`, `to` and
`copy.deepcopy` find it. Registered things live in the dictionaries `_parameters`, `_buffers` and `_modules`.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from .. import elsewhere
from ..core import backend
from ..core.errors import describe, error
from ..core.tensor import Tensor, state
from . import state as state_
from .parameter import Parameter, name_line
from .state import KeyDifference

M = TypeVar("M", bound="Module")

TABLES = {"_parameters": "a Parameter", "_buffers": "a constant Tensor", "_modules": "a Module"}


class Module:
    """Base class of all layers and networks: subclass it, call ``super().__init__()`` first, and define ``forward``."""

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]
    _wide_buffers: tuple[str, ...] = ()  # of a subclass: names of statistics, which are never float16

    def __init__(self, *unknown: Any, **keywords: Any) -> None:
        if unknown or keywords:
            raise error(TypeError, type(self).__name__, got=f"the arguments {', '.join([*map(repr, unknown), *keywords])}", needs="none of them",
                        fix="leave them out; a layer of your own calls super().__init__() without arguments")
        vars(self).update(training=True, _parameters={}, _buffers={}, _modules={}, _non_persistent_buffers_set=set())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every subclass defines it."""
        raise error(NotImplementedError, type(self).__name__, got="a call, but the class has no forward",
                    needs="a method forward(self, x)", fix="define it, at the indentation of __init__")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.observers:
            return state.observers[-1](self, lambda: self.forward(*args, **kwargs))
        return self.forward(*args, **kwargs)

    # -- registration ------------------------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make `param` the parameter called `name`; None keeps the place empty."""
        if param is not None and not isinstance(param, Parameter):
            raise error(TypeError, "register_parameter", got=describe(param), needs="a Parameter or None",
                        fix="wrap it: nn.Parameter(x); a constant goes to register_buffer")
        self._register(name, param, self._parameters)
        if param is not None:
            name_line(param, name)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make `tensor` a buffer: part of the state but not trained, as running statistics are.

        Args:
            tensor: a constant, or None to keep the place empty.
            persistent: include it in `state_dict`.
        """
        if not _is_buffer(tensor):
            raise error(TypeError, "register_buffer", got=describe(tensor), needs="a constant Tensor or None",
                        fix="minigrad.tensor(...), or x.detach(); what is trained is a Parameter")
        self._register(name, tensor, self._buffers)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Make `module` the submodule called `name`."""
        if module is not None and not isinstance(module, Module):
            raise error(TypeError, "register_module", got=describe(module), needs="a Module or None",
                        fix="an instance, not the class: nn.ReLU(); wrap a function in a Module of your own")
        self._register(name, module, self._modules)
        if module is not None:
            for _ in module.named_parameters(name):  # completes the names of their tape lines
                pass

    add_module = register_module

    def _register(self, name: Any, value: Any, table: dict[str, Any]) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise error(ValueError, type(self).__name__, got=f"the name {name!r}",
                        needs="a non-empty string without a dot", fix="dots join the names of modules within modules")
        if name not in table and hasattr(self, name):
            raise error(ValueError, type(self).__name__, got=f"the name {name!r}, which is an attribute already",
                        needs="a free name", fix="choose another one, or delete the attribute first")
        table[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = vars(self)
        new = "_parameters" if isinstance(value, Parameter) else "_modules" if isinstance(value, Module) else None
        if new is not None:
            if new not in attributes:
                raise self._uninitialized(f"self.{name} = ...")
            for table in (attributes, *(attributes[t] for t in TABLES if t != new)):
                table.pop(name, None)
            (self.register_parameter if new == "_parameters" else self.register_module)(name, value)
            return
        for kind, needs in TABLES.items():
            if name in attributes.get(kind, ()):
                if value is not None and not (kind == "_buffers" and _is_buffer(value)):
                    raise error(TypeError, f"{type(self).__name__}.{name} = ...", got=describe(value),
                                needs=f"{needs} or None, because the name is registered",
                                fix="nn.Parameter(x), x.detach() for a buffer, or del the attribute first")
                attributes[kind][name] = value
                return
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:  # asked only for what is not an ordinary attribute
        attributes = vars(self)
        if name.startswith("__"):
            raise AttributeError(name)
        if "_parameters" not in attributes:
            raise self._uninitialized(f"self.{name}")
        for kind in TABLES:
            if name in attributes[kind]:
                return attributes[kind][name]
        known = ", ".join([n for kind in TABLES for n in attributes[kind]][:8])
        raise error(AttributeError, type(self).__name__, got=f"the attribute {name!r}, which it does not have",
                    needs=f"one of its own{known and ', such as '}{known}", fix=elsewhere.of_module(name) or "check the spelling")

    def _uninitialized(self, what: str) -> AttributeError:
        return error(AttributeError, type(self).__name__, got=f"{what} before Module.__init__ has run",
                     needs="an initialized Module", fix="make super().__init__() the first line of __init__")

    def __delattr__(self, name: str) -> None:
        for kind in TABLES:
            if name in vars(self)[kind]:
                del vars(self)[kind][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    # -- walking -----------------------------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(name, module) of this module (with name ``prefix``) and all below it, each before its children."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if remove_duplicate and id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            below = reversed(module._modules.items())
            stack += [(_join(name, key), child) for key, child in below if child is not None]

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct submodules, each once."""
        seen: set[int] = set()
        for name, child in self._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        """The direct submodules, each once."""
        return (child for _, child in self.named_children())

    def _named_members(self, table: str, prefix: str, recurse: bool,
                       remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name, member in getattr(module, table).items():
                if member is not None and not (remove_duplicate and id(member) in seen):
                    seen.add(id(member))
                    yield _join(path, name), member

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), a shared parameter once. Their tape lines take these names."""
        for name, parameter in self._named_members("_parameters", prefix, recurse, remove_duplicate):
            name_line(parameter, name)
            yield name, parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, a shared one once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(name, buffer), a shared buffer once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, a shared one once."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn` on all submodules, children first, and on this module. Returns the module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -- modes and gradients -----------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Switch this module and all below it to training (or evaluation). Returns the module."""
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: M) -> M:
        """Switch to evaluation: dropout passes everything, batch norm uses its running statistics."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze (False) or unfreeze all parameters. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros."""
        for parameter in self.parameters():
            if parameter._grad is not None:
                parameter._grad = None if set_to_none else _zeros(parameter._grad)

    # -- state -------------------------------------------------------------------------------------------------------

    def _state(self, prefix: str = "") -> dict[str, Tensor]:
        """Name -> the registered Tensor itself, in PyTorch's order: each module's parameters, then its buffers."""
        found: dict[str, Tensor] = {}
        for path, module in self.named_modules(prefix, remove_duplicate=False):
            kept = {k: v for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set}
            found.update({_join(path, k): v for k, v in (*module._parameters.items(), *kept.items()) if v is not None})
        return found

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Name -> constant Tensor for every parameter and persistent buffer, with PyTorch's keys.

        The Tensors *share memory* with the module, so that later training changes them; ``copy.deepcopy`` them to keep
        a snapshot.
        """
        return {name: Tensor(member._data) for name, member in self._state(prefix).items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> KeyDifference:
        """Copy the values of `state` into this module's parameters and buffers: all of them, or (on an error) none.

        Args:
            state: name -> Tensor or raw array, of any backend.
            strict: also refuse missing and unexpected names.

        Returns:
            (missing_keys, unexpected_keys)

        Raises:
            RuntimeError: names that do not fit (if `strict`), or values of another shape or dtype.
        """
        return state_.load(f"load_state_dict of {type(self).__name__}", self._state(), state, strict)

    def to(self: M, name: str) -> M:
        """Move all parameters, buffers and gradients to the backend `name`, in place: optimizers keep the parameters.

        Call it before the first optimizer step. Returns the module.
        """
        backend.get(name)  # an unknown name fails here
        return self._convert(lambda a, _: a if backend.name_of(a) == name else backend.asarray(a, None, name))

    def astype(self: M, dtype: Any) -> M:
        """Convert all floating parameters, buffers and gradients to `dtype`, in place. Returns the module.

        Running statistics become float32 where the rest becomes float16, in which an average of many batches would stop moving.
        """
        wanted = backend.np.dtype(dtype)
        if not backend.is_float(wanted):
            raise error(TypeError, "Module.astype", got=f"dtype {wanted}", needs="a floating dtype",
                        fix="model.astype('float32')")
        statistics = {id(m._buffers.get(name)) for m in self.modules() for name in m._wide_buffers}
        return self._convert(lambda a, member: _converted(a, backend.float32 if id(member) in statistics and wanted == backend.float16 else wanted))

    def _convert(self: M, convert: Callable[[Any, Tensor], Any]) -> M:
        for member in (*self.parameters(), *self.buffers()):
            state_.replace(member, lambda a, member=member: convert(a, member))  # type: ignore[misc]
        return self

    # -- copies ------------------------------------------------------------------------------------------------------

    def __copy__(self: M) -> M:
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self: M, memo: dict[int, Any]) -> M:
        twin = memo[id(self)] = type(self).__new__(type(self))
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise error(TypeError, "pickle", got=f"a {type(self).__name__}", needs="a format that runs no code when it is read",
                    fix="minigrad.checkpoint.save(path, model.state_dict()); build the model anew, then model.load_state_dict(minigrad.checkpoint.load(path))")

    # -- as text -----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return ""

    def __repr__(self) -> str:
        extra, children = self.extra_repr(), [f"({name}): {child!r}" for name, child in self._modules.items()]
        if not children:
            return f"{type(self).__name__}({extra})"
        inside = "\n".join([extra, *children] if extra else children)
        return f"{type(self).__name__}(\n{textwrap.indent(inside, '  ')}\n)"

    def summary(self, example: Tensor | tuple[int, ...]) -> str:
        """A table of all layers: output shapes, parameters, multiply-adds, bytes kept for backward. See `nn.summary`."""
        from .summary import summary
        return summary(self, example)


def _zeros(like: Tensor) -> Tensor:
    return Tensor(backend.namespace(like._data).zeros(like.shape, dtype=like.dtype))


def _is_buffer(value: Any) -> bool:
    return value is None or (isinstance(value, Tensor) and not value.requires_grad)


def _converted(a: Any, dtype: Any) -> Any:
    return a.astype(dtype) if backend.is_float(a.dtype) and a.dtype != dtype else a


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


__all__ = ["Module"]
