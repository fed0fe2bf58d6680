"""One table of all layers. A layer's file registers itself; tests, report, benchmarks and lectures read only this table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from minigrad.core.errors import error
from minigrad.kernels.half import in_float32

Form = Callable[..., Any]
Case = tuple[str, tuple[Any, ...], dict[str, Any]]  # name, host arrays in the function's order, keywords


@dataclass(frozen=True)
class Layer:
    """One layer in all its forms, which share one signature: arrays first, then keywords.

    The first array may be float16, beside float16 or float32 parameters and statistics: everything is computed in float32, the result
    is stored as float16, as PyTorch's layers do (a penalty, being a single number, is float32), and gradients come in each
    input's own dtype. Nothing else mixes dtypes. `register` and `mg.by_hand` see to it; a layer's file does not mention it.

    Attributes:
        composed: the layer as a graph of primitives.
        derived: derivation name -> the layer with that hand-derived backward.
        default: the derivation that ``form="derived"`` means.
        cases: ``cases(dtype, rng)`` yields (name, NumPy arrays, keywords) on which all forms must agree.
        source: document and equations.
        frozen: for a layer with constants for the derivative that depend on x: ``frozen(arrays, keywords)`` is the composed
            function with these constants held at their values for `arrays`, so that difference quotients can be taken.
    """

    name: str
    composed: Form
    derived: dict[str, Form]
    default: str
    cases: Callable[[Any, Any], Iterator[Case]]
    source: str
    frozen: Callable[[tuple[Any, ...], dict[str, Any]], Form] | None = None

    def form(self, name: str) -> Form:
        """The function called "composed", "derived" (the default derivation), or by a derivation's name.

        Raises:
            ValueError: no such form; the text lists those that exist.
        """
        if name == "composed":
            return self.composed
        key = self.default if name == "derived" else name
        if key not in self.derived:
            raise error(ValueError, self.name, got=f"form={name!r}", needs=f"'composed', 'derived' or one of {sorted(self.derived)}", fix="check the spelling")
        return self.derived[key]


REGISTRY: dict[str, Layer] = {}


def register(name: str, *, composed: Form, derived: dict[str, Form], cases: Callable[[Any, Any], Iterator[Case]], source: str, default: str | None = None,
             frozen: Callable[[tuple[Any, ...], dict[str, Any]], Form] | None = None) -> Layer:
    """Add a layer to the table; `default` may be left out when there is one derivation."""
    if name in REGISTRY:
        raise error(ValueError, "register", got=f"the name {name!r} again", needs="a new name", fix="choose another name, or remove the first file")
    chosen = default or next(iter(derived))
    if chosen not in derived:
        raise error(ValueError, "register", got=f"default={default!r}", needs=f"one of {sorted(derived)}", fix="name an existing derivation")
    REGISTRY[name] = Layer(name, in_float32(composed), dict(derived), chosen, cases, source, frozen)
    return REGISTRY[name]
