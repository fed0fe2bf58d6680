"""Every normalization layer written twice: as a composed graph of primitives, and with a hand-derived backward.

    >>> import layers
    >>> layers.REGISTRY["batch_norm"].default
    'one_line'
    >>> layers.batch_norm is layers.REGISTRY["batch_norm"].derived["one_line"]
    True

    registry.py shapes.py forms.py     the table of layers; what all of them ask about shapes; which form new Modules take
    batch/                             statistics over the batch: batch norm, at inference, renormalized, in place
    sample/                            statistics of each sample: layer, RMS, instance and group norm, GRN
    whitening/                         decorrelated channels: DBN, PCA, IterNorm
    weights/                           normalizations of weights
    gradients/                         what normalization does to gradients: Jacobian, modulation, orthonormal weights
    modules/                           Modules with PyTorch's names; running statistics live only there
    verify/                            do the forms agree? `python -m layers.report`

A layer is one file in a folder of `FAMILIES` that calls `register`; importing the package imports them all. Its default form is then
a function of the package: ``layers.batch_norm(x, gamma, beta, eps=1e-5)``.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from .registry import REGISTRY as REGISTRY
from .registry import Layer as Layer
from .registry import register as register

FAMILIES = ("batch", "sample", "whitening", "weights", "gradients")  # the folders of layers, in the order of REGISTRY

for _family in (importlib.import_module(f"{__name__}.{family}") for family in FAMILIES):
    for _file in pkgutil.iter_modules(_family.__path__, f"{_family.__name__}."):
        importlib.import_module(_file.name)

from .forms import *  # noqa: E402, F403
from .gradients import *  # noqa: E402, F403
from .modules import *  # noqa: E402, F403


def __getattr__(name: str) -> Callable[..., Any]:
    """The default form of the layer that is registered under this name."""
    if name in REGISTRY:
        return REGISTRY[name].form("derived")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *REGISTRY})
