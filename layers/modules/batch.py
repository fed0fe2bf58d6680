"""Normalization layers as Modules, with PyTorch's names, argument order and state_dict keys.

Running statistics live only here: functions in `REGISTRY` never see or change them. `form` selects the composed graph or a
hand-derived backward; `use_form` sets it for all modules created inside. `dtype` is that of parameters and statistics; these
are float32 in a float16 layer. A layer in float32 takes float16 x, too, and gives float16 back.
"""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import minigrad as mg
from minigrad import backend, nn
from minigrad.core import storage
from minigrad.core.errors import describe, error, integer
from minigrad.core.tensor import state
from minigrad.kernels.half import widened
from minigrad.nn.layers import no_device

from ..batch import batch_norm as _batch_norm
from ..registry import REGISTRY
from ..sample import instance_norm as _instance_norm


class _Here(threading.local):
    form = "derived"  # of the modules that this thread creates

    def __init__(self) -> None:
        self.outer: list[str] = []  # forms outside each `use_form` that is open


_here = _Here()


def chosen_form() -> str:
    """The form that modules take when none is named: see `use_form`."""
    return _here.form


class use_form:
    """Modules created inside this block, in this thread, use this form: "composed", "derived", or a derivation's name.

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


class Normalization(nn.Module):
    """What the layers below share: the form in which they compute, and gamma and beta (``weight`` and ``bias``)."""

    layer = ""  # its name in REGISTRY
    track_running_stats: bool
    running_mean: Any

    def __init__(self, shape: tuple[int, ...], weight: bool, bias: bool, form: str | None, dtype: Any, device: None = None) -> None:
        super().__init__()
        no_device(type(self).__name__, device)
        self.form = form or chosen_form()
        REGISTRY[self.layer].form(self.form)  # a wrong name fails here
        self._shape = shape
        for name, value, wanted in (("weight", 1, weight), ("bias", 0, bias)):
            self.register_parameter(name, nn.Parameter(self._filled(value, dtype)) if wanted else None)

    def _filled(self, value: int, dtype: Any, like: Any = None) -> Any:
        xp = backend.get(backend.current_name() if like is None else like.backend)
        return mg.Tensor(xp.full(self._shape, value, dtype=dtype or backend.default_dtype))

    def _statistic(self, value: int, dtype: Any) -> Any:
        """The start of a running statistic, in the dtype of the layer, but never in float16."""
        return widened(self._filled(value, dtype))

    def _sizes(self, normalized_shape: Any) -> tuple[int, ...]:
        """`normalized_shape`, one size or several, as a tuple."""
        op, fix = type(self).__name__, "x.shape[1:] for all axes but the batch's"
        sizes = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        if not sizes:
            raise error(ValueError, op, got="normalized_shape=()", needs="the size of one trailing axis or more", fix=fix)
        return tuple(integer(op, f"normalized_shape[{i}]", n, 1, fix=fix) for i, n in enumerate(sizes))

    def _affine(self, x: Any) -> tuple[Any, Any]:
        """gamma and beta, or ones and zeros where there are none."""
        gamma, beta = (p if p is not None else self._filled(value, x.dtype, x) for p, value in ((self.weight, 1), (self.bias, 0)))
        return gamma, beta

    # -- of those with running statistics

    @property
    def _tracks(self) -> bool:
        """Are running statistics updated in training? `track_running_stats` may be switched off and on again, where there are any."""
        if self.track_running_stats and self.running_mean is None:
            raise error(ValueError, type(self).__name__, got="track_running_stats=True on a layer that was made without running statistics",
                        needs="buffers to keep them in", fix="make the layer with track_running_stats=True")
        return bool(self.track_running_stats)

    @property
    def _fixed(self) -> bool:
        """Does it normalize by running statistics? In evaluation, where there are any: as in PyTorch, also when they are updated no longer."""
        return (self._tracks or self.running_mean is not None) and not self.training

    def _refusal(self, x: Any, needs: str, fix: str) -> ValueError:
        return error(ValueError, type(self).__name__, got=describe(x), needs=needs, fix=fix)


# -- one mean for each channel of the batch, with running statistics ----------------------------------------------------


class BatchNorm(Normalization):
    """Batch normalization with running statistics; `BatchNorm1d`, `BatchNorm2d`, `BatchNorm3d` fix the number of axes.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the *new* batch in the running statistics; None for their plain average.
        affine: learn gamma (``weight``) and beta (``bias``).
        track_running_stats: keep running statistics; without them eval mode uses the batch's own. Set to False later, it stops
            their updates, and eval mode goes on using them.
        bias: False leaves out beta only.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.

    The running variance is the unbiased one (divided by m − 1), while the batch is normalized by the biased one: PyTorch's
    convention. A gradient check leaves the running statistics alone.

    Raises:
        ValueError: wrong number of axes or channels, or a single element per channel where the batch's statistics are used.
    """

    layer = "batch_norm"
    dims: tuple[int, ...] = (2, 3, 4, 5)
    counts = True  # batches, into num_batches_tracked
    _wide_buffers = ("running_mean", "running_var")
    running_var: Any
    num_batches_tracked: Any

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
                 *, bias: bool = True, form: str | None = None, device: None = None, dtype: Any = None) -> None:
        num_features = integer(type(self).__name__, "num_features", num_features, 1)
        super().__init__((num_features,), affine, affine and bias, form, dtype, device)
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.track_running_stats = track_running_stats
        self.register_buffer("running_mean", self._statistic(0, dtype) if track_running_stats else None)
        self.register_buffer("running_var", self._statistic(1, dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", mg.tensor(0) if track_running_stats else None)

    def forward(self, x: Any) -> Any:
        """x (N, C) or (N, C, *spatial) -> the same shape."""
        if x.ndim not in self.dims or x.shape[1] != self.num_features:
            raise self._refusal(x, f"{' or '.join(map(str, self.dims))} axes and {self.num_features} channels (axis 1)",
                                "check the layout (NCHW) and num_features")
        gamma, beta = self._affine(x)
        if self._fixed:
            layer, form = REGISTRY["batch_norm_eval"], "composed" if self.form == "composed" else "derived"
            return layer.form(form)(x, gamma, beta, running_mean=self.running_mean, running_var=self.running_var, eps=self.eps)
        m = self._elements(x)
        if m < 2:
            raise self._refusal(x, "more than 1 element under each mean: a single one has no variance",
                                f"{'a larger batch or image' if m else 'leave an empty batch out: if len(x)'}; or eval(), where running statistics are tracked")
        function, keywords = REGISTRY[self.layer].form(self.form), {"eps": self.eps, **self._keywords()}
        tracked = self.training and self._tracks and not state.checking
        if self.form != "composed":
            y, (mu, var) = mg.with_saved(function, x, gamma, beta, **keywords)
        else:
            y = function(x, gamma, beta, **keywords)
            if tracked:
                with mg.no_grad():
                    mu, var = self._statistics(x)
        if tracked:
            self._track(mu, var, m)
        return y

    def _elements(self, x: Any) -> int:
        return x.size // self.num_features

    def _keywords(self) -> dict[str, Any]:
        return {}

    def _statistics(self, x: Any) -> tuple[Any, Any]:
        return _batch_norm.statistics(x)

    def _track(self, mu: Any, var: Any, m: int) -> None:
        """running ← (1 − momentum)·running + momentum·new, without waiting for a GPU."""
        writer, count = f"{type(self).__name__}'s running statistics", self.num_batches_tracked._data
        if self.counts or self.momentum is None:
            storage.record_write(count, writer)
            count += 1
        weight = self.momentum if self.momentum is not None else 1.0 / count.astype(self.running_mean.dtype)
        for running, new in ((self.running_mean._data, mu._data), (self.running_var._data, var._data * (m / (m - 1)))):
            storage.record_write(running, writer)
            running += (new.reshape(running.shape) - running) * weight

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}, form={self.form!r}")


class BatchNorm1d(BatchNorm):
    """Batch normalization of (N, C) or (N, C, L). See `BatchNorm`."""

    dims = (2, 3)


class BatchNorm2d(BatchNorm):
    """Batch normalization of images (N, C, H, W). See `BatchNorm`."""

    dims = (4,)


class BatchNorm3d(BatchNorm):
    """Batch normalization of volumes (N, C, D, H, W). See `BatchNorm`."""

    dims = (5,)


class BatchRenorm(BatchNorm):
    """Batch renormalization: in training, too, close to what the running statistics give; `BatchRenorm1d`, `BatchRenorm2d`.

    Args:
        num_features, eps, momentum, affine, form: as `BatchNorm`.
        r_max, d_max: limits of the correction, r in [1/r_max, r_max] and d in [−d_max, d_max]; may be changed at any time.

    Not in PyTorch. Source: Ioffe [ioffe2017], whose final limits are the defaults. The paper begins
    with r_max = 1, d_max = 0, which is batch norm, raises both after some thousand steps, and takes a momentum of 0.01.
    Evaluation is that of `BatchNorm`.
    """

    layer = "batch_renorm"

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, *, r_max: float = 3.0, d_max: float = 5.0,
                 form: str | None = None, dtype: Any = None) -> None:
        super().__init__(num_features, eps, momentum, affine, form=form, dtype=dtype)
        self.r_max, self.d_max = r_max, d_max

    def _keywords(self) -> dict[str, Any]:
        # copies: the tape needs the statistics that this forward has seen, and they are about to be updated
        return {"running_mean": self.running_mean.clone(), "running_var": self.running_var.clone(), "r_max": self.r_max, "d_max": self.d_max}

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"


class BatchRenorm1d(BatchRenorm):
    """Batch renormalization of (N, C) or (N, C, L). See `BatchRenorm`."""

    dims = (2, 3)


class BatchRenorm2d(BatchRenorm):
    """Batch renormalization of images (N, C, H, W). See `BatchRenorm`."""

    dims = (4,)


# -- one mean for each sample -------------------------------------------------------------------------------------------


class InstanceNorm(BatchNorm):
    """Instance normalization: of each channel of each sample; `InstanceNorm1d`, `2d`, `3d` fix the number of axes.

    Args: as `BatchNorm`, but affine and track_running_stats are off unless asked for. Running statistics, where they are
        tracked, are averages over samples, and evaluation uses them as batch norm does.

    A single sample without its batch axis is taken too. PyTorch counts no batches here, and for momentum=None updates
    nothing; here that is the plain average, as in batch norm.
    """

    layer = "instance_norm"
    dims: tuple[int, ...] = (3, 4, 5)
    counts = False

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False, track_running_stats: bool = False,
                 *, bias: bool = True, form: str | None = None, device: None = None, dtype: Any = None) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias=bias, form=form, device=device, dtype=dtype)

    def forward(self, x: Any) -> Any:
        """x (N, C, *spatial) or (C, *spatial) -> the same shape."""
        if x.ndim + 1 == min(self.dims):
            return mg.reshape(self.forward(mg.reshape(x, (1, *x.shape))), x.shape)
        return super().forward(x)

    @property
    def _fixed(self) -> bool:
        """In evaluation, while it tracks running statistics: PyTorch's rule for instance norm."""
        return self._tracks and not self.training

    def _elements(self, x: Any) -> int:
        return prod(x.shape[2:])

    def _statistics(self, x: Any) -> tuple[Any, Any]:
        return _instance_norm.statistics(x)

    def _track(self, mu: Any, var: Any, m: int) -> None:
        super()._track(mu.mean(0), var.mean(0), m)


class InstanceNorm1d(InstanceNorm):
    """Instance normalization of sequences (N, C, L). See `InstanceNorm`."""

    dims = (3,)


class InstanceNorm2d(InstanceNorm):
    """Instance normalization of images (N, C, H, W). See `InstanceNorm`."""

    dims = (4,)


class InstanceNorm3d(InstanceNorm):
    """Instance normalization of volumes (N, C, D, H, W). See `InstanceNorm`."""

    dims = (5,)


class GroupNorm(Normalization):
    """Group normalization of (N, C) or (N, C, *spatial): `num_groups` groups of neighbouring channels.

    Args:
        num_groups: G, a divisor of C. 1: layer norm with one gamma a channel; C: instance norm.
        num_channels: C.
        eps: added to the variance.
        affine: learn gamma (``weight``) and beta (``bias``), one for each channel.
        bias: False leaves out beta only.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.

    Raises:
        ValueError: G does not divide C, a wrong number of channels, or (as PyTorch) a batch with one element a group in all.
    """

    layer = "group_norm"

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, bias: bool = True, form: str | None = None,
                 device: None = None, dtype: Any = None) -> None:
        num_groups, num_channels = integer("GroupNorm", "num_groups", num_groups, 1), integer("GroupNorm", "num_channels", num_channels, 1)
        if num_channels % num_groups:
            raise error(ValueError, "GroupNorm", got=f"{num_groups} groups for {num_channels} channels", needs="groups of equal size",
                        fix="choose a divisor of num_channels; the groups come first")
        super().__init__((num_channels,), affine, affine and bias, form, dtype, device)
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine

    def forward(self, x: Any) -> Any:
        """x (N, C) or (N, C, *spatial) -> the same shape."""
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise self._refusal(x, f"{self.num_channels} channels (axis 1)", "check the layout (NCHW) and num_channels")
        if x.size == self.num_groups:
            raise self._refusal(x, "more than one element for each group: a single one has no variance", "a larger batch or image, or fewer groups")
        return REGISTRY[self.layer].form(self.form)(x, *self._affine(x), groups=self.num_groups, eps=self.eps)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, form={self.form!r}"


class LayerNorm(Normalization):
    """Layer normalization over the last axes, those of `normalized_shape`.

    Args:
        normalized_shape: sizes of the axes to normalize over, or one size for the last axis.
        eps: added to the variance.
        elementwise_affine: learn gamma (``weight``), of this shape.
        bias: with elementwise_affine, learn beta (``bias``), too.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.

    Raises:
        ValueError: x does not end with these axes.
    """

    layer = "layer_norm"

    def __init__(self, normalized_shape: int | tuple[int, ...] | list[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
                 *, form: str | None = None, device: None = None, dtype: Any = None) -> None:
        shape = self._sizes(normalized_shape)
        super().__init__(shape, elementwise_affine, elementwise_affine and bias, form, dtype, device)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine

    def forward(self, x: Any) -> Any:
        """x (*lead, *normalized_shape) -> the same shape."""
        return REGISTRY[self.layer].form(self.form)(x, *self._affine(x), eps=self.eps)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, form={self.form!r}"


class RMSNorm(Normalization):
    """Root-mean-square normalization over the last axes, those of `normalized_shape`: as `LayerNorm` without mean and beta.

    Args:
        normalized_shape: sizes of the axes to normalize over, or one size for the last axis.
        eps: added to the mean square; None: the machine epsilon of x's dtype (of float32 for float16, in which nothing is computed).
        elementwise_affine: learn gamma (``weight``), of this shape.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.
    """

    layer = "rms_norm"

    def __init__(self, normalized_shape: int | tuple[int, ...] | list[int], eps: float | None = None, elementwise_affine: bool = True,
                 *, form: str | None = None, device: None = None, dtype: Any = None) -> None:
        shape = self._sizes(normalized_shape)
        super().__init__(shape, elementwise_affine, False, form, dtype, device)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine

    def forward(self, x: Any) -> Any:
        """x (*lead, *normalized_shape) -> the same shape."""
        eps = float(backend.np.finfo(max(x.dtype, backend.float32)).eps) if self.eps is None else self.eps
        return REGISTRY[self.layer].form(self.form)(x, self._affine(x)[0], eps=eps)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, form={self.form!r}"


__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchRenorm", "BatchRenorm1d", "BatchRenorm2d", "GroupNorm", "InstanceNorm",
           "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "RMSNorm", "use_form"]
