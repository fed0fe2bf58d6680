"""Python imports this file when it starts: processes that a guarded checker starts are guarded as well."""

import os

if "MINIGRAD_GUARD" in os.environ:
    from lectures.grading import guard

    guard.inherit()
