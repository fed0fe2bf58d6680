"""All ops, by NumPy's name where NumPy has one and PyTorch's `torch.nn.functional` name otherwise.

Each file is a table: an op beside its derivative rule. `broadcasting` explains how shapes and dtypes meet.
"""

from typing import TYPE_CHECKING

from . import methods as methods
from .broadcasting import *  # noqa: F403
from .creation import *  # noqa: F403
from .einsum import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .linalg import *  # noqa: F403
from .losses import *  # noqa: F403
from .neural import *  # noqa: F403
from .normalize import *  # noqa: F403
from .reduce import *  # noqa: F403
from .shape import *  # noqa: F403

if not TYPE_CHECKING:  # the ops alone: the files of this folder are no names of minigrad
    __all__ = sorted(name for name, value in globals().items() if callable(value) and not name.startswith("_"))
