"""Backward: walk the tape from its last line to its first, applying each line's rules.

Lines are numbered as they are recorded, so "backward" is that order reversed: no recursion, no topological sort. Gradients
are accumulated out of place. A line drops what it kept as soon as it has been used, unless the graph is retained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from .. import ops
from . import backend, ownership, storage
from .backend import NAMESPACES, Array
from .errors import TapeError, describe, error
from .state import watching
from .tensor import FREED, Line, Tensor, Value, no_grad, state

_by_index = attrgetter("index")


def reachable(roots: Iterable[Line]) -> list[Line]:
    """All lines that `roots` depend on, roots included, in the order in which they were recorded."""
    stack = list(roots)
    seen = set(stack)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=_by_index)


def _leading_to(targets: set[Line], lines: Sequence[Line]) -> set[Line]:
    """The lines among `lines` (in order) from which some target can be reached."""
    needed = set(targets)
    for line in lines:
        if line not in needed and any(p in needed for p in line.parents):
            needed.add(line)
    return needed


def _run(roots: Sequence[tuple[Line, Value]], targets: set[Line] | None, *, create_graph: bool, retain_graph: bool) -> dict[Line, Value]:
    """Propagate the roots' cotangents. Returns the gradients of `targets` (None: deposits into all leaves instead).

    Cotangents are raw arrays, or Tensors under create_graph.
    """
    lines = reachable(line for line, _ in roots)
    needed = None if targets is None else _leading_to(targets, lines)
    grads: dict[Line, Value] = {}
    for line, g in roots:
        grads[line] = g if line not in grads else grads[line] + g
    found: dict[Line, Value] = {}
    storage.look_everywhere()
    lines.reverse()
    for line in lines:
        g = grads.pop(line, None)
        if g is None or (needed is not None and line not in needed):
            continue
        notes = line._notes
        if notes is not None:
            g = _noted(line, notes, g, deposit=targets is None)
        plan: Any = line.plan
        saved = line.saved
        if targets is not None and line in targets:
            found[line] = g
            if not any(p in needed for p in line.parents):  # type: ignore[operator]
                continue  # its own rule is not asked, so it keeps what that needs
        if plan.is_leaf:
            if targets is None:
                box = [g]
                g = None
                _deposit(saved(), box)
            continue
        if plan.is_output:
            main = line.parents[0]
            parts = grads.setdefault(main, [None] * len(main.shape))  # type: ignore[union-attr,arg-type]
            before = parts[plan.position]  # a rule on the tape makes further lines of the same output
            parts[plan.position] = g if before is None else before + g
            continue
        if saved is FREED:
            raise error(TapeError, "backward", got=f"line {line.index} ({plan.name}), which an earlier backward has used and freed",
                        needs="a tape that still holds what its rules need", fix="pass retain_graph=True to the first backward, or run the forward again")
        if storage.last_write > line.index:
            _refuse_if_overwritten(line)
        if create_graph:
            saved = plan.on_tape(line)
        if type(g) is list:
            g = _filled(line, g, create_graph)
        parents: Any = line.parents
        for where, call in plan.steps:
            if type(where) is int:
                parent = parents[where]
                if needed is None or parent in needed:
                    _deliver(grads, line, parent, call(g, saved))
            elif needed is None or any(parents[i] in needed for i in where):
                results = call(g, saved)
                if type(results) is not tuple or len(results) != len(where):
                    what = f"{len(results)} gradients" if type(results) is tuple else describe(results)
                    raise error(TapeError, f"backward of {plan.name}", got=what,
                                needs=f"a tuple of {len(where)}: one gradient (or None) per input", fix="return them in the order of the op's inputs")
                for i, d in zip(where, results, strict=True):
                    if parents[i] is not None:
                        _deliver(grads, line, parents[i], d)
                results = d = None  # a gradient that only `grads` holds can be handed over without a copy
        if not retain_graph:
            line.saved = FREED
    return found


def _deliver(grads: dict[Line, Value], line: Line, parent: Line, d: Value) -> None:
    """Add `d`, which a rule of `line` returned, to the gradient of `parent`, if it fits."""
    if d is None:
        return
    try:
        if d.shape != parent.shape or (d.dtype is not parent.dtype and d.dtype != parent.dtype):
            raise _wrong_gradient(line, parent, d)
    except AttributeError:
        raise _wrong_gradient(line, parent, d) from None
    if watching:
        for watcher in state.watchers:
            if hasattr(watcher, "on_gradient"):
                watcher.on_gradient(line, d)
    before = grads.get(parent)
    grads[parent] = d if before is None else before + d


def _noted(line: Line, notes: dict[str, Any], g: Value, deposit: bool) -> Value:
    """Run the hooks of a line on its complete gradient, then fill a retained ``.grad`` (not in `grad`, which fills none)."""
    for hook in tuple(notes.get("hooks", ())):
        mine = g
        if not isinstance(g, Tensor) or g._line is None:  # a copy: other branches may hold the same array
            mine = Tensor(backend.np.array(g) if isinstance(g, backend.np.generic) else (g._data if isinstance(g, Tensor) else g).copy())
            g = mine if isinstance(g, Tensor) else mine._data
        new = hook(mine)
        if new is not None:
            if not isinstance(new, Tensor):
                raise error(TypeError, "hook", got=describe(new), needs="a Tensor or None", fix="wrap the new gradient: minigrad.tensor(...)")
            if new.shape != line.shape or new.dtype != line.dtype:
                raise error(ValueError, "hook", got=describe(new), needs=f"shape {line.shape} and dtype {line.dtype}",
                            fix="keep the gradient's shape and dtype")
            g = new if isinstance(g, Tensor) else new._data
    retained = notes.get("retained")
    if retained is not None and deposit:
        _deposit(retained(), [g])  # `g` goes on, so the tensor gets a copy
    return g


def _filled(line: Line, parts: list[Value], create_graph: bool) -> tuple[Value, ...]:
    """The cotangents of an op with several outputs, zeros where an output was not used."""
    xp = NAMESPACES[type(next(p._data if isinstance(p, Tensor) else p for p in parts if p is not None))]
    zeros = (xp.zeros(shape, dtype) for shape, dtype in line.shape)
    return tuple((Tensor(z) if create_graph else z) if p is None else p for p, z in zip(parts, zeros, strict=True))


def _deposit(tensor: Tensor | None, box: list[Value]) -> None:
    """Accumulate the one gradient in `box` into ``tensor.grad``, out of place; a gradient never shares memory with anything else."""
    if tensor is None:  # nobody holds the variable any more
        return
    if isinstance(box[0], Tensor):
        tensor._grad = _of_its_own(box[0]) if tensor._grad is None else tensor._grad + box[0]
    elif tensor._grad is None:
        tensor._grad = Tensor(_own_array(box))
    else:
        with no_grad():
            tensor._grad = Tensor(_own_array([tensor._grad._data + box[0]]))


def _of_its_own(g: Tensor) -> Tensor:
    """A gradient under create_graph: on the tape it cannot be written to, a constant gets its own memory."""
    return g if g._line is not None else Tensor(g._data.copy())


def _own_array(box: list[Value]) -> Array:
    """The array in `box` itself if it owns its memory and nobody else holds it, else a copy."""
    if type(box[0]) not in NAMESPACES:
        return backend.np.asarray(box[0])
    return box[0] if box[0].base is None and not ownership.others(box) else box[0].copy()


def _wrong_gradient(line: Line, parent: Line, d: Value) -> Exception:
    return error(TapeError, f"rule of {line.op}", got=f"{describe(d)} as the gradient of an input",
                 needs=f"shape {parent.shape} and dtype {parent.dtype}, as the input",
                 fix="sum over broadcast axes (or make the op with @minigrad.elementwise, which broadcasts visibly), and keep the dtype")


def _refuse_if_overwritten(line: Line) -> None:
    for name, array in line.kept.items():
        writer = storage.written_since(array, line.index)
        if writer is not None:
            raise error(TapeError, "backward", got=f"line {line.index} ({line.op}), whose kept array {name!r} was overwritten by {writer}",
                        needs="the values of the forward pass", fix="write after backward, or run the forward again")


# -- the public calls -------------------------------------------------------------------------------------------------------

def _cotangent(y: Tensor, gradient: Any, what: str) -> Tensor:
    if not isinstance(y, Tensor):
        raise error(TypeError, what, got=describe(y), needs="a Tensor", fix="compute it from Tensors")
    if y._line is None:
        raise error(TapeError, what, got="a tensor that does not require grad", needs="a result of taped ops",
                    fix="create the inputs with requires_grad=True, and compute outside no_grad()")
    if gradient is None:
        if y.size != 1:
            raise error(ValueError, what, got=f"an output of shape {y.shape} and no gradient", needs="a scalar, or the cotangent of the output",
                        fix="reduce to a loss first, or pass gradient= of the output's shape")
        return Tensor(NAMESPACES[type(y._data)].ones(y.shape, y.dtype))
    if not isinstance(gradient, Tensor):
        raise error(TypeError, what, got=describe(gradient), needs="gradient= as a Tensor", fix="wrap it: minigrad.tensor(...)")
    if gradient.shape != y.shape or gradient.dtype != y.dtype or type(gradient._data) is not type(y._data):
        raise error(ValueError, what, got=f"gradient={describe(gradient)}", needs=f"that of the output: {describe(y)}",
                    fix="give the cotangent the output's shape, dtype and backend")
    return gradient


class _recording:
    def __init__(self, on: bool) -> None:
        self.on = on

    def __enter__(self) -> None:
        self.before, state.recording = state.recording, self.on

    def __exit__(self, *_: object) -> None:
        state.recording = self.before


def backward(y: Tensor, gradient: Tensor | None = None, *, create_graph: bool = False, retain_graph: bool | None = None) -> None:
    """Accumulate the gradients of `y` into ``.grad`` of every variable it depends on.

    Args:
        gradient: cotangent of `y`, a Tensor of its shape and dtype; may be left out for a scalar.
        create_graph: record the backward itself, so that gradients can be differentiated again.
        retain_graph: keep the tape for another backward; default: as create_graph.

    Raises:
        TapeError: no tape, a freed tape, or a kept array that was overwritten.
        ValueError: `y` is not a scalar and `gradient` is missing, or it does not fit.
    """
    g = _cotangent(y, gradient, "backward")
    before, state.recording = state.recording, create_graph
    try:
        _run([(y._line, g if create_graph else g._data)], None, create_graph=create_graph,  # type: ignore[list-item]
             retain_graph=create_graph if retain_graph is None else retain_graph)
    finally:
        state.recording = before


def grad(y: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], gradient: Any = None, *, create_graph: bool = False,
         retain_graph: bool | None = None, allow_unused: bool = False) -> tuple[Tensor | None, ...]:
    """Gradients of `y` (or of several outputs, their sum) with respect to `inputs`, without touching any ``.grad``.

    Args:
        inputs: variables or taped results.
        gradient: cotangent of `y` (for several outputs a sequence of them).
        allow_unused: None for an input that `y` does not depend on, instead of an error.

    Returns:
        A tuple of Tensors, one per input (or None), each of its input's shape and dtype.

    >>> import minigrad as mg
    >>> x = mg.tensor(2.0, requires_grad=True)
    >>> (dy,) = mg.grad(x * x * x, [x], create_graph=True)
    >>> mg.grad(dy, [x])
    (tensor(12., dtype=float32),)
    """
    outputs = [y] if isinstance(y, Tensor) else list(y)
    cotangents = [gradient] * len(outputs) if gradient is None or isinstance(gradient, Tensor) else list(gradient)
    if len(cotangents) != len(outputs):
        raise error(ValueError, "grad", got=f"{len(outputs)} outputs and {len(cotangents)} cotangents", needs="one each",
                    fix="pass gradient=[...] in the outputs' order")
    xs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for x in xs:
        if not isinstance(x, Tensor) or x._line is None:
            raise error(TapeError, "grad", got=describe(x) + ("" if not isinstance(x, Tensor) else " that does not require grad"),
                        needs="inputs on the tape", fix="create them with requires_grad=True before the computation")
    roots: list[tuple[Line, Value]] = []
    for out, c in zip(outputs, cotangents, strict=True):
        start = _cotangent(out, c, "grad")
        roots.append((out._line, start if create_graph else start._data))  # type: ignore[arg-type]
    targets = {x._line for x in xs}
    with _recording(create_graph):
        found = _run(roots, targets, create_graph=create_graph,  # type: ignore[arg-type]
                     retain_graph=create_graph if retain_graph is None else retain_graph)
    result: list[Tensor | None] = []
    for i, x in enumerate(xs):
        line: Any = x._line
        if line not in found and not allow_unused:
            raise error(TapeError, "grad", got=f"input number {i}, on which the output does not depend", needs="a path from the output to every input",
                        fix="check the computation, or pass allow_unused=True to get None")
        if line in found and not isinstance(found[line], Tensor):
            box = [found.pop(line)]
            found[line] = Tensor(_own_array(box))
            result.append(found[line])
        else:  # unused, under create_graph, or an input that was asked for before
            g = found.get(line)
            result.append(g if g is None else _of_its_own(g))
    return tuple(result)


# -- names ------------------------------------------------------------------------------------------------------------------

def named(name: str, x: Value) -> Value:
    """Give the tape line of `x` a name, by which drawings, `record` and the derivation checker know it. Returns `x`.

    A line has one name; a second one adds an identity line. Constants and raw arrays pass through.
    """
    if isinstance(x, Tensor):
        if x._line is not None:
            if x._line.name not in (None, name):
                x = ops.identity(x)
            x._line.note("name", name)
        for watcher in state.watchers:
            if hasattr(watcher, "on_name"):
                watcher.on_name(name, x)
    return x
