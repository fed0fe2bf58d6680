"""What all normalization Modules share: their form, gamma and beta, and which statistics to normalize by."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import backend, nn
from minigrad.core.errors import describe, error, integer
from minigrad.kernels.half import widened
from minigrad.nn.layers import no_device

from ..forms import chosen_form
from ..registry import REGISTRY


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
        op, fix = type(self).__name__, "x.shape[1:] for all axes except the batch's"
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
        """Does it normalize by running statistics? In evaluation, where there are any: as in PyTorch, even when they are no longer updated."""
        return (self._tracks or self.running_mean is not None) and not self.training

    def _refusal(self, x: Any, needs: str, fix: str) -> ValueError:
        return error(ValueError, type(self).__name__, got=describe(x), needs=needs, fix=fix)
