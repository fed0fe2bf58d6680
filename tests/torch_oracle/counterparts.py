"""PyTorch's op -> how minigrad computes the same, with PyTorch's arguments in PyTorch's order.

A row names the public ops of minigrad that it tests. Where PyTorch's op makes another choice than minigrad, at a tie, say,
the row names another op of PyTorch with minigrad's choice (`theirs`), and the agreement that says why.

A row translates arguments and computes nothing that minigrad should compute. It raises `Without` where minigrad has no such
argument; where minigrad itself refuses, its error must match one of the refusals in agreements.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

import layers
import minigrad as mg

from .differential import Without

F = torch.nn.functional
REGISTRY = layers.REGISTRY


class Counterpart(NamedTuple):
    """One op of PyTorch's table."""

    ops: tuple[str, ...]  # public names of minigrad
    ours: Callable[..., Any]
    theirs: Callable[..., Any] | None  # None: the op itself
    agreement: str | None  # the key in agreements.AGREEMENTS of why `theirs` is another op
    order: int  # how often minigrad's op can be differentiated


ROWS: dict[str, Counterpart] = {}


def row(names: str, ops: str, ours: Callable[..., Any], theirs: Callable[..., Any] | None = None, agreement: str | None = None, order: int = 2) -> None:
    for name in names.split():
        ROWS[name] = Counterpart(tuple(ops.split()), ours, theirs, agreement, order)


def only(**given: Any) -> None:
    """Arguments that minigrad does not have: they must have PyTorch's default, given as name=(value, default)."""
    for name, (value, default) in given.items():
        if value is not default and value != default:
            raise Without(f"no {name}")


def axes(dim: Any) -> Any:
    """PyTorch's `dim`, in which () means all axes, as `axis`."""
    return None if dim is None or (isinstance(dim, (tuple, list)) and not dim) else tuple(dim) if isinstance(dim, (tuple, list)) else dim


def as_type(x: Any, dtype: Any) -> Any:
    return x if dtype is None else mg.astype(x, dtype)


# -- elementwise ------------------------------------------------------------------------------------------------------------

for _name in ("abs", "cos", "exp", "expm1", "log", "log1p", "logical_not", "sigmoid", "sign", "sin", "sqrt", "square", "tanh"):
    row(_name, _name, lambda x, name=_name: getattr(mg, name)(x))
for _name in ("floor", "ceil", "isfinite", "isinf", "isnan"):
    row(_name, _name, lambda x, name=_name: getattr(mg, name)(x))
row("round round/decimals_0 round/decimals_3 round/decimals_neg_3", "round", lambda x, decimals=0: mg.round(x, decimals))


def _fills(nan: Any = None, posinf: Any = None, neginf: Any = None) -> tuple[float, float, float]:
    return 0.0 if nan is None else nan, 1e30 if posinf is None else posinf, -1e30 if neginf is None else neginf


row("nan_to_num", "nan_to_num", lambda x, **given: mg.nan_to_num(x, *_fills(**given)), lambda x, **given: torch.nan_to_num(x, *_fills(**given)), "largest")
row("neg", "negative", lambda x: mg.negative(x))
row("nn.functional.relu", "relu", lambda x: mg.relu(x))
row("positive", "identity", lambda x: mg.identity(x))
row("sgn", "sign", lambda x: mg.sign(x))
row("contiguous alias_copy", "identity", lambda x, **_: mg.identity(x))
row("clone", "clone", lambda x, **_: mg.clone(x))
row("erf", "erf", lambda x: mg.erf(x))


def _scaled(op: Any) -> Any:
    def f(x: Any, other: Any, alpha: Any = 1) -> Any:
        return op(x, other if alpha == 1 else other * alpha)
    return f


row("add", "add", _scaled(mg.add))
row("sub", "subtract", _scaled(mg.subtract))
row("rsub", "subtract", lambda x, other, alpha=1: mg.subtract(other, x if alpha == 1 else x * alpha))
row("mul", "multiply", lambda x, other: mg.multiply(x, other))
row("true_divide", "divide", lambda x, other: mg.divide(x, other))
row("div/no_rounding_mode", "divide", lambda x, other, rounding_mode=None: mg.divide(x, other))
row("pow", "power", lambda x, other: mg.power(x, other))
row("__radd__", "add", lambda x, other: other + x)
row("__rsub__", "subtract", lambda x, other: other - x)
row("__rmul__", "multiply", lambda x, other: other * x)
row("__rdiv__", "divide", lambda x, other: other / x)
row("__rpow__", "power", lambda x, other: other**x)
row("reciprocal", "divide", lambda x: 1 / x)
row("rsqrt", "sqrt divide", lambda x: 1 / mg.sqrt(x))
row("maximum max/binary", "maximum", lambda x, other: mg.maximum(x, other))
row("minimum min/binary", "minimum", lambda x, other: mg.minimum(x, other))
row("addcmul", "multiply add", lambda x, a, b, value=1: x + value * a * b)
row("addcdiv", "divide add", lambda x, a, b, value=1: x + value * a / b)
row("lerp", "multiply add subtract", lambda x, end, weight: x + weight * (end - x))
for _name, _op in {"eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal"}.items():
    row(_name, _op, lambda x, other, op=_op: getattr(mg, op)(x, other))
row("logical_and", "logical_and", lambda x, other: mg.logical_and(x, other))
row("logical_or", "logical_or", lambda x, other: mg.logical_or(x, other))
row("where", "where", lambda x, cond, other: mg.where(cond, x, other))
row("masked_fill", "where", lambda x, mask, value: mg.where(mask, value, x))
row("nn.functional.hardtanh", "clip", lambda x, min_val=-1, max_val=1, inplace=False: mg.clip(x, min_val, max_val),
    lambda x, min_val=-1, max_val=1, inplace=False: torch.clamp(x, min_val, max_val), "clip_edge")
row("nn.functional.relu6", "clip", lambda x, inplace=False: mg.clip(x, 0, 6), lambda x, inplace=False: torch.clamp(x, 0, 6), "clip_edge")
row("nn.functional.leaky_relu", "leaky_relu", lambda x, negative_slope=0.01, inplace=False: mg.leaky_relu(x, negative_slope))


def _elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0, inplace: bool = False) -> Any:
    only(scale=(scale, 1.0), input_scale=(input_scale, 1.0))
    return mg.elu(x, alpha)


row("nn.functional.elu", "elu", _elu)
row("nn.functional.gelu", "gelu", lambda x, approximate="none": mg.gelu(x, approximate=approximate))


def _softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return mg.softplus(x) if beta == 1 else mg.softplus(x * beta) / beta


row("nn.functional.softplus", "softplus", _softplus, lambda x, beta=1, threshold=20: -F.logsigmoid(-beta * x) / beta, "softplus_threshold")
row("nn.functional.logsigmoid", "softplus", lambda x: -mg.softplus(-x))
row("nn.functional.silu", "sigmoid multiply", lambda x, inplace=False: x * mg.sigmoid(x))
row("nn.functional.mish", "softplus tanh multiply", lambda x, inplace=False: x * mg.tanh(mg.softplus(x)))
row("nn.functional.softsign", "abs divide", lambda x: x / (1 + mg.abs(x)))
row("nn.functional.tanhshrink", "tanh subtract", lambda x: x - mg.tanh(x))
for _name, _dtype in {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16", "char": "int8",
                      "byte": "uint8", "bool": "bool"}.items():
    row(_name, "astype", lambda x, memory_format=None, dtype=_dtype: mg.astype(x, dtype))


def _to(x: Any, *args: Any, **_: Any) -> Any:
    for a in args:
        if isinstance(a, mg.Tensor):
            return mg.astype(x, a.dtype)
        if isinstance(a, str) and a != "cpu":
            return mg.astype(x, a)
    return mg.identity(x)


row("to", "astype", _to)

# -- broadcasting and shapes ------------------------------------------------------------------------------------------------


def _sizes(x: Any, sizes: Any) -> tuple[int, ...]:
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    lead = len(sizes) - x.ndim
    return tuple(x.shape[i - lead] if n == -1 else n for i, n in enumerate(sizes))


row("broadcast_to", "broadcast_to", lambda x, shape: mg.broadcast_to(x, _sizes(x, (shape,))))
row("expand expand_copy", "broadcast_to", lambda x, *sizes: mg.broadcast_to(x, _sizes(x, sizes)))
row("expand_as", "broadcast_to", lambda x, other: mg.broadcast_to(x, other.shape))
row("broadcast_tensors", "broadcast_to", lambda x, *others:
    [mg.broadcast_to(t, np.broadcast_shapes(x.shape, *(o.shape for o in others))) for t in (x, *others)])
row("sum_to_size", "sum_to", lambda x, *shape: mg.sum_to(x, _sizes(x, shape)))
row("reshape view view_copy", "reshape", lambda x, *shape: mg.reshape(x, *shape))
row("reshape_as view_as", "reshape", lambda x, other: mg.reshape(x, other.shape))
row("ravel", "flatten", lambda x: mg.flatten(x))
row("permute permute_copy", "transpose", lambda x, dims: mg.transpose(x, dims) if x.ndim else mg.identity(x))
row("transpose transpose_copy", "swapaxes", lambda x, a, b: mg.swapaxes(x, a, b))
row("t t_copy", "transpose", lambda x: mg.transpose(x))
row("T", "transpose", lambda x: x.T)
row("mT", "swapaxes", lambda x: x.mT)
row("unsqueeze unsqueeze_copy", "expand_dims", lambda x, dim: mg.expand_dims(x, dim))
row("flip", "flip", lambda x, dims: mg.flip(x, tuple(dims) if isinstance(dims, (tuple, list)) else dims))
row("fliplr", "flip", lambda x: mg.flip(x, 1))
row("flipud", "flip", lambda x: mg.flip(x, 0))
row("roll", "roll", lambda x, shifts, dims=None: mg.roll(x, shifts, None if dims in (None, ()) else dims))
row("tile", "tile", lambda x, reps: mg.tile(x, reps))
row("repeat", "tile", lambda x, *reps: mg.tile(x, reps[0] if isinstance(reps[0], (tuple, list)) else reps))
row("repeat_interleave", "repeat", lambda x, repeats, dim=None, output_size=None: mg.repeat(
    x, repeats.tolist() if isinstance(repeats, mg.Tensor) else repeats, dim))
row("vstack", "vstack", lambda xs: mg.vstack(xs))


def _flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    if end_dim not in (-1, x.ndim - 1):
        raise Without("flatten goes on to the last axis")
    return mg.flatten(x, start_dim)


row("flatten", "flatten", _flatten)


def _squeeze(x: Any, dim: Any = None) -> Any:
    if dim is None:
        return mg.squeeze(x)
    dims = [d for d in (dim if isinstance(dim, (tuple, list)) else (dim,)) if x.ndim and x.shape[d] == 1]
    return mg.squeeze(x, tuple(dims))


row("squeeze squeeze/multiple squeeze_copy", "squeeze", _squeeze, None, "squeeze_quiet")


def _movedim(x: Any, source: Any, destination: Any) -> Any:
    if isinstance(source, int):
        return mg.moveaxis(x, source, destination)
    n = x.ndim  # several axes at once are a permutation
    order = [i for i in range(n) if i not in [s % n for s in source]]
    for d, s in sorted((d % n, s % n) for s, d in zip(source, destination, strict=True)):
        order.insert(d, s)
    return mg.transpose(x, tuple(order))


row("movedim", "moveaxis transpose", _movedim)
row("cat", "concatenate", lambda xs, dim=0: mg.concatenate(list(xs), dim))
row("stack", "stack", lambda xs, dim=0: mg.stack(list(xs), dim))
row("hstack", "hstack", lambda xs: mg.hstack(xs))
row("unbind unbind_copy", "getitem", lambda x, dim=0: tuple(x[(slice(None),) * (dim % x.ndim) + (i,)] for i in range(x.shape[dim])))
row("narrow narrow_copy", "getitem", lambda x, dim, start, length: x[(slice(None),) * (dim % x.ndim) + (_part(x.shape[dim], start, length),)])
row("select", "getitem", lambda x, dim, index: x[(slice(None),) * (dim % x.ndim) + (index,)])


def _part(size: int, start: Any, length: int) -> slice:
    first = int(start) + (size if int(start) < 0 else 0)
    return slice(first, first + length)


def _split(x: Any, size: Any, dim: int = 0) -> Any:
    if isinstance(size, int):
        n = x.shape[dim]
        return mg.split(x, list(range(size, n, size)), dim)
    return mg.split(x, [sum(size[:i]) for i in range(1, len(size))], dim)


row("split split/list_args split_with_sizes split_with_sizes_copy unsafe_split", "split", _split)
row("chunk unsafe_chunk", "split", lambda x, chunks, dim=0: _split(x, max(-(-x.shape[dim] // chunks), 1), dim))


def _tensor_split(x: Any, where: Any, dim: int = 0) -> Any:
    if isinstance(where, mg.Tensor):
        where = where.tolist()
    if isinstance(where, int):
        n, parts = x.shape[dim], where
        sizes = [n // parts + (i < n % parts) for i in range(parts)]
        where = [sum(sizes[:i]) for i in range(1, parts)]
    return mg.split(x, list(where), dim)


row("tensor_split", "split", _tensor_split)


def _pad(x: Any, pad: Any, mode: Any = "constant", value: Any = 0) -> Any:
    if not isinstance(mode, str):
        mode, value = "constant", mode
    if any(n < 0 for n in pad):
        raise Without("widths of at least 0; slices cut")
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    return mg.pad(x, tuple(widths), value or 0)


row("nn.functional.pad/constant constant_pad_nd", "pad", _pad)

# -- indexing -----------------------------------------------------------------------------------------------------------------

row("__getitem__", "getitem", lambda x, key: x[key])
row("masked_select", "getitem", lambda x, mask: mg.broadcast_to(x, (s := np.broadcast_shapes(x.shape, mask.shape)))[mg.broadcast_to(mask, s)])
row("take", "take", lambda x, index: mg.take(x, index))
row("index_select", "take", lambda x, dim, index: mg.take(x, index, dim))


def _gather(x: Any, dim: int, index: Any, sparse_grad: bool = False) -> Any:
    if x.ndim and any(i != dim % x.ndim and n != index.shape[i] for i, n in enumerate(x.shape)):
        x = x[tuple(slice(None) if i == dim % x.ndim else slice(0, index.shape[i]) for i in range(x.ndim))]
    return mg.take_along_axis(x, index, dim)


row("gather", "take_along_axis", _gather, None, "gather_smaller")


def _take_along(x: Any, index: Any, dim: Any = None) -> Any:
    if dim is None:
        return mg.take(mg.flatten(x), mg.flatten(index))
    shape = list(np.broadcast_shapes(*(tuple(1 if i == dim % x.ndim else n for i, n in enumerate(t.shape)) for t in (x, index))))
    of = lambda t: mg.broadcast_to(t, tuple(t.shape[i] if i == dim % x.ndim else n for i, n in enumerate(shape)))
    return mg.take_along_axis(of(x), of(index), dim)


row("take_along_dim", "take_along_axis", _take_along)
row("nn.functional.embedding", "embedding", lambda weight, index, **more: _embedding(weight, index, **more))


def _embedding(weight: Any, index: Any, padding_idx: Any = None, max_norm: Any = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
               sparse: bool = False) -> Any:
    only(max_norm=(max_norm, None), scale_grad_by_freq=(scale_grad_by_freq, False))
    return mg.embedding(index, weight, **({} if padding_idx is None else {"padding_idx": padding_idx}))


# -- reductions ---------------------------------------------------------------------------------------------------------------

row("sum", "sum", lambda x, dim=None, keepdim=False, dtype=None: mg.sum(as_type(x, dtype), axes(dim), keepdim))
row("mean", "mean", lambda x, dim=None, keepdim=False, dtype=None: mg.mean(as_type(x, dtype), axes(dim), keepdim))
row("amax", "max", lambda x, dim=None, keepdim=False: mg.max(x, axes(dim), keepdim))
row("amin", "min", lambda x, dim=None, keepdim=False: mg.min(x, axes(dim), keepdim))
row("aminmax", "min max", lambda x, dim=None, keepdim=False: (mg.min(x, dim, keepdim), mg.max(x, dim, keepdim)),
    lambda x, dim=None, keepdim=False: (torch.amin(x, () if dim is None else dim, keepdim), torch.amax(x, () if dim is None else dim, keepdim)), "ties_share")
row("max/reduction_no_dim", "max", lambda x: mg.max(x))
row("min/reduction_no_dim", "min", lambda x: mg.min(x))
row("max/reduction_with_dim", "max argmax", lambda x, dim, keepdim=False: _with_index(mg.max, x, dim, keepdim),
    lambda x, dim, keepdim=False: (torch.amax(x, dim, keepdim), torch.argmax(x, dim, keepdim)), "ties_share")
row("min/reduction_with_dim", "min", lambda x, dim, keepdim=False: mg.min(x, dim, keepdim),
    lambda x, dim, keepdim=False: torch.amin(x, dim, keepdim), "ties_share")


def _with_index(f: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    index = mg.argmax(x, dim)
    return f(x, dim, keepdim), mg.expand_dims(index, dim) if keepdim else index


def _arg(op: Any, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    index = op(x, dim)
    return index if not keepdim else mg.expand_dims(index, dim) if dim is not None else mg.reshape(index, (1,) * x.ndim)


row("argmax", "argmax", lambda x, *args, **more: _arg(mg.argmax, x, *args, **more))
row("argmin", "argmin", lambda x, *args, **more: _arg(mg.argmin, x, *args, **more))
row("any", "any", lambda x, dim=None, keepdim=False: mg.any(x, axes(dim), keepdim))
row("all", "all", lambda x, dim=None, keepdim=False: mg.all(x, axes(dim), keepdim))


def _sort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    only(descending=(descending, False))
    return mg.sort(x, dim), mg.argsort(x, dim)


row("sort", "sort argsort", _sort, lambda x, dim=-1, descending=False, stable=False: torch.sort(x, dim=dim, stable=True), "stable")
row("argsort", "argsort", lambda *args, **more: _sort(*args, **more)[1], lambda x, dim=-1, descending=False, stable=False: torch.argsort(
    x, dim=dim, stable=True), "stable")


def _ddof(x: Any, dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """PyTorch's two ways to say how many degrees of freedom are lost."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    ddof = 1 if correction is None else correction
    return axes(dim), ddof if unbiased is None else int(unbiased)


def _moment(op: Any) -> Any:
    def f(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None) -> Any:
        axis, ddof = _ddof(x, dim, unbiased, correction)
        return op(x, axis, ddof, keepdim)
    return f


row("var var/unbiased", "var", _moment(mg.var))
row("std std/unbiased", "std", _moment(mg.std))
row("var_mean var_mean/unbiased", "var mean", _moment(lambda x, axis, ddof, keep: (mg.var(x, axis, ddof, keep), mg.mean(x, axis, keep))))
row("std_mean std_mean/unbiased", "std mean", _moment(lambda x, axis, ddof, keep: (mg.std(x, axis, ddof, keep), mg.mean(x, axis, keep))))
row("cumsum", "cumsum", lambda x, dim, dtype=None: mg.cumsum(as_type(x, dtype), dim))
row("cumprod", "cumprod", lambda x, dim, dtype=None: mg.cumprod(as_type(x, dtype), dim))


def _prod(x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if dim is None and x.size > 100:
        raise Without("products of so many numbers are below float32")
    return mg.prod(as_type(x, dtype), dim, keepdim)


row("prod", "prod", _prod)
row("logsumexp", "logsumexp", lambda x, dim, keepdim=False: mg.logsumexp(x, axes(dim), keepdim))
for _name in ("softmax", "log_softmax"):
    row(f"{_name} {_name}/with_dtype", _name, lambda x, dim, dtype=None, name=_name: getattr(mg, name)(as_type(x, dtype), dim))
row("nn.functional.softmin nn.functional.softmin/with_dtype", "softmax", lambda x, dim, dtype=None: mg.softmax(-as_type(x, dtype), dim))
row("logaddexp", "logsumexp", lambda x, other: mg.logsumexp(mg.stack([mg.broadcast_to(t, np.broadcast_shapes(x.shape, other.shape)) for t in (x, other)]), 0),
    lambda x, other: torch.logsumexp(torch.stack(torch.broadcast_tensors(x, other)), 0), "logaddexp")

# -- linear algebra -------------------------------------------------------------------------------------------------------------

row("matmul mm bmm mv vdot", "matmul", lambda x, other: mg.matmul(x, other))
row("dot", "dot", lambda x, other: mg.dot(x, other))



def _tensordot(x: Any, other: Any, dims: Any = 2) -> Any:
    left, right = (range(x.ndim - dims, x.ndim), range(dims)) if isinstance(dims, int) else dims
    if [x.shape[i] for i in left] != [other.shape[i] for i in right]:
        raise Without("tensordot sums over axes of equal size")
    return mg.tensordot(x, other, dims)


row("tensordot", "tensordot", _tensordot)
row("diag", "diag", lambda x, diagonal=0: mg.diag(x, diagonal))
row("__rmatmul__", "matmul", lambda x, other: other @ x)
row("linalg.multi_dot", "matmul", lambda xs: _chain(xs))
row("outer", "outer", lambda x, other: mg.outer(x, other))
row("einsum", "einsum", lambda operands, spec: mg.einsum(spec, *operands))
row("nn.functional.linear", "matmul transpose add", lambda x, w, b=None:
    (mg.matmul(x, mg.transpose(w)) + b) if b is not None else mg.matmul(x, mg.transpose(w)))
row("diagonal diagonal_copy", "diagonal", lambda x, offset=0, dim1=0, dim2=1: mg.diagonal(x, offset, dim1, dim2))
row("linalg.diagonal", "diagonal", lambda x, offset=0, dim1=-2, dim2=-1: mg.diagonal(x, offset, dim1, dim2))
row("trace", "trace", lambda x: mg.trace(x))
row("tril", "tril", lambda x, diagonal=0: mg.tril(x, diagonal))
row("triu", "triu", lambda x, diagonal=0: mg.triu(x, diagonal))
row("linalg.inv", "inv", lambda x: mg.inv(x))
row("linalg.det", "det", lambda x: mg.det(x))
row("linalg.solve", "solve", lambda a, b: _solve(a, b))


def _solve(a: Any, b: Any) -> Any:
    if 1 < b.ndim == a.ndim - 1:  # PyTorch takes it for a batch of vectors, NumPy 2 never
        return mg.squeeze(mg.solve(a, mg.expand_dims(b, -1)), -1)
    return mg.solve(a, b)


row("cholesky linalg.cholesky", "cholesky", lambda x, upper=False: mg.swapaxes(mg.cholesky(x), -1, -2) if upper else mg.cholesky(x))


row("inner", "einsum", lambda x, other: mg.einsum("...i,...i->...", x, other) if other.ndim == 1 and x.ndim else
    mg.einsum("...i,ji->...j", x, other) if other.ndim == 2 and x.ndim else _without("inner products of more axes"))
row("linalg.vecdot", "einsum", lambda x, other, dim=-1: mg.einsum("...i,...i->...", mg.moveaxis(x, dim, -1), mg.moveaxis(other, dim, -1)))
row("addbmm", "matmul sum add multiply", lambda x, a, b, beta=1, alpha=1: beta * x + alpha * mg.sum(mg.matmul(a, b), 0))
row("addmm addmm/decomposed addmv baddbmm", "matmul add multiply", lambda x, a, b, beta=1, alpha=1: _plus_product(x, a, b, beta, alpha))
row("addr", "outer add multiply", lambda x, a, b, beta=1, alpha=1: beta * x + alpha * mg.outer(a, b))


def _plus_product(x: Any, a: Any, b: Any, beta: Any, alpha: Any) -> Any:
    product = mg.matmul(a, b)
    return beta * x + alpha * product


def _without(why: str) -> Any:
    raise Without(why)


def _chain(xs: Any) -> Any:
    done = xs[0]
    for x in xs[1:]:
        done = mg.matmul(done, x)
    return done


row("linalg.eigvalsh", "eigvalsh", lambda a, UPLO="L": mg.eigvalsh(a), lambda a, UPLO="L": torch.linalg.eigvalsh((a + a.mT) / 2), "symmetric_part")
row("linalg.eigh", "eigh", lambda a, UPLO="L": (lambda w, v: (w, v * v))(*mg.eigh(a)), lambda a, UPLO="L":
    (lambda w, v: (w, v * v))(*torch.linalg.eigh((a + a.mT) / 2)), "symmetric_part")


def _norm(x: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if ord not in (None, 2, "fro", 2.0):
        raise Without("norms other than the Euclidean one")
    if ord == 2 and ((dim is None and x.ndim == 2) or (isinstance(dim, (tuple, list)) and len(dim) == 2)):
        raise Without("the spectral norm of a matrix")
    return mg.norm(as_type(x, dtype), None, axes(dim), keepdim)


row("linalg.norm", "norm", _norm)
row("linalg.norm/subgradients_at_zero", "norm", _norm)
row("linalg.matrix_norm", "norm", lambda x, ord="fro", dim=(-2, -1), keepdim=False, dtype=None: _norm(x, ord, dim, keepdim, dtype))


def _vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if ord != 2:
        raise Without("norms other than the Euclidean one")
    return mg.norm(as_type(x, dtype), None, axes(dim), keepdim)


row("linalg.vector_norm", "norm", _vector_norm)
row("norm norm/fro", "norm", lambda x, p="fro", dim=None, keepdim=False, dtype=None: _vector_norm(x, 2 if p == "fro" else p, dim, keepdim, dtype))
row("dist", "norm subtract", lambda x, other, p=2: _vector_norm(x - other, p))

# -- convolution and pooling ----------------------------------------------------------------------------------------------------


def _images(x: Any, ndim: int = 4) -> tuple[Any, bool]:
    """Images with a batch axis, and whether it was added."""
    return (mg.expand_dims(x, 0), True) if x.ndim == ndim - 1 else (x, False)


def _batched(f: Any) -> Any:
    def call(x: Any, *args: Any, **keywords: Any) -> Any:
        x, added = _images(x)
        y = f(x, *args, **keywords)
        return mg.squeeze(y, 0) if added else y
    return call


def _conv2d(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    pair = lambda v: (v[0], v[-1]) if isinstance(v, (tuple, list)) else (v, v)
    dilation = pair(dilation)
    if padding == "valid":
        padding = 0
    elif padding == "same":  # the Module's
        total = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
        padding, x = tuple(t // 2 for t in total), mg.pad(x, ((0, 0), (0, 0), *((0, t % 2) for t in total)))
    return mg.conv2d(x, w, b, pair(stride), padding if isinstance(padding, int) else pair(padding), dilation, groups)


row("nn.functional.conv2d", "conv2d", _batched(_conv2d))


def _conv1d(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """As a convolution of images of height 1."""
    one = lambda v: v[0] if isinstance(v, (tuple, list)) else v
    x, added = _images(x, 3)
    if padding == "same":
        total = one(dilation) * (w.shape[2] - 1)
        padding, x = total // 2, mg.pad(x, ((0, 0), (0, 0), (0, total % 2)))
    padding = 0 if padding == "valid" else one(padding)
    y = mg.conv2d(mg.expand_dims(x, 2), mg.expand_dims(w, 2), b, (1, one(stride)), (0, padding), (1, one(dilation)), groups)
    return mg.squeeze(y, (0, 2) if added else 2)


row("nn.functional.conv1d", "conv2d expand_dims squeeze", _conv1d)


def _max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
                return_indices: bool = False) -> Any:
    more = {name: v for name, v, default in (("dilation", dilation, (1, (1, 1))), ("ceil_mode", ceil_mode, (False,))) if v not in default}
    return mg.max_pool2d(x, kernel_size, stride or None, padding, **more)


row("nn.functional.max_pool2d", "max_pool2d", _batched(_max_pool2d),
    lambda x, *args, return_indices=False, **more: F.max_pool2d(x, *args, **more), "no_indices")


def _avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                divisor_override: Any = None) -> Any:
    pair = lambda v: (v[0], v[-1]) if isinstance(v, (tuple, list)) else (v, v)
    more, kernel = {"ceil_mode": True} if ceil_mode else {}, pair(kernel_size)
    if divisor_override is not None:
        y = mg.avg_pool2d(x, kernel, pair(stride) if stride else None, pair(padding), **more)
        counts = [[min(i * s + k, n + 2 * p) - i * s for i in range(m)]  # elements of each window, which ceil_mode lets hang over the edge
                  for n, m, k, s, p in zip(x.shape[2:], y.shape[2:], kernel, pair(stride) if stride else kernel, pair(padding), strict=True)]
        return y * mg.tensor((np.outer(*counts) / divisor_override).astype(x.dtype))
    return mg.avg_pool2d(x, kernel, pair(stride) if stride else None, pair(padding), count_include_pad=count_include_pad, **more)


row("nn.functional.avg_pool2d", "avg_pool2d", _batched(_avg_pool2d))
row("nn.functional.adaptive_avg_pool2d", "adaptive_avg_pool2d", _batched(lambda x, output_size: mg.adaptive_avg_pool2d(x, output_size)))


def _dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if training and 0 < p < 1:
        raise Without("other random numbers")
    return mg.dropout(x, p, training)


row("nn.functional.dropout", "dropout", _dropout)

# -- losses -----------------------------------------------------------------------------------------------------------------------


def _given(**more: Any) -> dict[str, Any]:
    """Keywords that are not at their default, given as name=(value, default)."""
    return {name: v for name, (v, default) in more.items() if v is not default and not (isinstance(v, (int, float)) and v == default)}


def _cross_entropy(x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    return mg.cross_entropy(x, target, reduction=reduction, label_smoothing=label_smoothing, **_given(weight=(weight, None), ignore_index=(ignore_index, -100)))


def _nll_loss(x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    return mg.nll_loss(x, target, reduction=reduction, **_given(weight=(weight, None), ignore_index=(ignore_index, -100)))


def _bce(x: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> Any:
    return mg.binary_cross_entropy_with_logits(x, target, reduction=reduction, **_given(weight=(weight, None), pos_weight=(pos_weight, None)))


row("nn.functional.cross_entropy", "cross_entropy", _cross_entropy)
row("nn.functional.nll_loss", "nll_loss", _nll_loss)
row("nn.functional.mse_loss", "mse_loss", lambda x, target, reduction="mean": mg.mse_loss(x, target, reduction))
row("nn.functional.binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits", _bce)

# -- normalization: every form of the registry -------------------------------------------------------------------------------------


def _ones(x: Any, n: Any, value: float) -> Any:
    return mg.tensor(np.full(n, value), dtype=x.dtype)


def _forms(name: str, *args: Any, **keywords: Any) -> list[Any]:
    """The results of the composed form and of each derivation."""
    layer = REGISTRY[name]
    return [form(*args, **keywords) for form in (layer.composed, *layer.derived.values())]


def _count(name: str) -> int:
    return 1 + len(REGISTRY[name].derived)


def _affine(x: Any, w: Any, b: Any, shape: Any) -> tuple[Any, Any]:
    return (_ones(x, shape, 1.0) if w is None else w), (_ones(x, shape, 0.0) if b is None else b)


def _batch_norm(x: Any, mean: Any, var: Any, w: Any = None, b: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Any:
    if x.ndim < 2:
        raise Without("x has a batch axis and channels")
    w, b = _affine(x, w, b, x.shape[1])
    if training:
        return _forms("batch_norm", x, w, b, eps=eps)
    return _forms("batch_norm_eval", x, w, b, running_mean=mean, running_var=var, eps=eps)


row("nn.functional.batch_norm", "batch_norm batch_norm_eval", _batch_norm, lambda x, mean, var, w=None, b=None, training=False, momentum=0.1, eps=1e-5:
    [F.batch_norm(x, mean, var, w, b, training, momentum, eps)] * _count("batch_norm" if training else "batch_norm_eval"))


def _instance_norm(x: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None, use_input_stats: bool = True,
                   momentum: float = 0.1, eps: float = 1e-5) -> Any:
    only(use_input_stats=(use_input_stats, True))
    return _forms("instance_norm", x, *_affine(x, weight, bias, x.shape[1]), eps=eps)


row("nn.functional.instance_norm", "instance_norm", _instance_norm, lambda x, **more: [F.instance_norm(x, **more)] * _count("instance_norm"))
row("nn.functional.layer_norm", "layer_norm", lambda x, shape, w=None, b=None, eps=1e-5: _forms("layer_norm", x, *_affine(x, w, b, shape), eps=eps),
    lambda x, *args, **more: [F.layer_norm(x, *args, **more)] * _count("layer_norm"))
row("nn.functional.group_norm", "group_norm", lambda x, groups, weight=None, bias=None, eps=1e-5:
    _forms("group_norm", x, *_affine(x, weight, bias, x.shape[1]), groups=groups, eps=eps),
    lambda x, *args, **more: [F.group_norm(x, *args, **more)] * _count("group_norm"))


def _rms_norm(x: Any, shape: Any, w: Any = None, eps: Any = None) -> Any:
    return _forms("rms_norm", x, _affine(x, w, None, shape)[0], eps=float(np.finfo(x.dtype).eps) if eps is None else eps)


row("nn.functional.rms_norm", "rms_norm", _rms_norm, lambda x, *args, **more: [F.rms_norm(x, *args, **more)] * _count("rms_norm"))

# -- what has no counterpart ---------------------------------------------------------------------------------------------------------

NO_COUNTERPART = {  # public ops of minigrad that no op of PyTorch's table computes
    "inv_sqrtm": "PyTorch has no inverse root of a matrix; tests/test_torch_oracle.py builds one from its eigh",
    "lyapunov": "PyTorch has no Lyapunov solver; tests/test_torch_oracle.py solves the Kronecker system",
    "moments": "PyTorch's var_mean is tested against var and mean; tests/test_torch_oracle.py compares moments",
    "paired_sums": "a pattern inside the normalization layers",
    "combine": "a pattern inside the normalization layers",
    "scale_shift": "a pattern inside the normalization layers",
    **dict.fromkeys("zeros ones full eye arange linspace zeros_like ones_like full_like rand randn randint permutation".split(),
                    "makes a new Tensor, of which nothing is differentiated; tests/test_front_door.py compares with NumPy"),
    "FusedRows": "a pattern inside the normalization layers",
    "elementwise": "makes ops",
}
