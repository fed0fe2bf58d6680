"""minigrad/core/backend.py under its short name: the same module."""

import sys

from .core import backend
from .core.backend import *  # noqa: F403 - for type checkers

sys.modules[__name__] = backend
