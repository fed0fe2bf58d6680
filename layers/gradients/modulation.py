"""Modulation: a layer whose backward signal is rescaled, so that gradients neither vanish nor explode from layer to layer.

    q = ‖∂L/∂x‖ / ‖∂L/∂y‖                        the magnitude ratio of a layer y = f(x), over the whole batch
    passed on to x:  q^(−strength) · ∂L/∂x       the factor kept within [1/limit, limit]

With strength 1 (and within the limit) what arrives at x is as large as what came to y; with strength 0 nothing changes. Only
the signal to the layers below is rescaled; the layer's own parameters receive the gradient for the (modulated) ∂L/∂y.

**The formula is ours.** bn-jacobian's paper combines orthonormality with a modulation of magnitudes between layers, but its
supplement, which is all that we have, does not print how. What comes out is *not the gradient* of any loss: its direction is
right for one layer, its size is wrong on purpose, and where branches of different factors are added up, the direction is
wrong too. A gradient check of a model with modulation fails, and should.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minigrad as mg
from minigrad import clip, nn, where
from minigrad.core.errors import error


def modulated(f: Callable[[Any], Any], x: Any, strength: float, limit: float) -> Any:
    """f(x), and two hooks on the tape that do what this file is about: see `Modulated`."""
    x = mg.identity(x)                                                 # a separate line: only what comes through f
    y = f(x)
    if not (x.requires_grad and y.requires_grad):
        return y
    above: list[Any] = []

    def measure(dy: Any) -> None:
        above[:] = [mg.norm(dy)]

    def rescale(dx: Any) -> Any:
        here = mg.norm(dx)
        quotient = above[0] / where(here > 0, here, 1.0)               # 1/q; where dx = 0, any number
        return dx * clip(quotient ** strength, 1 / limit, limit)

    y.register_hook(measure)
    x.register_hook(rescale)
    return y


class Modulated(nn.Module):
    """`module`, with the backward signal to its input rescaled toward the magnitude of that at its output.

    Args:
        module: a Module from one Tensor to one Tensor.
        strength: 0 (nothing changes) to 1 (equal magnitudes).
        limit: the largest factor, and the inverse of the smallest. A signal of zero stays zero.

    Raises:
        ValueError: strength outside 0 to 1, or a limit below 1.

    >>> import minigrad as mg, layers
    >>> from minigrad import nn
    >>> model = nn.Sequential(layers.Modulated(nn.Linear(3, 5)), nn.Tanh())
    >>> list(model.state_dict())
    ['0.module.weight', '0.module.bias']
    """

    def __init__(self, module: nn.Module, strength: float = 1.0, limit: float = 10.0) -> None:
        super().__init__()
        if not 0 <= strength <= 1 or limit < 1:
            raise error(ValueError, "Modulated", got=f"strength={strength}, limit={limit}",
                        needs="a strength from 0 to 1, and a limit of at least 1", fix="strength=1.0, limit=10.0")
        self.module, self.strength, self.limit = module, strength, limit

    def forward(self, x: Any) -> Any:
        """module(x); the hooks of `modulated` do the rest."""
        return modulated(self.module, x, self.strength, self.limit)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"strength={self.strength}, limit={self.limit}"


__all__ = ["Modulated"]
