"""The values of a module as a whole: loading them, moving them to another backend, converting their dtype."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..core import backend
from ..core.errors import TapeError, describe, error
from ..core.storage import record_write
from ..core.tensor import Tensor


class KeyDifference(NamedTuple):
    """What `load_state_dict(strict=False)` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(what: str, own: Mapping[str, Tensor], state: Any, strict: bool) -> KeyDifference:
    """Copy the values of `state` into the Tensors `own`, after checking all of them; `what` is named in errors."""
    if not isinstance(state, Mapping):
        fix = ("read the file first: minigrad.checkpoint.load(path)" if isinstance(state, str | os.PathLike) else
               "pass what its state_dict() returns" if hasattr(state, "state_dict") else "pass model.state_dict()")
        raise error(TypeError, what, got=describe(state), needs="a dictionary of names and Tensors", fix=fix)
    missing, unexpected = [k for k in own if k not in state], [k for k in state if k not in own]
    values = {k: _array(what, k, v) for k, v in state.items() if k in own}
    problems = [f"{kind}: {', '.join(map(str, names))}"
                for kind, names in (("missing", missing), ("unexpected", unexpected)) if names and strict]
    problems += [f"{k}: {describe(v)}, to go into {describe(own[k])}"
                 for k, v in values.items() if not backend.is_array(v) or _kind(v) != _kind(own[k])]
    if problems:
        inside = next((k for k, v in state.items() if isinstance(v, Mapping) and own.keys() <= v.keys()), None)
        raise error(RuntimeError, what, got="\n    ".join(["what does not fit (nothing was loaded)", *problems]),
                    needs="the names, shapes and dtypes of the module",
                    fix="build it as the saved one was; astype for its dtype; strict=False to ignore names" if inside is None else
                    f"pass the part that is the module's: state[{inside!r}]")
    arrays = {k: backend.asarray(v, None, own[k].backend) for k, v in values.items()}
    mine = {id(backend.owner(t._data)) for t in own.values()}  # a source of our own must not change on the way
    arrays = {k: a.copy() if id(backend.owner(a)) in mine else a for k, a in arrays.items()}
    for name, array in arrays.items():
        own[name]._data[...] = array
        record_write(own[name]._data, "load_state_dict")
    return KeyDifference(missing, unexpected)


def _array(what: str, name: str, value: Any) -> Any:
    """The array of a Tensor, or of another framework's tensor: such as PyTorch's, which says how to become NumPy's."""
    if isinstance(value, Tensor):
        return value._data
    value = backend.plain(value, what)
    if backend.is_array(value) or not callable(getattr(value, "numpy", None)):
        return value
    try:
        return value.numpy()
    except (TypeError, ValueError, RuntimeError) as e:  # on a GPU, on its own tape, or of a dtype that NumPy does not have
        raise error(TypeError, what, got=f"{name}: {describe(value)}, which gives no NumPy array ({e})", needs="tensors in the host's memory",
                    fix="{k: v.detach().cpu().float().numpy() for k, v in state.items()}, without float() where integers are meant") from e


def _kind(x: Any) -> tuple[Any, Any]:
    return tuple(x.shape), x.dtype


def replace(member: Tensor, convert: Callable[[Any], Any]) -> None:
    """Put ``convert(array)`` in the place of a leaf's array, and of its gradient's."""
    array = convert(member._data)
    if array is member._data:
        return
    old, member._data = member._line, array
    if old is not None:  # it may be on a tape: cut it off, and begin a new line with the new dtype
        member.requires_grad = False
        member.requires_grad = True
        new: Any = member._line
        new._notes, old._notes = old._notes, {"hooks": [_refuse]}
        old.saved = lambda: None
    if member._grad is not None:
        member._grad = Tensor(convert(member._grad._data))


def _refuse(gradient: Tensor) -> None:
    raise error(TapeError, "backward", got="a tape from before its module was moved or converted",
                needs="the parameters of the forward pass",
                fix="run the forward again after model.to(...) or model.astype(...)")


__all__ = ["KeyDifference"]
