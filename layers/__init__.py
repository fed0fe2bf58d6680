"""Every normalization layer written twice: as a composed graph of primitives, and with a hand-derived backward.

    >>> import layers
    >>> layers.REGISTRY["batch_norm"].default
    'one_line'

A layer is one file in this folder that calls `register`; importing the package imports them all.
"""

import importlib
import pkgutil

from .registry import REGISTRY as REGISTRY
from .registry import Layer as Layer
from .registry import register as register

for _file in pkgutil.iter_modules(__path__):
    if _file.name not in ("report", "__main__"):
        importlib.import_module(f"{__name__}.{_file.name}")

from .init import *  # noqa: E402, F403
from .inplace_modules import *  # noqa: E402, F403
from .jacobian import *  # noqa: E402, F403
from .modulation import *  # noqa: E402, F403
from .modules import *  # noqa: E402, F403
from .parametrizations import *  # noqa: E402, F403
from .whitening_modules import *  # noqa: E402, F403
