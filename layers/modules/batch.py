"""Batch norm and batch renorm as Modules: one mean for each channel of the batch, with running statistics."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad.core import storage
from minigrad.core.errors import integer
from minigrad.core.tensor import state

from ..batch import batch_norm
from ..registry import REGISTRY
from .base import Normalization


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
        return batch_norm.statistics(x)

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


__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchRenorm", "BatchRenorm1d", "BatchRenorm2d"]
