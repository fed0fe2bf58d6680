"""Normalization layers as Modules, with PyTorch's names, argument order and state_dict keys.

Running statistics live only here: functions in `REGISTRY` never see or change them. `form` selects the composed graph or a
hand-derived backward; `use_form` sets it for all modules created inside.
"""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import nn, storage
from minigrad.backend import NAMESPACES
from minigrad.errors import describe, error

from . import batch_norm as _batch_norm
from .registry import REGISTRY

_default_form = "derived"


class use_form:
    """Modules created inside this block use this form: "composed", "derived", or a derivation's name.

    >>> import layers
    >>> with layers.use_form("composed"):
    ...     layers.BatchNorm2d(3).form
    'composed'
    """

    def __init__(self, form: str) -> None:
        self.form = form

    def __enter__(self) -> None:
        global _default_form
        self._before, _default_form = _default_form, self.form

    def __exit__(self, *_: object) -> None:
        global _default_form
        _default_form = self._before


class BatchNorm(nn.Module):
    """Batch normalization with running statistics; `BatchNorm1d` and `BatchNorm2d` fix the number of axes.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the *new* batch in the running statistics; None for their plain average.
        affine: learn gamma (``weight``) and beta (``bias``).
        track_running_stats: keep running statistics; without them eval mode uses the batch's own.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.

    The running variance is the unbiased one (divided by m − 1), while the batch is normalized by the biased one: PyTorch's
    convention.

    Raises:
        ValueError: wrong number of axes or channels, or a single element per channel in training.
    """

    dims: tuple[int, ...] = (2, 3, 4, 5)

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
                 *, form: str | None = None) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.track_running_stats = track_running_stats
        self.form = form or _default_form
        REGISTRY["batch_norm"].form(self.form)  # a wrong name fails here
        ones, zeros = mg.tensor([1.0] * num_features), mg.tensor([0.0] * num_features)
        self.weight = nn.Parameter(ones) if affine else None
        self.bias = nn.Parameter(zeros) if affine else None
        self.register_buffer("running_mean", zeros.clone() if track_running_stats else None)
        self.register_buffer("running_var", ones.clone() if track_running_stats else None)
        self.register_buffer("num_batches_tracked", mg.tensor(0) if track_running_stats else None)

    def forward(self, x: Any) -> Any:
        """x (N, C) or (N, C, *spatial) -> the same shape."""
        if x.ndim not in self.dims or x.shape[1] != self.num_features:
            raise error(ValueError, type(self).__name__, got=describe(x), needs=f"{' or '.join(map(str, self.dims))} axes and {self.num_features} channels (axis 1)",
                        fix="check the layout (NCHW) and num_features")
        gamma, beta = (self.weight, self.bias) if self.affine else self._fixed_affine(x)
        if not self.training and self.track_running_stats:
            layer, form = REGISTRY["batch_norm_eval"], "composed" if self.form == "composed" else "derived"
            return layer.form(form)(x, gamma, beta, running_mean=self.running_mean, running_var=self.running_var, eps=self.eps)
        m = x.size // self.num_features
        if m == 1 and self.training:
            raise error(ValueError, type(self).__name__, got=f"{describe(x)}: one element for each channel", needs="more than one in training: their variance is 0",
                        fix="a larger batch, or eval()")
        if self.form == "composed":
            y = REGISTRY["batch_norm"].composed(x, gamma, beta, eps=self.eps)
            if not (self.training and self.track_running_stats):
                return y
            with mg.no_grad():
                mu, var = _batch_norm.statistics(x)
        else:
            y, (mu, var) = mg.with_saved(REGISTRY["batch_norm"].form(self.form), x, gamma, beta, eps=self.eps)
        if self.training and self.track_running_stats:
            self._track(mu, var, m)
        return y

    def _fixed_affine(self, x: Any) -> tuple[Any, Any]:
        xp = NAMESPACES[type(x._data)]
        return mg.Tensor(xp.ones(self.num_features, dtype=x.dtype)), mg.Tensor(xp.zeros(self.num_features, dtype=x.dtype))

    def _track(self, mu: Any, var: Any, m: int) -> None:
        """running ← (1 − momentum)·running + momentum·new, without waiting for a GPU."""
        count = self.num_batches_tracked._data
        storage.record_write(count, "BatchNorm's running statistics")
        count += 1
        weight = self.momentum if self.momentum is not None else 1.0 / count.astype(self.running_mean.dtype)
        for running, new in ((self.running_mean._data, mu._data.reshape(-1)), (self.running_var._data, var._data.reshape(-1) * (m / (m - 1)))):
            storage.record_write(running, "BatchNorm's running statistics")
            running += (new - running) * weight

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, track_running_stats={self.track_running_stats}, form={self.form!r}"


class BatchNorm1d(BatchNorm):
    """Batch normalization of (N, C) or (N, C, L). See `BatchNorm`."""

    dims = (2, 3)


class BatchNorm2d(BatchNorm):
    """Batch normalization of images (N, C, H, W). See `BatchNorm`."""

    dims = (4,)


__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "use_form"]
