"""What the fuzzers of programs share: drawing numbers, running statements, difference quotients."""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np

import layers
import minigrad as mg


def draw(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """The same standard normal numbers for the same seed."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def explains_itself(error: Exception) -> bool:
    """Is this one of minigrad's errors, which say what they need, or NumPy's word on an array that is locked?"""
    return "\n  needs: " in str(error) or "read-only" in str(error)


def spoil(g: Any) -> None:
    """A hook that writes into its argument; where that is refused, the better."""
    with contextlib.suppress(Exception):
        g.data[...] = 1e3
    with contextlib.suppress(Exception), mg.no_grad():
        g[...] = 1e3


def weigh(v: Any, seed: int) -> Any:
    """⟨v, w⟩ with random w: a scalar with a cotangent that hides nothing."""
    return mg.sum(v * mg.tensor(draw(seed, v.shape), dtype=v.dtype, backend=v.backend))


def must_raise_outside_no_grad(leaf: Any) -> None:
    """An in-place operator on a leaf that requires grad is an error where ops are recorded."""
    try:
        operator.iadd(leaf, 0.5)
    except (mg.TapeError, RuntimeError):
        return
    raise AssertionError("leaf += number outside no_grad: no error")


def must_update(leaf: Any, change: float) -> None:
    """An in-place operator on a leaf inside no_grad writes into the leaf."""
    before, same = leaf.numpy(), leaf
    with mg.no_grad():
        leaf += change
    if leaf is not same or not np.array_equal(same.numpy(), before + change):
        raise AssertionError("leaf += number inside no_grad: the update is lost")


def depends_on(statements: list[str], names: set[str]) -> set[str]:
    """`names` and what they are computed from: a hook that writes into its argument may change these gradients, and no others."""
    found = set(names)
    for s in reversed(statements):
        name, equals, text = s.partition(" = ")
        if equals and name in found:
            found.update(re.findall(r"\b[a-z]\d+\b", text))
    return found


class ProgramRun:
    """One run of a program at leaves moved by `step` along their directions."""

    def __init__(self, statements: list[str], step: float = 0.0, backend: str = "numpy", skipped: frozenset[int] = frozenset(), tolerant: bool = False) -> None:
        self.leaves: dict[str, Any] = {}
        self.directions: dict[str, np.ndarray] = {}
        self.refused: set[int] = set()
        spoiled = depends_on(statements, {s.partition(".")[0] for s in statements if s.endswith("(spoil)")})

        def leaf(name: str, seed: int, shape: tuple[int, ...]) -> Any:
            self.directions[name] = draw(seed + 7919, shape) * (name not in spoiled)
            made = mg.tensor(draw(seed, shape) + step * self.directions[name], requires_grad=True, backend=backend)
            self.leaves[name] = made
            return made

        def constant(seed: int, shape: tuple[int, ...]) -> Any:
            return mg.tensor(draw(seed, shape), backend=backend)

        self.env: dict[str, Any] = {"mg": mg, "np": np, "layers": layers, "leaf": leaf, "constant": constant, "draw": draw, "weigh": weigh, "spoil": spoil,
                                    "must_update": must_update, "must_raise_outside_no_grad": must_raise_outside_no_grad}
        for i, s in enumerate(statements):
            if i in skipped:
                continue
            try:
                exec(s, self.env)
            except AssertionError:
                raise
            except Exception as e:
                if not tolerant or not explains_itself(e):
                    raise
                self.refused.add(i)

    def tensors(self) -> dict[str, Any]:
        """All Tensors by their names in the program."""
        return {k: v for k, v in self.env.items() if isinstance(v, mg.Tensor)}

    def along(self, gradients: dict[str, Any]) -> tuple[float, float]:
        """(Σ gradient·direction, the same of absolute values)."""
        terms = [np.sum(g * self.directions[k]) for k, g in gradients.items()]
        return float(np.sum(terms)), float(sum(np.sum(np.abs(g * self.directions[k])) for k, g in gradients.items()))


def host(t: Any) -> np.ndarray:
    """The values of a Tensor of any backend, copied."""
    return np.array(t.numpy())


def quotient(f: Callable[[float], float], h: float = 2.0**-9) -> tuple[float, float]:
    """(df/ds at 0 from central differences of order 4, how far two steps differ)."""
    def at(h: float) -> float:
        return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
    return at(h / 2), abs(at(h / 2) - at(h))


def agrees(claimed: float, f: Callable[[float], float], size: float, bound: float = 1e-6) -> bool | None:
    """Is `claimed` the derivative of f at 0? None where the quotient itself is not sharp (a kink nearby)."""
    scale = max(size, abs(f(0.0)), 1e-3)
    for h in (2.0**-9, 2.0**-12, 2.0**-14):
        found, spread = quotient(f, h)
        if np.isfinite(found) and spread <= bound * scale:
            return abs(found - claimed) <= 4 * bound * scale
    return None
