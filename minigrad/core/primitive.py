"""Primitives: an op beside its derivative rules.

    @primitive(a=lambda g, b: g * b, b=lambda g, a: g * a)
    def mul(xp, a, b): return xp.multiply(a, b)

The forward function gets the array namespace first, then its inputs, then keywords. A rule gets the cotangent first; the
names of its other parameters say what the tape keeps for it:

    NAME         the array of that input            NAME_shape, NAME_dtype   metadata of that input: keeps nothing
    out          the array of the output            a keyword of the op      its value: keeps nothing

Rules use ordinary operators and minigrad's ops, so the same lines run on raw arrays (first order) and on Tensors, where
they are recorded (``create_graph=True``). Only what the inputs that require grad need is kept.

Conventions for the less usual ops:
- A variadic input (``*arrays``) has one rule for all of them; it returns a tuple with one gradient (or None) an input, and
  ``arrays``, ``arrays_shape`` are tuples.
- An op with several outputs returns a tuple. Its rule's cotangent is then a tuple, with zeros for unused outputs, and
  ``out`` is the tuple of outputs.
- An input without a rule is a constant for the derivative (indices, masks); Tensors are accepted there.
- A rule may return None: no gradient flows that way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .calls import shortest_way
from .plan import Align, Primitive


def primitive(align: Align | None = None, /, **rules: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn ``forward(xp, *inputs, **keywords)`` into an op with these derivative rules (see the module's docstring).

    Args:
        align: prepares the inputs before the forward (elementwise ops pass one that broadcasts; see `elementwise`).
        rules: input name -> ``rule(cotangent, ...) -> gradient``. Inputs without a rule are constants.

    >>> import minigrad as mg
    >>> @mg.primitive(a=lambda g, b: g * b, b=lambda g, a: g * a)
    ... def product(xp, a, b):
    ...     return xp.multiply(a, b)
    >>> x = mg.tensor([3.0], requires_grad=True)
    >>> product(x, x).backward()
    >>> x.grad
    tensor([6.], dtype=float32)
    """
    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        p = Primitive(forward, rules, align)
        return as_function(p, shortest_way(p))
    return decorate


def as_function(p: Primitive, apply: Callable[..., Any]) -> Callable[..., Any]:
    """`apply` under the op's name and documentation, with the Primitive as its attribute."""
    apply.__name__ = apply.__qualname__ = p.name
    apply.__doc__ = p.forward.__doc__
    apply.__module__ = p.forward.__module__
    apply.__signature__ = p.signature  # type: ignore[attr-defined]
    apply.primitive = p  # type: ignore[attr-defined]
    return apply
