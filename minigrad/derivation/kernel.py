"""Calling somebody else's backward: a function on NumPy, CuPy or PyTorch, or a torch.autograd.Function, with the arrays that it wants.

Whatever library the given inputs are of, their backward gets arrays of that library, on the same device, in one dtype after the
other. What it returns comes back to the host in float64, with its dtype.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core import backend
from ..core.backend import Array, np
from ..core.errors import error
from ..core.tensor import Tensor
from .inputs import is_torch
from .names import COTANGENTS
from .outputs import ALL
from .probe import Probe
from .task import nearest

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}  # of rounding, relative
HALF = ("float16", "bfloat16")


class Found(NamedTuple):
    """A gradient on the host, in float64; the dtype that it came in."""

    value: Array
    dtype: str


class Call(NamedTuple):
    """What a backward returned: None for an input that it has no gradient for; the output of its own forward; arguments that it changed."""

    gradients: dict[str, Found | None]
    output: list[Found] | None
    changed: tuple[str, ...]


class Library:
    """Where arrays of the backward live: minigrad's backends, or PyTorch on some device."""

    def __init__(self, inputs: Sequence[Any], torch: bool) -> None:
        tensors = [a for a in inputs if is_torch(a)]
        names = [a.backend if isinstance(a, Tensor) else backend.name_of(a) if backend.is_array(a) else "numpy" for a in inputs]
        self.torch: Any = sys.modules["torch"] if torch or tensors else None
        self.device = tensors[0].device if tensors else "cpu"
        self.name = next((n for n in names if n != "numpy"), "numpy")

    def put(self, a: Any, dtype: str) -> Any:
        """A host value as an array of the library; floats in the dtype, everything else as it is."""
        if isinstance(a, Tensor):
            a = a.numpy()
        if not isinstance(a, np.ndarray):
            return a
        if self.torch is not None:
            t = self.torch.tensor(a, device=self.device)
            return t.to(getattr(self.torch, dtype)) if a.dtype.kind == "f" else t
        return backend.from_numpy(np.array(a, dtype if a.dtype.kind == "f" else None), self.name)

    def back(self, a: Any) -> Found:
        """An array of the library on the host.

        Raises:
            TypeError: it is no array of real numbers.
        """
        if is_torch(a):
            return Found(a.detach().cpu().double().numpy(), str(a.dtype).removeprefix("torch."))
        a = a.numpy() if isinstance(a, Tensor) else a
        value = backend.to_numpy(a) if backend.is_array(a) else np.asarray(a)
        if value.dtype.kind not in "fiub":
            raise error(TypeError, "backward", got=f"a {type(a).__name__} in the place of a gradient", needs="an array of real numbers",
                        fix="return the gradients in the order of the inputs, or as {'x': d_x, ...}")
        return Found(value.astype("float64"), str(value.dtype))


class Kernel:
    """Somebody else's backward, ready to be called on a `Probe`.

    Args:
        backward: a function, or a subclass of torch.autograd.Function.
        forward: the composed function, whose arguments it shares.
        inputs: arrays by argument name, in the order of the forward.
        names: what the gradients are with respect to, in the order in which they are returned; None: something else.

    Raises:
        TypeError: it can be called neither by names nor in the order of the forward.
    """

    def __init__(self, backward: Any, inputs: Mapping[str, Any], keywords: Mapping[str, Any], names: Sequence[str | None] | None) -> None:
        self.backward, self.inputs, self.keywords, self.names = backward, list(inputs), list(keywords), names
        self.is_function = is_torch_function(backward)
        if not self.is_function and not callable(backward):
            raise error(TypeError, "check_backward", got=f"a {type(backward).__name__} as the backward", needs="a function, or a torch.autograd.Function",
                        fix="def backward(dy, x, gamma, eps): ... return dx, dgamma")
        self.library = Library(list(inputs.values()), self.is_function)
        own = {n: d for n, a in inputs.items() if (d := dtype_of(a)) in UNITS}
        self.given = max(own.values(), key=lambda d: UNITS[d], default="float64")  # the dtype of the inputs; of the narrowest, where they differ
        self.own = own if len(set(own.values())) > 1 else {}
        self.floats: list[str] = []  # inputs that have a gradient
        for n in names or ():
            if n is not None and n not in self.inputs:
                raise error(ValueError, "check_backward", got=f"names with {n!r}{nearest(n, self.inputs)}", needs=f"inputs: {', '.join(self.inputs)}",
                            fix="give the inputs that gradients are returned for, in that order; None for what is none")

    def dtype(self, name: str, dtype: str) -> str:
        """What an input is given as in the run of this dtype: where the inputs' own dtypes differ, its own in the run of the narrowest."""
        return self.own.get(name, dtype) if dtype == self.given else dtype

    def call(self, probe: Probe, dtype: str, cotangents: Sequence[Array]) -> Call:
        """Its gradients at the arrays of a probe."""
        self.floats = [n for n, a in probe.arrays.items() if a.dtype.kind == "f"]
        given = {n: self.library.put(a, self.dtype(n, dtype)) for n, a in probe.arrays.items()}
        given |= {n: self.library.put(v, dtype) for n, v in probe.keywords.items()}
        upstream = [self.library.put(np.asarray(c), self.dtype(self.floats[0], dtype)) for c in cotangents]
        if self.is_function:
            return self._autograd(given, upstream)
        statistics = "float32" if dtype in HALF else dtype  # kept in float32 beside half precision, as kernels keep them
        kept = {n: self.library.put(a, statistics) for n, a in probe.values.items() if n not in given and n != ALL}
        dy = upstream[0] if len(upstream) == 1 else tuple(upstream)
        before = {n: self.library.back(a).value.copy() for n, a in given.items() if n in probe.arrays}
        result = self._called(given, kept, dy, probe)
        changed = tuple(n for n, a in before.items() if not np.array_equal(a, self.library.back(given[n]).value, equal_nan=True))
        return Call(self._by_name(result), None, changed)

    def _called(self, given: Mapping[str, Any], kept: Mapping[str, Any], dy: Any, probe: Probe) -> Any:
        """The call: by names where all are known, else in the order of the forward's arguments."""
        try:
            found = list(inspect.signature(self.backward).parameters.values())
        except (TypeError, ValueError):  # compiled: it says nothing about its arguments
            return self.backward(dy, *(given[n] for n in self.inputs), *(given[n] for n in self.keywords))
        kind = inspect.Parameter
        plain = [p for p in found if p.kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD)]
        known = {**kept, **given}
        at = next((i for i, p in enumerate(plain) if p.name in (*COTANGENTS, f"d_{probe.output}", f"d{probe.output}") and p.name not in known), 0)
        rest = [p for i, p in enumerate(plain) if i != at]
        only = {p.name: known[p.name] for p in found if p.kind == kind.KEYWORD_ONLY and p.name in known}
        if any(p.kind == kind.VAR_KEYWORD for p in found):
            return self.backward(dy, **{n: given[n] for n in (*self.inputs, *self.keywords)})
        if all(p.name in known or p.default is not p.empty for p in rest) and not any(p.kind == kind.VAR_POSITIONAL for p in found):
            values = [known.get(p.name, p.default) for p in rest]
        else:
            every = [n for n in (*self.inputs, *self.keywords) if n not in only]
            needed = len([p for p in rest if p.default is p.empty])
            order = every if any(p.kind == kind.VAR_POSITIONAL for p in found) else every[:max(needed, min(len(rest), len(every)))]
            if not max(needed, len(self.inputs) - len(only)) <= len(order) <= max(len(rest), needed) and not any(p.kind == kind.VAR_POSITIONAL for p in found):
                strange = [p.name for p in rest if p.name not in known]
                raise error(TypeError, "backward", got=f"the parameters {', '.join(p.name for p in rest)}, of which {', '.join(strange)} "
                            f"{'is' if len(strange) == 1 else 'are'} not known", needs=f"names among {', '.join(known)}, or as many as the forward has",
                            fix="name them as the forward does, or write a small function around it")
            values = [given[n] for n in order]
        values.insert(at, dy)
        return self.backward(*values, **only)

    def _autograd(self, given: dict[str, Any], upstream: Sequence[Any]) -> Call:
        """A torch.autograd.Function, by torch.autograd.grad."""
        torch = self.library.torch
        for n in self.floats:
            given[n].requires_grad_(True)
        parameters = [p for n, p in inspect.signature(self.backward.forward).parameters.items() if n != "ctx"]
        named = [p.name for p in parameters if p.kind != inspect.Parameter.VAR_POSITIONAL]
        every = [*self.inputs, *self.keywords]
        order = named if named and all(n in given or p.default is not p.empty for n, p in zip(named, parameters, strict=False)) else every
        y = self.backward.apply(*(given[n] if n in given else next(p.default for p in parameters if p.name == n) for n in order))
        outputs = [t for t in (y if isinstance(y, (tuple, list)) else [y]) if is_torch(t) and t.is_floating_point()]
        if len(outputs) != len(upstream):
            raise error(TypeError, "backward", got=f"{len(outputs)} outputs of the function", needs=f"{len(upstream)}, as the composed forward returns",
                        fix="let both return the same outputs in the same order")
        wanted = [given[n] for n in self.floats]
        result = torch.autograd.grad(outputs, wanted, [g.to(t.dtype) for g, t in zip(upstream, outputs, strict=True)], allow_unused=True)
        gradients = {n: None if g is None else self.library.back(g) for n, g in zip(self.floats, result, strict=True)}
        return Call(gradients, [self.library.back(t) for t in outputs], ())

    def _by_name(self, result: Any) -> dict[str, Found | None]:
        """What was returned, by the names of the inputs."""
        if isinstance(result, Mapping):
            pairs = [(self._input(str(k)), v) for k, v in result.items()]
        else:
            several = list(result) if isinstance(result, (tuple, list)) else [result]
            everything = [*self.inputs, *self.keywords]
            fitting: Sequence[str | None] | None = self.names
            if fitting is None:
                fitting = next((o for o in (self.floats, self.inputs, everything) if len(o) == len(several)), None)
            if fitting is None or len(fitting) != len(several):
                wanted = [n for n in self.names if n] if self.names is not None else self.floats
                raise error(TypeError, "backward", got=f"{len(several)} gradient{'s' * (len(several) != 1)}",
                            needs=f"{len(wanted)}: {', '.join(f'd_{n}' for n in wanted)}",
                            fix="return all of them in this order, or as a dict, or say their order by names=(...)")
            pairs = [(n, v) for n, v in zip(fitting, several, strict=True) if n is not None]
        return {n: None if v is None else self.library.back(v) for n, v in pairs if n in self.floats}

    def _input(self, key: str) -> str:
        """The input that a key of a dict of gradients means: x, d_x, dx, grad_x."""
        for n in (key, key.removeprefix("d_"), key.removeprefix("grad_"), key.removeprefix("d")):
            if n in self.inputs or n in self.keywords:
                return n
        raise error(TypeError, "backward", got=f"a gradient called {key!r}{nearest(key, self.inputs)}", needs=f"one for each of {', '.join(self.floats)}",
                    fix="name the gradients as the inputs")


def is_torch_function(value: Any) -> bool:
    """Whether it is a subclass of torch.autograd.Function."""
    return isinstance(value, type) and any(c.__module__ == "torch.autograd.function" and c.__name__ == "Function" for c in value.__mro__)


def dtype_of(value: Any) -> str:
    """The name of an array's dtype: "float32", "bfloat16", "int64"."""
    return str(getattr(value, "dtype", None) or np.asarray(value).dtype).removeprefix("torch.")


class KernelRun(NamedTuple):
    """The backward on one probe in one dtype: the truth at the numbers that it saw, and what it returned there."""

    probe: Probe
    dtype: str
    call: Call


def run_kernel(kernel: Kernel, probe: Probe, dtype: str) -> KernelRun:
    """Call a backward on a probe in a dtype."""
    twin = probe
    if dtype != "float64":  # the truth at the numbers that the backward gets, which are rounded
        def rounded(a: Any, name: str = "") -> Any:
            where = kernel.dtype(name, dtype)
            return kernel.library.back(kernel.library.put(a, where)).value if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
        case = {n: rounded(a, n) for n, a in probe.arrays.items()}, {n: rounded(v) for n, v in probe.keywords.items()}
        twin = Probe(probe.task, case, None, np.asarray(rounded(np.asarray(probe.adjoints[probe.output]))))
    with np.errstate(all="ignore"):
        return KernelRun(twin, dtype, kernel.call(twin, dtype, _cotangents(twin)))


def _cotangents(probe: Probe) -> list[Array]:
    """What comes from above, for each output."""
    if len(probe.outputs) < 2:
        return [probe.adjoints[probe.output]]
    return [probe.adjoints[n] for n in probe.outputs]
