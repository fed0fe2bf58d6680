"""InPlace-ABN as a Module: batch norm and its activation in one, at half the memory."""

from __future__ import annotations

from typing import Any

from ..batch.inplace_abn import activated, away_from_zero, refuse_activation
from .batch import BatchNorm


class InPlaceABN(BatchNorm):
    """Batch norm and its activation as one layer that keeps only its output, and writes it over its input where it may.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the *new* batch in the running statistics; None for their plain average.
        affine: learn gamma (``weight``) and beta (``bias``).
        activation: "leaky_relu", "elu" or "identity".
        slope: of the leaky ReLU, for negative values; above 0.
        track_running_stats, form: as `BatchNorm`.

    Do not use the input (a convolution's result, say) again: afterwards it has no values, and says so. The keys of
    ``state_dict`` are those of the published package inplace_abn and of `BatchNorm`, but its checkpoints mean another function:
    they scale by |weight| + eps, this by weight, held 0.001 away from 0.

    Source: inplace-abn, section 2. Evaluation is that of `BatchNorm`, then the activation.
    """

    layer = "inplace_abn"

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, activation: str = "leaky_relu",
                 slope: float = 0.01, *, track_running_stats: bool = True, form: str | None = None, dtype: Any = None) -> None:
        refuse_activation(activation, slope)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, form=form, dtype=dtype)
        self.activation, self.slope = activation, slope

    def forward(self, x: Any) -> Any:
        """x (N, C) or (N, C, *spatial) -> the same shape."""
        refuse_activation(self.activation, self.slope)  # they may have been changed
        z = super().forward(x)  # by running statistics: with `batch_norm_eval`, which knows no activation
        return activated(z, self.activation, self.slope) if self._fixed else z

    def _affine(self, x: Any) -> tuple[Any, Any]:
        gamma, beta = super()._affine(x)
        return (away_from_zero(gamma) if self._fixed else gamma), beta

    def _keywords(self) -> dict[str, Any]:
        return {"activation": self.activation, "slope": self.slope}

    def extra_repr(self) -> str:
        """The arguments, as they show when the module is printed."""
        return f"{super().extra_repr()}, activation={self.activation!r}, slope={self.slope}"


__all__ = ["InPlaceABN"]
