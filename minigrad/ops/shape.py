"""Ops that move elements without computing: every derivative moves them back.

Where an element is read several times, its gradients are added (`getitem` with repeated indices, `take`, `broadcast_to`).
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import index as as_integer
from typing import Any

from ..core import backend
from ..core.backend import Array, Namespace
from ..core.errors import AxisError, describe, error, integer
from ..core.primitive import primitive
from ..core.tensor import Tensor, Value
from .broadcasting import _broadcast_to
from .elementwise import as_floating, clone

Axis = int | tuple[int, ...] | None


def normalize_axis(op: str, axis: Axis, of: Any) -> tuple[int, ...]:
    """The axes of array `of` (or of an array with `of` axes) as a sorted tuple of non-negative integers; None means all.

    Raises:
        AxisError: an axis out of range, or the same axis twice.
    """
    ndim = of if isinstance(of, int) else getattr(of, "ndim", None)
    if ndim is None:
        raise error(TypeError, op, got=describe(of), needs="a Tensor or an array", fix="make a tensor of it: minigrad.tensor(...)")
    if axis is None:
        return tuple(range(ndim))
    try:
        axes = [as_integer(a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    except TypeError:
        raise error(TypeError, op, got=f"axis={axis!r}", needs="an integer, a tuple of integers or None", fix="pass axis=0, axis=(0, 2) ...") from None
    for a in axes:
        if not -ndim <= a < ndim:
            raise error(AxisError, op, got=f"axis {a} for an array of {ndim} axes", needs=f"an axis from {-ndim} to {ndim - 1}",
                        fix="check the array's shape; the batch axis is usually 0")
    wrapped = sorted(a % ndim for a in axes)
    if len({*wrapped}) != len(wrapped):
        raise error(AxisError, op, got=f"axis={axis!r}, which names an axis twice", needs="different axes", fix="remove the repetition")
    return tuple(wrapped)


def one_axis(op: str, axis: Any, of: Any) -> int:
    """The non-negative number of a single axis, for ops that take no more than one."""
    if axis is None or isinstance(axis, (tuple, list)):
        raise error(TypeError, op, got=f"axis={axis!r}", needs="one axis: an integer", fix="name one axis; flatten, reshape or transpose for several")
    return normalize_axis(op, axis, of)[0]


# -- the same elements in another arrangement ---------------------------------------------------------------------------


@primitive(a=lambda g, a_shape: _reshape(g, shape=a_shape))
def _reshape(xp: Namespace, a: Array, *, shape: tuple[int, ...]) -> Array:
    return a.reshape(shape)


def reshape(a: Value, *shape: Any) -> Value:
    """`a` with another shape (row-major order); one size may be −1. Both ``reshape(a, (2, 3))`` and ``reshape(a, 2, 3)`` work."""
    wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    try:
        return _reshape(a, shape=tuple(map(as_integer, wanted)))
    except (ValueError, TypeError) as e:
        kind = TypeError if type(e) is TypeError else ValueError
        raise error(kind, "reshape", got=f"shape {tuple(getattr(a, 'shape', ()))} and the target {wanted}",
                    needs="integers with the same product (one may be -1)", fix="check the sizes; the batch axis often comes first") from None


@primitive(a=lambda g, axes: _transpose(g, axes=_inverse(axes)))
def _transpose(xp: Namespace, a: Array, *, axes: tuple[int, ...]) -> Array:
    return a.transpose(axes)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axes.index(i) for i in range(len(axes)))


def transpose(a: Value, *axes: Any) -> Value:
    """`a` with its axes permuted; without `axes` reversed. Both ``transpose(a, (1, 0))`` and ``transpose(a, 1, 0)`` work."""
    order = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes
    if not order:
        return _transpose(a, axes=tuple(range(a.ndim))[::-1])
    if len(order) != a.ndim:
        raise error(AxisError, "transpose", got=f"{len(order)} axes for an array of {a.ndim}", needs="each axis once", fix="name all axes in their new order")
    normalize_axis("transpose", tuple(order), a.ndim)
    return _transpose(a, axes=tuple(as_integer(i) % a.ndim for i in order))


def swapaxes(a: Value, axis1: int, axis2: int) -> Value:
    """`a` with two axes exchanged."""
    i, j = one_axis("swapaxes", axis1, a), one_axis("swapaxes", axis2, a)
    axes = list(range(a.ndim))
    axes[i], axes[j] = axes[j], axes[i]
    return _transpose(a, axes=tuple(axes))


def moveaxis(a: Value, source: int, destination: int) -> Value:
    """`a` with one axis moved to another position."""
    i, j = one_axis("moveaxis", source, a), one_axis("moveaxis", destination, a)
    axes = [k for k in range(a.ndim) if k != i]
    axes.insert(j, i)
    return _transpose(a, axes=tuple(axes))


def expand_dims(a: Value, axis: int | tuple[int, ...]) -> Value:
    """`a` with new axes of size 1 at these positions of the result."""
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    new = normalize_axis("expand_dims", axis, a.ndim + count)
    sizes = iter(a.shape)
    return _reshape(a, shape=tuple(1 if i in new else next(sizes) for i in range(a.ndim + count)))


def squeeze(a: Value, axis: Axis = None) -> Value:
    """`a` without axes of size 1: all of them, or those named."""
    gone = tuple(i for i, n in enumerate(a.shape) if n == 1) if axis is None else normalize_axis("squeeze", axis, a)
    for i in gone:
        if a.shape[i] != 1:
            raise error(ValueError, "squeeze", got=f"axis {i} of size {a.shape[i]} in shape {tuple(a.shape)}", needs="an axis of size 1",
                        fix="use sum, mean or indexing to remove it")
    return _reshape(a, shape=tuple(n for i, n in enumerate(a.shape) if i not in gone))


def flatten(a: Value, start_dim: int = 0) -> Value:
    """`a` with all axes from `start_dim` on merged into one (``flatten(x, 1)`` keeps the batch axis)."""
    start = one_axis("flatten", start_dim, builtins.max(a.ndim, 1))
    size = 1
    for n in a.shape[start:]:
        size *= n
    return _reshape(a, shape=(*a.shape[:start], size))


@primitive(a=lambda g, axis: _flip(g, axis=axis))
def _flip(xp: Namespace, a: Array, *, axis: tuple[int, ...]) -> Array:
    return xp.flip(a, axis)


def flip(a: Value, axis: Axis = None) -> Value:
    """`a` in reverse order along these axes (None: all)."""
    return _flip(a, axis=normalize_axis("flip", axis, a))


@primitive(a=lambda g, shift, axis: _roll(g, shift=tuple(-n for n in shift), axis=axis))
def _roll(xp: Namespace, a: Array, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Array:
    return xp.roll(a, shift, axis)


def roll(a: Value, shift: int | tuple[int, ...], axis: int | tuple[int, ...] | None = None) -> Value:
    """`a` with its elements moved on by `shift` along `axis` (None: of the flattened array); those beyond the end come first.

    Several axes: a shift for each, or one for all.
    """
    if axis is None:
        return reshape(roll(flatten(a), shift, 0), a.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    try:
        steps = tuple(as_integer(n) for n in shifts)
    except TypeError:
        steps = ()
    if len(steps) != len(axes):
        raise error(ValueError, "roll", got=f"shift={shift!r} and axis={axis!r}", needs="an integer for each axis", fix="roll(x, (1, 2), axis=(0, 1))")
    return _roll(a, shift=steps, axis=tuple(one_axis("roll", i, a) for i in axes))


# -- repeating: new axes of size 1, broadcast and merged, so that the gradient is their sum ---------------------------------


def tile(a: Value, reps: int | tuple[int, ...]) -> Value:
    """Copies of `a` side by side: `reps` of them along each axis, counted from the last; more `reps` than axes make new axes in front."""
    given = reps if isinstance(reps, (tuple, list)) else (reps,)
    counts = [integer("tile", "reps", n, 0, fix="tile(x, (2, 3)): how many copies along each axis") for n in given]
    counts, sizes = [1] * (a.ndim - len(counts)) + counts, [1] * (len(counts) - a.ndim) + list(a.shape)
    return _copied(a, [m for n in sizes for m in (1, n)], [m for pair in zip(counts, sizes, strict=True) for m in pair])


def repeat(a: Value, repeats: Any, axis: int | None = None) -> Value:
    """Each element of `a` several times in a row, along `axis` (None: of the flattened array). As NumPy's; PyTorch's `repeat` is `tile`.

    Args:
        repeats: an integer, or a list with one for each element of the axis.
    """
    if axis is None:
        a, axis = flatten(a), 0
    axis, how = one_axis("repeat", axis, a), "an integer, or a list with one for each element (repeats.tolist())"
    size = a.shape[axis]
    if isinstance(repeats, (list, tuple)) or (isinstance(repeats, backend.np.ndarray) and repeats.ndim):
        counts = [integer("repeat", "repeats", n, 0, fix=how) for n in repeats]
        if len(counts) not in (1, size):
            raise error(ValueError, "repeat", got=f"{len(counts)} repeats for axis {axis} of size {size}", needs="one for each element", fix=how)
        if len(counts) != 1:
            return take(a, [i for i, n in enumerate(counts) for _ in range(n)], axis)
        (repeats,) = counts
    n, whole = integer("repeat", "repeats", repeats, 0, fix=how), [m for size in a.shape for m in (size, 1)]
    return _copied(a, whole, [n if i == 2 * axis + 1 else m for i, m in enumerate(whole)])


def _copied(a: Value, apart: list[int], copies: list[int]) -> Value:
    """`a` in the shape `apart`, with its axes of size 1 broadcast to `copies`; then each two axes merged into one. In new memory."""
    many = _reshape(a, shape=tuple(apart))
    many = clone(many) if apart == copies else _broadcast_to(many, shape=tuple(copies))
    return _reshape(many, shape=tuple(m * n for m, n in zip(copies[::2], copies[1::2], strict=True)))


# -- joining and splitting --------------------------------------------------------------------------------------------------


@primitive(arrays=lambda g, arrays_shape, axis: _pieces(g, [s[axis] for s in arrays_shape], axis))
def _concatenate(xp: Namespace, *arrays: Array, axis: int) -> Array:
    return xp.concatenate(arrays, axis=axis)


def _pieces(g: Value, sizes: Sequence[int], axis: int) -> tuple[Any, ...]:
    pieces, start = [], 0
    for n in sizes:
        pieces.append(_getitem(g, index=(slice(None),) * axis + (slice(start, start + n),)))
        start += n
    return tuple(pieces)


def concatenate(arrays: Sequence[Any], axis: int = 0) -> Value:
    """The arrays one after the other along an existing axis; all other sizes must agree."""
    arrays = _sequence("concatenate", arrays)
    axis = one_axis("concatenate", axis, arrays[0].ndim)
    rests = {tuple(a.shape[:axis]) + tuple(a.shape[axis + 1:]) for a in arrays if a.ndim == arrays[0].ndim}
    if len(rests) != 1 or any(a.ndim != arrays[0].ndim for a in arrays):
        raise error(ValueError, "concatenate", got=f"the shapes {', '.join(str(tuple(a.shape)) for a in arrays)} along axis {axis}",
                    needs="equal shapes except along that axis", fix="check the other axes, or use stack for a new axis")
    return _concatenate(*arrays, axis=axis)


def stack(arrays: Sequence[Any], axis: int = 0) -> Value:
    """Arrays of one shape along a new axis."""
    arrays = _sequence("stack", arrays)
    if len({tuple(a.shape) for a in arrays}) != 1:
        raise error(ValueError, "stack", got=f"the shapes {', '.join(str(tuple(a.shape)) for a in arrays)}", needs="equal shapes",
                    fix="use concatenate to join along an existing axis")
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


def vstack(arrays: Sequence[Any]) -> Value:
    """The arrays one below the other, along axis 0; a vector is a row."""
    return concatenate([a if a.ndim > 1 else _reshape(a, shape=(1, a.size)) for a in _sequence("vstack", arrays)])


def hstack(arrays: Sequence[Any]) -> Value:
    """The arrays side by side: along axis 1, vectors along axis 0."""
    rows = [a if a.ndim else _reshape(a, shape=(1,)) for a in _sequence("hstack", arrays)]
    return concatenate(rows, 0 if rows[0].ndim == 1 else 1)


def _sequence(op: str, arrays: Value) -> list[Any]:
    found = list(arrays) if isinstance(arrays, (list, tuple)) else []
    if not found or not all(hasattr(a, "shape") for a in found):
        raise error(TypeError, op, got=describe(arrays), needs="a non-empty list or tuple of Tensors or arrays", fix=f"{op}([a, b])")
    return found


@primitive(a=lambda g, axis: _concatenate(*g, axis=axis))
def _split(xp: Namespace, a: Array, *, cuts: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    return tuple(xp.split(a, list(cuts), axis))


def split(a: Value, indices_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Any, ...]:
    """`a` cut along an axis: into equal sections, or before each of the given indices. Returns a tuple.

    As in NumPy, piece i is the slice from one index to the next, so that indices in falling order give empty pieces and
    pieces that overlap; an element that is read twice gets both gradients.

    Raises:
        ValueError: the axis cannot be divided into that many equal sections.
    """
    axis = one_axis("split", axis, a)
    size = a.shape[axis]
    where: Any = indices_or_sections
    if not isinstance(where, Iterable) or not getattr(where, "ndim", 1):
        n = integer("split", "indices_or_sections", where, 1, fix="the number of sections, or the indices at which to cut")
        if size % n:
            raise error(ValueError, "split", got=f"{n} sections of axis {axis} with size {size}", needs="a number that divides the size",
                        fix="pass the indices at which to cut")
        cuts = tuple(range(size // n, size, size // n)) if size else (0,) * (n - 1)
    else:
        cuts = tuple(as_integer(i) for i in where)
    starts = [slice(i, None).indices(size)[0] for i in cuts]
    if starts != sorted(starts):  # the pieces overlap or leave elements out: each is a separate slice, and their gradients are added
        before = (slice(None),) * axis
        return tuple(_getitem(a, index=(*before, slice(*ends))) for ends in pairwise((0, *cuts, size)))
    return _split(a, cuts=cuts, axis=axis) if cuts else (a,)


@primitive(a=lambda g, a_shape, widths: _getitem(g, index=tuple(slice(w[0], w[0] + n) for w, n in zip(widths, a_shape, strict=True))))
def _pad(xp: Namespace, a: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Array:
    return xp.pad(a, widths, constant_values=value)


def pad(a: Value, pad_width: Any, constant_values: Any = 0, *, mode: str = "constant") -> Value:
    """`a` with a border: NumPy's `pad_width` (one number, one pair, or a pair for each axis) and names of modes.

    Args:
        constant_values: the border of mode "constant", a number.
        mode: "constant", "edge" (the outermost element), "reflect" (a mirror at the outermost element, which is not
            repeated), or "wrap" (as if `a` went on from the other side).
    """
    if mode not in ("constant", "edge", "reflect", "wrap") or isinstance(constant_values, str):
        raise error(ValueError, "pad", got=f"mode={mode if mode != 'constant' else constant_values!r}", needs="'constant', 'edge', 'reflect' or 'wrap'",
                    fix="a keyword: pad(x, 1, mode='reflect')")
    try:
        widths = tuple((as_integer(w[0]), as_integer(w[1])) for w in backend.np.broadcast_to(backend.np.asarray(pad_width), (a.ndim, 2)))
    except (ValueError, TypeError):
        raise error(ValueError, "pad", got=f"pad_width={pad_width!r} for an array of {a.ndim} axes", needs="an integer, a pair, or a pair for each axis",
                    fix="((before, after), ...)") from None
    if any(w < 0 for pair in widths for w in pair):
        raise error(ValueError, "pad", got=f"pad_width={pad_width!r}", needs="widths of at least 0", fix="use slicing to cut")
    if mode == "constant":
        return _pad(as_floating(a) if isinstance(constant_values, float) else a, widths=widths, value=constant_values)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            a = concatenate(_with_borders(a, axis, before, after, mode), axis)
    return a


def _with_borders(a: Value, axis: int, before: int, after: int, mode: str) -> list[Any]:
    """The pieces of the padded array along one axis."""
    n = a.shape[axis]
    limit = {"edge": builtins.max(before, after) if n else 0, "reflect": n - 1, "wrap": n}[mode]
    if before > limit or after > limit:
        raise error(ValueError, "pad", got=f"a border of {before} and {after} for axis {axis} of size {n}, mode={mode!r}", needs=f"at most {limit}",
                    fix="less padding, or mode='edge'")

    def part(start: int, stop: int, step: int = 1) -> Value:  # of the indices start, start + step, ... before stop
        return getitem(a, (slice(None),) * axis + (slice(start, stop if stop >= 0 else None, step),))

    if mode == "edge":
        return [*[part(0, 1)] * before, a, *[part(n - 1, n)] * after]
    if mode == "reflect":
        low, high = part(before, 0, -1), part(n - 2, n - 2 - after, -1)
    else:
        low, high = part(n - before, n), part(0, after)
    return [*([low] if before else []), a, *([high] if after else [])]


# -- indexing -------------------------------------------------------------------------------------------------------------


@primitive(a=lambda g, a_shape, index: _put(g, index=index, shape=a_shape))
def _getitem(xp: Namespace, a: Array, *, index: Any) -> Array:
    return a[index]


@primitive(g=lambda h, index: _getitem(h, index=index))
def _put(xp: Namespace, g: Array, *, index: Any, shape: tuple[int, ...]) -> Array:
    out = xp.zeros(shape, dtype=g.dtype)
    out[index] = g
    return out


class _Hole:
    """Takes the place of the next index array in an index."""

    def __repr__(self) -> str:
        return "array"


_HOLE = _Hole()


def _filled(template: tuple[Any, ...], indices: Sequence[Array]) -> tuple[Any, ...]:
    arrays = iter(indices)
    return tuple(next(arrays) if part is _HOLE else part for part in template)


@primitive(a=lambda g, a_shape, indices, template: _scatter_add(g, *indices, template=template, shape=a_shape))
def _gather(xp: Namespace, a: Array, *indices: Array, template: tuple[Any, ...]) -> Array:
    return a[_filled(template, indices)]


@primitive(g=lambda h, indices, template: _gather(h, *indices, template=template))
def _scatter_add(xp: Namespace, g: Array, *indices: Array, template: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    return _added_at(xp, g, _filled(template, indices), shape)


def _added_at(xp: Namespace, g: Array, places: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with g added at `places`, repeats included: float16 in float32, rounded once, as sums are."""
    out = xp.zeros(shape, dtype=backend.float32 if g.dtype == backend.float16 else g.dtype)
    xp.add.at(out, places, g)
    return out.astype(g.dtype, copy=False)


def getitem(a: Value, key: Any) -> Value:
    """``a[key]`` with NumPy's meaning: integers, slices, None, ``...``, integer arrays (repeats allowed) and boolean masks.

    Index arrays are constants, and lists, ranges and tuples inside the key are index arrays. A boolean mask waits for a GPU,
    because the size of the result depends on its values.
    """
    parts = tuple(_index_array(a, k) if isinstance(k, (list, tuple, range)) else _plain(k) for k in (key if isinstance(key, tuple) else (key,)))
    if not any(isinstance(k, Tensor) or hasattr(k, "shape") for k in parts):
        return _getitem(a, index=parts)
    template, arrays = [], []
    for k in parts:
        if isinstance(k, Tensor) or hasattr(k, "shape"):
            if k.dtype.kind not in "iub":
                raise error(TypeError, "getitem", got=f"an index of dtype {k.dtype}", needs="integers or booleans", fix="astype('int64') first")
            arrays.append(k.detach() if isinstance(k, Tensor) else k)
            k = _HOLE
        template.append(k)
    return _gather(a, *arrays, template=tuple(template))


def _plain(k: Value) -> Value:
    """One index, with Python numbers in the place of NumPy's: a 0-d array could change before the backward."""
    if type(k) is slice:
        ends = (k.start, k.stop, k.step)
        return k if all(n is None or type(n) is int for n in ends) else slice(*(n if n is None else as_integer(n) for n in ends))
    if isinstance(k, (backend.np.integer, backend.np.bool_)) or (isinstance(k, backend.np.ndarray) and k.ndim == 0 and k.dtype.kind in "iub"):
        return k.item()
    return k


def _index_array(a: Value, values: Sequence[Any]) -> Array:
    array = backend.np.asarray(values)
    return backend.from_numpy(array if array.size else array.astype("int64"), backend.name_of(a._data if isinstance(a, Tensor) else a))


def take(a: Value, indices: Any, axis: int | None = None) -> Value:
    """Elements (axis=None: of the flattened array) or slices of `a` at integer `indices`, repeats allowed.

    An index out of range raises on NumPy; on CuPy it wraps around, because checking would wait for the GPU.
    """
    if axis is None:
        a, axis = flatten(a), 0
    axis, indices = one_axis("take", axis, a), _integers("take", indices, a)
    _refuse_nothing("take", a, axis, indices)
    return getitem(a, (slice(None),) * axis + (indices,))


def _refuse_nothing(op: str, a: Value, axis: int, indices: Any) -> None:
    """An index into an axis of size 0 is out of range. (NumPy 2.0 and 2.1 let it pass where the result has no elements.)"""
    if not a.shape[axis] and (isinstance(indices, int) or indices.size):
        raise error(IndexError, op, got=f"indices into axis {axis} of shape {tuple(a.shape)}", needs="an axis with elements", fix="check for an empty batch")


def _integers(op: str, indices: Any, a: Value) -> Value:
    if isinstance(indices, (int, backend.np.integer)):
        return int(indices)
    if isinstance(indices, (list, tuple)):
        return _index_array(a, list(indices))
    if getattr(indices, "dtype", None) is None or indices.dtype.kind not in "iu":
        raise error(TypeError, op, got=describe(indices), needs="integer indices", fix="astype('int64') first")
    return indices


@primitive(a=lambda g, a_shape, indices, axis: _put_along_axis(g, indices, axis=axis, shape=a_shape))
def _take_along_axis(xp: Namespace, a: Array, indices: Array, *, axis: int) -> Array:
    return xp.take_along_axis(a, indices, axis)


@primitive(g=lambda h, indices, axis: _take_along_axis(h, indices, axis=axis))
def _put_along_axis(xp: Namespace, g: Array, indices: Array, *, axis: int, shape: tuple[int, ...]) -> Array:
    place = [xp.arange(n).reshape((-1,) + (1,) * (len(shape) - 1 - i)) for i, n in enumerate(indices.shape)]
    place[axis] = indices
    return _added_at(xp, g, tuple(place), shape)


def take_along_axis(a: Value, indices: Any, axis: int) -> Value:
    """NumPy's `take_along_axis`: for each position the element of `a` along `axis` that `indices` names.

    `indices` has as many axes as `a` and equal sizes on all others (no broadcasting).
    """
    axis = one_axis("take_along_axis", axis, a)
    indices = _integers("take_along_axis", indices, a)
    rest = [tuple(s.shape[:axis]) + tuple(s.shape[axis + 1:]) for s in (a, indices)]
    if rest[0] != rest[1]:
        raise error(ValueError, "take_along_axis", got=f"shape {tuple(a.shape)} and indices of shape {tuple(indices.shape)}",
                    needs=f"equal sizes on all axes except {axis}",
                    fix="expand_dims the indices, or use take")
    _refuse_nothing("take_along_axis", a, axis, indices)
    return _take_along_axis(a, indices, axis=axis)


__all__ = ["concatenate", "expand_dims", "flatten", "flip", "getitem", "hstack", "moveaxis", "pad", "repeat", "reshape", "roll",
           "split", "squeeze", "stack", "swapaxes", "take", "take_along_axis", "tile", "transpose", "vstack"]
