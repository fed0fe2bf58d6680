"""Ops with one backward for all their inputs, derived by hand.

The forward's statistics are saved once and reused in first order. They are a cache, never the truth: under
``create_graph`` they are recomputed from the inputs, on the tape, so that second derivatives see how they depend on x.

float16 only stores (see kernels/half.py): where the first input is float16, `save`, forward and backward are given float32, the
statistics are float32, and the tape keeps the float16 inputs. Output and gradients are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..kernels import half
from . import backend, donation
from .backend import NAMESPACES, Array, Namespace
from .calls import call, general_way
from .errors import describe, error
from .plan import Parameters, Primitive
from .primitive import as_function
from .tensor import Line, Tensor, Value


class ByHand(Primitive):
    """An op with one backward for all its inputs, and a cache of forward statistics."""

    def __init__(self, forward: Callable[..., Any], save: Callable[..., Any], backward: Callable[..., Any], rebuild: dict[str, Callable[..., Any]],
                 overwrites: str | None = None, fused: Any = None) -> None:
        super().__init__(forward, {})
        self.save, self.rebuild, self.fused = save, rebuild, fused
        self.given_by_us = {"saved", "into"} & {*self.keywords}  # keywords of the forward that are none of the op's
        for name in self.given_by_us:
            self.keywords.remove(name)
            self.defaults.pop(name, None)
        shown = [q for q in self.signature.parameters.values() if q.name not in self.given_by_us]
        self.signature = self.signature.replace(parameters=shown)
        self.save_names = self._named_subset("save", save, 0, {*self.inputs, *self.keywords})
        self.joint = self._jointly
        self.use(backward)
        self.overwrites = None if overwrites is None else self._overwritten(overwrites)

    def use(self, backward: Callable[..., Any]) -> None:
        """Make `backward` the op's; what lines keep is what it uses, and what `save` needs once more."""
        self.backward, self.backward_names = backward, self._named_subset("backward", backward, 2, {*self.inputs, *self.keywords, "out"})
        more = [n for n, _ in self.save_names if n not in self.rebuild]
        more += [n for f in self.rebuild.values() for n, _ in self.parameters_of(f, 0) if n != "saved"]
        used = {n for n, _ in self.backward_names}
        self.more_kept = tuple(dict.fromkeys(n for n in more if n not in used))

    def _named_subset(self, what: str, f: Callable[..., Any], skip: int, known: set[str]) -> Parameters:
        names = self.parameters_of(f, skip)
        extra = [n for n, _ in names if n not in known]
        if extra:
            raise error(TypeError, f"@by_hand {self.name}", got=f"{what} with the parameters {extra}", needs=f"names among {sorted(known)}",
                        fix=f"name {what}'s parameters after the op's inputs and keywords")
        return names

    def _overwritten(self, name: str) -> int:
        kept = [n for n in self.inputs if n in {*(k for k, _ in self.backward_names), *self.more_kept}]
        if name not in self.inputs or name in kept or "into" not in self.given_by_us:
            raise error(TypeError, f"@by_hand {self.name}", got=f"overwrites={name!r}; its inputs are {self.inputs}, of which it keeps {kept}",
                        needs="an input that the tape does not keep, and a forward with the keyword `into`",
                        fix="keep `out` instead, and give `rebuild` a way back to the input")
        return self.inputs.index(name)

    def _jointly(self, g: Value, saved: Any, *kept: Value, **keywords: Any) -> tuple[Value, ...]:
        """The rule of all inputs: the backward, which sees float32 where an input is float16."""
        if type(saved) is half.OfHalf:
            return half.backward(self._one_backward, g, saved, *kept, **keywords)
        return (self.backward if self.fused is None else self._one_backward)(g, saved, *kept, **keywords)

    def _one_backward(self, g: Value, saved: Any, *kept: Value, **keywords: Any) -> tuple[Value, ...]:
        """What is fused, where there is that and it applies; else what was derived by hand."""
        if self.fused is not None:
            xp = NAMESPACES.get(type(g))  # None while a tape records
            found = None if xp is None else self.fused.backward(xp, g, saved, *kept, **keywords)
            if found is not None:
                return found
        return self.backward(g, saved, *kept, **keywords)

    def forward_with_cache(self, xp: Namespace, arrays: Sequence[Array], meta: dict[str, Any], given: Sequence[Value]) -> tuple[Any, Any]:
        if arrays and half.is_half(arrays[0]):
            return half.forward(self.forward_with_cache, xp, arrays, meta)
        if self.fused is not None and (found := self.fused.forward(xp, *arrays, **meta)) is not None:
            return found
        cache = self.saved_by(dict(zip(self.inputs, arrays)), meta)
        more = {"saved": cache} if "saved" in self.given_by_us else {}
        if self.overwrites is not None:
            more["into"] = donation.offer(xp, given[self.overwrites], self.name)
        return self.forward(xp, *arrays, **meta, **more), cache

    def saved_by(self, inputs: dict[str, Any], meta: dict[str, Any]) -> Any:
        """What `save` makes of these inputs and keywords, by name."""
        known = {**inputs, **meta} if meta else inputs
        given = [known[n] for n, by_keyword in self.save_names if not by_keyword]
        return self.save(*given) if len(given) == len(self.save_names) else self.save(*given, **{n: known[n] for n, k in self.save_names if k})

    def rebuild_inputs(self, kept: dict[str, Any], meta: dict[str, Any], line: Line) -> None:
        """Where the op keeps its output: recover the input from it, tied to the parent's line."""
        saved = next(v for (_, kind, _), v in zip(line.plan.slots, line.saved, strict=True) if kind == "cache")
        raw = {n: v._data if isinstance(v, Tensor) else v for n, v in {**kept, **meta}.items()}
        of_half = type(saved) is half.OfHalf
        for name, f in self.rebuild.items():
            array = f(**{n: saved if n == "saved" else half.widened(raw[n]) if of_half else raw[n] for n, _ in self.parameters_of(f, 0)})
            kept[name] = Tensor(half.stored(array) if of_half else array, line.parents[self.inputs.index(name)])

    def recompute_cache(self, kept: dict[str, Any], meta: dict[str, Any], cache: Any) -> Any:
        if type(cache) is not half.OfHalf:
            return self.saved_by(kept, meta)
        return half.of_half(self.saved_by(half.widened_all(kept), half.widened_all(meta)), cache.half)


def by_hand(*, save: Callable[..., Any], backward: Callable[..., Any], rebuild: dict[str, Callable[..., Any]] | None = None,
            overwrites: str | None = None, fused: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn ``forward(xp, *inputs, **keywords)`` into an op with one hand-derived backward for all inputs.

    Args:
        save: ``save(*inputs, **keywords) -> tuple`` of forward statistics. Its parameters are matched by name. The result is a
            cache: first order reuses it; under ``create_graph`` it is recomputed from the inputs, on the tape.
            A forward with a keyword parameter ``saved`` receives it, so that nothing is computed twice.
        backward: ``backward(cotangent, saved, *kept, **keywords) -> tuple`` with one gradient (or None) an input. The names
            after the first two say what the tape keeps: inputs, or ``out`` for the output instead.
        rebuild: for an op that keeps its output: input name -> ``f(saved, out, ...)`` that recovers the input's array.
        overwrites: name of an input, kept by no rule, whose buffer the forward may reuse. The forward's keyword parameter
            ``into`` is then a function: call it, after all checks, for the array to write the output into. It returns the
            input's own array where nobody else needs it, and else a new one (see `donation`).
        fused: the same formulas in fewer passes over memory, for the arrays of some backend: an object with
            ``forward(xp, *inputs, **keywords) -> (output, saved)`` and ``backward(xp, cotangent, saved, *kept, **keywords)``,
            each of which may return None where it does not apply. Never asked while a tape records a backward.

    If the first input is float16, all three functions get it, and every other float16, as float32; other inputs may be float32
    already. The output is stored as float16 (unless it is a single number), gradients come in each input's own dtype.

    >>> import minigrad as mg
    >>> def mean_of(x): return (mg.mean(x),)
    >>> def back(g, saved, x): return (g - mg.mean(g),)
    >>> @mg.by_hand(save=mean_of, backward=back)
    ... def centre(xp, x, *, saved): return x - saved[0]
    >>> x = mg.tensor([1.0, 2.0, 6.0], requires_grad=True)
    >>> centre(x).backward(mg.tensor([0.0, 0.0, 3.0]))
    >>> x.grad
    tensor([-1., -1.,  2.], dtype=float32)
    """
    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        p = ByHand(forward, save, backward, rebuild or {}, overwrites, fused)
        return as_function(p, general_way(p))
    return decorate


def with_saved(op: Callable[..., Any], *args: Any, **keywords: Any) -> tuple[Any, tuple[Any, ...]]:
    """Call a by-hand op and also return what its `save` computed (constants), also under `no_grad`.

    >>> import minigrad as mg
    >>> @mg.by_hand(save=lambda x: (x * 2.0,), backward=lambda g, saved: (g * 2.0,))
    ... def double(xp, x, *, saved): return saved[0]
    >>> y, (twice,) = mg.with_saved(double, mg.tensor([1.0]))
    >>> twice
    tensor([2.], dtype=float32)
    """
    p = getattr(op, "primitive", None)
    if not isinstance(p, ByHand):
        raise error(TypeError, "with_saved", got=describe(op), needs="an op made with @by_hand", fix="call the op directly")
    y, cache = call(p, args, keywords)
    if any(isinstance(a, Tensor) for a in args):
        arrays = (backend.np.asarray(c) if isinstance(c, backend.np.generic) else c for c in cache)  # NumPy turns 0-d results into scalars
        cache = tuple(Tensor(c) if type(c) in NAMESPACES else c for c in arrays)
    return y, cache
