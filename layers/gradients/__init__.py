"""What normalization does to gradients, and other ways to keep them from growing or fading.

    jacobian.py                   batch norm's Jacobian and its spectrum; gradient norms along a network
    modulation.py                 gradients scaled around a block
    init.py                       orthonormal weights at the start
    orthonormality_penalty.py     a penalty that keeps them orthonormal
"""

from . import init, jacobian, modulation
from .init import *  # noqa: F403
from .jacobian import *  # noqa: F403
from .modulation import *  # noqa: F403

__all__ = [*init.__all__, *jacobian.__all__, *modulation.__all__]
