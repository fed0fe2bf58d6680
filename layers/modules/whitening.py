"""Whitening layers as Modules: decorrelated batch norm (DBN), PCA whitening and IterNorm, with running statistics for inference.

A covariance is stored compactly, as (C, d): row c holds the covariances of channel c with the channels of its group of
d = group_size. (A smaller last group leaves the end of its rows empty.) Arguments follow `BatchNorm`.
"""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import backend
from minigrad.core import storage
from minigrad.core.errors import BackendError, describe, error, integer
from minigrad.core.tensor import state
from minigrad.kernels.half import in_float32, widened

from ..registry import REGISTRY
from ..shapes import per_channel
from ..whitening.channel_groups import measured, stacks
from ..whitening.iter_norm import iterates
from ..whitening.pca_whitening import principal_axes, projection
from ..whitening.square_roots import eigenbasis, whitener
from .base import Normalization


def _moments(x: Any) -> tuple[Any, Any]:
    """Mean and covariance of matrices (G, d, m)."""
    mu = mg.mean(x, -1, keepdims=True)
    xc = x - mu
    return mu, mg.matmul(xc, xc.mT) / x.shape[-1]


@in_float32
def _scaled(x: Any, weight: Any, bias: Any) -> Any:
    """weight·x + bias for each channel."""
    _, (weight, bias) = per_channel("affine map", x, weight=weight, bias=bias)
    return x * weight + bias


class Whitening(Normalization):
    """What these layers share: batch statistics in training, running ones in evaluation, and an affine map after it.

    Args:
        num_features: C.
        group_size: channels that are whitened together, consecutive ones; None for all C. The last group may be smaller.
        eps: added to the covariance's diagonal (absolute).
        momentum: weight of the *new* batch in the running statistics; None for their plain average.
        affine: learn a scale (``weight``) and a shift (``bias``) of each channel after whitening: dbn's "DBN-scale".
        track_running_stats: keep running statistics; without them eval mode uses the batch's own.
        inference: what is averaged in training. "covariance": Σ (unbiased, as PyTorch's running variance), from which the
            projection is computed once when it is needed. "projection": Σ^(−1/2) itself, as the code of the DBN paper does;
            that is the inverse root of something smaller than the mean Σ, and inflates the output (see below).
        form: "composed", "derived" or a derivation's name; default: see `use_form`.

    Scale of DBN's outputs in evaluation for white data, after training on batches of m samples in groups of d:

        d, m            8, 16    16, 64    16, 4096
        "covariance"    1.00      1.00      1.00
        "projection"    1.42      1.13      1.00

    Raises:
        ValueError: wrong number of axes or channels, or a single sample where the batch's statistics are used.
    """

    dims: tuple[int, ...] = (2, 3, 4, 5)
    _wide_buffers = ("running_mean", "running_covariance", "running_projection")
    running_covariance: Any
    running_projection: Any
    num_batches_tracked: Any

    def __init__(self, num_features: int, group_size: int | None = None, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = True, inference: str = "covariance", *, form: str | None = None, dtype: Any = None) -> None:
        if inference not in ("covariance", "projection"):
            raise error(ValueError, type(self).__name__, got=f"inference={inference!r}", needs="'covariance' or 'projection'",
                        fix="covariance is the default")
        num_features = integer(type(self).__name__, "num_features", num_features, 1)
        if group_size is not None:
            group_size = integer(type(self).__name__, "group_size", group_size, 1, fix="None whitens all channels together")
        super().__init__((num_features,), affine, affine, form, dtype)
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.group_size, self.track_running_stats, self.inference = group_size, track_running_stats, inference
        d, tracked = min(group_size or num_features, num_features), track_running_stats
        unit = [[float(c % d == j) for j in range(d)] for c in range(num_features)]  # the identity, stored compactly
        matrix = widened(mg.tensor(unit, dtype=dtype or backend.default_dtype)) if tracked else None
        self.register_buffer("running_mean", self._statistic(0, dtype) if tracked else None)
        self.register_buffer(f"running_{inference}", matrix)
        self.register_buffer("num_batches_tracked", mg.tensor(0) if tracked else None)
        self._computed: tuple[Any, int, Any, Any] | None = None  # (running matrix, when, options, its projection)

    def forward(self, x: Any) -> Any:
        """x (N, C) or (N, C, *spatial) -> the same shape."""
        if x.ndim not in self.dims or x.shape[1] != self.num_features:
            raise self._refusal(x, f"{' or '.join(map(str, self.dims))} axes and {self.num_features} channels (axis 1)",
                                "check the layout (NCHW) and num_features")
        if self._tracks and x.backend != self.running_mean.backend:
            raise error(BackendError, type(self).__name__, got=describe(x), needs=f"the backend of the {self.running_mean.backend} module",
                        fix="move one of them: module.to(...), x.to(...)")
        xhat = self._evaluated(x) if self._fixed else self._whitened(x)
        return _scaled(xhat, self.weight, self.bias) if self.affine else xhat

    def _whitened(self, x: Any) -> Any:
        """By the batch's own statistics, which are averaged on the way."""
        m = x.size // self.num_features
        if m < 2:
            raise self._refusal(x, "more than 1 sample: a single one has no covariance",
                                f"{'a larger batch' if m else 'leave an empty batch out: if len(x)'}; or eval(), where running statistics are tracked")
        layer, keywords = REGISTRY[self.layer], {"eps": self.eps, "group_size": self.group_size, **self._keywords()}
        tracked = self.training and self._tracks and not state.checking
        if self.form != "composed":
            xhat, saved = mg.with_saved(layer.form(self.form), x, **keywords)
        else:
            xhat = layer.composed(x, **keywords)
            if tracked:
                saved = measured(self.layer, _moments, self.group_size, x._data)
        if tracked:
            self._track(x, saved, m)
        return xhat

    def _track(self, x: Any, saved: Any, m: int) -> None:
        """running ← (1 − momentum)·running + momentum·new, without waiting for a GPU."""
        count, mean = self.num_batches_tracked._data, self.running_mean._data
        matrix = self._buffers[f"running_{self.inference}"]._data  # type: ignore[union-attr]
        for buffer in (count, mean, matrix):
            storage.record_write(buffer, f"{type(self).__name__}'s running statistics")
        count += 1
        weight = self.momentum if self.momentum is not None else 1.0 / count.astype(mean.dtype)
        cut = stacks(self.layer, x._data, self.group_size)
        k = len(saved) // len(cut)
        for i, s in enumerate(cut):
            mu, sigma = (getattr(a, "_data", a) for a in saved[i * k:i * k + 2])
            new = sigma * (m / (m - 1)) if self.inference == "covariance" else self._projection(sigma)
            for running, value in ((mean[s.start:s.stop], mu.reshape(-1)), (matrix[s.start:s.stop, :s.d], new.reshape(-1, s.d))):
                running += (value - running) * weight

    def _evaluated(self, x: Any) -> Any:
        """By running statistics."""
        form = "composed" if self.form == "composed" else "derived"
        projection = self._running_projection().astype(widened(x).dtype)
        return REGISTRY["whiten_eval"].form(form)(x, mean=self.running_mean, projection=mg.Tensor(projection))

    def _running_projection(self) -> Any:
        """(C, C), or (G, d, d) where the groups are equal. It is computed again when the running matrix was written or an option changed."""
        options = self.eps, self._keywords()
        matrix = self._buffers[f"running_{self.inference}"]._data  # type: ignore[union-attr]
        storage.look(matrix)
        if self._computed is not None and self._computed[0] is matrix and self._computed[2] == options:
            if not storage.written_since(matrix, self._computed[1]):
                return self._computed[3]
        c, d = matrix.shape
        blocks = [matrix[i:i + d, :min(d, c - i)] for i in range(0, c, d)]
        if c % d == 0:
            blocks = [matrix.reshape(c // d, d, d)]
        if self.inference == "covariance":
            blocks = [self._projection(b.astype("float64")) for b in blocks]
        if c % d == 0:
            projection = blocks[0]
        else:
            projection = backend.namespace(matrix).zeros((c, c), dtype=blocks[0].dtype)
            for i, b in zip(range(0, c, d), blocks, strict=True):
                projection[i:i + d, i:i + d] = b
        self._computed = matrix, storage.tick(), options, projection
        return projection

    def _projection(self, sigma: Any) -> Any:
        """The matrix by which this layer whitens data of covariance Σ, of raw arrays (d, d) or (G, d, d)."""
        raise NotImplementedError

    def _keywords(self) -> dict[str, Any]:
        return {}

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return (f"{self.num_features}, group_size={self.group_size}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}, inference={self.inference!r}, form={self.form!r}")


class DecorrelatedBatchNorm(Whitening):
    """Decorrelated batch normalization (ZCA whitening); `DecorrelatedBatchNorm1d`, `2d` fix the number of axes. See `Whitening`."""

    layer = "decorrelated_batch_norm"

    def _projection(self, sigma: Any) -> Any:
        return whitener(*eigenbasis(sigma, eps=self.eps))


class DecorrelatedBatchNorm1d(DecorrelatedBatchNorm):
    """Decorrelated batch normalization of (N, C) or (N, C, L). See `Whitening`."""

    dims = (2, 3)


class DecorrelatedBatchNorm2d(DecorrelatedBatchNorm):
    """Decorrelated batch normalization of images (N, C, H, W). See `Whitening`."""

    dims = (4,)


DBN, DBN1d, DBN2d = DecorrelatedBatchNorm, DecorrelatedBatchNorm1d, DecorrelatedBatchNorm2d


class PCAWhitening(Whitening):
    """PCA whitening; `PCAWhitening1d`, `PCAWhitening2d` fix the number of axes. See `Whitening`.

    In evaluation the axes are those of the running covariance: channels may come in another order, and with other signs, than in any batch.
    """

    layer = "pca_whitening"

    def _projection(self, sigma: Any) -> Any:
        return projection(*principal_axes(sigma, eps=self.eps))


class PCAWhitening1d(PCAWhitening):
    """PCA whitening of (N, C) or (N, C, L). See `Whitening`."""

    dims = (2, 3)


class PCAWhitening2d(PCAWhitening):
    """PCA whitening of images (N, C, H, W). See `Whitening`."""

    dims = (4,)


class IterNorm(Whitening):
    """Iterative normalization: whitening by Newton-Schulz steps; `IterNorm1d`, `IterNorm2d` fix the number of axes.

    Args: as `Whitening`, and
        iterations: how many steps, in training and for the projection of the running covariance alike.
    """

    layer = "iter_norm"

    def __init__(self, num_features: int, group_size: int | None = None, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = True, inference: str = "covariance", *, iterations: int = 5, form: str | None = None, dtype: Any = None) -> None:
        super().__init__(num_features, group_size, eps, momentum, affine, track_running_stats, inference, form=form, dtype=dtype)
        self.iterations = integer(type(self).__name__, "iterations", iterations, 1, fix="iterations=5")

    def _keywords(self) -> dict[str, Any]:
        return {"iterations": self.iterations}

    def _projection(self, sigma: Any) -> Any:
        size, *_, z = iterates(sigma, self.eps, self.iterations)
        return z / size ** 0.5

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{super().extra_repr()}, iterations={self.iterations}"


class IterNorm1d(IterNorm):
    """Iterative normalization of (N, C) or (N, C, L). See `IterNorm`."""

    dims = (2, 3)


class IterNorm2d(IterNorm):
    """Iterative normalization of images (N, C, H, W). See `IterNorm`."""

    dims = (4,)


__all__ = ["DBN", "DBN1d", "DBN2d", "DecorrelatedBatchNorm", "DecorrelatedBatchNorm1d", "DecorrelatedBatchNorm2d",
           "IterNorm", "IterNorm1d", "IterNorm2d", "PCAWhitening", "PCAWhitening1d", "PCAWhitening2d", "Whitening"]
