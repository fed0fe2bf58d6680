"""Record the values that ran: every op's result inside ``with mg.record() as r:``, by number and by name.

    with mg.record() as r: ...     r["xhat"].value

Printing looks at shapes and names only: it never waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from ..core.state import unwatch, watch
from ..core.tensor import Line, Tensor
from .tables import _called, _count, _shown, _table


class RecordEntry:
    """One recorded value: its ``name`` (or None), the ``op`` that computed it, and ``value``, a Tensor."""

    __slots__ = ("_array", "name", "op", "value")

    def __init__(self, op: str, value: Tensor, name: str | None = None) -> None:
        self.op, self.value, self.name = op, value, name
        self._array = value._data  # another holder: no op will write into it (see `donation`)

    @property
    def line(self) -> Line | None:
        """The value's tape line (None for a constant)."""
        return self.value._line

    def __repr__(self) -> str:
        return f"<{self.op}{f' {self.name!r}' if self.name else ''} {self.value.shape} {self.value.dtype}>"


class Record:
    """The results of all ops of this thread on Tensors inside ``with record() as r:``, taped or not, in their order.

    ``r[3]`` is the fourth entry, ``r["xhat"]`` the last one of that name (`all` gives every one). The values, and the
    tape behind them, live as long as the record.
    """

    def __init__(self) -> None:
        self.entries: list[RecordEntry] = []
        self._entry_of: dict[int, RecordEntry] = {}  # by id of the Tensor, which the entry keeps alive

    def __enter__(self) -> Record:
        watch(self)
        return self

    def __exit__(self, *_: object) -> None:
        unwatch(self)

    def __call__(self, primitive: Any, given: Sequence[Any], result: Any) -> None:
        """An op has run (see `state.watch`)."""
        op = primitive.name.lstrip("_")
        for k, value in enumerate(result if isinstance(result, tuple) else (result,)):
            self._add(RecordEntry(f"{op}[{k}]" if isinstance(result, tuple) else op, value))

    def on_name(self, name: str, value: Tensor) -> None:
        """`value` was named: the result of an op above, or made elsewhere, or named already; those get a new entry."""
        entry = self._entry_of.get(id(value))
        if entry is not None and entry.name in (None, name):
            entry.name = name
        else:
            made_elsewhere = "variable" if value.requires_grad and value.is_leaf else "constant"
            self._add(RecordEntry(made_elsewhere if entry is None else "identity", value, name))

    def _add(self, entry: RecordEntry) -> None:
        self.entries.append(entry)
        self._entry_of[id(entry.value)] = entry

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[RecordEntry]:
        return iter(self.entries)

    @overload
    def __getitem__(self, key: int | str) -> RecordEntry: ...
    @overload
    def __getitem__(self, key: slice) -> list[RecordEntry]: ...
    def __getitem__(self, key: int | str | slice) -> RecordEntry | list[RecordEntry]:
        return self.all(key)[-1] if isinstance(key, str) else self.entries[key]

    def all(self, name: str) -> list[RecordEntry]:
        """Every entry of this name."""
        return _called(name, self.entries, "record")

    def table(self, full: bool = False) -> str:
        """Names, ops, shapes and dtypes as text, without values. A long record is shortened, unless `full`."""
        rows = [(str(k), e.name or "", e.op, str(e.value.shape), str(e.value.dtype))
                for k, e in ((k, self.entries[k]) for k in _shown(len(self), full))]
        return "\n".join([f"record of {_count(len(self), 'value')}",
                          *_table(("", "name", "op", "shape", "dtype"), rows, len(self))]).rstrip()

    __repr__ = table


def record() -> Record:
    """Keep the value of every op of this thread inside a ``with`` block, so that intermediate results can be looked at by name.

    >>> import minigrad as mg
    >>> def f(x):
    ...     centred = mg.named("centred", x - x.mean())
    ...     return (centred * centred).sum()
    >>> with mg.record() as r:
    ...     y = f(mg.tensor([1.0, 2.0, 6.0]))
    >>> r["centred"].value
    tensor([-2., -1.,  3.], dtype=float32)
    >>> [entry.op for entry in r]
    ['mean', 'subtract', 'multiply', 'sum']
    """
    return Record()
