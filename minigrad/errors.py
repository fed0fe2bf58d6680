"""minigrad/core/errors.py under its short name: the same module."""

import sys

from .core import errors
from .core.errors import *  # noqa: F403 - for type checkers

sys.modules[__name__] = errors
