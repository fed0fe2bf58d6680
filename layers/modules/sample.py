"""Instance, group, layer and RMS norm and GRN as Modules: statistics of each sample."""

from __future__ import annotations

from math import prod
from typing import Any

import minigrad as mg
from minigrad import backend, nn
from minigrad.core.errors import error, integer
from minigrad.ops.elementwise import require_floating

from ..registry import REGISTRY
from ..sample import instance_norm
from .base import Normalization
from .batch import BatchNorm


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
        return instance_norm.statistics(x)

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
        num_groups: G, a divisor of C. 1: layer norm with one gamma per channel; C: instance norm.
        num_channels: C.
        eps: added to the variance.
        affine: learn gamma (``weight``) and beta (``bias``), one for each channel.
        bias: False leaves out beta only.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.

    Raises:
        ValueError: G does not divide C, a wrong number of channels, or (as in PyTorch) a batch with one element per group in all.
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
        require_floating("rms_norm", x=x, weight=self.weight)
        eps = float(backend.np.finfo(max(x.dtype, backend.float32)).eps) if self.eps is None else self.eps
        return REGISTRY[self.layer].form(self.form)(x, self._affine(x)[0], eps=eps)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, form={self.form!r}"


class GRN(Normalization):
    """Global response normalization of (N, C, *spatial), ConvNeXt V2's: each channel is scaled by its share of the sample's response.

    Args:
        num_channels: C.
        eps: added to the mean response.
        form: "composed", "derived" or a derivation's name; default: see `use_form`.

    gamma (``weight``) and beta (``bias``) start at 0, where the layer is the identity: see Woo et al. [woo2023].

    Raises:
        ValueError: a wrong number of channels, or no axis of space.
    """

    layer = "grn"

    def __init__(self, num_channels: int, eps: float = 1e-6, *, form: str | None = None, device: None = None, dtype: Any = None) -> None:
        num_channels = integer("GRN", "num_channels", num_channels, 1)
        super().__init__((num_channels,), True, True, form, dtype, device)
        self.num_channels, self.eps = num_channels, eps
        self.weight = nn.Parameter(self._filled(0, dtype))

    def forward(self, x: Any) -> Any:
        """x (N, C, *spatial) -> the same shape."""
        if x.ndim < 3 or x.shape[1] != self.num_channels:
            raise self._refusal(x, f"x of shape (N, {self.num_channels}, *spatial)", "check the layout (channels are axis 1) and num_channels")
        return REGISTRY[self.layer].form(self.form)(x, *self._affine(x), eps=self.eps)

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{self.num_channels}, eps={self.eps}, form={self.form!r}"


__all__ = ["GRN", "GroupNorm", "InstanceNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "RMSNorm"]
