"""A table of what a network does with one input: shapes, parameters, multiply-adds, and what the tape keeps for the backward pass."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..core import backend
from ..core.engine import _recording, reachable
from ..core.errors import describe, error
from ..core.state import unwatch, watch
from ..core.storage import tick
from ..core.tensor import Tensor, state
from .module import Module


class _Call:
    """One call of one module: its row of the table."""

    def __init__(self, module: Module, depth: int) -> None:
        self.module, self.depth = module, depth
        self.first = self.last = tick()  # the tape lines of this call lie between these ticks
        self.output, self.parameters, self.kept = "", 0, 0
        self.forward, self.backward = 0, 0  # multiply-adds


def summary(module: Module, example: Tensor | tuple[int, ...]) -> str:
    """Run a copy of `module` once, in its present mode, and describe each call of a layer.

    The numbers of a row are the layer's own, without those of the layers inside it, so that a column adds up to its
    total. A shared parameter counts once. "kept" are the bytes that the tape holds for the backward pass, each buffer
    with the line that kept it first, except parameters' own buffers: `minigrad.tape(y).kept_bytes`, layer by layer.

    "forward" and "backward" are multiply-adds of the convolutions and matrix products among the ops. Padding counts as pixels. A product
    has two in its backward pass, one for each factor, and only those are counted whose factor has a gradient: the network's input has none.
    What a layer derived by hand multiplies inside its own op is not seen (whitening does; its composed form is counted).

    Args:
        example: an input, or its shape with the batch axis: then standard normal numbers of the parameters' dtype.

    >>> from minigrad import nn
    >>> print(summary(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10)), (64, 20)))
    layer       output    parameters  forward  backward  kept
    Sequential  (64, 10)
      0 Linear  (64, 30)         630   38,400    38,400   5,120
      1 ReLU    (64, 30)                                  7,680
      2 Linear  (64, 10)         310   19,200    38,400
    total                        940   57,600    76,800  12,800
    """
    twin = copy.deepcopy(module)
    x = _example(twin, example)
    calls: list[_Call] = []
    open_calls: list[_Call] = []

    def observe(called: Module, run: Callable[[], Any]) -> Any:
        call = _Call(called, len(open_calls))
        calls.append(call)
        open_calls.append(call)
        try:
            y = run()
        finally:
            open_calls.pop()
        call.last = tick()
        call.output = ", ".join(str(tuple(t.shape)) for t in _tensors(y))
        return y

    def count(p: Any, inputs: Any, result: Any) -> None:
        products = multiply_adds(p.name, inputs, result)
        if open_calls and products:
            open_calls[-1].forward += products
            open_calls[-1].backward += products * sum(isinstance(a, Tensor) and a.requires_grad for a in inputs[:2])

    generator = backend.generator().bit_generator.state
    before, state.observers = state.observers, (*state.observers, observe)
    watch(count)
    try:
        with _recording(True):
            y = twin(x)
    finally:
        unwatch(count)
        state.observers = before
        backend.set_generator(dict(generator))
    _charge(calls, y)
    counted: set[int] = set()
    for call in calls:
        mine = [p for p in call.module.parameters(recurse=False) if id(p) not in counted]
        counted.update(map(id, mine))
        call.parameters = sum(p.size for p in mine)
    idle = sum(p.size for p in twin.parameters() if id(p) not in counted)
    return _table(calls, {id(m): name for name, m in twin.named_modules()}, idle)


def multiply_adds(op: str, inputs: Sequence[Any], result: Any) -> int:
    """How many multiply-adds an op of this name takes: those of a convolution, a matrix product or a recorded einsum, else 0.

    Args:
        inputs: what the op was given, Tensors and arrays.
        result: what it returned, a Tensor.

    >>> import minigrad as mg
    >>> multiply_adds("matmul", [mg.zeros(2, 3), mg.zeros(3, 4)], mg.zeros(2, 4))
    24
    """
    if op == "conv2d":  # each output: inputs of its group times kernel
        return math.prod(result.shape) * math.prod(inputs[1].shape[1:])
    if op == "matmul":
        return math.prod(result.shape) * int(inputs[0].shape[-1])
    if op == "contract" and result._line is not None:
        line = result._line
        spec = dict(zip((name for name, *_ in line.plan.slots), line.saved, strict=True))["spec"]
        left, right = spec.partition("->")[0].split(",")
        return math.prod({**dict(zip(left, inputs[0].shape, strict=True)), **dict(zip(right, inputs[1].shape, strict=True))}.values())
    return 0


def _example(module: Module, example: Any) -> Tensor:
    if isinstance(example, Tensor):
        return example
    if not isinstance(example, (tuple, list)) or not all(hasattr(n, "__index__") for n in example):
        raise error(TypeError, "summary", got=describe(example), needs="an input Tensor, or its shape",
                    fix="model.summary((64, 3, 32, 32))")
    first = next(module.parameters(), None)
    dtype, name = (backend.default_dtype, None) if first is None else (first.dtype, first.backend)
    values = backend.np.random.default_rng(0).standard_normal(tuple(example)).astype(dtype)
    return Tensor(backend.from_numpy(values, name))


def _tensors(y: Any) -> Iterator[Tensor]:
    if isinstance(y, Tensor):
        yield y
    elif isinstance(y, (tuple, list, dict)):
        for part in y.values() if isinstance(y, dict) else y:
            yield from _tensors(part)


def _charge(calls: list[_Call], y: Any) -> None:
    """Charge every buffer that the tape of `y` keeps to the innermost call that recorded the first line holding it."""
    lines = reachable(t._line for t in _tensors(y) if t._line is not None)
    variables = [line.saved() for line in lines if line.is_leaf]
    held = {id(backend.owner(v._data)) for v in variables if v is not None}
    for line in lines:
        for array in line.kept.values():
            owner = backend.owner(array)
            if id(owner) not in held:
                held.add(id(owner))
                inside = [call for call in calls if call.first < line.index < call.last]
                if inside:
                    inside[-1].kept += owner.nbytes


def _table(calls: list[_Call], names: dict[int, str], idle: int) -> str:
    def number(n: int) -> str:
        return f"{n:,}" if n else ""

    rows: list[tuple[str, ...]] = [("layer", "output", "parameters", "forward", "backward", "kept")]
    for call in calls:
        name = names.get(id(call.module), "").rpartition(".")[2]
        layer = "  " * call.depth + f"{name} {type(call.module).__name__}".strip()
        rows.append((layer, call.output, *(number(n) for n in (call.parameters, call.forward, call.backward, call.kept))))
    if idle:
        rows.append(("not called", "", number(idle), "", "", ""))
    sums = (sum(c.parameters for c in calls) + idle, *(sum(getattr(c, k) for c in calls) for k in ("forward", "backward", "kept")))
    rows.append(("total", "", *(f"{n:,}" for n in sums)))
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    lines = []
    for k, (layer, output, *numbers, kept) in enumerate(rows):
        kept = kept.ljust(widths[5]) if not k else kept.rjust(widths[5])
        middle = "  ".join(f"{n:>{w}}" for n, w in zip(numbers, widths[2:], strict=False))
        lines.append(f"{layer:<{widths[0]}}  {output:<{widths[1]}}  {middle}  {kept}".rstrip())
    return "\n".join(lines)


__all__ = ["multiply_adds", "summary"]
