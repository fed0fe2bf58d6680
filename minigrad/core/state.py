"""What each thread has for itself: is it recording, is it checking, who watches its ops."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from .errors import describe, error


class _State(threading.local):
    """What each thread has for itself: a ``with`` block changes it for the thread that runs the block, and for no other."""

    recording = True  # are ops written to the tape?
    checking = False  # inside a gradient check: Modules leave their running statistics alone
    watchers: tuple[Any, ...] = ()  # ``watcher(primitive, inputs, result)``, called after each op: debug mode and record()
    observers: tuple[Any, ...] = ()  # ``observer(module, call)``, called instead of each Module: `nn.summary`

    def __init__(self) -> None:
        self.outer: list[bool] = []  # `recording` outside each no_grad() that is open


state = _State()
watching: list[Any] = []  # the watchers of all threads: while there are none, no op looks for its own thread's


def watch(watcher: Callable[[Any, Any, Any], None]) -> None:
    """Call `watcher` after each op of this thread, until `unwatch`."""
    watching.append(watcher)
    state.watchers = (*state.watchers, watcher)


def unwatch(watcher: Callable[[Any, Any, Any], None]) -> None:
    """End the latest `watch` of this watcher."""
    watching.remove(watcher)
    last = len(state.watchers) - 1 - state.watchers[::-1].index(watcher)
    state.watchers = state.watchers[:last] + state.watchers[last + 1:]


class no_grad:
    """Inside, ops of this thread compute values and record nothing.

    A ``with`` block, or a decorator of functions and generators: ``@no_grad()`` or ``@no_grad``.

    >>> import minigrad as mg
    >>> @mg.no_grad
    ... def accuracy(scores, labels):
    ...     return (scores.argmax(1) == labels).astype("float32").mean()
    >>> accuracy(mg.tensor([[0.0, 1.0]], requires_grad=True), mg.tensor([1])).item()
    1.0
    """

    def __new__(cls, f: Any = None) -> Any:
        """A block; or, given a function, what decorates it."""
        return super().__new__(cls) if f is None else super().__new__(cls)(f)

    def __enter__(self) -> None:
        state.outer.append(state.recording)
        state.recording = False

    def __exit__(self, *_: object) -> None:
        state.recording = state.outer.pop()

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(f) or isinstance(f, type) or inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f):
            raise error(TypeError, "no_grad", got=describe(f), needs="a function or a generator function, which runs in one thread from end to end",
                        fix="`with minigrad.no_grad():` around the ops")

        @functools.wraps(f)
        def quiet(*args: Any, **kw: Any) -> Any:
            with no_grad():
                return f(*args, **kw)

        @functools.wraps(f)
        def quiet_generator(*args: Any, **kw: Any) -> Any:
            return _quietly(f(*args, **kw))
        return quiet_generator if inspect.isgeneratorfunction(f) else quiet


def _quietly(generator: Any) -> Any:
    """The same generator, recording nothing while it runs. Whoever takes its values goes on as before."""
    resume, value = generator.send, None
    while True:
        try:
            with no_grad():
                given = resume(value)
        except StopIteration as end:
            return end.value
        try:
            resume, value = generator.send, (yield given)
        except GeneratorExit:
            with no_grad():
                generator.close()
            raise
        except BaseException as e:
            resume, value = generator.throw, e
