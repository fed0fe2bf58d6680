"""Which form Modules take that are not told: see `use_form`."""

from __future__ import annotations

import threading


class _ThreadForm(threading.local):
    form = "derived"  # of the modules that this thread creates

    def __init__(self) -> None:
        self.outer: list[str] = []  # forms outside each `use_form` that is open


_here = _ThreadForm()


def chosen_form() -> str:
    """The form that modules take when none is named: see `use_form`."""
    return _here.form


class use_form:
    """Modules created inside this block, in this thread, use this form: "composed", "derived", or a derivation's name.

    Only a ``with`` block has an effect: the call alone changes nothing.

    >>> import layers
    >>> with layers.use_form("composed"):
    ...     layers.BatchNorm2d(3).form
    'composed'
    """

    def __init__(self, form: str) -> None:
        self.form = form

    def __enter__(self) -> None:
        _here.outer.append(_here.form)
        _here.form = self.form

    def __exit__(self, *_: object) -> None:
        _here.form = _here.outer.pop()


__all__ = ["use_form"]
